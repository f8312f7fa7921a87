"""When somebody wants to be left alone, and when their digest is due (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

DAY_MINUTES = 24 * 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From one time of day to another, in minutes after midnight of the person's own zone.

    The end does not belong to it; ``start`` after ``end`` runs over midnight; equal ones are none.
    """

    start: int
    end: int

    def ends_at(self, now: int, zone: ZoneInfo) -> int | None:
        """Return when the quiet hours that hold at ``now`` end (microseconds UTC); None outside."""
        here = (_EPOCH + now * _MICROSECOND).astimezone(zone)
        minute = here.hour * 60 + here.minute
        if self.start <= self.end:
            quiet = self.start <= minute < self.end
        else:
            quiet = minute >= self.start or minute < self.end
        if not quiet:
            return None
        days = 1 if self.start > self.end and minute >= self.start else 0
        return _placed(here + timedelta(days=days), self.end, zone)


def digest_at(now: int, minute: int, zone: ZoneInfo) -> int:
    """Return when the next digest of somebody who wants one at a minute of the day is due."""
    here = (_EPOCH + now * _MICROSECOND).astimezone(zone)
    today = _placed(here, minute, zone)
    return today if today > now else _placed(here + timedelta(days=1), minute, zone)


def _placed(day: datetime, minute: int, zone: ZoneInfo) -> int:
    if minute >= DAY_MINUTES:
        day, minute = day + timedelta(days=1), minute - DAY_MINUTES
    wall = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone)
    return (wall.astimezone(UTC) - _EPOCH) // _MICROSECOND
