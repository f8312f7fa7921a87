"""Gate before the calls to one partner: reads and moves its breaker.

All processes share the row, and no memory decides (decision 0022).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import structlog

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError
from homeroom.instant import DAY, SECOND, to_datetime
from homeroom.jobs.held_jobs import count_held
from homeroom.jobs.job import JobReason
from homeroom.partner import store
from homeroom.partner.breaker import (
    Breaker,
    BreakerState,
    close,
    fail,
    failure_state,
    is_probe_due,
    probe_interval,
)
from homeroom.partner.failure import PartnerAway, PartnerError
from homeroom.partner.key_expiry import WARN_BEFORE, PartnerKey

log = structlog.get_logger(__name__)
SUCCESS_INTERVAL = 60 * SECOND
"""Time for which a process saves no further success of a partner, in microseconds."""
Admission = Literal["clean", "counted", "probe"]
"""``counted``: failures are counted that a success forgets. ``probe``: the breaker is open."""
_HOLD_REASONS: dict[BreakerState, JobReason] = {
    "away": JobReason.PARTNER_AWAY,
    "refused": JobReason.PARTNER_REFUSED,
}


class PartnerGate:
    """The gate of one partner."""

    def __init__(self, db: Database, name: str, key: PartnerKey | None = None) -> None:
        """Set the partner's name in the database, and its key if that has a lifetime."""
        self.name = name
        self._db, self._key = db, key
        self._expiry_logged_at: int | None = None
        self._success_saved_at: int | None = None

    async def admit(self, title: str) -> Admission:
        """Let a call pass; return what its success has to change.

        ``title`` names the partner in messages. Raises ``PartnerAway`` while the breaker is
        open, unless this call is the probe; ``Unavailable``.
        """
        async with self._db.read() as tx:
            breaker, now = await store.get(tx, self.name), tx.now
        if is_probe_due(breaker, now):
            async with self._db.write() as tx:
                open_for = tx.now - (breaker.opened_at or tx.now)
                interval = probe_interval(breaker.probes + 1, open_for)
                if await store.start_probe(tx, self.name, tx.now + interval):
                    return "probe"
                breaker = await store.get(tx, self.name)
        if breaker.is_open:
            raise self._away(title, breaker, now)
        return "clean" if breaker.is_clean else "counted"

    async def admit_within(self, tx: Tx, title: str) -> None:
        """Let a call pass that follows the caller's transaction; see ``admit``."""
        breaker = await store.get(tx, self.name)
        if not breaker.is_open:
            return
        open_for = tx.now - (breaker.opened_at or tx.now)
        next_probe_at = tx.now + probe_interval(breaker.probes + 1, open_for)
        if is_probe_due(breaker, tx.now) and await store.start_probe(tx, self.name, next_probe_at):
            return
        raise self._away(title, breaker, tx.now)

    async def record_success(self, admission: Admission, *, is_proof: bool = True) -> None:
        """Close the breaker, or forget the failures that were counted.

        A success that is no proof, such as a lookup where orders fail, changes nothing; if it was
        the probe, the next call is the probe instead.
        """
        if is_proof:
            await self._save_success()
        if admission == "clean" or (admission == "counted" and not is_proof):
            return
        try:
            async with self._db.write() as tx:
                if is_proof:
                    await self._close(tx, await store.get_for_update(tx, self.name))
                else:
                    await store.return_probe(tx, self.name)
        except HomeroomError as error:
            # The call has succeeded: its job must not fail for the sake of the count.
            log.warning("partner_state_unsaved", partner=self.name, error=error.message)

    async def _save_success(self) -> None:
        """Save the instant of a success, so seldom that calls stay free of writes."""
        now, saved_at = self._db.clock.now(), self._success_saved_at
        if saved_at is not None and saved_at <= now < saved_at + SUCCESS_INTERVAL:
            return
        self._success_saved_at = now
        try:
            async with self._db.write() as tx:
                digest = None if self._key is None else self._key.digest
                await store.record_success(tx, self.name, digest)
                if self._key is not None:
                    known = (await store.list_keys(tx)).get(self.name, (None, None))
                    self._log_expiry(self._key.expiry(*known), tx.now)
        except HomeroomError as error:
            log.warning("partner_state_unsaved", partner=self.name, error=error.message)

    def _log_expiry(self, expires_at: int | None, now: int) -> None:
        """Log once a day that the key expires soon."""
        if expires_at is None or now < expires_at - WARN_BEFORE:
            return
        if self._expiry_logged_at is not None and now < self._expiry_logged_at + DAY:
            return
        self._expiry_logged_at = now
        log.warning(
            "partner_key_expires",
            partner=self.name,
            expires_at=to_datetime(expires_at).isoformat(timespec="seconds"),
            days=(expires_at - now) // DAY,
        )

    async def switch_on(self, tx: Tx) -> None:
        """Close the breaker on behalf of an operator."""
        await self._close(tx, await store.get_for_update(tx, self.name))

    async def _close(self, tx: Tx, before: Breaker) -> None:
        if before.is_clean:
            return
        await store.save(tx, close(before, tx.now))
        if before.is_open:
            held = (await count_held(tx)).get(self.name, 0)
            seconds = (tx.now - (before.opened_at or tx.now)) // SECOND
            tx.after_commit(
                lambda: log.info(
                    "partner_back",
                    partner=self.name,
                    state=before.state,
                    seconds=seconds,
                    probes=before.probes,
                    held_jobs=held,
                )
            )

    async def record_failure(self, error: PartnerError) -> None:
        """Count a failure; its job is held if the breaker is open after that."""
        state = failure_state(error.kind, error.response_status)
        if state is None:
            return
        error.gate = self.name
        try:
            async with self._db.write() as tx:
                before = await store.get_for_update(tx, self.name)
                after = fail(before, state, tx.now, error.message, error.response_status)
                await store.save(tx, after)
                if before.state != after.state:
                    tx.after_commit(lambda: self._log_open(after))
        except HomeroomError as unsaved:
            log.warning("partner_state_unsaved", partner=self.name, error=unsaved.message)
            return
        if after.is_open:
            error.hold_reason = _HOLD_REASONS[after.state]

    async def open(self, tx: Tx, state: BreakerState, error: str, status: int | None) -> None:
        """Open the breaker at once, for a failure that concerns all calls."""
        before = await store.get_for_update(tx, self.name)
        after = fail(before, state, tx.now, error, status, failures_to_open=1)
        await store.save(tx, after)
        if before.state != after.state:
            tx.after_commit(lambda: self._log_open(after))

    def _log_open(self, breaker: Breaker) -> None:
        fields = {
            "partner": self.name,
            "failures": breaker.failures,
            "status": breaker.last_status,
            "error": breaker.last_error,
        }
        if breaker.state == "refused":
            log.error("partner_refused", **fields)
        else:
            log.error("partner_away", **fields)

    def _away(self, title: str, breaker: Breaker, now: int) -> PartnerAway:
        since = to_datetime(breaker.opened_at or now).isoformat(timespec="seconds")
        is_refusal = breaker.state == "refused"
        return PartnerAway(
            f"{title} {'refuses all calls' if is_refusal else 'is away'} since {since}"
            f" ({breaker.last_error}); the job waits, and runs when {title} is back",
            gate=self.name,
            hold_reason=_HOLD_REASONS[breaker.state],
            retry_after=timedelta(microseconds=max((breaker.probe_at or now) - now, SECOND)),
        )
