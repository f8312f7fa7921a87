"""A reading of the database that is repeated only after some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
MIN_SECONDS = 5.0
COST_FACTOR = 20
"""A reading is kept 20 times as long as it took, at most 5 % of a core."""


class CachedReading(Generic[Value]):
    """Repeat a reading whose costs grow with the database, as counts do."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Value]],
        now: Callable[[], float] = time.monotonic,
        *,
        min_seconds: float = MIN_SECONDS,
    ) -> None:
        """Cache ``read`` for ``min_seconds`` or longer; ``now`` is in seconds."""
        self._read, self._now, self._min_seconds = read, now, min_seconds
        self._lock = asyncio.Lock()
        self._cached: Value | None = None
        self._valid_until = 0.0

    async def get(self) -> Value:
        """Return the last result; read again where it is too old, one at a time."""
        async with self._lock:
            started = self._now()
            if self._cached is None or started >= self._valid_until:
                self._cached = await self._read()
                ended = self._now()
                self._valid_until = ended + max(self._min_seconds, COST_FACTOR * (ended - started))
            return self._cached
