"""The clock that the application is built with.

``bootstrap`` builds it and passes it down, so that tests and the demo can move it. Pure files
receive instants as arguments; ``instant.py`` converts them.
"""

from __future__ import annotations

import time
from datetime import timedelta

from homeroom.instant import to_microseconds


class Clock:
    """The machine's time plus an offset, which is zero outside the demo and tests."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        """Set how far this clock runs ahead of the machine's."""
        self._offset = to_microseconds(offset)

    def now(self) -> int:
        """Return the instant in microseconds UTC."""
        return time.time_ns() // 1_000 + self._offset

    def advance(self, by: timedelta) -> None:
        """Move this clock; for the demo and tests only."""
        self._offset += to_microseconds(by)
