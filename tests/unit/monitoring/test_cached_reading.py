"""A costly reading is repeated only after some seconds."""

from __future__ import annotations

import asyncio

import pytest

from homeroom.monitoring.cached_reading import CachedReading

pytestmark = pytest.mark.anyio


class Counter:
    """A reading that takes a given time on a clock of the test's own."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds, self.readings = 0.0, seconds, 0

    async def read(self) -> int:
        self.now += self.seconds
        self.readings += 1
        await asyncio.sleep(0)
        return self.readings


@pytest.mark.parametrize(("seconds", "valid_seconds"), [(0.01, 5.0), (1.0, 20.0)])
async def test_a_reading_is_kept_for_some_seconds_and_longer_if_it_is_slow(
    seconds: float, valid_seconds: float
) -> None:
    counter = Counter(seconds)
    cached = CachedReading(counter.read, lambda: counter.now)
    assert await asyncio.gather(*(cached.get() for _ in range(5))) == [1] * 5
    counter.now = seconds + valid_seconds - 0.1
    assert await cached.get() == 1
    counter.now = seconds + valid_seconds
    assert await cached.get() == 2
