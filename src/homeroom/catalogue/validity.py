"""How long a completion is valid: an ISO 8601 duration, counted on the calendar (pure)."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,4})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,4})W)?(?:([0-9]{1,5})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,8})S)?)?"
)
MAX_MONTHS = 100 * 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SHORT_MONTHS = timedelta(days=3)
"""How much a month's end may be moved: 31 January and one month is 28 February."""


@dataclass(frozen=True, slots=True)
class Validity:
    """A span of months, which have no fixed length, and of time, which has one."""

    text: str
    """The duration as its author wrote it."""
    months: int
    span: timedelta

    def end(self, start: int) -> int:
        """Return the instant (microseconds UTC) at which what started at ``start`` ends.

        31 January and one month is the last day of February, at the same time of day.
        """
        moment = _EPOCH + timedelta(microseconds=start)
        return (_moved(moment, self.months) + self.span - _EPOCH) // _MICROSECOND

    def latest_start(self, end: int) -> int:
        """Return an instant after which nothing has started that ended by ``end``.

        Most of what started up to then has ended, too, but not all: ``end`` says which.
        """
        moment = _EPOCH + timedelta(microseconds=end) - self.span
        return (_moved(moment, -self.months) + _SHORT_MONTHS - _EPOCH) // _MICROSECOND


def _moved(moment: datetime, by: int) -> datetime:
    """Return the same day of another month, or its last day if it has none such."""
    months = moment.month - 1 + by
    year, month = moment.year + months // 12, months % 12 + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=day)


def parse(text: str) -> Validity:
    """Read an ISO 8601 duration such as ``P1Y``, ``P18M`` or ``P90D``.

    Raises ValueError where it is none, is nothing, or is longer than 100 years.
    """
    hit = _DURATION.fullmatch(text)
    if hit is None:
        raise ValueError("must be an ISO 8601 duration of whole numbers, such as P1Y or P90D")
    years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in hit.groups())
    span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    months += years * 12
    if not months and not span:
        raise ValueError("must be longer than nothing")
    if months * 30 + span.days > MAX_MONTHS * 30:
        raise ValueError("must be at most 100 years")
    return Validity(text, months, span)
