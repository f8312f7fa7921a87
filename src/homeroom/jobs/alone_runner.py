"""Runs jobs over which workers died, each while its process runs no other job.

The job kernel does this itself, from the table and past the engine: no engine is told of such jobs
(``claim.claimable_ids``), so they run in the same way on every one of them (decision 0023).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from homeroom.errors import HomeroomError

log = structlog.get_logger(__name__)
DRAIN_SECONDS = 300.0
"""Longest wait for the running jobs of a process to end before it starts others again.

It doubles each time that it was not enough, up to ``_MAX_DRAIN_SECONDS``.
"""
_MAX_DRAIN_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class WaitingAlone:
    """A job that waits to run alone."""

    queue: str
    job_id: str
    is_ours: bool
    """This worker is the one that makes room for it; the others run it only when idle."""


FindWaiting = Callable[[], Awaitable[WaitingAlone | None]]
RunAlone = Callable[[WaitingAlone], Awaitable[None]]
"""Claims the job and runs it to its end; does nothing where another worker has it."""


class AloneRunner:
    """Counts the jobs of a process, and suspends claims while one runs alone."""

    def __init__(
        self,
        find: FindWaiting,
        run: RunAlone,
        on_suspended: Callable[[bool], None],
        poll_seconds: float,
    ) -> None:
        """Look for such jobs every ``poll_seconds``; report each change of ``suspended``."""
        self._find, self._run_alone, self._on_suspended = find, run, on_suspended
        self._poll_seconds = poll_seconds
        self._held = 0
        self._changed = asyncio.Event()
        self._stopping = False
        self._drain_seconds = DRAIN_SECONDS
        self._drain_from = 0.0
        """The time, by the loop's clock, before which running jobs are not waited for again."""
        self.suspended = False
        """No job may be claimed but the one that runs alone."""

    @property
    def is_idle(self) -> bool:
        """Return whether this process holds no job."""
        return self._held == 0

    def add_held(self, claims: int) -> None:
        """Count claims that were committed."""
        self._held += claims

    def remove_held(self) -> None:
        """Count a run that has ended and is settled."""
        self._held -= 1
        if self.suspended:
            self._changed.set()

    def stop(self) -> None:
        """Make ``run`` return once no job runs alone."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Run the jobs that wait to run alone, one at a time, until ``stop`` is called."""
        while not self._stopping:
            try:
                await self._run_next()
            except HomeroomError as error:  # the database does not answer: retried after the poll
                log.warning("jobs_claim_failed", queue="", error=error.message)
            except Exception:  # without this task no such job would run
                log.exception("alone_run_failed")
            await self._wait(self._poll_seconds)

    async def _run_next(self) -> None:
        waiting = await self._find()
        if waiting is None or self._stopping:
            return
        loop = asyncio.get_running_loop()
        if not self.is_idle and (not waiting.is_ours or loop.time() < self._drain_from):
            return
        self._suspend(True)
        try:
            if await self._wait_until_idle(waiting):
                await self._run_alone(waiting)
        finally:
            self._suspend(False)

    async def _wait_until_idle(self, waiting: WaitingAlone) -> bool:
        """Wait for the running jobs; return False where the other need not run here."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        while not self.is_idle:
            if loop.time() >= deadline:
                log.warning("alone_run_postponed", job_id=waiting.job_id, running=self._held)
                self._drain_from = loop.time() + self._drain_seconds
                self._drain_seconds = min(2 * self._drain_seconds, _MAX_DRAIN_SECONDS)
                return False
            await self._wait(self._poll_seconds)
            if self._stopping or await self._find() is None:
                return False
        self._drain_seconds = DRAIN_SECONDS
        return True

    def _suspend(self, suspended: bool) -> None:
        self.suspended = suspended
        self._on_suspended(suspended)

    async def _wait(self, seconds: float) -> None:
        """Wait for a change, at most for some seconds."""
        self._changed.clear()
        if self._stopping:
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
