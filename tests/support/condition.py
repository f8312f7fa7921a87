"""Wait for a condition that another task or process makes true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE_SECONDS = 60.0
Found = TypeVar("Found")


def until(
    condition: Callable[[], Found],
    interval_seconds: float = 0.05,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Found:
    """Wait until a function returns a true value, and return it."""
    deadline = time.monotonic() + patience_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(interval_seconds)
    return found


async def until_async(
    condition: Callable[[], Awaitable[Found]], interval_seconds: float = 0.05
) -> Found:
    """Wait until a coroutine function returns a true value, and return it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        # Another process makes it true: there is no event to wait for.
        while not (found := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(interval_seconds)
    return found
