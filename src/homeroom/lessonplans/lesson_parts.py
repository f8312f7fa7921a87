"""The parts and sections of a lesson: names, selection and merging (pure).

A part is a field of a lesson's JSON, such as ``vocabulary``. A section is a group of parts that is
written together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import Field, create_model

from homeroom.errors import Invalid
from homeroom.lessonplans.lesson import (
    MAX_ITEMS,
    ChoiceQuestion,
    Differentiation,
    Explanation,
    LessonActivity,
    LessonAssessment,
    LessonBody,
    LessonPart,
    LessonTitle,
    LineText,
    LineTexts,
    Misconception,
    PracticeTask,
    ProseText,
    VocabularyTerm,
)
from homeroom.lessonplans.open_places import OpenPlace, find_open_places, replace_open_place

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "overview": (
        *("title", "priorKnowledge", "keyPoints", "vocabulary", "misconceptions", "materials"),
    ),
    "teaching": ("explanation", "activities", "checks", "practice"),
    "assessment": ("assessments", "starterQuiz", "exitQuiz"),
    "support": ("differentiation", "homework", "references", "notes"),
}
"""The sections of a lesson, each with its parts."""
PARTS: tuple[str, ...] = tuple(part for parts in SECTIONS.values() for part in parts)
_AT_LEAST_ONE = Field(min_length=1, max_length=MAX_ITEMS)
OPTIONAL_PARTS = frozenset({"priorKnowledge", "materials", "references", "notes"})
"""Parts that may stay empty in a full lesson."""
_FIELD_NAMES: Mapping[str, str] = {
    field.alias or name: name for name, field in LessonBody.model_fields.items()
}
"""Python names by part."""


@dataclass(frozen=True, slots=True)
class LessonRequest:
    """The parts that the next run writes into an existing lesson, stored with it."""

    parts: tuple[str, ...]
    """The parts to write; all others stay as they are."""
    fill: bool = False
    """True: only what is empty is written, and open places are filled."""


class FullLesson(LessonPart):
    """The parts of a lesson that can be taught from; only some may be empty."""

    title: LessonTitle
    prior_knowledge: LineTexts = Field(default=[])
    key_points: Annotated[list[LineText], _AT_LEAST_ONE]
    vocabulary: Annotated[list[VocabularyTerm], _AT_LEAST_ONE]
    misconceptions: Annotated[list[Misconception], _AT_LEAST_ONE]
    materials: LineTexts = Field(default=[])
    explanation: Explanation
    activities: Annotated[list[LessonActivity], _AT_LEAST_ONE]
    checks: Annotated[list[ChoiceQuestion], Field(min_length=2, max_length=MAX_ITEMS)]
    practice: Annotated[list[PracticeTask], _AT_LEAST_ONE]
    assessments: Annotated[list[LessonAssessment], Field(max_length=2 * MAX_ITEMS)]
    starter_quiz: Annotated[list[ChoiceQuestion], _AT_LEAST_ONE]
    exit_quiz: Annotated[list[ChoiceQuestion], _AT_LEAST_ONE]
    differentiation: Differentiation
    homework: ProseText
    references: LineTexts = Field(default=[])
    notes: ProseText | None = None


class FilledPlace(LessonPart):
    """The text for one open place, by its number from 1."""

    place: int
    text: ProseText


def parts_named(names: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of some sections and parts, in the order of a lesson.

    Raises ``Invalid`` for a name that is neither.
    """
    chosen: set[str] = set()
    for name in names:
        if name in SECTIONS:
            chosen.update(SECTIONS[name])
        elif name in PARTS:
            chosen.add(name)
        else:
            raise Invalid(
                f"A lesson has no section {name!r}; its sections are {', '.join(SECTIONS)}, and"
                f" their parts {', '.join(PARTS)}."
            )
    return tuple(part for part in PARTS if part in chosen)


def part_value(body: LessonBody, part: str) -> Any:
    """Return the value of a part."""
    return getattr(body, _FIELD_NAMES[part])


def empty_parts(body: LessonBody) -> tuple[str, ...]:
    """Return the parts that a full lesson needs and this one does not have."""
    return tuple(
        part for part in PARTS if part not in OPTIONAL_PARTS and not part_value(body, part)
    )


def changed_parts(before: LessonBody, after: LessonBody) -> tuple[str, ...]:
    """Return the parts whose values differ."""
    return tuple(part for part in PARTS if part_value(before, part) != part_value(after, part))


def merge_parts(base: LessonBody, other: LessonPart, parts: Collection[str]) -> LessonBody:
    """Return a lesson with some parts of another, and all others of ``base``."""
    return base.model_copy(
        update={_FIELD_NAMES[part]: getattr(other, _FIELD_NAMES[part]) for part in parts}
    )


def fill_places(
    body: LessonBody, places: Sequence[OpenPlace], texts: Mapping[int, str]
) -> LessonBody:
    """Return a lesson with the texts in its open places, by number from 1.

    A place without a text stays open. Raises ``ValidationError`` if a text becomes too long.
    """
    document = body.model_dump(mode="json", by_alias=True)
    # From the last to the first: filling a place does not move those before it.
    for number in sorted(texts, reverse=True):
        if 1 <= number <= len(places):
            earlier = sum(one.field == places[number - 1].field for one in places[: number - 1])
            replace_open_place(document, places[number - 1].field, earlier, texts[number])
    return LessonBody.model_validate(document)


def requested_parts(body: LessonBody, request: LessonRequest) -> tuple[str, ...]:
    """Return the parts of a request that are written: with ``fill`` empty ones."""
    if not request.fill:
        return request.parts
    empty = empty_parts(body)
    return tuple(part for part in request.parts if part in empty)


def requested_places(body: LessonBody, request: LessonRequest) -> tuple[OpenPlace, ...]:
    """Return the open places that a request has filled."""
    if not request.fill:
        return ()
    return tuple(
        place for place in find_open_places(body) if place.field.split("/", 1)[0] in request.parts
    )


@cache
def answer_model(parts: tuple[str, ...], *, has_places: bool) -> type[LessonPart]:
    """Return the model of an answer with some parts, and with texts for open places."""
    hints = get_type_hints(FullLesson, include_extras=True)
    fields: dict[str, Any] = {}
    for name in (_FIELD_NAMES[part] for part in parts):
        field = FullLesson.model_fields[name]
        fields[name] = (hints[name], ... if field.is_required() else field.default)
    if has_places:
        fields["places"] = (list[FilledPlace], ...)
    return create_model("lesson", __base__=LessonPart, **fields)
