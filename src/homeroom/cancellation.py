"""Cancel tasks of the event loop reliably."""

from __future__ import annotations

import asyncio
from typing import Any

RECANCEL_SECONDS = 5.0
"""Pause before a task is cancelled again: longer than an orderly end takes."""


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return when all of them have ended, with whatever result.

    One cancellation is not enough: up to Python 3.11 ``asyncio.wait_for`` loses a cancellation that
    arrives as its inner call ends (python/cpython#86296), and redis-py calls it at every send. A
    loop over such calls would continue, and its caller would wait without end.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=RECANCEL_SECONDS)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved, or the loop logs it as lost
