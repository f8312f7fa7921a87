"""The content of one lesson, and its checks; JSON with camelCase keys (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import not_
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from homeroom.lessonplans.bloom import BloomLevel
from homeroom.lessonplans.curriculum import Curriculum, printable
from homeroom.lessonplans.lesson_allocation import LessonSlot

MAX_ITEMS = 60
ActivityPhase = Literal["intro", "teach", "practice", "check", "close"]
_LINK_PATTERN = re.compile(
    r"(?:https?://|www\.)[^\s<>\"'()\[\]{}]+|\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|io)"
    r"(?:/[^\s<>\"'()\[\]{}]*)?",
    re.IGNORECASE,
)


def _not_blank(text: str) -> str:
    text = printable(text).strip()
    if not text:
        raise ValueError("must not be blank")
    return text


LineText = Annotated[str, StringConstraints(max_length=600), AfterValidator(_not_blank)]
ProseText = Annotated[str, StringConstraints(max_length=4_000), AfterValidator(_not_blank)]
LessonTitle = Annotated[str, StringConstraints(max_length=200), AfterValidator(_not_blank)]
LineTexts = Annotated[list[LineText], Field(max_length=MAX_ITEMS)]


class LessonPart(BaseModel):
    """A part of a lesson: frozen, camelCase in JSON, no unknown keys."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid"
    )


class VocabularyTerm(LessonPart):
    """A term that learners need, with its definition."""

    term: LineText
    definition: ProseText


class Misconception(LessonPart):
    """A frequent misconception of learners, with its correction."""

    misconception: LineText
    correction: ProseText


class LessonActivity(LessonPart):
    """One timed phase of a lesson."""

    phase: ActivityPhase
    title: LineText
    minutes: Annotated[int, Field(ge=1, le=1_440)]
    method: LineText
    facilitator_does: ProseText
    learners_do: ProseText
    resources: LineTexts = []


class Explanation(LessonPart):
    """The explanation of new content: what is said, what is shown, and examples."""

    spoken: ProseText
    shown: LineTexts = []
    examples: LineTexts = []


class ChoiceQuestion(LessonPart):
    """A question with one right answer and at least two wrong ones."""

    question: LineText
    answer: LineText
    distractors: Annotated[list[LineText], Field(min_length=2, max_length=6)]
    feedback: ProseText | None = None
    """What a learner is told who chose a wrong answer."""
    outcome_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None


class PracticeTask(LessonPart):
    """A task for learners, with the feedback that they get on it."""

    task: ProseText
    feedback: ProseText


class RubricRow(LessonPart):
    """A criterion with the descriptions of its steps, from the lowest to the highest."""

    criterion: LineText
    steps: Annotated[list[LineText], Field(min_length=2, max_length=6)]


class QuizBlueprintRow(LessonPart):
    """A line of a quiz blueprint: topic, level and number of questions."""

    topic: LineText
    bloom_level: BloomLevel
    questions: Annotated[int, Field(ge=1, le=100)]


class LessonAssessment(LessonPart):
    """An assessment of one outcome."""

    outcome_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    kind: Literal["formative", "summative"]
    bloom_level: BloomLevel
    method: LineText
    text: ProseText
    # Empty lists are left out: the release before these fields reads such a lesson, too.
    rubric: Annotated[list[RubricRow], Field(max_length=MAX_ITEMS, exclude_if=not_)] = []
    checklist: Annotated[LineTexts, Field(exclude_if=not_)] = []
    blueprint: Annotated[list[QuizBlueprintRow], Field(max_length=MAX_ITEMS, exclude_if=not_)] = []


Questions = Annotated[list[ChoiceQuestion], Field(max_length=MAX_ITEMS)]


class Differentiation(LessonPart):
    """Support for learners who need it, and a task for those who are ahead."""

    support: ProseText
    stretch: ProseText
    accessibility: ProseText


class LessonBody(LessonPart):
    """The generated and editable content of a lesson.

    Number, minutes, outcomes and order are the lesson slot's.
    """

    title: LessonTitle
    prior_knowledge: LineTexts = []
    key_points: LineTexts = []
    vocabulary: Annotated[list[VocabularyTerm], Field(max_length=MAX_ITEMS)] = []
    misconceptions: Annotated[list[Misconception], Field(max_length=MAX_ITEMS)] = []
    materials: LineTexts = []
    # Empty parts are left out, as above: rule-based lessons have none of them.
    explanation: Annotated[Explanation | None, Field(exclude_if=not_)] = None
    activities: Annotated[list[LessonActivity], Field(min_length=1, max_length=MAX_ITEMS)]
    checks: Annotated[Questions, Field(exclude_if=not_)] = []
    practice: Annotated[list[PracticeTask], Field(max_length=MAX_ITEMS, exclude_if=not_)] = []
    starter_quiz: Annotated[Questions, Field(exclude_if=not_)] = []
    exit_quiz: Annotated[Questions, Field(exclude_if=not_)] = []
    assessments: Annotated[list[LessonAssessment], Field(max_length=2 * MAX_ITEMS)]
    differentiation: Differentiation | None = None
    homework: ProseText | None = None
    references: LineTexts = []
    notes: ProseText | None = None

    def texts(self) -> list[str]:
        """Return every text of the lesson."""
        return list(_collect_texts(self.model_dump()))


