"""Sums over the last minute, for rates."""

from __future__ import annotations

from collections.abc import Callable

WINDOW_SECONDS = 60
"""Rates are those of the last minute."""


class SlidingWindow:
    """Sums per second over the last minute; adding costs an index and an addition."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Use ``now``, in seconds, as the clock."""
        self._now = now
        self._second = [0] * WINDOW_SECONDS
        self._sum = [0.0] * WINDOW_SECONDS

    def add(self, amount: float, second: int | None = None) -> None:
        """Add to the sum of a second, by default the current one."""
        if second is None:
            second = int(self._now())
        index = second % WINDOW_SECONDS
        if self._second[index] != second:
            self._second[index], self._sum[index] = second, 0.0
        self._sum[index] += amount

    def total(self) -> float:
        """Return the sum of the last minute."""
        oldest = int(self._now()) - WINDOW_SECONDS
        return sum(
            amount
            for second, amount in zip(self._second, self._sum, strict=True)
            if second > oldest
        )
