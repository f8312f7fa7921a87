"""A whole plan as one document: what is shown, what is exported, what covers what (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homeroom.lessonplans.check import Finding
from homeroom.lessonplans.curriculum import Curriculum, Module, hours
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.skeleton import Slot
from homeroom.lessonplans.status import PlanStatus

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson of a plan; ``body`` None: it is not written yet."""

    slot: Slot
    body: LessonBody | None
    gaps: tuple[Finding, ...]
    generator: str | None
    revision: int
    edited: bool
    provenance: Mapping[str, object]

    @property
    def title(self) -> str:
        """Return its title, the working title until it is written."""
        return self.slot.title if self.body is None else self.body.title


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan with all its lessons in order."""

    id: str
    curriculum: Curriculum
    status: PlanStatus
    input_hash: str
    created_at: int
    created_by: str
    lessons: tuple[Lesson, ...]

    def lessons_of(self, index: int) -> list[Lesson]:
        """Return the lessons of a module."""
        return [lesson for lesson in self.lessons if lesson.slot.module_index == index]

    @property
    def gaps(self) -> list[Lesson]:
        """Return the lessons in which something is missing."""
        return [lesson for lesson in self.lessons if lesson.gaps]

    @property
    def generators(self) -> list[str]:
        """Return who wrote the lessons, each once, by name."""
        return sorted({lesson.generator for lesson in self.lessons if lesson.generator})


def document(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON; equal input gives equal documents but for the names below.

    ``workflowId`` and everything under a key ``provenance`` say which plan it is and when and by
    whom it was made.
    """
    curriculum = plan.curriculum
    return {
        "workflowId": plan.id,
        "schemaVersion": SCHEMA_VERSION,
        "title": curriculum.title,
        "courseId": curriculum.course_id,
        "locale": curriculum.locale,
        "status": plan.status,
        "generator": ", ".join(plan.generators) or None,
        "totals": {
            "modules": len(curriculum.modules),
            "lessons": len(plan.lessons),
            "contactMinutes": curriculum.minutes,
            "contactHours": hours(curriculum.minutes),
        },
        "modules": [
            _module(plan, index, module) for index, module in enumerate(curriculum.modules)
        ],
        "coverage": coverage(plan),
        "gaps": [
            {
                "lessonId": lesson.slot.id,
                "number": lesson.slot.number,
                "title": lesson.title,
                "reasons": _reasons(lesson.gaps),
            }
            for lesson in plan.gaps
        ],
        "provenance": {"inputHash": plan.input_hash},
    }


def coverage(plan: Plan) -> list[dict[str, Any]]:
    """Return for every outcome which lessons teach and which assess it."""
    taught: dict[str, list[str]] = defaultdict(list)
    assessed: dict[str, list[str]] = defaultdict(list)
    for lesson in plan.lessons:
        for outcome in lesson.slot.outcomes:
            taught[outcome.id].append(lesson.slot.number)
        named = () if lesson.body is None else lesson.body.assessments
        for id in dict.fromkeys(assessment.outcome_id for assessment in named):
            assessed[id].append(lesson.slot.number)
    return [
        {
            "outcomeId": outcome.id,
            "moduleId": module.id,
            "taughtIn": taught[outcome.id],
            "assessedIn": assessed[outcome.id],
        }
        for module in plan.curriculum.modules
        for outcome in module.outcomes
    ]


def lesson_document(plan: Plan, lesson: Lesson) -> dict[str, Any]:
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
            }
            for each in slot.outcomes
        ],
        "written": lesson.body is not None,
        "generator": lesson.generator,
        "edited": lesson.edited,
        "revision": lesson.revision,
        "gaps": _reasons(lesson.gaps),
        **{key: value for key, value in body.items() if key != "title"},
        "provenance": {**lesson.provenance, "editedByHuman": lesson.edited},
    }


def _module(plan: Plan, index: int, module: Module) -> dict[str, Any]:
    return {
        "id": module.id,
        "title": module.title,
        "contactHours": hours(module.minutes),
        "contactMinutes": module.minutes,
        "outcomes": [outcome.id for outcome in module.outcomes],
        "lessons": [lesson_document(plan, lesson) for lesson in plan.lessons_of(index)],
    }


def _reasons(gaps: Sequence[Finding]) -> list[dict[str, str]]:
    return [{"code": gap.code, "message": gap.message} for gap in gaps]
