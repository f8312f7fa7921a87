"""What time it is: instants are integer microseconds since 1970 UTC, everywhere.

``Clock`` is built in ``wiring`` and handed down, so that tests and the demo can move it. Pure files
never see it: they take ``now`` as an argument.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

MILLISECOND = 1_000
SECOND = 1_000_000
DAY = 86_400 * SECOND


class Clock:
    """Tell the time, shifted by a fixed offset that is zero outside the demo and tests."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        """Take how far this clock runs ahead of the machine's."""
        self._offset = round(offset.total_seconds() * SECOND)

    def now(self) -> int:
        """Return the instant in microseconds UTC."""
        return time.time_ns() // 1_000 + self._offset

    def advance(self, by: timedelta) -> None:
        """Move this clock; for the demo and tests only."""
        self._offset += round(by.total_seconds() * SECOND)


def microseconds(span: timedelta) -> int:
    """Return a span of time in whole microseconds."""
    return round(span.total_seconds() * SECOND)


def to_datetime(instant: int) -> datetime:
    """Return an instant as an aware datetime in UTC."""
    return datetime.fromtimestamp(instant // SECOND, UTC).replace(microsecond=instant % SECOND)


def to_rfc3339(instant: int) -> str:
    """Return an instant as RFC 3339 text in UTC, to the millisecond unless it has finer digits."""
    moment = to_datetime(instant)
    spec = "milliseconds" if instant % 1_000 == 0 else "microseconds"
    return moment.isoformat(timespec=spec).removesuffix("+00:00") + "Z"


def from_datetime(moment: datetime) -> int:
    """Return an aware datetime as an instant; raise ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be placed; add Z or an offset")
    whole = moment.replace(microsecond=0)
    return round(whole.timestamp()) * SECOND + moment.microsecond
