"""A lesson plan: its document, coverage, status, progress and meetings (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from homeroom.lessonplans.curriculum import (
    WEEKDAYS,
    Curriculum,
    CurriculumModule,
    contact_hours,
)
from homeroom.lessonplans.lesson import LessonBody, LessonFinding
from homeroom.lessonplans.lesson_allocation import LessonSlot
from homeroom.lessonplans.open_places import OpenPlace, find_open_places
from homeroom.lessonplans.school_break import SchoolBreak

SCHEMA_VERSION = 2
"""Version 2 added kind, open places, domains, purposes and retrieved outcomes."""
LESSON_BREAK = timedelta(minutes=10)
"""The break between two lessons of one day."""

PlanKind = Literal["outline", "plan"]
"""``outline`` while a lesson is not written or a place is open; otherwise ``plan``."""
PlanStatus = Literal["pending", "in_progress", "complete", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class PlannedLesson:
    """A lesson of a plan; ``body`` is None until it is generated."""

    slot: LessonSlot
    body: LessonBody | None
    gaps: tuple[LessonFinding, ...]
    generator: str | None
    revision: int
    edited: bool
    provenance: Mapping[str, object]
    changed_at: int | None = None
    """Instant of the last generation or edit."""
    edited_parts: tuple[str, ...] = ()
    """The parts that a person has edited since they were generated."""

    @property
    def title(self) -> str:
        """Return the title; the working title until the lesson is generated."""
        return self.slot.title if self.body is None else self.body.title

    @property
    def open_places(self) -> list[OpenPlace]:
        """Return the places that a person still has to fill in."""
        return [] if self.body is None else find_open_places(self.body)


@dataclass(frozen=True, slots=True)
class LessonPlan:
    """A plan with all its lessons in order."""

    id: str
    curriculum: Curriculum
    status: PlanStatus
    input_hash: str
    created_at: int
    created_by: str
    lessons: tuple[PlannedLesson, ...]
    schedule_revision: int = 0
    """Number of changes of its first day, time or breaks."""
    scheduled_at: int | None = None
    """Instant of the last such change."""

    def lessons_of(self, index: int) -> list[PlannedLesson]:
        """Return the lessons of a module."""
        return [lesson for lesson in self.lessons if lesson.slot.module_index == index]

    @property
    def gaps(self) -> list[PlannedLesson]:
        """Return the lessons that have gaps."""
        return [lesson for lesson in self.lessons if lesson.gaps]

    @property
    def open_places(self) -> list[tuple[PlannedLesson, OpenPlace]]:
        """Return all open places with their lessons, in order."""
        return [(lesson, place) for lesson in self.lessons for place in lesson.open_places]

    @property
    def kind(self) -> PlanKind:
        """Return whether it is an outline or a plan that can be taught from."""
        return plan_kind(
            is_written=all(lesson.body is not None for lesson in self.lessons),
            open_places=len(self.open_places),
        )

    @property
    def generators(self) -> list[str]:
        """Return the names of the lessons' generators, sorted, each once."""
        names = {name for each in self.lessons for name in (each.generator or "").split(", ")}
        return sorted(names - {""})


@dataclass(frozen=True, slots=True)
class LessonProgress:
    """The progress of one lesson, without its text."""

    module_idx: int
    minutes: int
    round: int
    """The module's round in which it was generated last; 0: never."""
    took_ms: int | None
    has_gaps: bool
    open_places: int | None = None
    """None: not generated, or by an earlier release that did not count them."""


@dataclass(frozen=True, slots=True)
class PlanProgress:
    """The progress of a plan or of one of its modules."""

    percent: float
    """0 to 100, rounded down to one decimal: 100 means complete."""
    lessons_left: int
    seconds_left: int | None
    """None: unknown, because no lesson was generated yet."""


@dataclass(frozen=True, slots=True)
class LessonMeeting:
    """The begin and end of a lesson, in the plan's time zone."""

    begins: datetime
    ends: datetime


