"""Rules of weeks, programmes, obligations and compliance (pure).

A week is an ISO week of the programme's own time zone: Monday 00:00 to the next Monday 00:00.
Boundaries are built from dates, then placed in the zone, then turned into UTC, so that a week in
which clocks change is an hour longer or shorter and its deadline is still midnight on the wall.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Literal
from zoneinfo import ZoneInfo

_WEEK_KEY = re.compile(r"(\d{4})-W(\d{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = 1, 2, 3, 4, 5
"""Days of the ISO week."""
WARNING_TIME, REPORT_TIME, REMINDER_TIME = time(8), time(10), time(9)
WEEKEND = timedelta(days=2)
JOINED_LATE_REASON = "joined after the week's last day to join"
CLOSED_REASON = "the programme is closed"
TargetWeek = Literal["current", "previous"]
COMPLIANCE_WEEKS = 4
"""The number of closed weeks that compliance evaluates."""
COMPLIANCE_THRESHOLD = 2
"""Missed weeks that cause a warning; with fewer expected weeks there is none."""


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
    """Return the week of a date."""
    year, number, _ = day.isocalendar()
    return Week(year, number)


def parse_week(key: str) -> Week:
    """Parse ``2026-W48``; raise ValueError for a week that does not exist."""
    match = _WEEK_KEY.fullmatch(key)
    if match is None:
        raise ValueError("a week is written as 2026-W48")
    week = Week(int(match[1]), int(match[2]))
    try:
        date.fromisocalendar(week.year, week.number, MONDAY)
    except ValueError as error:
        raise ValueError(f"there is no week {key}") from error
    return week


def local_to_instant(day: date, at: time, zone: ZoneInfo) -> int:
    """Return a wall time of a zone in microseconds UTC.

    In an hour that is skipped it is the first instant after the gap, in one that repeats the first
    of the two.
    """
    # fold=0 takes the offset from before a change, which is right in both cases.
    moment = datetime.combine(day, at, tzinfo=zone)
    return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND


def local_date(at: int, zone: ZoneInfo) -> date:
    """Return the date of an instant (microseconds UTC) in a zone."""
    return to_local_datetime(at, zone).date()


def to_local_datetime(at: int, zone: ZoneInfo) -> datetime:
    """Return the wall time of an instant (microseconds UTC) in a zone."""
    return (_EPOCH + at * _MICROSECOND).astimezone(zone)


def week_at(at: int, zone: ZoneInfo) -> Week:
    """Return the week of an instant."""
    return week_of(local_date(at, zone))


def opens_at(week: Week, zone: ZoneInfo) -> int:
    """Return the instant at which a week begins."""
    return local_to_instant(week.monday, time(), zone)


def deadline_at(week: Week, zone: ZoneInfo, grace_minutes: int = 0) -> int:
    """Return the deadline of a week's log: next Monday 00:00 plus grace, exclusive.

    A log that was received before it is on time. Messages show "Sunday 23:59".
    """
    end = local_to_instant(week.shifted(1).monday, time(), zone)
    return end + timedelta(minutes=grace_minutes) // _MICROSECOND


def reminder_expires_at(week: Week, zone: ZoneInfo) -> int:
    """Return the expiry of Monday's reminder: Thursday 08:00, as the warning goes.

    Thursday is counted from the dates of the week, never as hours before the deadline.
    """
    return local_to_instant(week.day(THURSDAY), WARNING_TIME, zone)


def report_expires_at(reported: Week, zone: ZoneInfo) -> int:
    """Return the expiry of the report on a week: the instant of the next report."""
    return local_to_instant(reported.shifted(2).day(TUESDAY), REPORT_TIME, zone)


def has_local_time_passed(week: Week, weekday: int, at: time, zone: ZoneInfo, now: int) -> bool:
    """Return whether a day and time of a week has passed in a person's own zone."""
    return local_to_instant(week.day(weekday), at, zone) <= now


def closed_weeks(now: int, zone: ZoneInfo, grace_minutes: int, count: int) -> list[Week]:
    """Return the most recent weeks whose deadline has passed, the oldest first."""
    week = week_at(now, zone)
    while deadline_at(week, zone, grace_minutes) > now:
        week = week.shifted(-1)
    return [week.shifted(-back) for back in range(count - 1, -1, -1)]


class ObligationState(StrEnum):
    """State of the log of an offering and a week."""

    OPEN = "open"
    SUBMITTED = "submitted"
    LATE = "late"
    MISSED = "missed"
    EXEMPT = "exempt"


