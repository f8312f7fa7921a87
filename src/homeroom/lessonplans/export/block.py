"""A plan as headings, paragraphs, lists and tables, which every text format then renders (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from homeroom.lessonplans.curriculum import Module, hours
from homeroom.lessonplans.generator import RULE_BASED
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.plan import Lesson, Plan
from homeroom.lessonplans.text import one_line

_PHASES = {
    "intro": "Intro",
    "teach": "Teach",
    "practice": "Practice",
    "check": "Check",
    "close": "Close",
}


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; level 1 is the plan, 2 a module, 3 a lesson, 4 a part of one."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; ``gap`` says that something is missing, ``note`` stands back."""

    text: str
    style: Literal["plain", "note", "gap"] = "plain"


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; ``widths`` are the shares of its columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[int]


Block = Heading | Paragraph | Bullets | Grid


def plan_blocks(plan: Plan) -> Iterator[Block]:
    """Yield a whole plan."""
    yield from front(plan)
    for index, module in enumerate(plan.curriculum.modules):
        yield from module_blocks(index, module)
        for lesson in plan.lessons_of(index):
            yield from lesson_blocks(plan, lesson)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def front(plan: Plan) -> Iterator[Block]:
    """Yield what stands before the first module: sums, who wrote it, what is missing."""
    curriculum = plan.curriculum
    yield Heading(1, one_line(curriculum.title))
    yield Paragraph(
        f"{_counted(len(curriculum.modules), 'module')}, {_counted(len(plan.lessons), 'lesson')},"
        f" {hours(curriculum.minutes)} contact hours."
    )
    yield Paragraph(written_by(plan), "note")
    unwritten = sum(lesson.body is None for lesson in plan.lessons)
    if unwritten:
        yield Paragraph(f"Not written yet: {_counted(unwritten, 'lesson')}.", "gap")
    if plan.gaps:
        numbers = ", ".join(lesson.slot.number for lesson in plan.gaps)
        yield Paragraph(f"Something is missing in the lessons {numbers}; see there.", "gap")


def written_by(plan: Plan) -> str:
    """Say who wrote a plan, and what the rules do not write."""
    if not plan.generators:
        return "Nothing is written yet."
    said = f"Generator: {', '.join(plan.generators)}."
    if RULE_BASED in plan.generators:
        said += (
            " Lessons that are rule-based hold structure, timing and assessment after the verbs of"
            " the outcomes. Their subject matter is for a person to add, where a sentence begins"
            ' with "Facilitator:".'
        )
    return said


def module_blocks(index: int, module: Module) -> Iterator[Block]:
    """Yield what stands before the first lesson of a module."""
    yield Heading(2, f"Module {index + 1}: {one_line(module.title)}")
    yield Paragraph(f"{hours(module.minutes)} contact hours. Afterwards learners can:")
    yield Bullets([one_line(outcome.text) for outcome in module.outcomes])
    if module.notes is not None:
        yield Paragraph(module.notes, "note")


def lesson_blocks(plan: Plan, lesson: Lesson) -> Iterator[Block]:
    """Yield one lesson."""
    slot = lesson.slot
    yield Heading(3, f"{slot.number} {one_line(lesson.title)}")
    yield Paragraph(
        f"{slot.minutes} minutes, week {slot.week},"
        f" {one_line(plan.curriculum.preferences.delivery_mode)}."
        + (" Edited by hand." if lesson.edited else "")
    )
    for gap in lesson.gaps:
        yield Paragraph(f"Missing: {one_line(gap.message)}.", "gap")
    if lesson.body is None:
        yield Paragraph("This lesson is not written yet.", "gap")
        return
    yield Grid(
        ("Outcome", "Level"),
        [(one_line(outcome.text), outcome.level.value) for outcome in slot.outcomes],
        (5, 1),
    )
    yield from _body(lesson.body)


def _body(body: LessonBody) -> Iterator[Block]:
    yield from _list("Prior knowledge", body.prior_knowledge)
    yield from _list("Key points", body.key_points)
    if body.vocabulary:
        yield Heading(4, "Vocabulary")
        yield Bullets([f"{each.term}: {each.definition}" for each in body.vocabulary])
    if body.misconceptions:
        yield Heading(4, "Misconceptions")
        yield Bullets([f"{each.misconception}: {each.correction}" for each in body.misconceptions])
    yield from _list("Materials", body.materials)
    yield Heading(4, "Activities")
    yield Grid(
        ("Min", "Phase", "Activity", "Facilitator", "Learners"),
        [
            (
                str(each.minutes),
                _PHASES[each.phase],
                f"{each.title} ({each.method})"
                + ("".join(f"\n- {resource}" for resource in each.resources)),
                each.facilitator_does,
                each.learners_do,
            )
            for each in body.activities
        ],
        (1, 2, 4, 6, 6),
    )
    yield Heading(4, "Assessment")
    yield Grid(
        ("Kind", "Level", "Method", "How", "Outcome"),
        [
            (each.kind, each.bloom_level.value, each.method, each.text, each.outcome_id)
            for each in body.assessments
        ],
        (2, 2, 3, 8, 2),
    )
    if body.differentiation is not None:
        yield Heading(4, "Differentiation")
        yield Bullets(
            [
                f"Support: {body.differentiation.support}",
                f"Stretch: {body.differentiation.stretch}",
                f"Accessibility: {body.differentiation.accessibility}",
            ]
        )
    if body.homework is not None:
        yield Heading(4, "Homework")
        yield Paragraph(body.homework)
    yield from _list("References", body.references)
    if body.notes is not None:
        yield Paragraph(body.notes, "note")


def _list(title: str, items: Sequence[str]) -> Iterator[Block]:
    if items:
        yield Heading(4, title)
        yield Bullets(items)
