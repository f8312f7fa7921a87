"""The clean-up of sessions that are over and audit lines that have outlived their retention."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from homeroom.access import store
from homeroom.clock import microseconds
from homeroom.db.database import Database
from homeroom.jobs.api import LOW, Done, JobArgs, JobContext, Outcome, Registry


class PruneAccess(JobArgs, frozen=True, kw_only=True):
    """Drop what nobody may use any more."""

    kind: ClassVar[str] = "access.prune"
    queue: ClassVar[str] = "upkeep"
    priority: ClassVar[int] = LOW


class Pruning:
    """Runs ``access.prune``."""

    def __init__(self, db: Database, audit_retention: timedelta | None) -> None:
        """Take how long audit lines are kept; None: for good."""
        self._db, self._audit_retention = db, audit_retention

    def register(self, registry: Registry) -> None:
        """Say who runs the job."""
        registry.add(PruneAccess, self._run)

    async def _run(self, context: JobContext, args: PruneAccess) -> Outcome:
        async with self._db.write() as tx:
            kept = self._audit_retention
            before = None if kept is None else tx.now - microseconds(kept)
            dropped = await store.prune(tx, before)
            outcome = Done({"dropped": dropped})
            await context.settle(tx, outcome)
        return outcome
