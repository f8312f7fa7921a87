"""The contract of engines, the engine on the database alone, the dispatcher.

An engine decides which worker runs which row when, and nothing else. The row is the job: claiming
a row, renewing its lease and settling it belong to the store and the worker, and are the same for
every engine. An engine has its own way of fetching: the SQL engine asks the table for the next
rows; the one on BullMQ has BullMQ's own Worker fetch ids from Redis and calls ``claim_one`` and
``run`` from its processor.

bullmq 3.4 for Python cannot release an active job, cannot fail a job after one stall, and cancels
only within its process. Therefore **an engine may forget a dispatch as soon as it was fetched.**
Waits belong to the row alone: delays, backoff, dependencies, pauses and limits never enter the
engine. The ``Dispatcher`` dispatches every waiting row that the engine does not know, for whatever
reason; a row that it knows twice is claimed once. So nothing has to be released in the engine, a
stall there costs no attempt (the row's lease decides), and the engine's store may be lost whole.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar

import structlog

from homeroom.db.database import Database
from homeroom.errors import DatabaseFault, HomeroomError, Unavailable
from homeroom.instant import SECOND
from homeroom.jobs import store
from homeroom.jobs.claim import Claim, claimable_ids
from homeroom.jobs.enqueue import JOBS_TOPIC
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import Job
from homeroom.jobs.queue_controls import QueueControls, adopt_controls
from homeroom.jobs.queue_runner import QueueRunner

log = structlog.get_logger(__name__)
DISPATCH_WINDOW = 1_000
"""Rows of a queue that are dispatched at most: the first ones, by priority and age.

The engine's store need hold no more, however many wait (decision 0012).
"""
DISPATCH_POLL = timedelta(seconds=1)
_DISPATCH_BATCH = 200
_BUSY_QUEUE_ROWS = 100
_BUSY_QUEUE_POLL_SECONDS = 0.05
"""Shortest interval for a queue with ``_BUSY_QUEUE_ROWS`` rows: its workers have enough."""


class Engine(ABC):
    """The scheduler of a process's workers. Built in ``bootstrap``."""

    name: ClassVar[str]

    @abstractmethod
    async def open(self) -> None:
        """Connect to what the engine needs besides the database."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def work(self, queue_runner: QueueRunner) -> None:
        """Fetch and run the jobs of a queue until it stops and all runs have ended."""

    async def fault(self) -> str | None:
        """Return the fault of the engine's own store, None if there is none.

        Raises ``Unavailable`` where it does not answer; the message may name addresses.
        """
        return None


class DispatchingEngine(Engine):
    """An engine with a store of its own, which a ``Dispatcher`` fills."""

    @abstractmethod
    def undispatched(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Return the waiting rows to dispatch; drop all rows of the queue but ``ids``.

        ``ids`` are all rows that may run now, or the first of them where there are many.
        """

    @abstractmethod
    def on_dispatch_lost(self, call: Callable[[str], None]) -> Callable[[], None]:
        """Subscribe to queues of which a waiting row is undispatched again.

        Returns a function that unsubscribes.
        """

    @abstractmethod
    async def dispatch(self, queue: str, jobs: Sequence[Job]) -> None:
        """Add waiting rows to the engine's store in this order; known ones are skipped.

        Raises ``Unavailable`` where that store does not answer.
        """

    @abstractmethod
    async def read_controls(self, queue: str) -> QueueControls:
        """Return the pause and the limits of a queue in the engine's own store.

        Raises ``Unavailable`` where that store does not answer.
        """

    @abstractmethod
    async def write_pause(self, queue: str, paused: bool | None, agreed: bool) -> None:
        """Pause or resume a queue in the engine's own store, None: leave it.

        ``agreed`` is stored as the pause that both sides have now. Raises ``Unavailable``.
        """

    @abstractmethod
    async def reconcile(self, queue: str) -> None:
        """Compare what this process has dispatched with the engine's own store.

        Rows that it has lost are undispatched from then on. Raises ``Unavailable``.
        """


class SqlEngine(Engine):
    """Claim rows from the table whenever a slot is free and a row may be ready."""

    name = "sql"

    async def open(self) -> None:
        """Do nothing: the database is all that is needed."""

    async def close(self) -> None:
        """Do nothing: there is nothing to disconnect from."""

    async def work(self, queue_runner: QueueRunner) -> None:
        """Claim and run the jobs of a queue until it stops and all runs have ended."""
        slots = _RunSlots(queue_runner)
        while not queue_runner.stopping:
            queue_runner.wake.clear()
            free = queue_runner.concurrency - slots.busy
            started = 0
            if free > 0:
                started = slots.start(await self._claim(queue_runner, free))
            else:
                with suppress(HomeroomError):  # retried after the poll
                    await queue_runner.refresh_concurrency()
            if started < free or free <= 0:
                await _wait_for_event(queue_runner.wake, queue_runner.idle_seconds)
        await slots.drain()

    async def _claim(self, queue_runner: QueueRunner, limit: int) -> list[Claim]:
        try:
            return list(await queue_runner.claim(limit))
        except HomeroomError as error:  # the database does not answer: retried after the poll
            if not isinstance(error, DatabaseFault):  # its cause is logged once
                log.warning("jobs_claim_failed", queue=queue_runner.queue, error=error.message)
            return []


