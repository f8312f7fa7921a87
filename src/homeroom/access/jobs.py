"""The job that prunes expired sessions and old audit entries."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from homeroom.access import store
from homeroom.access.stream_ticket import prune_stream_tickets
from homeroom.db.database import Database
from homeroom.instant import to_microseconds
from homeroom.jobs.api import LOW, Done, JobArgs, JobContext, Outcome, Registry


class PruneAccess(JobArgs, frozen=True, kw_only=True):
    """Prune expired sessions, and audit entries that are older than their retention."""

    kind: ClassVar[str] = "access.prune"
    queue: ClassVar[str] = "upkeep"
    priority: ClassVar[int] = LOW


class PruneAccessHandler:
    """The handler of ``access.prune``."""

    def __init__(self, db: Database, audit_retention: timedelta | None) -> None:
        """Set how long audit entries are kept; None keeps them all."""
        self._db, self._audit_retention = db, audit_retention

    def register(self, registry: Registry) -> None:
        """Register the handler."""
        registry.add(PruneAccess, self._run)

    async def _run(self, context: JobContext, args: PruneAccess) -> Outcome:
        async with self._db.write() as tx:
            retention = self._audit_retention
            audit_before = None if retention is None else tx.now - to_microseconds(retention)
            dropped = await store.prune(tx, audit_before) + await prune_stream_tickets(tx)
            outcome = Done({"dropped": dropped})
            await context.settle(tx, outcome)
        return outcome
