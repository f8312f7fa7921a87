"""A plan as headings, paragraphs, lists and tables (pure).

Every text format renders these blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from homeroom.lessonplans.curriculum import CurriculumModule, contact_hours, one_line
from homeroom.lessonplans.generator import RULE_BASED
from homeroom.lessonplans.lesson import ChoiceQuestion, LessonAssessment, LessonBody
from homeroom.lessonplans.plan import LessonPlan, PlannedLesson
from homeroom.lessonplans.wording import Wording, load_wording, wording_language


@dataclass(frozen=True, slots=True)
class WritingSpace:
    """Ruled lines to write on: one after each prompt, then ``lines`` more."""

    title: str
    prompts: Sequence[str]
    lines: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: level 1 is the plan, 2 a module, 3 a lesson, 4 a lesson's part."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; ``gap`` marks missing or open content, ``note`` is set in italics."""

    text: str
    style: Literal["plain", "note", "gap"] = "plain"


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; ``widths`` are the relative widths of its columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[int]


Block = Heading | Paragraph | Bullets | Grid


def plan_blocks(plan: LessonPlan) -> Iterator[Block]:
    """Yield the blocks of a whole plan."""
    yield from front_matter_blocks(plan)
    for index, module in enumerate(plan.curriculum.modules):
        yield from module_blocks(plan, index, module)
        for lesson in plan.lessons_of(index):
            yield from lesson_blocks(plan, lesson)


def front_matter_blocks(plan: LessonPlan) -> Iterator[Block]:
    """Yield the blocks before the first module: totals, authorship, open places."""
    curriculum, labels = plan.curriculum, _wording(plan).labels
    yield Heading(1, one_line(curriculum.title))
    yield Paragraph(
        labels["plan_totals"].format(
            modules=_count(labels, "modules", len(curriculum.modules)),
            lessons=_count(labels, "lessons", len(plan.lessons)),
            hours=contact_hours(curriculum.minutes),
        )
    )
    yield Paragraph(authorship_note(plan), "note")
    unwritten = sum(lesson.body is None for lesson in plan.lessons)
    if unwritten:
        lessons = _count(labels, "lessons", unwritten)
        yield Paragraph(labels["not_generated"].format(lessons=lessons), "gap")
    count = len(plan.open_places)
    if count:
        yield Paragraph(labels["outline"].format(count=count), "gap")
    if plan.gaps:
        numbers = ", ".join(lesson.slot.number for lesson in plan.gaps)
        yield Paragraph(labels["gap_lessons"].format(numbers=numbers), "gap")


def authorship_note(plan: LessonPlan) -> str:
    """Return a note on the generators, and on the limits of rule-based lessons."""
    labels = _wording(plan).labels
    if not plan.generators:
        return labels["no_lesson"]
    note = labels["generator"].format(names=", ".join(plan.generators))
    if RULE_BASED in plan.generators:
        note += " " + labels["rule_based"]
    return note


def module_blocks(plan: LessonPlan, index: int, module: CurriculumModule) -> Iterator[Block]:
    """Yield the blocks before the first lesson of a module."""
    labels = _wording(plan).labels
    title = one_line(module.title)
    yield Heading(2, labels["module"].format(number=index + 1, title=title))
    yield Paragraph(labels["module_hours"].format(hours=contact_hours(module.minutes)))
    yield Bullets([one_line(outcome.text) for outcome in module.outcomes])
    if module.notes is not None:
        yield Paragraph(module.notes, "note")


def lesson_blocks(plan: LessonPlan, lesson: PlannedLesson) -> Iterator[Block]:
    """Yield the blocks of one lesson."""
    slot, wording = lesson.slot, _wording(plan)
    labels = wording.labels
    yield Heading(3, f"{slot.number} {one_line(lesson.title)}")
    facts = labels["lesson_facts"].format(
        minutes=slot.minutes,
        week=slot.week,
        mode=one_line(plan.curriculum.preferences.delivery_mode),
        stage=wording.stages[slot.stage],
    )
    yield Paragraph(f"{facts} {labels['edited']}" if lesson.edited else facts)
    for gap in lesson.gaps:
        yield Paragraph(labels["missing"].format(message=one_line(gap.message)), "gap")
    if lesson.body is None:
        yield Paragraph(labels["lesson_not_generated"], "gap")
        return
    count = len(lesson.open_places)
    if count:
        yield Paragraph(labels["open_places"].format(count=count), "gap")
    yield Grid(
        (labels["outcome"], labels["level"], labels["domain"]),
        [
            (
                one_line(outcome.text),
                wording.levels[outcome.level],
                wording.domains[outcome.domain],
            )
            for outcome in slot.outcomes
        ],
        (5, 1, 1),
    )
    yield from _body_blocks(lesson.body, wording)


