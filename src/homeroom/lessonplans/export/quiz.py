"""The quizzes and assignments of a lesson, for learning platforms (pure).

A lesson with questions has quizzes of them. A blueprint of a quiz becomes a quiz with a place for
each question, marked as open, because the rules write no subject matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homeroom.lessonplans.curriculum import one_line
from homeroom.lessonplans.lesson import LessonAssessment, LessonBody
from homeroom.lessonplans.plan import PlannedLesson
from homeroom.lessonplans.wording import Wording

_QUIZ_PARTS = ("starterQuiz", "exitQuiz")
MAX_ITEM_TITLE = 80


@dataclass(frozen=True, slots=True)
class QuizChoice:
    """An option of a question; ``id`` tells nothing about its being right."""

    id: str
    text: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class QuizItem:
    """A question; without choices it is answered in a text that a person grades."""

    title: str
    prompt: str
    choices: Sequence[QuizChoice] = ()
    feedback: str | None = None
    """What a learner is told who chose a wrong answer."""


@dataclass(frozen=True, slots=True)
class Quiz:
    """A quiz of a lesson; ``name`` is unique in the lesson."""

    name: str
    title: str
    items: Sequence[QuizItem]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task that learners hand in; ``name`` is unique in the lesson."""

    name: str
    title: str
    text: str
    rubric: LessonAssessment | None
    """The assessment whose rubric grades it; None: it is not graded."""


def lesson_quizzes(lesson: PlannedLesson, wording: Wording) -> Iterator[Quiz]:
    """Yield the quizzes of a lesson: those with questions, then those of blueprints."""
    if lesson.body is None:
        return
    document = lesson.body.model_dump(mode="json", by_alias=True)
    for part in _QUIZ_PARTS:
        questions = document.get(part) or ()
        if questions:
            label = wording.labels[part]
            items = [choice_item(each, number) for number, each in enumerate(questions, start=1)]
            yield Quiz(part, f"{lesson.slot.number} {label}", items)
    for number, assessment in enumerate(lesson.body.assessments, start=1):
        if assessment.blueprint:
            title = wording.labels["quiz"].format(id=one_line(assessment.outcome_id))
            items = list(_blueprint_items(assessment, wording))
            yield Quiz(f"blueprint-{number}", f"{lesson.slot.number} {title}", items)


def lesson_assignments(body: LessonBody, wording: Wording) -> Iterator[Assignment]:
    """Yield what learners hand in: work that a rubric grades, and homework."""
    for number, assessment in enumerate(body.assessments, start=1):
        if assessment.rubric:
            yield Assignment(
                f"assessment-{number}", one_line(assessment.method), assessment.text, assessment
            )
    if body.homework is not None:
        yield Assignment("homework", wording.labels["homework"], body.homework, None)


def choice_item(question: Mapping[str, Any], number: int) -> QuizItem:
    """Return a question with an answer and distractors as an item of a quiz."""
    texts = [(question["answer"], True), *((each, False) for each in question["distractors"])]
    # The order is that of a hash, so that the right answer has no place of its own.
    ordered = sorted(texts, key=lambda each: hashlib.sha256(each[0].encode()).digest())
    return QuizItem(
        title=_item_title(question["question"], number),
        prompt=question["question"],
        choices=[
            QuizChoice(f"choice-{place}", text, is_right)
            for place, (text, is_right) in enumerate(ordered, start=1)
        ],
        feedback=question.get("feedback"),
    )


def _blueprint_items(assessment: LessonAssessment, wording: Wording) -> Iterator[QuizItem]:
    number = 0
    for row in assessment.blueprint:
        for _ in range(row.questions):
            number += 1
            prompt = wording.labels["quiz_place"].format(
                topic=one_line(row.topic), level=wording.levels[row.bloom_level], number=number
            )
            yield QuizItem(_item_title(row.topic, number), prompt)


def _item_title(text: str, number: int) -> str:
    title = f"{number}. {one_line(text)}"
    return title if len(title) <= MAX_ITEM_TITLE else title[: MAX_ITEM_TITLE - 1] + "…"
