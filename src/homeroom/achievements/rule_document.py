"""Documents of achievement rules: parse and dump (pure).

A rule is data: a title, what it asks for, and whether it is a credential.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from homeroom.achievements.rule import SCORE_UNITS, Condition
from homeroom.errors import Invalid
from homeroom.plain_text import ID_RULE, LINE_RULE, is_external_id, is_line, is_visible

MAX_COURSES = 200
MAX_COUNT = 1_000
MAX_DESCRIPTION = 1_000
MAX_RULE_ID = 64
MAX_TITLE = 200
_MAX_FAULTS = 20


def _check_id(text: str) -> str:
    if not is_external_id(text):
        raise ValueError(ID_RULE)
    return text


def check_rule_id(text: str) -> str:
    """Return the id of a rule; raise ``Invalid`` for a text that cannot be one."""
    if len(text) > MAX_RULE_ID or not is_external_id(text):
        raise Invalid(f"The id of a rule has at most {MAX_RULE_ID} characters: {ID_RULE}.")
    return text


def _check_line(text: str) -> str:
    if not is_line(text):
        raise ValueError(f"must be {LINE_RULE}")
    return text.strip()


def _check_description(text: str) -> str:
    if text and not all(is_line(line) for line in text.splitlines() if is_visible(line)):
        raise ValueError("must be printable text, without text direction overrides")
    return text.strip()


def _check_unique(ids: list[str]) -> list[str]:
    if len(set(ids)) != len(ids):
        raise ValueError("must name each course once")
    return ids


CourseIds = Annotated[
    list[Annotated[str, AfterValidator(_check_id)]],
    Field(min_length=1, max_length=MAX_COURSES),
    AfterValidator(_check_unique),
]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]


class _Part(BaseModel):
    """A part of a rule: camelCase keys; unknown ones and other types are rejected."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class _CountedCourses(_Part):
    """Courses of which a number is asked for."""

    count: Count = 1
    """Different courses that are needed."""
    course_ids: CourseIds | None = None
    """Only these count; without them every course does."""

    @model_validator(mode="after")
    def _check_reachable(self) -> _CountedCourses:
        if self.course_ids is not None and self.count > len(self.course_ids):
            raise ValueError("count is larger than the number of courseIds")
        return self


class CoursesCondition(_CountedCourses):
    """A number of completed courses: the first course, five courses."""

    type: Literal["courses"]

    def to_condition(self) -> Condition:
        """Return the condition that is measured."""
        return Condition(self.count, _tuple(self.course_ids))


class ScoreCondition(_CountedCourses):
    """Courses that were completed with at least a score."""

    type: Literal["score"]
    minimum: Annotated[float, Field(gt=0, le=1)]
    """The least score, as a fraction: 0.9 is 90 %."""

    def to_condition(self) -> Condition:
        """Return the condition that is measured."""
        return Condition(self.count, _tuple(self.course_ids), round(self.minimum * SCORE_UNITS))


class PathCondition(_Part):
    """A learning path: all of some courses, in any order."""

    type: Literal["path"]
    course_ids: CourseIds
    """All of these."""

    def to_condition(self) -> Condition:
        """Return the condition that is measured."""
        return Condition(len(self.course_ids), tuple(self.course_ids))


RuleCondition = Annotated[
    CoursesCondition | ScoreCondition | PathCondition, Field(discriminator="type")
]
_CONDITION: TypeAdapter[Any] = TypeAdapter(RuleCondition)


class RuleBody(_Part):
    """A rule; it replaces the stored one of its id."""

    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE), AfterValidator(_check_line)]
    description: Annotated[
        str, Field(max_length=MAX_DESCRIPTION), AfterValidator(_check_description)
    ] = ""
    condition: RuleCondition
    """What the rule asks for."""
    credential: bool = False
    """Whether learners get a signed credential for it."""

    def condition_json(self) -> str:
        """Return the condition as it is stored."""
        return self.condition.model_dump_json(by_alias=True, exclude_none=True)

    @property
    def course_ids(self) -> list[str]:
        """Return the courses that the rule names."""
        return self.condition.course_ids or []


def parse_rule(body: Any, place: str) -> RuleBody:
    """Return the rule of a file; raise ``Invalid`` with every fault and its place."""
    try:
        return RuleBody.model_validate(body)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, each['loc'])) or 'the rule'}: {each['msg']}"
            for each in error.errors()[:_MAX_FAULTS]
        ]
        raise Invalid(f"{place}: {'; '.join(faults)}.") from error


def read_condition(text: str) -> CoursesCondition | ScoreCondition | PathCondition:
    """Return a condition as it was stored."""
    stored: CoursesCondition | ScoreCondition | PathCondition = _CONDITION.validate_json(text)
    return stored


def _tuple(ids: list[str] | None) -> tuple[str, ...] | None:
    return None if ids is None else tuple(ids)
