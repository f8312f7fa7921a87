"""Telling an engine that keeps ids of its own which rows wait: soon after the commit, and again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from homeroom.clock import SECOND
from homeroom.db.database import Database
from homeroom.errors import HomeroomError, Unavailable
from homeroom.jobs import store
from homeroom.jobs.claim import open_rows
from homeroom.jobs.engine import DispatchingEngine
from homeroom.jobs.enqueue import JOBS_TOPIC
from homeroom.jobs.handler import Registry

log = structlog.get_logger(__name__)
WINDOW = 1_000
"""Rows of a queue that are dispatched at once: the first ones, by priority and age.

The engine's store need hold no more, however many wait (decision 0012).
"""
POLL = timedelta(seconds=1)
_BATCH = 200
_BUSY = 100
_BUSY_SECONDS = 0.05
"""A queue with ``_BUSY`` rows or more is looked at so often at most: its workers have enough."""


class Dispatcher:
    """Dispatch waiting rows. One in every process that adds jobs or works them."""

    def __init__(
        self, db: Database, registry: Registry, engine: DispatchingEngine, poll: timedelta = POLL
    ) -> None:
        """Take how often the table is asked where no hint came (another process added a job)."""
        self._db, self._registry, self._engine = db, registry, engine
        self._poll = poll.total_seconds()
        self._due = dict.fromkeys(registry.queues(), 0.0)
        """When each queue is to be looked at, by the loop's clock."""
        self._rests = dict.fromkeys(registry.queues(), 0.0)
        """Until when a hint changes nothing about that."""
        self._wake = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Dispatch until ``stop`` is called; an engine's store that is away is asked again."""
        loop = asyncio.get_running_loop()
        forget = self._db.subscribe(self._heard)
        forget_lost = self._engine.on_lost(self._look_at)
        try:
            while not self._stopping:
                self._wake.clear()
                for queue in sorted(self._due):
                    if self._due[queue] <= loop.time() and not self._stopping:
                        await self._pass(queue)
                wait = min(self._due.values(), default=loop.time() + self._poll) - loop.time()
                timer = loop.call_later(max(wait, 0), self._wake.set)
                await self._wake.wait()
                timer.cancel()
        finally:
            forget_lost()
            forget()

    def stop(self) -> None:
        """Let ``run`` return after the pass at hand."""
        self._stopping = True
        self._wake.set()

    def _heard(self, topics: Sequence[tuple[str, str]]) -> None:
        for topic, queue in topics:
            if topic == JOBS_TOPIC:
                self._look_at(queue)

    def _look_at(self, queue: str) -> None:
        if queue in self._due:
            self._due[queue] = min(self._due[queue], self._rests[queue])
            self._wake.set()

    async def _pass(self, queue: str) -> None:
        """Look at a queue, and note when to look again."""
        loop = asyncio.get_running_loop()
        self._due[queue] = loop.time() + self._poll
        self._rests[queue] = 0.0
        try:
            soon = await self.dispatch(queue)
        except Unavailable:
            self._rests[queue] = self._due[queue]  # whoever is away has said so; the rows wait
        except HomeroomError as error:
            log.warning("dispatch_failed", queue=queue, error=error.message)
        except Exception:  # nobody else dispatches in this process
            log.exception("dispatch_failed", queue=queue)
        else:
            if soon is not None:
                self._rests[queue] = loop.time() + min(soon, _BUSY_SECONDS)
                self._due[queue] = min(self._due[queue], loop.time() + soon)

    async def dispatch(self, queue: str) -> float | None:
        """Dispatch what the engine does not know yet of a queue.

        Returns in how many seconds there may be more to dispatch, None if nobody can know.
        """
        async with self._db.read() as tx:
            ids, gate = await open_rows(tx, queue, self._registry.kinds(), WINDOW)
            unknown = self._engine.unknown(queue, ids)
            found = await store.find(tx, unknown) if unknown else {}
        jobs = [found[id] for id in unknown if id in found]
        for start in range(0, len(jobs), _BATCH):
            await self._engine.dispatch(queue, jobs[start : start + _BATCH])
        if len(ids) >= _BUSY:
            return _BUSY_SECONDS
        return None if gate.opens_in is None else gate.opens_in / SECOND
