"""How fast a queue drains and picks up, measured alike for every queue that has a loop."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

Numbers = dict[str, float]
IDLE_SECONDS = (0.05, 0.15)
"""How long a worker idles before a pick-up is measured; random, so that no poll is in step."""
LIMIT_SECONDS = 120.0


class Meter:
    """Counts the runs of a no-op job and says when one has run that is waited for."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.ran = 0
        self.at = 0.0
        """When the last one ran, by `perf_counter`."""
        self._wanted = 0
        self._reached = asyncio.Event()

    def count(self) -> None:
        """Count a run; the job calls this."""
        self.ran += 1
        self.at = time.perf_counter()
        if self.ran >= self._wanted:
            self._reached.set()

    def expect(self, more: int) -> None:
        """Take note that so many jobs are added next."""
        self._wanted = self.ran + more
        self._reached.clear()

    async def reached(self) -> None:
        """Wait until what is expected has run; raise TimeoutError if it does not."""
        async with asyncio.timeout(LIMIT_SECONDS):
            await self._reached.wait()


async def drain(
    meter: Meter,
    jobs: int,
    picks: int,
    *,
    add: Callable[[int], Awaitable[object]],
    working: AbstractAsyncContextManager[object],
    unfinished: Callable[[], Awaitable[bool]],
) -> Numbers:
    """Add and drain ``jobs``, then measure ``picks`` pick-ups by the idle worker.

    Each job is added by itself. The worker is started by ``working`` when all have been added. A
    job counts once nothing is ``unfinished``: its end is recorded then, and not only its run.
    """
    meter.expect(jobs)
    begin = time.perf_counter()
    for number in range(jobs):
        await add(number)
    begun = time.perf_counter()
    async with working:
        await meter.reached()
        async with asyncio.timeout(LIMIT_SECONDS):
            while await unfinished():
                pass
        numbers = rates(jobs, begun - begin, begun, time.perf_counter())
        seconds: list[float] = []
        for number in range(picks):
            await asyncio.sleep(random.uniform(*IDLE_SECONDS))
            meter.expect(1)
            start = time.perf_counter()
            await add(number)
            await meter.reached()
            seconds.append(meter.at - start)
    return numbers | waits(seconds)


def rates(jobs: int, added: float, begun: float, drained: float) -> Numbers:
    """Return jobs a second: adding them, running them, and both."""
    return {
        "added_per_second": jobs / added,
        "drained_per_second": jobs / (drained - begun),
        "both_per_second": jobs / (added + drained - begun),
    }


def waits(seconds: Sequence[float]) -> Numbers:
    """Return how long single jobs waited for their run, from before they were added."""
    return {
        "pick_up_ms_p50": statistics.median(seconds) * 1_000,
        "pick_up_ms_max": max(seconds) * 1_000,
    }


def medians(results: dict[str, list[Numbers]]) -> dict[str, Numbers]:
    """Return each contender's medians over its rounds."""
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for name, found in results.items()
    }
