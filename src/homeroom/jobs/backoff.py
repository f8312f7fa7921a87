"""How long to wait before the next attempt (pure)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: a random time up to ``base * 2**(attempt - 1)``."""

    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=10)

    def ceiling(self, attempt: int) -> timedelta:
        """Return the longest wait after a failed attempt; attempts count from 1."""
        doublings = min(max(attempt - 1, 0), 62)
        seconds = min(self.base.total_seconds() * 2.0**doublings, self.cap.total_seconds())
        return timedelta(seconds=seconds)

    def delay(self, attempt: int, random_source: random.Random) -> timedelta:
        """Return a wait after a failed attempt, drawn evenly from zero to its ceiling."""
        return self.ceiling(attempt) * random_source.random()
