"""The contract of an engine: it decides which worker runs which row when, and nothing else.

The row is the job. Claiming a row, holding it by a lease, and settling it are the store's and the
worker's, the same for every engine. An engine owns its way of fetching: the SQL engine asks the
table for the next rows; one on BullMQ lets BullMQ's own Worker fetch ids from Redis and calls
``claim_one`` and ``run`` from its processor.

What keeps that simple (bullmq 3.4 for Python has no call that puts an active job back, fails a job
after one stall, and cancels only within its process): **an engine may forget a dispatch as soon as
it was looked at.** Waits are the row's alone: delays, backoff, dependencies, pauses and limits
never enter the engine. A row that is waiting and that the engine does not know, for whatever
reason, is given to ``dispatch`` again by upkeep; one that it knows twice is claimed once. So
``run`` has no result, nothing has to be put back, a stall in the engine costs no attempt (the row's
lease decides), and the engine's store may be lost whole.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from homeroom.jobs.claim import Claim
from homeroom.jobs.job import Job


class Desk(Protocol):
    """What a worker offers an engine for one queue."""

    queue: str
    stopping: bool
    """No job may be started any more; ``wake`` is set when this becomes true."""
    wake: asyncio.Event
    """Set when a job may have become ready, a slot free, or the worker stops."""

    @property
    def concurrency(self) -> int:
        """How many jobs of the queue may run at once; it may change while it runs."""

    @property
    def idle_seconds(self) -> float:
        """How long to wait at most before asking again when nothing was found."""

    async def claim(self, limit: int) -> Sequence[Claim]:
        """Take the next rows: the most urgent first, then the oldest. Raises ``Unavailable``."""

    async def claim_one(self, job_id: str) -> Claim | None:
        """Take this row if it may run here now; None: forget it, or wait to be told again."""

    async def run(self, claim: Claim, handled: Callable[[], None] | None = None) -> None:
        """Run a claimed row to its end, whatever that is; never raises for the job's sake.

        ``handled`` is called when the handler has ended and its outcome waits to be committed:
        the slot is free by then, and a claim made at once shares that commit.
        """


class Engine(ABC):
    """Who runs which row when. Built in ``wiring``; one for all workers of a process."""

    name: ClassVar[str]
    needs_dispatch: ClassVar[bool]
    """The engine keeps ids of its own, so that upkeep has to tell it of waiting rows."""

    @abstractmethod
    async def open(self) -> None:
        """Connect to what the engine needs besides the database."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def work(self, desk: Desk) -> None:
        """Fetch and run jobs of the desk's queue; return once it stops and all runs have ended."""

    @abstractmethod
    async def dispatch(self, jobs: Sequence[Job]) -> None:
        """Take note of waiting rows; some of them may be known already."""

    async def ready(self) -> bool:
        """Say whether the engine's own store answers."""
        return True