class _RunSlots:
    """The runs of one queue; a slot is free as soon as its handler has ended."""

    def __init__(self, queue_runner: QueueRunner) -> None:
        self._queue_runner = queue_runner
        self._runs: set[asyncio.Task[Job | None]] = set()
        self.busy = 0

    def start(self, claims: list[Claim]) -> int:
        """Run claimed rows concurrently; return their number."""
        for claim in claims:
            self.busy += 1
            run = asyncio.create_task(self._queue_runner.run(claim, self._on_handled))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
        return len(claims)

    def _on_handled(self) -> None:
        self.busy -= 1
        self._queue_runner.wake.set()

    async def drain(self) -> None:
        """Wait until every run has ended and is settled."""
        while self._runs:
            await asyncio.wait(self._runs)


async def _wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most for some seconds."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


class Dispatcher:
    """Dispatch waiting rows; one in every process that adds or runs jobs."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        engine: DispatchingEngine,
        poll: timedelta = DISPATCH_POLL,
        queue_runners: Mapping[str, QueueRunner] = MappingProxyType({}),
    ) -> None:
        """Poll the table every ``poll`` where no hint came (another process added a job).

        ``queue_runners`` are those of this process's worker by queue: an idle one claims nothing,
        and learns a new concurrency of its queue from here.
        """
        self._db, self._registry, self._engine = db, registry, engine
        self._poll = poll.total_seconds()
        self._queue_runners = queue_runners
        self._next_check = dict.fromkeys(registry.queues(), 0.0)
        """The time of each queue's next check, by the loop's clock."""
        self._quiet_until = dict.fromkeys(registry.queues(), 0.0)
        """The time until which hints do not bring the next check forward."""
        self._controls_read_at = dict.fromkeys(registry.queues(), 0.0)
        self._wake = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Dispatch until ``stop`` is called; retry while the store does not answer."""
        loop = asyncio.get_running_loop()
        unsubscribe = self._db.subscribe(self._on_notification)
        unsubscribe_lost = self._engine.on_dispatch_lost(self._check_soon)
        try:
            while not self._stopping:
                self._wake.clear()
                for queue in sorted(self._next_check):
                    if self._next_check[queue] <= loop.time() and not self._stopping:
                        await self._check_queue(queue)
                upcoming = min(self._next_check.values(), default=loop.time() + self._poll)
                timer = loop.call_later(max(upcoming - loop.time(), 0), self._wake.set)
                await self._wake.wait()
                timer.cancel()
        finally:
            unsubscribe_lost()
            unsubscribe()

    def stop(self) -> None:
        """Make ``run`` return after the current check."""
        self._stopping = True
        self._wake.set()

    def _on_notification(self, topics: Sequence[tuple[str, str]]) -> None:
        for topic, queue in topics:
            if topic == JOBS_TOPIC:
                self._check_soon(queue)

    def _check_soon(self, queue: str) -> None:
        if queue in self._next_check:
            self._next_check[queue] = min(self._next_check[queue], self._quiet_until[queue])
            self._wake.set()

    async def _check_queue(self, queue: str) -> None:
        """Dispatch a queue's rows and set the time of its next check."""
        loop = asyncio.get_running_loop()
        self._next_check[queue] = loop.time() + self._poll
        self._quiet_until[queue] = 0.0
        try:
            if loop.time() - self._controls_read_at[queue] >= self._poll:
                self._controls_read_at[queue] = loop.time()
                await self.synchronize_controls(queue)
            seconds = await self.dispatch(queue)
        except Unavailable:
            # The engine has logged it; hints would only repeat the failure.
            self._quiet_until[queue] = self._next_check[queue]
        except HomeroomError as error:
            log.warning("dispatch_failed", queue=queue, error=error.message)
        except Exception:  # the only dispatcher of this process must go on
            log.exception("dispatch_failed", queue=queue)
        else:
            if seconds is not None:
                self._quiet_until[queue] = loop.time() + min(seconds, _BUSY_QUEUE_POLL_SECONDS)
                self._next_check[queue] = min(self._next_check[queue], loop.time() + seconds)

    async def synchronize_controls(self, queue: str) -> None:
        """Take over a pause and limits from the engine's store, or pause it."""
        controls = await self._engine.read_controls(queue)
        change = await adopt_controls(self._db, queue, controls)
        if change.agreed is not None:
            await self._engine.write_pause(queue, change.store, change.agreed)

    async def dispatch(self, queue: str) -> float | None:
        """Dispatch the waiting rows of a queue that the engine does not have yet.

        Returns the seconds until there may be more to dispatch, None if that is unknown.
        """
        async with self._db.read() as tx:
            ids, capacity = await claimable_ids(tx, queue, self._registry.kinds(), DISPATCH_WINDOW)
            undispatched = self._engine.undispatched(queue, ids)
            job_by_id = await store.find(tx, undispatched) if undispatched else {}
        if queue in self._queue_runners:
            self._queue_runners[queue].follow_concurrency(capacity.concurrency)
        jobs = [job_by_id[id] for id in undispatched if id in job_by_id]
        for start in range(0, len(jobs), _DISPATCH_BATCH):
            await self._engine.dispatch(queue, jobs[start : start + _DISPATCH_BATCH])
        if len(ids) >= _BUSY_QUEUE_ROWS:
            return _BUSY_QUEUE_POLL_SECONDS
        reset = capacity.window_reset_in
        return None if reset is None else reset / SECOND
