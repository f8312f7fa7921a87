"""Courses in their versions, validity of completions, and enrolments (pure)."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal

import msgspec

from homeroom.catalogue.criteria import SCALE, AllItems, Criteria, facts_needed, prerequisites

MAX_MONTHS = 100 * 12
_DURATION = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,4})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,4})W)?(?:([0-9]{1,5})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,8})S)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SHORT_MONTH_MARGIN = timedelta(days=3)
"""Days by which a month's end may move: 31 January plus one month is 28 February."""

LearnerCourse = tuple[str, str]
"""(user id, course id)."""
AttemptKey = tuple[str, str, int]
"""(user id, course id, attempt)."""
QuizPolicy = Literal["best", "latest", "first", "average"]
"""The rule by which the attempts of a quiz give its score (B5)."""
LearnerPolicy = Literal["at_next_visit", "now", "never", "require_new"]
"""Effect of a new version on learners of older ones (B11)."""
EnrolmentStatus = Literal["registered", "in_progress", "completed", "expired"]


@dataclass(frozen=True, slots=True)
class Validity:
    """Validity of a completion: calendar months plus a fixed span of time."""

    text: str
    """The duration as the author wrote it."""
    months: int
    span: timedelta

    def end(self, start: int) -> int:
        """Return the instant (microseconds UTC) at which a validity from ``start`` ends.

        31 January plus one month is the last day of February, at the same time of day.
        """
        moment = _EPOCH + timedelta(microseconds=start)
        return (_add_months(moment, self.months) + self.span - _EPOCH) // _MICROSECOND

    def latest_start(self, end: int) -> int:
        """Return an upper bound of the starts of all validities that end by ``end``.

        Some that start before it end later: ``end`` of each decides.
        """
        moment = _EPOCH + timedelta(microseconds=end) - self.span
        return (_add_months(moment, -self.months) + _SHORT_MONTH_MARGIN - _EPOCH) // _MICROSECOND


class MoveOn(StrEnum):
    """Condition that satisfies a chapter (B6, named as in cmi5 13.1.4)."""

    PASSED = "Passed"
    COMPLETED = "Completed"
    COMPLETED_AND_PASSED = "CompletedAndPassed"
    COMPLETED_OR_PASSED = "CompletedOrPassed"
    NOT_APPLICABLE = "NotApplicable"


@dataclass(frozen=True, slots=True)
class Chapter:
    """The item of a course on which learners make progress."""

    id: str
    title: str
    unit_id: str
    weight: int = SCALE
    """Units of 1e-4; 10,000 is a weight of 1."""
    required: bool = True
    move_on: MoveOn = MoveOn.COMPLETED
    pass_threshold: int | None = None
    """Score in units of 1e-4 at which a quiz attempt passes; None: the chapter has no quiz."""
    measured: bool = field(init=False, compare=False, repr=False)
    """The course's percentage and ``all_items`` count it (B7): it is required, and its ``moveOn``
    is not ``NotApplicable``."""

    def __post_init__(self) -> None:
        """Compute the values that ingest reads for every event."""
        measured = self.required and self.move_on is not MoveOn.NOT_APPLICABLE
        object.__setattr__(self, "measured", measured)  # the class is frozen

    def satisfied(self, completed: bool, passed: bool, waived: bool = False) -> bool:
        """Return whether the chapter is satisfied (B6). A failed quiz satisfies nothing."""
        if waived:
            return True
        match self.move_on:
            case MoveOn.COMPLETED:
                return completed
            case MoveOn.PASSED:
                return passed
            case MoveOn.COMPLETED_AND_PASSED:
                return completed and passed
            case MoveOn.COMPLETED_OR_PASSED:
                return completed or passed
            case MoveOn.NOT_APPLICABLE:
                return True


