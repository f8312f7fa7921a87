"""The job that prunes old changes."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from homeroom.changes import store
from homeroom.db.database import Database
from homeroom.instant import to_microseconds
from homeroom.jobs.api import LOW, Done, JobArgs, JobContext, Outcome, Registry

_ROWS_PER_COMMIT = 5_000


class PruneChanges(JobArgs, frozen=True, kw_only=True):
    """Prune changes that are older than their retention."""

    kind: ClassVar[str] = "changes.prune"
    queue: ClassVar[str] = "upkeep"
    priority: ClassVar[int] = LOW


class PruneChangesHandler:
    """The handler of ``changes.prune``."""

    def __init__(self, db: Database, retention: timedelta) -> None:
        """Set how long changes are kept."""
        self._db, self._retention = db, retention

    def register(self, registry: Registry) -> None:
        """Register the handler."""
        registry.add(PruneChanges, self._run)

    async def _run(self, context: JobContext, args: PruneChanges) -> Outcome:
        pruned, count = 0, _ROWS_PER_COMMIT
        while count == _ROWS_PER_COMMIT:
            async with self._db.write() as tx:
                before = tx.now - to_microseconds(self._retention)
                count = await store.prune(tx, before, _ROWS_PER_COMMIT)
            pruned += count
        return Done({"dropped": pruned})
