"""Release the jobs that wait for partners: one to probe, all once it is back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from homeroom.db.database import Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.jobs.held_jobs import has_held, release_for_probe, release_held
from homeroom.partner import store
from homeroom.partner.breaker import Breaker, may_release_probe, releasable

DEFAULT_RATE = 10.0
"""Jobs a second, for a partner without a setting."""


class PartnerBacklogs:
    """The backlogs of all partners; a maintenance step of every worker process."""

    def __init__(self, db: Database, rates: Mapping[str, float] | None = None) -> None:
        """Set the rates by partner, in jobs per second of all processes together."""
        self._db, self._rates = db, dict(rates or {})

    async def release_partner_jobs(self) -> int:
        """Release the jobs that may run now, oldest first; return their number.

        A partner that is away gets one job when a probe is due, and blocks no other partner.
        """
        async with self._db.read() as tx:
            due = [
                breaker.name
                for breaker in await store.list_all(tx)
                if self._limit(breaker, tx.now) and await _has_releasable(tx, breaker)
            ]
        released = 0
        for name in due:
            async with self._db.write(WriteClass.JOBS) as tx:
                released += await self._release(tx, await store.get_for_update(tx, name))
        return released

    def _limit(self, breaker: Breaker, now: int) -> int:
        if breaker.is_open:
            return int(may_release_probe(breaker, now))
        return releasable(breaker, self._rate(breaker), now)[0]

    def _rate(self, breaker: Breaker) -> float:
        return self._rates.get(breaker.name, DEFAULT_RATE)

    async def _release(self, tx: Tx, breaker: Breaker) -> int:
        """Release what the locked breaker allows; another process may have been faster."""
        limit = self._limit(breaker, tx.now)
        if not limit:
            return 0
        if breaker.is_open:
            released = await release_for_probe(tx, breaker.name)
            released_at = tx.now
        else:
            released = await release_held(tx, breaker.name, limit, breaker.closed_at)
            _, released_at = releasable(breaker, self._rate(breaker), tx.now)
        if released:
            await store.save(tx, replace(breaker, released_at=released_at))
        return released


async def _has_releasable(tx: Tx, breaker: Breaker) -> bool:
    return await has_held(tx, breaker.name, None if breaker.is_open else breaker.closed_at)