def plan_kind(*, is_written: bool, open_places: int) -> PlanKind:
    """Return the kind of a plan from its open places."""
    return "plan" if is_written and open_places == 0 else "outline"


def plan_document(plan: LessonPlan) -> dict[str, Any]:
    """Return a plan as JSON; equal curricula yield equal documents.

    Only ``workflowId`` and the values under each key ``provenance`` differ: they identify the plan
    and record when and by whom it was generated.
    """
    curriculum = plan.curriculum
    places = plan.open_places
    is_written = all(lesson.body is not None for lesson in plan.lessons)
    return {
        "workflowId": plan.id,
        "schemaVersion": SCHEMA_VERSION,
        "title": curriculum.title,
        "courseId": curriculum.course_id,
        "locale": curriculum.locale,
        "status": plan.status,
        "kind": plan_kind(is_written=is_written, open_places=len(places)),
        "generator": ", ".join(plan.generators) or None,
        "totals": {
            "modules": len(curriculum.modules),
            "lessons": len(plan.lessons),
            "contactMinutes": curriculum.minutes,
            "contactHours": contact_hours(curriculum.minutes),
            "openPlaces": len(places),
        },
        "modules": [
            _module_document(plan, index, module) for index, module in enumerate(curriculum.modules)
        ],
        "coverage": outcome_coverage(plan),
        "gaps": [
            {
                "lessonId": lesson.slot.id,
                "number": lesson.slot.number,
                "title": lesson.title,
                "reasons": _gap_reasons(lesson.gaps),
            }
            for lesson in plan.gaps
        ],
        "openPlaces": [
            {
                "lessonId": lesson.slot.id,
                "number": lesson.slot.number,
                "field": place.field,
                "asks": place.asks,
            }
            for lesson, place in places
        ],
        "provenance": {"inputHash": plan.input_hash},
    }


def outcome_coverage(plan: LessonPlan) -> list[dict[str, Any]]:
    """Return the lessons that teach and assess each outcome, and its own minutes."""
    taught: dict[str, list[str]] = defaultdict(list)
    assessed: dict[str, list[str]] = defaultdict(list)
    minutes: dict[str, int] = defaultdict(int)
    for lesson in plan.lessons:
        for outcome in lesson.slot.outcomes:
            taught[outcome.id].append(lesson.slot.number)
            minutes[outcome.id] += outcome.minutes
        assessments = () if lesson.body is None else lesson.body.assessments
        for id in dict.fromkeys(assessment.outcome_id for assessment in assessments):
            assessed[id].append(lesson.slot.number)
    return [
        {
            "outcomeId": outcome.id,
            "moduleId": module.id,
            "taughtIn": taught[outcome.id],
            "assessedIn": assessed[outcome.id],
            "minutes": minutes[outcome.id],
        }
        for module in plan.curriculum.modules
        for outcome in module.outcomes
    ]


def lesson_document(plan: LessonPlan, lesson: PlannedLesson) -> dict[str, Any]:
    """Return one lesson as JSON."""
    slot = lesson.slot
    body = {} if lesson.body is None else lesson.body.model_dump(mode="json", by_alias=True)
    return {
        "id": slot.id,
        "number": slot.number,
        "order": slot.index + 1,
        "week": slot.week,
        "title": lesson.title,
        "durationMinutes": slot.minutes,
        "deliveryMode": plan.curriculum.preferences.delivery_mode,
        "outcomes": [
            {
                "id": each.id,
                "text": each.text,
                "bloomLevel": each.level.value,
                "bloomVerb": each.verb,
                "levelDeclared": each.declared,
                "domain": each.domain.value,
                "domainDeclared": each.domain_declared,
                "readFrom": each.basis,
                "evidence": each.evidence,
                "minutes": each.minutes,
            }
            for each in slot.outcomes
        ],
        "stage": slot.stage.value,
        "retrieves": [
            {"outcomeId": each.id, "text": each.text, "lesson": each.lesson}
            for each in slot.retrieves
        ],
        "written": lesson.body is not None,
        "generator": lesson.generator,
        "edited": lesson.edited,
        "editedParts": list(lesson.edited_parts),
        "revision": lesson.revision,
        "gaps": _gap_reasons(lesson.gaps),
        "openPlaces": [{"field": place.field, "asks": place.asks} for place in lesson.open_places],
        **{key: value for key, value in body.items() if key != "title"},
        "provenance": {**lesson.provenance, "editedByHuman": lesson.edited},
    }


