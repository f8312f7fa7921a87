"""Completion criteria in course documents: pydantic models (pure).

``course_document`` has the models of the rest. Both check a document within a ``CourseContext``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from homeroom.catalogue.course import MoveOn
from homeroom.catalogue.criteria import (
    SCALE,
    AllItems,
    AllOf,
    AnyOf,
    Criteria,
    Manual,
    MinCourseGrade,
    MinTime,
    NOfM,
    Prerequisite,
)
from homeroom.catalogue.document_faults import TAG_PREFIX, UNKNOWN_TYPE, check_id

MAX_DEPTH = 8
MAX_CRITERIA = 100
MAX_SECONDS = 10_000 * 3_600
_CRITERION_TYPES = frozenset(
    {"all_items", "n_of_m", "min_course_grade", "min_time", "prerequisite", "manual"}
)


@dataclass(slots=True)
class CourseContext:
    """State of one parse, against which the parts of a document are checked."""

    course_id: str
    unit_ids: set[str] = field(default_factory=set)
    chapter_ids: set[str] = field(default_factory=set)
    can_be_satisfied: set[str] = field(default_factory=set)
    """Chapters whose ``moveOn`` is not ``NotApplicable``."""
    measured: set[str] = field(default_factory=set)
    """Those of them that are required."""

    def add_chapter(self, chapter: Any) -> None:
        """Add a chapter to the sets, as far as it can be read."""
        if not isinstance(chapter, Mapping) or not isinstance(chapter.get("id"), str):
            return
        if chapter.get("moveOn") != MoveOn.NOT_APPLICABLE:
            self.can_be_satisfied.add(chapter["id"])
            if chapter.get("required", True) is True:
                self.measured.add(chapter["id"])


def context_of(info: ValidationInfo) -> CourseContext:
    """Return the state of the parse."""
    context = info.context
    assert isinstance(context, CourseContext)
    return context


def check_decimals(number: float) -> float:
    """Return a number; raise ``ValueError`` if it has more than 4 decimals."""
    units = Decimal(repr(number)) * SCALE
    if units != units.to_integral_value():
        raise ValueError("must have at most 4 decimals")
    return number


def scaled(number: float) -> int:
    """Convert a number of at most 4 decimals to units of 1e-4."""
    return round(number * SCALE)


def _check_can_be_satisfied(chapter_id: str, info: ValidationInfo) -> str:
    if chapter_id not in context_of(info).can_be_satisfied:
        raise ValueError("must be the id of a chapter here whose moveOn is not NotApplicable")
    return chapter_id


def _whole(value: Any) -> Any:
    """Accept 3.0 as 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


ExternalIdText = Annotated[
    str, Field(min_length=1, max_length=128, strict=True), AfterValidator(check_id)
]
SatisfiableChapterId = Annotated[ExternalIdText, AfterValidator(_check_can_be_satisfied)]
# Bounds come first: pydantic's core checks them, and the JSON Schema has them.
Fraction = Annotated[
    float,
    Field(ge=0, le=1, strict=True, allow_inf_nan=False),
    AfterValidator(check_decimals),
]