@dataclass(frozen=True, slots=True)
class Unit:
    """A titled group of chapters."""

    id: str
    title: str
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True, slots=True)
class Course:
    """An immutable version of a course."""

    id: str
    version: int
    title: str
    units: tuple[Unit, ...]
    criteria: Criteria = field(default_factory=AllItems)
    auto_enrol: bool = True
    """A learner's first event enrols; if false, it is rejected with ``not_enrolled``."""
    trust_client: bool = False
    """Scores from learners' own tokens count."""
    badge_template_id: str | None = None
    validity: Validity | None = None
    estimated_hours: float | None = None
    quiz_policy: QuizPolicy = "best"
    learner_policy: LearnerPolicy = "at_next_visit"
    """``require_new`` renews completed attempts for what is new, and moves open ones now."""
    complete_on_edit: bool = False
    """An edit, such as a removed chapter, may itself complete a learner (B11)."""
    chapters: Mapping[str, Chapter] = field(init=False, compare=False, repr=False)
    """All chapters by id, in the order of the course."""
    required: frozenset[str] = field(init=False, compare=False, repr=False)
    """Ids of the chapters that are measured: required and not ``NotApplicable`` (B7)."""
    total_weight: int = field(init=False, compare=False, repr=False)
    """Sum of the measured weights in units of 1e-4; 0: the course is not measurable (B7)."""
    facts_needed: frozenset[str] = field(init=False, compare=False, repr=False)
    """The facts that decide completion, see ``criteria.facts_needed``."""
    prerequisites: frozenset[str] = field(init=False, compare=False, repr=False)
    """Ids of the courses that the criteria name."""

    def __post_init__(self) -> None:
        """Compute the values that ingest reads for every event."""
        chapters = {chapter.id: chapter for unit in self.units for chapter in unit.chapters}
        measured = [chapter for chapter in chapters.values() if chapter.measured]
        put = object.__setattr__  # the class is frozen
        put(self, "chapters", chapters)
        put(self, "required", frozenset(chapter.id for chapter in measured))
        put(self, "total_weight", sum(chapter.weight for chapter in measured))
        put(self, "facts_needed", facts_needed(self.criteria))
        put(self, "prerequisites", prerequisites(self.criteria))

    @property
    def moves_learners_now(self) -> bool:
        """Return whether publishing moves open learners, and not their next visit."""
        return self.learner_policy in ("now", "require_new")

    def valid_until(self, completed_at: int) -> int | None:
        """Return the end of validity of a completion at an instant; None: unlimited."""
        return None if self.validity is None else self.validity.end(completed_at)


class Enrolment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One attempt of one learner at one course. Instants are microseconds UTC.

    A msgspec type, because ingest creates one for every pair of every commit: 0.08 µs each, and
    1.4 for a frozen dataclass. ``msgspec.structs.replace`` returns a changed copy.
    """

    user_id: str
    course_id: str
    attempt: int
    """From 1; a reset or a renewal opens the next one."""
    version: int
    """The course version to which this attempt is pinned."""
    status: EnrolmentStatus
    enrolled_at: int
    opened_at: int
    """Events from this instant on belong to this attempt; 0 for the first attempt."""
    completed_at: int | None = None
    """Set once (B9)."""
    approved: bool = False
    """Approved by hand, for the criterion ``manual``."""
    carried_over: bool = False
    """It started with the state of the attempt before it (B12), and not from nothing."""
    ended_at: int | None = None
    """The learner was un-enrolled: later events are refused. Counts in the latest attempt only."""


def parse_validity(text: str) -> Validity:
    """Read an ISO 8601 duration such as ``P1Y``, ``P18M`` or ``P90D``.

    Raises ValueError for other text, a duration of zero, or one of more than 100 years.
    """
    hit = _DURATION.fullmatch(text)
    if hit is None:
        raise ValueError("must be an ISO 8601 duration of whole numbers, such as P1Y or P90D")
    years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in hit.groups())
    span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    months += years * 12
    if not months and not span:
        raise ValueError("must be longer than zero")
    if months * 30 + span.days > MAX_MONTHS * 30:
        raise ValueError("must be at most 100 years")
    return Validity(text, months, span)


def _add_months(moment: datetime, by: int) -> datetime:
    """Return the same day of another month, or its last day if it is shorter."""
    months = moment.month - 1 + by
    year, month = moment.year + months // 12, months % 12 + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=day)
