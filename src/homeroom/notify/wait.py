"""How long to wait before a delivery is tried again (pure)."""

from __future__ import annotations

import random
from datetime import timedelta

WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180))
JITTER = 0.2
"""Up to a fifth is added, so that what failed together does not come back together."""
_MICROSECOND = timedelta(microseconds=1)


def wait_before(
    attempt: int, now: int, expires_at: int | None, chance: random.Random
) -> timedelta | None:
    """Return the wait after a failed attempt (they count from 1); None where none is worth it.

    ``now`` and ``expires_at`` are microseconds UTC. No attempt is made when the message has
    expired.
    """
    if attempt > len(WAITS):
        return None
    wait = WAITS[attempt - 1] * (1 + JITTER * chance.random())
    if expires_at is not None and now + wait // _MICROSECOND >= expires_at:
        return None
    return wait
