"""Replay of many dispatches: the undelivered ones since an instant, or all."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from homeroom.access import api as access
from homeroom.completion.api import CompletionFilter, Completions, StepFilter
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.dispatch import destinations, store
from homeroom.dispatch.api import Dispatches, DispatchStatus
from homeroom.errors import Conflict, NotFound
from homeroom.instant import to_rfc3339

ReplayScope = Literal["undelivered", "all"]
"""``undelivered``: what has failed or was skipped. ``all``: what was delivered, too, as for a
receiver that has lost data. Waiting dispatches are on their way, and are in neither.
"""
BATCH = 100
"""Dispatches in one transaction of a replay: on SQLite ingest waits for it (0.2 s)."""
_STATUSES: dict[ReplayScope, tuple[DispatchStatus, ...]] = {
    "undelivered": ("failed", "skipped"),
    "all": ("failed", "skipped", "delivered"),
}


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay of one destination's dispatches."""

    destination: str
    since: int
    """Microseconds UTC: the earliest ``created_at`` of a dispatch, ``recorded_at`` of a
    completion that has none yet.
    """
    scope: ReplayScope = "undelivered"


class DispatchReplays:
    """Replays of many dispatches, in bounded and audited transactions."""

    def __init__(self, db: Database, dispatches: Dispatches, completions: Completions) -> None:
        """Use the dispatches, and the completions whose steps have none yet."""
        self._db, self._dispatches, self._completions = db, dispatches, completions

    async def count(self, replay: Replay) -> int:
        """Return how many messages a replay would send."""
        async with self._db.read() as tx:
            count = await store.count_since(
                tx, replay.destination, _STATUSES[replay.scope], replay.since
            )
        after: str | None = None
        while True:
            async with self._db.read() as tx:
                ids, after = await self._find_steps(tx, replay, after)
            count += len(ids)
            if after is None:
                return count

    async def run(self, replay: Replay, actor: str) -> int:
        """Send again what the replay selects; return how many messages.

        A dispatch keeps its id and its body. A completion whose step failed or was skipped before
        it had a dispatch gets one, if nothing is left that forbids it. What comes after the start
        of this call is not replayed. The destination is switched on if it answered 410 before.
        """
        count = 0
        async with self._db.read() as tx:
            started_at = tx.now
        after = (replay.since, "")
        while True:
            async with self._db.write() as tx:
                found = await store.list_since(
                    tx, replay.destination, _STATUSES[replay.scope], after, BATCH
                )
                batch = [each for each in found if each.created_at <= started_at]
                await self._dispatches.replay_all(tx, batch, actor)
                await self._record(tx, replay, len(batch), actor)
            count += len(batch)
            if len(batch) < BATCH:
                break
            after = (batch[-1].created_at, batch[-1].id)
        return count + await self._retry_steps(replay, actor)

    async def _retry_steps(self, replay: Replay, actor: str) -> int:
        """Retry the steps without a dispatch; return how many."""
        total = 0
        after: str | None = None
        while True:
            async with self._db.write() as tx:
                ids, after = await self._find_steps(tx, replay, after)
                count = 0
                for id in ids:
                    with suppress(Conflict, NotFound):  # changed or erased in the meantime
                        await self._completions.retry_step(tx, id, replay.destination)
                        count += 1
                if count and await destinations.enable(tx, replay.destination):
                    await access.record_audit(
                        tx, actor, "destination.switched_on", replay.destination
                    )
                await self._record(tx, replay, count, actor)
            total += count
            if after is None:
                return total

    async def _find_steps(
        self, tx: Tx, replay: Replay, after: str | None
    ) -> tuple[list[str], str | None]:
        """Return completions whose step ended without a dispatch, and where to go on."""
        name = replay.destination
        step = self._dispatches.steps.get(name)
        if step is None or step.receiver is None or name not in self._completions.steps:
            return [], None
        query = CompletionFilter(recorded_since=replay.since)
        steps = StepFilter(name=name, status="not-completed")
        found = await self._completions.find_steps(tx, query, steps, after, BATCH)
        ended = [each.completion_id for each in found if each.status in {"failed", "skipped"}]
        dispatched = await store.find_dispatched(tx, name, ended)
        last = found[-1].completion_id if len(found) == BATCH else None
        return [id for id in ended if id not in dispatched], last

    async def _record(self, tx: Tx, replay: Replay, count: int, actor: str) -> None:
        if not count:
            return
        details = {"since": to_rfc3339(replay.since), "scope": replay.scope, "count": count}
        await access.record_audit(tx, actor, "dispatch.replayed", replay.destination, details)
