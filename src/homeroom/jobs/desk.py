"""A worker's side of one queue: what an engine uses to claim and run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from homeroom.clock import SECOND
from homeroom.db.database import Database, Lane
from homeroom.jobs import operate, store
from homeroom.jobs.claim import Claim, Gate
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import Job
from homeroom.jobs.offer import Offer, Refused, Taken, examine


@dataclass(frozen=True, slots=True)
class ClaimNext:
    """Ask for the next rows of a queue."""

    queue: str
    limit: int


@dataclass(frozen=True, slots=True)
class ClaimOne:
    """Ask for one row."""

    queue: str
    job_id: str


@dataclass(frozen=True, slots=True)
class Accept:
    """Ask for a row for another program's job, and for a claim on it."""

    queue: str
    taken: Taken


class Commits(Protocol):
    """Where claims go to be committed together with what has ended."""

    async def put(self, item: Any) -> Any:
        """Wait until the item is committed and return its answer."""


RunClaim = Callable[[Claim, Callable[[], None], bool], Awaitable[Job | None]]


class QueueDesk:
    """The ``Desk`` of one queue."""

    def __init__(
        self,
        queue: str,
        concurrency: int,
        poll_seconds: float,
        commits: Commits,
        run: RunClaim,
        db: Database,
        registry: Registry,
    ) -> None:
        """Take the worker's own concurrency, which the queue's row may override."""
        self.queue = queue
        self.stopping = False
        self.wake = asyncio.Event()
        self._own = self._concurrency = concurrency
        self._poll = poll_seconds
        self.idle_seconds = poll_seconds
        self._commits, self._run = commits, run
        self._db, self._registry = db, registry

    @property
    def concurrency(self) -> int:
        """How many jobs of the queue may run at once."""
        return self._concurrency

    def close(self) -> None:
        """Let no job start any more."""
        self.stopping = True
        self.wake.set()

    async def claim(self, limit: int) -> Sequence[Claim]:
        """Take the next rows."""
        return await self._ask(ClaimNext(self.queue, limit))

    async def claim_one(self, job_id: str) -> Claim | None:
        """Take this row if it may run here now."""
        claims = await self._ask(ClaimOne(self.queue, job_id))
        return claims[0] if claims else None

    async def look(self, job_id: str) -> Job | None:
        """Return a job as its row says."""
        async with self._db.read() as tx:
            return (await store.find(tx, [job_id])).get(job_id)

    async def accept(self, offer: Offer) -> tuple[str, Claim | None]:
        """Make a row of another program's job, once, and take it if it may run here now."""
        taken = examine(self._registry, self.queue, offer)
        known = await self.look(taken.id)
        if known is not None and known.kind != offer.kind:
            raise Refused(f"the id {taken.id} belongs to a job of the kind {known.kind}")
        claims = await self._ask(Accept(self.queue, taken))
        return taken.id, claims[0] if claims else None

    async def revive(self, job_id: str) -> None:
        """Let a failed job wait again."""
        async with self._db.write(Lane.JOBS) as tx:
            await operate.retry(tx, self._registry, job_id)
            await store.add_log(tx, job_id, "retried in Redis, as Bull Board does")

    async def _ask(self, item: ClaimNext | ClaimOne | Accept) -> list[Claim]:
        claims: list[Claim]
        gate: Gate
        claims, gate = await asyncio.shield(self._commits.put(item))
        self._concurrency = self._own if gate.concurrency is None else gate.concurrency
        self.idle_seconds = self._poll
        if gate.opens_in is not None:
            self.idle_seconds = min(self._poll, gate.opens_in / SECOND)
        return claims

    async def run(self, claim: Claim, handled: Callable[[], None] | None = None) -> Job | None:
        """Run a claimed row to its end."""
        return await self._run(claim, handled or _nothing, self.stopping)


def _nothing() -> None:
    """Do nothing: the engine does not ask to be told."""
