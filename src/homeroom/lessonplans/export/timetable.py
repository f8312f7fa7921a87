"""When each lesson takes place, by the author's preferences (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from homeroom.lessonplans.curriculum import WEEKDAYS
from homeroom.lessonplans.plan import Plan

_SECOND = 1_000_000
PAUSE = timedelta(minutes=10)
"""Between two lessons of one day."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """When a lesson begins and ends, in the plan's time zone."""

    begins: datetime
    ends: datetime


def timetable(plan: Plan) -> list[Meeting]:
    """Return when the lessons take place, in their order.

    A day takes as many lessons as the author wants on it, and no lesson after its first that would
    end after midnight.
    """
    wishes = plan.curriculum.preferences
    zone = ZoneInfo(wishes.time_zone)
    opens = time.fromisoformat(wishes.start_time)
    days = {WEEKDAYS.index(day) for day in wishes.weekdays}
    day = wishes.starts_on or _monday_after(plan.created_at)
    meetings: list[Meeting] = []
    held, begins = 0, datetime.combine(day, opens)
    for lesson in plan.lessons:
        length = timedelta(minutes=lesson.slot.minutes)
        midnight = datetime.combine(day + timedelta(days=1), time())
        if held >= wishes.lessons_per_day or (held and begins + length > midnight):
            day, held = day + timedelta(days=1), 0
        if held == 0:
            while day.weekday() not in days:
                day += timedelta(days=1)
            begins = datetime.combine(day, opens)
        # the length is real time: an hour that a change of clocks skips or repeats still lasts one
        first = begins.replace(tzinfo=zone).astimezone(UTC)
        meetings.append(Meeting(first.astimezone(zone), (first + length).astimezone(zone)))
        held += 1
        begins += length + PAUSE
    return meetings


def _monday_after(instant: int) -> date:
    day = datetime.fromtimestamp(instant // _SECOND, UTC).date()
    return day + timedelta(days=7 - day.weekday())