SATISFIED_STATES = frozenset({ObligationState.SUBMITTED, ObligationState.LATE})
OUTSTANDING_STATES = frozenset({ObligationState.OPEN, ObligationState.MISSED})
"""The states that a log can satisfy: it is expected and has not arrived."""


@dataclass(frozen=True, slots=True)
class Offering:
    """A course that a facilitator gives within a programme; both dates belong to it."""

    id: str
    programme_id: str
    title: str
    facilitator_id: str
    starts_on: date
    ends_on: date


@dataclass(frozen=True, slots=True)
class Exemption:
    """Days without obligations; both dates belong to it.

    Without ``user_id`` it holds for all facilitators (a holiday), without ``offering_id`` for all
    offerings of the facilitator.
    """

    id: str
    starts_on: date
    ends_on: date
    reason: str
    """``leave``, ``holiday`` or ``other``."""
    user_id: str | None = None
    offering_id: str | None = None

    def applies_to(self, offering: Offering) -> bool:
        """Return whether it is about an offering."""
        return self.user_id in (None, offering.facilitator_id) and self.offering_id in (
            None,
            offering.id,
        )


@dataclass(frozen=True, slots=True)
class ObligationDecision:
    """State of the obligation for a week; ``reason`` is that of an exemption."""

    state: ObligationState
    reason: str | None = None


def decide_obligation(
    offering: Offering,
    week: Week,
    exemptions: Iterable[Exemption] = (),
    *,
    closed_on: date | None = None,
    last_day_to_join: int = THURSDAY,
) -> ObligationDecision | None:
    """Return the obligation for a week; None if the offering does not run in it.

    A facilitator who joins after ``last_day_to_join`` (a day of the ISO week) is exempt for that
    week. So is one whose leave and holidays together cover every working day on which the offering
    runs in that week; a single day off changes nothing. A programme that closes before the week has
    ended has no obligations for it.
    """
    sunday = week.monday + timedelta(days=6)
    if offering.starts_on > sunday or offering.ends_on < week.monday:
        return None
    if closed_on is not None and closed_on <= sunday:
        return ObligationDecision(ObligationState.EXEMPT, CLOSED_REASON)
    if offering.starts_on > week.day(last_day_to_join):
        return ObligationDecision(ObligationState.EXEMPT, JOINED_LATE_REASON)
    reason = _exemption_reason(
        offering, week, [each for each in exemptions if each.applies_to(offering)]
    )
    return (
        ObligationDecision(ObligationState.OPEN)
        if reason is None
        else ObligationDecision(ObligationState.EXEMPT, reason)
    )


def _exemption_reason(offering: Offering, week: Week, exemptions: list[Exemption]) -> str | None:
    first = max(week.monday, offering.starts_on)
    last = min(week.monday + timedelta(days=6), offering.ends_on)
    working = min(last, week.day(FRIDAY))
    if first <= working:
        last = working
    reason: str | None = None
    day = first
    while day <= last:
        covering = next(
            (each for each in exemptions if each.starts_on <= day <= each.ends_on), None
        )
        if covering is None:
            return None
        reason = reason or covering.reason
        day += timedelta(days=1)
    return reason


def state_at(state: ObligationState, deadline_at: int, now: int) -> ObligationState:
    """Return a stored state at an instant; open is missed from the deadline on.

    On time means that the log was received before the deadline, which is exclusive.
    """
    return ObligationState.MISSED if state is ObligationState.OPEN and now >= deadline_at else state


def state_after_submission(deadline_at: int, received_at: int) -> ObligationState:
    """Return the state that a log received at an instant gives its obligation."""
    return ObligationState.SUBMITTED if received_at < deadline_at else ObligationState.LATE


@dataclass(frozen=True, slots=True)
class Programme:
    """A programme with its rules. Its zone decides the limits of weeks and deadlines."""

    id: str
    title: str
    time_zone: str
    grace_minutes: int = 0
    """Minutes after the end of the week in which a log still is on time."""
    closed_on: date | None = None
    """First day without obligations and messages; None: the programme is open."""
    managers: tuple[str, ...] = ()
    log_url: str | None = None
    """The page on which facilitators write their logs; the link of their messages."""
    target_week: TargetWeek = "current"
    """The week that Monday's reminder is about; ``current`` is hours old by then."""
    last_day_to_join: int = THURSDAY
    """A facilitator who joins later in a week (Monday is 1) is exempt for it."""
    late_is_missed: bool = False
    copy_facilitator: bool = True
    """Whether a facilitator gets a copy of the compliance warning about them."""
    all_clear: bool = False
    """Whether managers get Tuesday's report when there is nothing in it."""
    per_user_time: bool = False
    """Whether reminders and warnings follow the facilitator's own time zone."""

    @property
    def zone(self) -> ZoneInfo:
        """Return its time zone."""
        return ZoneInfo(self.time_zone)

    def is_closed(self, now: int) -> bool:
        """Return whether it is closed on its local date at an instant (microseconds UTC)."""
        return self.closed_on is not None and self.closed_on <= local_date(now, self.zone)


