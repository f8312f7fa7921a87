"""Counts of jobs at a bounded cost, however many are completed."""

from __future__ import annotations

import time
from collections.abc import Callable

from homeroom.db.tx import Tx
from homeroom.jobs import queue_store

_CHEAP_SECONDS = 0.03
"""A count of completed jobs that takes no longer is repeated each time."""
_COST_FACTOR = 20
"""A dearer one is kept 20 times as long as it took, at most 5 % of a core."""


class JobCounter:
    """Counts jobs by queue and state; that of completed ones may be seconds old.

    All other states are counted each time. Completed ones are counted each time too while they are
    few: a test that waits for a number sees it at once.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Count by a clock in seconds."""
        self._now = now
        self._completed: dict[str, int] = {}
        self._valid_until = 0.0

    async def count(self, tx: Tx) -> dict[str, dict[str, int]]:
        """Return the number of jobs by queue and ``queue_store.COUNTED_STATES``."""
        started = self._now()
        if started >= self._valid_until:
            self._completed = await queue_store.count_completed(tx)
            took = self._now() - started
            is_cheap = took <= _CHEAP_SECONDS
            self._valid_until = 0.0 if is_cheap else self._now() + _COST_FACTOR * took
        return await queue_store.counts(tx, completed=self._completed)
