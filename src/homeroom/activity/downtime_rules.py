"""Rules of weeks in which Homeroom was down (pure).

Decision 0025 has the reasons. A log that could not be handed in is not counted against its
facilitator, and neither is one of which no message could remind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time, timedelta

from homeroom.activity.jobs import PROGRAMME_SCHEDULES
from homeroom.activity.obligation_rules import (
    MONDAY,
    REMINDER_TIME,
    THURSDAY,
    WARNING_TIME,
    Obligation,
    Programme,
    Week,
    local_to_instant,
)
from homeroom.instant import to_microseconds
from homeroom.jobs.api import Downtime

LAST_DAY = to_microseconds(timedelta(hours=24))
"""The time before a deadline in which most logs are handed in."""
EXTENSION = to_microseconds(timedelta(hours=24))
"""Time to hand in a log after Homeroom is back, where it was down at the deadline."""


def find_down_weeks(
    programme: Programme, rows: Iterable[Obligation], downtimes: Sequence[Downtime]
) -> dict[str, int]:
    """Return the weeks of obligations in which Homeroom was down, by key.

    The value is the instant until which a log still counts as on time, in microseconds UTC.
    """
    down: dict[str, int] = {}
    if not downtimes:
        return down
    for row in rows:
        extended = extended_deadline(row.deadline_at, downtimes)
        if extended != row.deadline_at or _was_without_messages(programme, row.week, downtimes):
            down[row.week_key] = max(extended, down.get(row.week_key, 0))
    return down


def extended_deadline(deadline_at: int, downtimes: Sequence[Downtime]) -> int:
    """Return a log's deadline: if Homeroom was down then, 24 h after the return.

    Down at the end means: at the deadline itself, or for half of the 24 hours before it.
    """
    while _was_down_at(deadline_at, downtimes):
        returned_at = max(
            each.ended_at
            for each in downtimes
            if _overlap(each, deadline_at - LAST_DAY, deadline_at)
        )
        deadline_at = returned_at + EXTENSION  # later than before: it returned in the last day
    return deadline_at


def _was_down_at(deadline_at: int, downtimes: Sequence[Downtime]) -> bool:
    if any(each.started_at < deadline_at <= each.ended_at for each in downtimes):
        return True
    return 2 * _time_down(deadline_at - LAST_DAY, deadline_at, downtimes) >= LAST_DAY


def _was_without_messages(programme: Programme, week: Week, downtimes: Sequence[Downtime]) -> bool:
    """Return whether Homeroom was down in all the time for the messages about a week.

    A slot is caught up within its window, so a message could go out unless the whole window was
    down. A reminder about the week before comes after the deadline and does not count.
    """
    windows = [_window(programme, week.day(THURSDAY), WARNING_TIME, "deadline_warning")]
    if programme.target_week == "current":
        windows.append(_window(programme, week.day(MONDAY), REMINDER_TIME, "reminder"))
    return all(_time_down(first, last, downtimes) >= last - first for first, last in windows)


def _window(programme: Programme, day: date, at: time, schedule: str) -> tuple[int, int]:
    first = local_to_instant(day, at, programme.zone)
    return first, first + to_microseconds(PROGRAMME_SCHEDULES[schedule].catch_up)


def _time_down(first: int, last: int, downtimes: Sequence[Downtime]) -> int:
    return sum(_overlap(each, first, last) for each in downtimes)


def _overlap(downtime: Downtime, first: int, last: int) -> int:
    return max(0, min(downtime.ended_at, last) - max(downtime.started_at, first))


def is_hand_in_open(week_key: str, down_weeks: Mapping[str, int], now: int) -> bool:
    """Return whether the deadline of a week was extended and has not passed."""
    return now < down_weeks.get(week_key, 0)