@dataclass(frozen=True, slots=True)
class Obligation:
    """The log due for one offering and week. Instants are microseconds UTC."""

    offering_id: str
    offering_title: str
    week_key: str
    facilitator_id: str
    programme_id: str
    opens_at: int
    deadline_at: int
    """Frozen when the week opened: another zone or grace counts from the next week on."""
    state: ObligationState
    exempt_reason: str | None = None
    log_id: str | None = None
    satisfied_at: int | None = None

    @property
    def week(self) -> Week:
        """Return its week."""
        return parse_week(self.week_key)

    def is_outstanding(self, now: int) -> bool:
        """Return whether a log is missing, late already or not."""
        return self.state_at(now) in OUTSTANDING_STATES

    def state_at(self, now: int) -> ObligationState:
        """Return its state at an instant."""
        return state_at(self.state, self.deadline_at, now)


class ComplianceMark(StrEnum):
    """One mark for a facilitator's week over all their offerings."""

    DONE = "done"
    LATE = "late"
    MISSED = "missed"
    EXEMPT = "exempt"
    OPEN = "open"
    DOWN = "down"
    """Homeroom was down, and no log arrived in time: it counts neither way."""


class WarningChange(StrEnum):
    """Change of a facilitator's compliance warning."""

    NOTHING = "nothing"
    WARN = "warn"
    CONTINUING = "continuing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class ComplianceResult:
    """The missed weeks, and the change of the warning about them."""

    missed: tuple[str, ...]
    expected: int
    warning_change: WarningChange


def mark_week(
    states: Iterable[ObligationState], *, was_down: bool = False
) -> ComplianceMark | None:
    """Return one mark for a facilitator's offerings in one week: the worst.

    With ``was_down`` neither a missing nor a late log counts against the facilitator. None means
    that nothing ran in that week.
    """
    state_set = set(states)
    if was_down and state_set & {ObligationState.MISSED, ObligationState.LATE}:
        return ComplianceMark.DOWN
    if ObligationState.MISSED in state_set:
        return ComplianceMark.MISSED
    if ObligationState.OPEN in state_set:
        return ComplianceMark.OPEN
    if ObligationState.LATE in state_set:
        return ComplianceMark.LATE
    if state_set & SATISFIED_STATES:
        return ComplianceMark.DONE
    return ComplianceMark.EXEMPT if state_set else None


def is_expected(mark: ComplianceMark | None) -> bool:
    """Return whether a log of a week counts: as handed in or as missed."""
    return mark not in (None, ComplianceMark.EXEMPT, ComplianceMark.DOWN)


def evaluate_compliance(
    marks: Sequence[tuple[str, ComplianceMark | None]],
    warned: Sequence[str] | None,
    *,
    late_is_missed: bool = False,
) -> ComplianceResult:
    """Evaluate the most recent closed weeks, given as pairs of key and mark.

    ``warned`` are the missed weeks of the open warning, None if there is none. Missed means that
    there is no log now; late is not missed unless ``late_is_missed``; exempt weeks and those in
    which Homeroom was down count neither way. A warning about the same set of missed weeks is
    continuing, not new.
    """
    bad = (
        {ComplianceMark.MISSED, ComplianceMark.LATE} if late_is_missed else {ComplianceMark.MISSED}
    )
    missed = tuple(key for key, each in marks if each in bad)
    expected = sum(is_expected(each) for _, each in marks)
    if len(missed) < COMPLIANCE_THRESHOLD or expected < COMPLIANCE_THRESHOLD:
        return ComplianceResult(
            missed, expected, WarningChange.NOTHING if warned is None else WarningChange.RESOLVED
        )
    same = warned is not None and set(warned) == set(missed)
    return ComplianceResult(
        missed, expected, WarningChange.CONTINUING if same else WarningChange.WARN
    )
