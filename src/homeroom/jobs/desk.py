"""A worker's side of one queue: what an engine uses to claim and run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from homeroom.clock import SECOND
from homeroom.jobs.claim import Claim, Gate


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


class Commits(Protocol):
    """Where claims go to be committed together with what has ended."""

    async def put(self, item: Any) -> Any:
        """Wait until the item is committed and return its answer."""


RunClaim = Callable[[Claim, Callable[[], None], bool], Awaitable[None]]


class QueueDesk:
    """The ``Desk`` of one queue."""

    def __init__(
        self, queue: str, concurrency: int, poll_seconds: float, commits: Commits, run: RunClaim
    ) -> None:
        """Take the worker's own concurrency, which the queue's row may override."""
        self.queue = queue
        self.stopping = False
        self.wake = asyncio.Event()
        self._own = self._concurrency = concurrency
        self._poll = poll_seconds
        self.idle_seconds = poll_seconds
        self._commits, self._run = commits, run

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

    async def _ask(self, item: ClaimNext | ClaimOne) -> list[Claim]:
        claims: list[Claim]
        gate: Gate
        claims, gate = await asyncio.shield(self._commits.put(item))
        self._concurrency = self._own if gate.concurrency is None else gate.concurrency
        self.idle_seconds = self._poll
        if gate.opens_in is not None:
            self.idle_seconds = min(self._poll, gate.opens_in / SECOND)
        return claims

    async def run(self, claim: Claim, handled: Callable[[], None] | None = None) -> None:
        """Run a claimed row to its end."""
        await self._run(claim, handled or _nothing, self.stopping)


def _nothing() -> None:
    """Do nothing: the engine does not ask to be told."""