def plan_status(states: Sequence[str]) -> PlanStatus:
    """Return a plan's status from the states of its modules."""
    present = set(states)
    if "queued" in present:
        return "in_progress"
    if "failed" in present:
        return "failed"
    if "cancelled" in present:
        return "cancelled"
    return "complete" if present == {"complete"} else "pending"


def plan_progress(rounds: Mapping[int, int], lessons: Sequence[LessonProgress]) -> PlanProgress:
    """Return the progress of some modules, by the minutes of their lessons.

    ``rounds`` maps the index of each module to its current round. Lessons are generated one after
    another, so the remaining time is the mean time of the generated lessons for each remaining one.
    The percentage never decreases within a round.
    """
    counted = [lesson for lesson in lessons if lesson.module_idx in rounds]
    generated = [lesson for lesson in counted if lesson.round >= rounds[lesson.module_idx]]
    total = sum(lesson.minutes for lesson in counted)
    done = sum(lesson.minutes for lesson in generated)
    left = len(counted) - len(generated)
    durations_ms = [lesson.took_ms for lesson in counted if lesson.took_ms is not None]
    seconds_left = None
    if left == 0:
        seconds_left = 0
    elif durations_ms:
        seconds_left = -(-left * sum(durations_ms) // (len(durations_ms) * 1_000))
    return PlanProgress((done * 1_000 // total) / 10 if total else 100.0, left, seconds_left)


def schedule_meetings(plan: LessonPlan) -> list[LessonMeeting]:
    """Return the meetings of all lessons in order; none without a first day.

    A day holds at most ``lessonsPerDay`` lessons, and after its first lesson none that would end
    after midnight. No lesson is on a day of a break.
    """
    preferences = plan.curriculum.preferences
    zone = ZoneInfo(preferences.time_zone)
    start_time = time.fromisoformat(preferences.start_time)
    weekdays = {WEEKDAYS.index(day) for day in preferences.weekdays}
    day = preferences.starts_on
    if day is None:
        return []
    meetings: list[LessonMeeting] = []
    held, begins = 0, datetime.combine(day, start_time)
    for lesson in plan.lessons:
        length = timedelta(minutes=lesson.slot.minutes)
        midnight = datetime.combine(day + timedelta(days=1), time())
        if held >= preferences.lessons_per_day or (held and begins + length > midnight):
            day, held = day + timedelta(days=1), 0
        if held == 0:
            while day.weekday() not in weekdays or _is_free(day, preferences.breaks):
                day += timedelta(days=1)
            begins = datetime.combine(day, start_time)
        # The length is elapsed time: it is the same across a change to or from summer time.
        first = begins.replace(tzinfo=zone).astimezone(UTC)
        meetings.append(LessonMeeting(first.astimezone(zone), (first + length).astimezone(zone)))
        held += 1
        begins += length + LESSON_BREAK
    return meetings


def _module_document(plan: LessonPlan, index: int, module: CurriculumModule) -> dict[str, Any]:
    return {
        "id": module.id,
        "title": module.title,
        "contactHours": contact_hours(module.minutes),
        "contactMinutes": module.minutes,
        "outcomes": [outcome.id for outcome in module.outcomes],
        "lessons": [lesson_document(plan, lesson) for lesson in plan.lessons_of(index)],
    }


def _gap_reasons(gaps: Sequence[LessonFinding]) -> list[dict[str, str]]:
    return [
        {"code": gap.code, "message": gap.message, **({"field": gap.field} if gap.field else {})}
        for gap in gaps
    ]


def _is_free(day: date, breaks: Sequence[SchoolBreak]) -> bool:
    return any(each.first_day <= day <= each.last_day for each in breaks)
