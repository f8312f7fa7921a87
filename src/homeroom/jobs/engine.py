"""The contract of an engine: it decides which worker runs which row when, and nothing else.

The row is the job. Claiming a row, holding it by a lease, and settling it are the store's and the
worker's, the same for every engine. An engine owns its way of fetching: the SQL engine asks the
table for the next rows; the one on BullMQ lets BullMQ's own Worker fetch ids from Redis and calls
``claim_one`` and ``run`` from its processor.

What keeps that simple (bullmq 3.4 for Python has no call that puts an active job back, fails a job
after one stall, and cancels only within its process): **an engine may forget a dispatch as soon as
it was looked at.** Waits are the row's alone: delays, backoff, dependencies, pauses and limits
never enter the engine. A row that is waiting and that the engine does not know, for whatever
reason, is given to ``dispatch`` again by the ``Dispatcher``; one that it knows twice is claimed
once. So nothing has to be put back, a stall in the engine costs no attempt (the row's lease
decides), and the engine's store may be lost whole.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from homeroom.jobs.claim import Claim
from homeroom.jobs.job import Job
from homeroom.jobs.offer import Offer


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

    async def run(self, claim: Claim, handled: Callable[[], None] | None = None) -> Job | None:
        """Run a claimed row to its end, whatever that is; never raises for the job's sake.

        ``handled`` is called when the handler has ended and its outcome waits to be committed:
        the slot is free by then, and a claim made at once shares that commit. Returns the job as
        it is then; None where somebody else has settled it (the handler itself, or a thief).
        """

    async def look(self, job_id: str) -> Job | None:
        """Return a job as its row says, None without a row. Raises ``Unavailable``."""

    async def accept(self, offer: Offer) -> tuple[str, Claim | None]:
        """Make a row of another program's job, once, and take it if it may run here now.

        Returns the row's id, which is the kind's natural id where it has one. Raises ``Refused``
        for what cannot be taken, ``Unavailable``.
        """

    async def revive(self, job_id: str) -> None:
        """Let a failed job wait again, because somebody retried it in the engine's own tools.

        Raises ``NotFound``; ``Conflict`` where it has not failed or its body is gone.
        """


class Engine(ABC):
    """Who runs which row when. Built in ``wiring``; one for all workers of a process."""

    name: ClassVar[str]

    @abstractmethod
    async def open(self) -> None:
        """Connect to what the engine needs besides the database."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def work(self, desk: Desk) -> None:
        """Fetch and run jobs of the desk's queue; return once it stops and all runs have ended."""

    async def fault(self) -> str | None:
        """Say what is wrong with the engine's own store; None if all is well.

        Raises ``Unavailable`` where it does not answer, which may name addresses.
        """
        return None


class DispatchingEngine(Engine):
    """An engine that keeps ids of its own, so that a ``Dispatcher`` tells it of waiting rows."""

    @abstractmethod
    def unknown(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Return which of a queue's waiting rows are to be dispatched; forget all other rows.

        ``ids`` are all rows that may run now, or the first of them where there are many.
        """

    @abstractmethod
    def on_lost(self, call: Callable[[str], None]) -> Callable[[], None]:
        """Call this with a queue's name as soon as one of its waiting rows is ``unknown`` again.

        Returns how to end that.
        """

    @abstractmethod
    async def dispatch(self, queue: str, jobs: Sequence[Job]) -> None:
        """Take note of waiting rows, in this order; some may be known already, which is no harm.

        Raises ``Unavailable`` where the engine's own store is away.
        """

    @abstractmethod
    async def reconcile(self, queue: str) -> None:
        """Compare what this process has dispatched with the engine's own store.

        What that has lost is ``unknown`` from then on. Raises ``Unavailable``.
        """
