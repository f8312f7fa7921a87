"""The engine that needs nothing but the database: it asks the table for the next rows."""

from __future__ import annotations

import asyncio

import structlog

from homeroom.errors import HomeroomError
from homeroom.jobs.claim import Claim
from homeroom.jobs.engine import Desk, Engine
from homeroom.jobs.job import Job

log = structlog.get_logger(__name__)


class SqlEngine(Engine):
    """Claim rows from the table whenever a slot is free and something may be ready."""

    name = "sql"

    async def open(self) -> None:
        """Do nothing: the database is all that is needed."""

    async def close(self) -> None:
        """Do nothing: there is nothing to disconnect from."""

    async def work(self, desk: Desk) -> None:
        """Fetch and run jobs of the desk's queue; return once it stops and all runs have ended."""
        slots = _Slots(desk)
        while not desk.stopping:
            desk.wake.clear()
            free = desk.concurrency - slots.busy
            found = 0
            if free > 0:
                found = slots.start(await self._claim(desk, free))
            if found < free or free <= 0:
                await _wait(desk.wake, desk.idle_seconds)
        await slots.drained()

    async def _claim(self, desk: Desk, limit: int) -> list[Claim]:
        try:
            return list(await desk.claim(limit))
        except HomeroomError as error:  # the database is away; it is asked again
            log.warning("jobs_claim_failed", queue=desk.queue, error=error.message)
            return []


class _Slots:
    """The runs of one queue. A slot is free as soon as the handler has ended."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._runs: set[asyncio.Task[Job | None]] = set()
        self.busy = 0

    def start(self, claims: list[Claim]) -> int:
        """Run claimed rows side by side; return how many there are."""
        for claim in claims:
            self.busy += 1
            run = asyncio.create_task(self._desk.run(claim, self._handled))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
        return len(claims)

    def _handled(self) -> None:
        self.busy -= 1
        self._desk.wake.set()

    async def drained(self) -> None:
        """Wait until every run has ended and is settled."""
        while self._runs:
            await asyncio.wait(self._runs)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not for longer than that."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
