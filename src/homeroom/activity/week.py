"""Weeks, their deadlines, and the hours at which their messages end (pure).

A week is an ISO week of the programme's own time zone: Monday 00:00 to the next Monday 00:00.
Boundaries are built from dates, then placed in the zone, then turned into UTC, so that a week in
which clocks change is an hour longer or shorter and its deadline is still midnight on the wall.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_KEY = re.compile(r"(\d{4})-W(\d{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = 1, 2, 3, 4, 5
"""Days of the ISO week."""
WARNING_TIME, REPORT_TIME, REMINDER_TIME = time(8), time(10), time(9)


@dataclass(frozen=True, order=True, slots=True)
class Week:
    """One ISO week. 2024-12-30 lies in 2025-W01, 2027-01-03 in 2026-W53."""

    year: int
    number: int

    @property
    def key(self) -> str:
        """Return the week as it is stored and sent: ``2026-W48``; keys sort by time."""
        return f"{self.year:04}-W{self.number:02}"

    @property
    def monday(self) -> date:
        """Return its first day."""
        return date.fromisocalendar(self.year, self.number, MONDAY)

    def day(self, weekday: int) -> date:
        """Return a day of it; Monday is 1."""
        return self.monday + timedelta(days=weekday - 1)

    def shifted(self, weeks: int) -> Week:
        """Return the week so many weeks later, or earlier for a negative number."""
        return week_of(self.monday + timedelta(weeks=weeks))


def week_of(day: date) -> Week:
    """Return the week that a date lies in."""
    year, number, _ = day.isocalendar()
    return Week(year, number)


def parse_week(key: str) -> Week:
    """Read ``2026-W48``; raise ValueError for another text or a week that the year lacks."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError("a week is written as 2026-W48")
    week = Week(int(found[1]), int(found[2]))
    try:
        date.fromisocalendar(week.year, week.number, MONDAY)
    except ValueError as error:
        raise ValueError(f"there is no week {key}") from error
    return week


def instant(day: date, at: time, zone: ZoneInfo) -> int:
    """Return a wall time of a zone in microseconds UTC.

    In an hour that is skipped it is the first instant after the gap, in one that repeats the first
    of the two.
    """
    # fold=0 takes the offset from before a change, which is right in both cases.
    moment = datetime.combine(day, at, tzinfo=zone)
    return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND


def local_date(at: int, zone: ZoneInfo) -> date:
    """Return the date that the wall of a zone shows at an instant (microseconds UTC)."""
    return local(at, zone).date()


def local(at: int, zone: ZoneInfo) -> datetime:
    """Return what the wall of a zone shows at an instant (microseconds UTC)."""
    return (_EPOCH + at * _MICROSECOND).astimezone(zone)


def week_at(at: int, zone: ZoneInfo) -> Week:
    """Return the week that an instant lies in."""
    return week_of(local_date(at, zone))


def opens_at(week: Week, zone: ZoneInfo) -> int:
    """Return when a week begins."""
    return instant(week.monday, time(), zone)


def deadline_at(week: Week, zone: ZoneInfo, grace_minutes: int = 0) -> int:
    """Return when a week's log is late: the next Monday 00:00 and the grace, exclusive.

    A log that was received before it is on time. People are shown "Sunday 23:59".
    """
    end = instant(week.shifted(1).monday, time(), zone)
    return end + timedelta(minutes=grace_minutes) // _MICROSECOND


def reminder_ends_at(week: Week, zone: ZoneInfo) -> int:
    """Return until when Monday's reminder is worth sending: Thursday 08:00, when the warning goes.

    Thursday is counted from the dates of the week, never as so many hours before the deadline.
    """
    return instant(week.day(THURSDAY), WARNING_TIME, zone)


def report_ends_at(reported: Week, zone: ZoneInfo) -> int:
    """Return until when the report on a week is worth sending: when the next one is due."""
    return instant(reported.shifted(2).day(TUESDAY), REPORT_TIME, zone)


def has_passed(week: Week, weekday: int, at: time, zone: ZoneInfo, now: int) -> bool:
    """Say whether a day and time of a week has come on the wall of a person's own zone."""
    return instant(week.day(weekday), at, zone) <= now


def closed_weeks(now: int, zone: ZoneInfo, grace_minutes: int, count: int) -> list[Week]:
    """Return the most recent weeks whose deadline has passed, the oldest first."""
    week = week_at(now, zone)
    while deadline_at(week, zone, grace_minutes) > now:
        week = week.shifted(-1)
    return [week.shifted(-back) for back in range(count - 1, -1, -1)]