class DocumentPart(BaseModel):
    """An object of a document: camelCase keys, no unknown ones."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        json_schema_mode_override="validation",
        use_attribute_docstrings=True,
    )


class AllItemsCriterion(DocumentPart):
    """Every required chapter is satisfied; what a course without criteria has."""

    type: Literal["all_items"]

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return AllItems()


class AtLeastCriterion(DocumentPart):
    """At least `n` of the chapters `of`, or of the required ones, are satisfied."""

    type: Literal["n_of_m"]
    of: list[SatisfiableChapterId] | None = None
    n: Annotated[int, Field(ge=1, le=SCALE, strict=True), BeforeValidator(_whole)]

    @field_validator("of")
    @classmethod
    def _check_unique(cls, of: list[str] | None) -> list[str] | None:
        for index, chapter_id in enumerate(of or ()):
            if chapter_id in (of or ())[:index]:
                raise ValueError(f"names the chapter {chapter_id!r} twice")
        return of

    @field_validator("n")
    @classmethod
    def _check_count(cls, n: int, info: ValidationInfo) -> int:
        if "of" in info.data:
            of = info.data["of"]
            among = len(context_of(info).measured) if of is None else len(of)
            if n > among:
                raise ValueError(f"asks for {n} of {among} chapters")
        return n

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return NOfM(self.n, None if self.of is None else tuple(self.of))


class MinCourseGradeCriterion(DocumentPart):
    """The mean score of the attempted quizzes is at least `grade`."""

    type: Literal["min_course_grade"]
    grade: Fraction

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return MinCourseGrade(scaled(self.grade))


class MinTimeCriterion(DocumentPart):
    """The time spent is at least `seconds`."""

    type: Literal["min_time"]
    seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS, strict=True), BeforeValidator(_whole)]

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return MinTime(self.seconds)


class PrerequisiteCriterion(DocumentPart):
    """Another course is completed."""

    type: Literal["prerequisite"]
    course_id: ExternalIdText

    @field_validator("course_id")
    @classmethod
    def _check_other(cls, course_id: str, info: ValidationInfo) -> str:
        if course_id == context_of(info).course_id:
            raise ValueError("a course cannot be its own prerequisite")
        return course_id

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return Prerequisite(self.course_id)


class ManualCriterion(DocumentPart):
    """The enrolment is approved by hand."""

    type: Literal["manual"]

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return Manual()


class AllCriteria(DocumentPart):
    """Every one of the criteria holds."""

    all: Annotated[list[CriterionBody], Field(min_length=1)]

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return AllOf(tuple(each.criteria() for each in self.all))


class AnyCriteria(DocumentPart):
    """At least one of the criteria holds."""

    any: Annotated[list[CriterionBody], Field(min_length=1)]

    def criteria(self) -> Criteria:
        """Return the runtime type."""
        return AnyOf(tuple(each.criteria() for each in self.any))


def _tag_of(value: Any) -> str | None:
    """Return the tag of a criterion: ``all``, ``any`` or its ``type``."""
    if not isinstance(value, Mapping):
        return None
    for key in ("all", "any"):
        if key in value:
            return TAG_PREFIX + key
    name = value.get("type")
    return TAG_PREFIX + name if isinstance(name, str) and name in _CRITERION_TYPES else None


CriterionBody = Annotated[
    Annotated[AllItemsCriterion, Tag(f"{TAG_PREFIX}all_items")]
    | Annotated[AtLeastCriterion, Tag(f"{TAG_PREFIX}n_of_m")]
    | Annotated[MinCourseGradeCriterion, Tag(f"{TAG_PREFIX}min_course_grade")]
    | Annotated[MinTimeCriterion, Tag(f"{TAG_PREFIX}min_time")]
    | Annotated[PrerequisiteCriterion, Tag(f"{TAG_PREFIX}prerequisite")]
    | Annotated[ManualCriterion, Tag(f"{TAG_PREFIX}manual")]
    | Annotated[AllCriteria, Tag(f"{TAG_PREFIX}all")]
    | Annotated[AnyCriteria, Tag(f"{TAG_PREFIX}any")],
    Discriminator(
        _tag_of,
        custom_error_type=UNKNOWN_TYPE,
        custom_error_message="must be an object with all, any, or a type that is one of "
        + ", ".join(sorted(_CRITERION_TYPES)),
    ),
]


def check_criteria_size(value: Any) -> Any:
    """Check depth and number of criteria before the models recurse into them."""
    count, remaining = 0, [(value, 1)]
    while remaining:
        each, depth = remaining.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"criteria are nested at most {MAX_DEPTH} deep")
        if count > MAX_CRITERIA:
            raise ValueError(f"a course has at most {MAX_CRITERIA} criteria")
        if isinstance(each, Mapping):
            branches = each.get("all", each.get("any"))
            if isinstance(branches, list):
                remaining += [(branch, depth + 1) for branch in branches]
    return value