def _collect_texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _collect_texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _collect_texts(each)]
    return []


@dataclass(frozen=True, slots=True)
class LessonFinding:
    """A failed check: a stable code for programs, a message for people and models."""

    code: str
    message: str
    field: str = ""
    """The part of the lesson, by its name in JSON; empty: the lesson as a whole."""


def find_links(texts: Collection[str]) -> set[str]:
    """Return the web addresses in texts, without scheme and trailing punctuation."""
    return {
        link.rstrip(".,;:!?").removeprefix("https://").removeprefix("http://").rstrip("/").lower()
        for text in texts
        for link in _LINK_PATTERN.findall(text)
    }


def curriculum_links(curriculum: Curriculum) -> set[str]:
    """Return the web addresses in a curriculum; a lesson may contain no others."""
    preferences = curriculum.preferences
    texts = [curriculum.title, preferences.delivery_mode, preferences.room or ""]
    texts += preferences.materials
    for module in curriculum.modules:
        texts += [module.id, module.title, module.notes or ""]
        for outcome in module.outcomes:
            texts += [outcome.id, outcome.text, *outcome.criteria]
    return find_links(texts)


def check_lesson(
    slot: LessonSlot, body: LessonBody, *, titles: Collection[str], allowed_links: Collection[str]
) -> list[LessonFinding]:
    """Return the failed checks of a lesson.

    ``titles`` are the titles of the plan's other lessons.
    """
    findings = []
    total = sum(activity.minutes for activity in body.activities)
    if total != slot.minutes:
        findings.append(
            LessonFinding(
                "minutes",
                f"the activities take {total} minutes; the lesson has {slot.minutes}",
                "activities",
            )
        )
    if body.title.casefold() in {title.casefold() for title in titles}:
        message = f"another lesson of the plan has the title {body.title!r}"
        findings.append(LessonFinding("title_taken", message, "title"))
    findings += _check_assessments(slot, body)
    for field, value in body.model_dump(by_alias=True).items():
        for link in sorted(find_links(_collect_texts(value)) - set(allowed_links)):
            message = f"the address {link} is not in the curriculum"
            findings.append(LessonFinding("invented_link", message, field))
    return findings


def _check_assessments(slot: LessonSlot, body: LessonBody) -> list[LessonFinding]:
    findings = []
    outcomes = {outcome.id: outcome for outcome in slot.outcomes}
    for assessment in body.assessments:
        outcome = outcomes.get(assessment.outcome_id)
        if outcome is None:
            has = ", ".join(repr(id) for id in outcomes)
            message = (
                f"an assessment names the outcome {assessment.outcome_id!r}; this lesson has {has}"
            )
            findings.append(LessonFinding("invented_outcome", message, "assessments"))
        elif assessment.bloom_level.rank > outcome.level.rank:
            message = (
                f"an assessment of {outcome.id!r} asks for the level {assessment.bloom_level},"
                f" above the outcome's {outcome.level}"
            )
            findings.append(LessonFinding("bloom_level", message, "assessments"))
    assessed = {assessment.outcome_id for assessment in body.assessments}
    findings += [
        LessonFinding("not_assessed", f"no assessment names the outcome {id!r}", "assessments")
        for id in slot.assesses
        if id not in assessed
    ]
    return findings


def check_plan(
    curriculum: Curriculum, lessons: Sequence[tuple[LessonSlot, LessonBody]]
) -> list[LessonFinding]:
    """Return the failed checks of a whole plan, those of its lessons included."""
    findings: list[LessonFinding] = []
    allowed = curriculum_links(curriculum)
    titles = [body.title for _, body in lessons]
    for position, (slot, body) in enumerate(lessons):
        others = titles[:position]
        for each in check_lesson(slot, body, titles=others, allowed_links=allowed):
            findings.append(LessonFinding(each.code, f"lesson {slot.number}: {each.message}"))
    for index, module in enumerate(curriculum.modules):
        within = [(slot, body) for slot, body in lessons if slot.module_index == index]
        minutes = sum(slot.minutes for slot, _ in within)
        if minutes != module.minutes:
            findings.append(
                LessonFinding(
                    "contact_time",
                    f"module {module.id!r} has {module.minutes} minutes; its lessons {minutes}",
                )
            )
        known = {outcome.id for outcome in module.outcomes}
        taught = {outcome.id for slot, _ in within for outcome in slot.outcomes}
        assessed = {each.outcome_id for _, body in within for each in body.assessments}
        for id in sorted(known - taught):
            findings.append(LessonFinding("not_taught", f"no lesson teaches the outcome {id!r}"))
        for id in sorted(known - assessed):
            findings.append(
                LessonFinding("not_assessed", f"no assessment names the outcome {id!r}")
            )
        for id in sorted((taught | assessed) - known):
            findings.append(
                LessonFinding("invented_outcome", f"module {module.id!r} has no outcome {id!r}")
            )
    return findings