def _body_blocks(body: LessonBody, wording: Wording) -> Iterator[Block]:
    labels = wording.labels
    yield from _list_blocks(labels["prior_knowledge"], body.prior_knowledge)
    yield from _list_blocks(labels["key_points"], body.key_points)
    terms = [f"{each.term}: {each.definition}" for each in body.vocabulary]
    yield from _list_blocks(labels["vocabulary"], terms)
    errors = [f"{each.misconception}: {each.correction}" for each in body.misconceptions]
    yield from _list_blocks(labels["misconceptions"], errors)
    yield from _list_blocks(labels["materials"], body.materials)
    yield from _question_blocks(labels, "starter_quiz", body.starter_quiz)
    if body.explanation is not None:
        yield Heading(4, labels["explanation"])
        yield Paragraph(body.explanation.spoken)
        shown = [labels["shown"].format(text=each) for each in body.explanation.shown]
        examples = [labels["example"].format(text=each) for each in body.explanation.examples]
        if shown or examples:
            yield Bullets([*shown, *examples])
    yield Heading(4, labels["activities"])
    names = ("minutes", "phase", "activity", "facilitator", "learners")
    yield Grid(
        [labels[name] for name in names],
        [
            (
                str(each.minutes),
                labels[each.phase],
                f"{each.title} ({each.method})"
                + ("".join(f"\n- {resource}" for resource in each.resources)),
                each.facilitator_does,
                each.learners_do,
            )
            for each in body.activities
        ],
        (2, 3, 6, 10, 10),
    )
    yield from _question_blocks(labels, "checks", body.checks)
    if body.practice:
        yield Heading(4, labels["practice_tasks"])
        rows = [(each.task, each.feedback) for each in body.practice]
        yield Grid((labels["task"], labels["feedback"]), rows, (1, 1))
    yield from _question_blocks(labels, "exit_quiz", body.exit_quiz)
    yield from _assessment_blocks(body, wording)
    if body.differentiation is not None:
        yield Heading(4, labels["differentiation"])
        yield Bullets(
            [
                labels["support"].format(text=body.differentiation.support),
                labels["stretch"].format(text=body.differentiation.stretch),
                labels["accessibility"].format(text=body.differentiation.accessibility),
            ]
        )
    if body.homework is not None:
        yield Heading(4, labels["homework"])
        yield Paragraph(body.homework)
    yield from _list_blocks(labels["references"], body.references)
    if body.notes is not None:
        yield Paragraph(body.notes, "note")


def _assessment_blocks(body: LessonBody, wording: Wording) -> Iterator[Block]:
    labels, levels = wording.labels, wording.levels
    yield Heading(4, labels["assessment"])
    yield Grid(
        [labels[name] for name in ("kind", "level", "method", "how", "outcome")],
        [
            (labels[each.kind], levels[each.bloom_level], each.method, each.text, each.outcome_id)
            for each in body.assessments
        ],
        (5, 5, 6, 14, 4),
    )
    for each in body.assessments:
        if each.rubric:
            yield Heading(4, labels["rubric"].format(id=one_line(each.outcome_id)))
            yield rubric_grid(each, wording)
        if each.checklist:
            yield Heading(4, labels["checklist"].format(id=one_line(each.outcome_id)))
            rows = [(item, "") for item in each.checklist]
            yield Grid((labels["criterion"], labels["observed"]), rows, (5, 1))
        if each.blueprint:
            yield Heading(4, labels["blueprint"].format(id=one_line(each.outcome_id)))
            yield Grid(
                (labels["topic"], labels["level"], labels["questions"]),
                [
                    (row.topic, levels[row.bloom_level], str(row.questions))
                    for row in each.blueprint
                ],
                (8, 3, 2),
            )


def rubric_grid(assessment: LessonAssessment, wording: Wording) -> Grid:
    """Return the rubric of an assessment as a table."""
    labels = wording.labels
    steps = max(len(row.steps) for row in assessment.rubric)
    return Grid(
        [
            labels["criterion"],
            *(labels.get(f"step_{step}", str(step)) for step in range(1, steps + 1)),
        ],
        [
            (row.criterion, *row.steps, *[""] * (steps - len(row.steps)))
            for row in assessment.rubric
        ],
        (4, *[2] * steps),
    )


def _question_blocks(
    labels: Mapping[str, str], name: str, questions: Sequence[ChoiceQuestion]
) -> Iterator[Block]:
    if questions:
        yield Heading(4, labels[name])
        yield Grid(
            [labels[column] for column in ("question", "answer", "distractors", "feedback")],
            [
                (
                    each.question,
                    each.answer,
                    "\n".join(f"- {distractor}" for distractor in each.distractors),
                    each.feedback or "",
                )
                for each in questions
            ],
            (4, 3, 3, 3),
        )


def _list_blocks(title: str, items: Sequence[str]) -> Iterator[Block]:
    if items:
        yield Heading(4, title)
        yield Bullets(items)


def _wording(plan: LessonPlan) -> Wording:
    return load_wording(wording_language(plan.curriculum))


def _count(labels: Mapping[str, str], noun: str, count: int) -> str:
    return labels[f"{noun}_one" if count == 1 else f"{noun}_many"].format(count=count)
