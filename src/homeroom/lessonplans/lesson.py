"""What is written for one lesson, whoever writes it; JSON with camelCase keys (pure)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from homeroom.lessonplans.bloom import Bloom
from homeroom.lessonplans.text import printable

MAX_ITEMS = 60
Phase = Literal["intro", "teach", "practice", "check", "close"]


def _not_blank(text: str) -> str:
    text = printable(text).strip()
    if not text:
        raise ValueError("must not be blank")
    return text


Line = Annotated[str, StringConstraints(max_length=600), AfterValidator(_not_blank)]
Prose = Annotated[str, StringConstraints(max_length=4_000), AfterValidator(_not_blank)]
Lines = Annotated[list[Line], Field(max_length=MAX_ITEMS)]


class Part(BaseModel):
    """A part of a lesson: frozen, camelCase outside, nothing unknown let in."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid"
    )


class Term(Part):
    """A word that learners need, and what it means."""

    term: Line
    definition: Prose


class Misconception(Part):
    """What learners often get wrong, and what sets it right."""

    misconception: Line
    correction: Prose


class Activity(Part):
    """A stretch of the lesson."""

    phase: Phase
    title: Line
    minutes: Annotated[int, Field(ge=1, le=1_440)]
    method: Line
    facilitator_does: Prose
    learners_do: Prose
    resources: Lines = []


class Assessment(Part):
    """How it is seen whether an outcome was reached."""

    outcome_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    kind: Literal["formative", "summative"]
    bloom_level: Bloom
    method: Line
    text: Prose


class Differentiation(Part):
    """What helps those who need more, and those who can do more."""

    support: Prose
    stretch: Prose
    accessibility: Prose


class LessonBody(Part):
    """Everything about a lesson that is written and may be edited; the rest is the skeleton's."""

    title: Annotated[str, StringConstraints(max_length=200), AfterValidator(_not_blank)]
    prior_knowledge: Lines = []
    key_points: Lines = []
    vocabulary: Annotated[list[Term], Field(max_length=MAX_ITEMS)] = []
    misconceptions: Annotated[list[Misconception], Field(max_length=MAX_ITEMS)] = []
    materials: Lines = []
    activities: Annotated[list[Activity], Field(min_length=1, max_length=MAX_ITEMS)]
    assessments: Annotated[list[Assessment], Field(max_length=2 * MAX_ITEMS)]
    differentiation: Differentiation | None = None
    homework: Prose | None = None
    references: Lines = []
    notes: Prose | None = None

    def texts(self) -> list[str]:
        """Return every text of the lesson, for a search through all of them."""
        return list(_texts(self.model_dump()))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return []
