"""Ending tasks of the event loop for certain."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_SECONDS = 5.0
"""When a task is cancelled again that has not ended: longer than one takes that ends in order."""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return when all of them have ended, whatever they ended with.

    Once is not enough: up to Python 3.11 ``asyncio.wait_for`` loses a cancellation that comes just
    as what it waits for is done (python/cpython#86296), and redis-py calls it whenever it sends. A
    loop over such calls goes on, and whoever stops it would wait for ever.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # so that the loop does not complain that nobody looked
