"""Dispatches: the steps of a completion that tell partner systems, and their replay."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from homeroom.access import api as access
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, Step
from homeroom.db.database import Database
from homeroom.db.id import natural_id
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.dispatch.jobs import (
    TOPIC,
    TYPES,
    CredentialUrl,
    Directory,
    ReplayDispatch,
    Replaying,
    SendAnalytics,
    SendHrReport,
    Telling,
    Writer,
)
from homeroom.dispatch.personal import PERSONAL
from homeroom.dispatch.store import Dispatch, Status
from homeroom.dispatch.webhook import Destination
from homeroom.errors import NotFound
from homeroom.jobs.api import Registry, enqueue

__all__ = [
    "ANALYTICS",
    "DESTINATIONS",
    "HR",
    "MAX_REPLAYS",
    "PERSONAL",
    "TOPIC",
    "Destination",
    "Dispatch",
    "Dispatches",
    "ReplayDispatch",
    "SendAnalytics",
    "SendHrReport",
    "Status",
]

ANALYTICS, HR = "analytics", "hr"
DESTINATIONS = (ANALYTICS, HR)
MAX_REPLAYS = 1_000
"""Dispatches that one call replays at most."""


class Dispatches:
    """All dispatches; built in ``wiring`` with the destinations that its settings name."""

    def __init__(
        self,
        db: Database,
        *,
        source: str,
        analytics: Destination | None,
        hr: Destination | None,
        directory: Directory,
        credential_url: CredentialUrl,
        unset: dict[str, str] | None = None,
    ) -> None:
        """Take the destinations; ``unset`` says by name which setting an absent one lacks."""
        self._db = db
        self._destinations = {ANALYTICS: analytics, HR: hr}
        self._unset = {
            ANALYTICS: "HOMEROOM_ANALYTICS_URL is not set",
            HR: "HOMEROOM_HR_URL is not set",
            **(unset or {}),
        }
        self._writer = Writer(db, source, directory, credential_url)

    def skip(self, name: str) -> str | None:
        """Return why a destination is not told, or None."""
        return self._unset[name] if self._destinations[name] is None else None

    def steps(self) -> list[Step]:
        """Return the steps that every completion has, independent of each other."""

        def skip_analytics(completion: Completion, course: Course) -> str | None:
            return self.skip(ANALYTICS)

        def skip_hr(completion: Completion, course: Course) -> str | None:
            return self.skip(HR)

        return [
            Step(ANALYTICS, lambda id: SendAnalytics(completion_id=id), skip_analytics),
            Step(HR, lambda id: SendHrReport(completion_id=id), skip_hr),
        ]

    def register(self, registry: Registry, completions: Completions) -> None:
        """Say who runs the jobs of the steps and of replays."""
        for name, args, write in (
            (ANALYTICS, SendAnalytics, self._writer.analytics),
            (HR, SendHrReport, self._writer.hr),
        ):
            telling = Telling(
                self._db,
                completions,
                name,
                TYPES[name],
                self._destinations[name],
                write,
                partial(self.skip, name),
            )
            registry.add(args, telling.run, telling.changed)
        replaying = Replaying(self._db, completions, self._destinations)
        registry.add(ReplayDispatch, replaying.run, replaying.changed)

    async def newest(
        self,
        tx: Tx,
        destination: str | None,
        status: str | None,
        before: tuple[int, str] | None,
        count: int,
    ) -> list[Dispatch]:
        """Return dispatches by (created_at, id), newest first, before such a pair."""
        return await store.newest(tx, destination, status, before, count)

    async def off(self, tx: Tx) -> dict[str, str]:
        """Return the destinations that are switched off, with the reason."""
        found = {name: await store.disabled(tx, name) for name in DESTINATIONS}
        return {name: reason for name, reason in found.items() if reason is not None}

    async def replay(self, id: str, actor: str) -> Dispatch:
        """Send a dispatch again, with the same id and body; switch its destination on.

        Raises ``NotFound``.
        """
        async with self._db.write() as tx:
            known = await store.get(tx, id)
            if known is None:
                raise NotFound(f"There is no dispatch {id!r}.")
            await access.record(tx, actor, "dispatch.replayed", id)
            await self._again(tx, [known], actor)
            after = await store.get(tx, id)
        assert after is not None
        return after

    async def replay_since(
        self, destination: str, since: int, actor: str
    ) -> tuple[int, int | None]:
        """Send again what was made for a destination since an instant and is not on its way.

        Returns how many, at most ``MAX_REPLAYS``, and from when to go on if there are more.
        """
        async with self._db.write() as tx:
            found = await store.since(tx, destination, since, MAX_REPLAYS + 1)
            wanted = found[:MAX_REPLAYS]
            details = {"since": since, "count": len(wanted)}
            await access.record(tx, actor, "dispatch.replayed", destination, details)
            await self._again(tx, wanted, actor)
        return len(wanted), found[MAX_REPLAYS].created_at if len(found) > MAX_REPLAYS else None

    async def _again(self, tx: Tx, wanted: Sequence[Dispatch], actor: str) -> None:
        for name in sorted({one.destination for one in wanted}):
            if await store.switch_on(tx, name):
                await access.record(tx, actor, "destination.switched_on", name)
        for one in wanted:
            await store.set_replayed(tx, one.id)
            job_id = natural_id("dispatch", one.id, "replay", str(one.replays + 1))
            await enqueue(tx, ReplayDispatch(dispatch_id=one.id), id=job_id)
            tx.notify(TOPIC, one.id)
