"""A curriculum: the JSON document of ``POST /api/v3/workflow`` (pure)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from operator import not_
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from homeroom.lessonplans.bloom import BloomLevel, OutcomeDomain
from homeroom.lessonplans.school_break import SchoolBreak, parse_date

# Stored curricula are validated again when they are read: a release may loosen a limit, never
# tighten one.
MAX_MODULES = 100
MAX_OUTCOMES = 50
MIN_MINUTES = 15
MAX_MINUTES = 60_000
"""A thousand contact hours in one module."""
_LEAST_HOURS, _MOST_HOURS = MIN_MINUTES / 60, MAX_MINUTES // 60
MAX_LESSONS = 1_000
LESSON_MINUTES = (15, 480)
MAX_LESSONS_PER_DAY = 12
MAX_TITLE, MAX_TEXT, MAX_NOTES, MAX_DELIVERY_MODE = 200, 500, 4_000, 60
MAX_CRITERIA, MAX_PREREQUISITES, MAX_MATERIALS = 12, 20, 30
MAX_CRITERION, MAX_ROOM = 200, 120
MAX_WEIGHT = 100
MAX_GROUP = 1_000
MAX_BREAKS = 200
MAX_ERRORS_SHOWN = 50

Weekday = Literal["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)

_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_LEVEL_ALIASES = {
    "analyse": BloomLevel.ANALYZE,
    "remembering": BloomLevel.REMEMBER,
    "understanding": BloomLevel.UNDERSTAND,
    "applying": BloomLevel.APPLY,
    "analyzing": BloomLevel.ANALYZE,
    "analysing": BloomLevel.ANALYZE,
    "evaluating": BloomLevel.EVALUATE,
    "creating": BloomLevel.CREATE,
}

_DOMAIN_ALIASES = {
    "knowledge": OutcomeDomain.COGNITIVE,
    "skill": OutcomeDomain.PSYCHOMOTOR,
    "skills": OutcomeDomain.PSYCHOMOTOR,
    "attitude": OutcomeDomain.AFFECTIVE,
    "attitudes": OutcomeDomain.AFFECTIVE,
}


def printable(text: str) -> str:
    """Return text with a space for each character that XML or a terminal cannot hold."""
    return _UNPRINTABLE.sub(" ", text)


def one_line(text: str) -> str:
    """Return text in one line, with each run of white space as one space."""
    return " ".join(printable(text).split())


def contact_hours(minutes: int) -> int | float:
    """Return minutes as hours; parsing that number yields the same minutes."""
    return minutes // 60 if minutes % 60 == 0 else round(minutes / 60, 4)


def _check_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("must have 1 to 128 characters and no control characters")
    return value


def _check_text(value: str) -> str:
    if _CONTROL_CHARACTERS.search(value):
        raise ValueError("must not contain control characters")
    text = printable(value)
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _parse_hours(value: object) -> int:
    """Return hours as whole minutes; 0.3333 hours are 20 minutes."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not _LEAST_HOURS <= value <= _MOST_HOURS:  # type: ignore[operator]  # a number
        raise ValueError(f"must be a number of hours from {_LEAST_HOURS} to {_MOST_HOURS}")
    minutes = Decimal(repr(value)) * 60
    whole = minutes.to_integral_value()
    if abs(minutes - whole) > Decimal("0.01"):
        raise ValueError(
            f"must be a whole number of minutes; {value} hours are {minutes.normalize():f} minutes"
        )
    return int(whole)


def _is_absent(value: object) -> bool:
    return value is None


def _is_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0


def _parse_level(value: object) -> object:
    """Return a level for its name or a frequent other form, in any case."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    return _LEVEL_ALIASES.get(word, word)


def _parse_domain(value: object) -> object:
    """Return a domain for its name or a frequent other form, in any case."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    return _DOMAIN_ALIASES.get(word, word)


def _check_time_zone(value: str) -> str:
    try:
        return ZoneInfo(value).key
    except (ValueError, OSError, LookupError):
        raise ValueError("must be an IANA time zone such as Europe/Berlin") from None


def _require_number(value: object) -> object:
    """Reject text and booleans, which pydantic would convert to whole numbers."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _require_items(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        raise ValueError("must have at least one item")
    return items


def _sort_weekdays(days: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
    return tuple(day for day in WEEKDAYS if day in days)


def _english_by_default(value: object) -> object:
    return "en" if value is None else value


def _empty_by_default(value: object) -> object:
    return {} if value is None else value


Identifier = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_check_id)]
TitleText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_TITLE), AfterValidator(_check_text)
]
OutcomeText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_check_text)
]
NotesText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NOTES), AfterValidator(_check_text)
]
DeliveryMode = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_DELIVERY_MODE), AfterValidator(_check_text)
]
LocaleTag = Annotated[
    str, StringConstraints(max_length=35, pattern=r"^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*$")
]
NotEmpty = (AfterValidator(_require_items), Field(json_schema_extra={"minItems": 1}))
"""Constraint of a tuple.

``Field(min_length=1)`` would count only the valid items: one invalid item would yield two errors.
"""
ContactMinutes = Annotated[
    int,
    BeforeValidator(_parse_hours),
    PlainSerializer(contact_hours, return_type=int | float),
    WithJsonSchema({"type": "number", "minimum": _LEAST_HOURS, "maximum": _MOST_HOURS}),
]
"""Minutes in Python, hours in JSON."""


class CurriculumPart(BaseModel):
    """A part of a curriculum: frozen, camelCase in JSON, no unknown keys."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")


OptionalMinutes = Annotated[
    int | None,
    BeforeValidator(lambda value: None if value is None else _parse_hours(value)),
    PlainSerializer(lambda minutes: None if minutes is None else contact_hours(minutes)),
    WithJsonSchema({"type": ["number", "null"], "minimum": _LEAST_HOURS, "maximum": _MOST_HOURS}),
]
"""Minutes in Python, hours in JSON; None where the field is absent."""
SpecialMinutes = Annotated[
    int | None,
    BeforeValidator(
        lambda value: value if value is None or _is_zero(value) else _parse_hours(value)
    ),
    PlainSerializer(lambda minutes: None if minutes is None else contact_hours(minutes)),
    WithJsonSchema({"type": ["number", "null"], "minimum": 0, "maximum": _MOST_HOURS}),
]
"""Minutes in Python, hours in JSON; 0 forbids such a lesson, None leaves it to the rules."""
CriterionText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_CRITERION), AfterValidator(_check_text)
]
RoomText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_ROOM), AfterValidator(_check_text)
]


class LearningOutcome(CurriculumPart):
    """An ability that learners acquire; `bloomLevel` is null if it is not declared."""

    id: Annotated[Identifier, Field(description="Unique in the curriculum.")]
    text: OutcomeText
    level: Annotated[
        BloomLevel | None,
        BeforeValidator(_parse_level),
        Field(
            alias="bloomLevel",
            description="If absent, the verb of the text implies the level.",
        ),
    ] = None
    domain: Annotated[
        OutcomeDomain | None,
        BeforeValidator(_parse_domain),
        Field(
            exclude_if=not_,
            description="If absent, the verb of the text implies the domain.",
        ),
    ] = None
    minutes: Annotated[
        OptionalMinutes,
        Field(
            alias="hours",
            exclude_if=not_,
            description="Contact hours of this outcome; the others share what is left.",
        ),
    ] = None
    weight: Annotated[
        float | None,
        Field(
            exclude_if=not_,
            gt=0,
            le=MAX_WEIGHT,
            description="Share of the hours that no outcome names; if absent, by its level.",
        ),
    ] = None
    criteria: Annotated[
        tuple[CriterionText, ...],
        Field(
            exclude_if=not_,
            max_length=MAX_CRITERIA,
            description="What shows that the outcome is reached.",
        ),
    ] = ()
    prerequisites: Annotated[
        tuple[Identifier, ...],
        Field(
            exclude_if=not_,
            max_length=MAX_PREREQUISITES,
            description="Ids of outcomes taught before this.",
        ),
    ] = ()


class CurriculumModule(CurriculumPart):
    """A part of a curriculum with its contact time."""

    id: Annotated[Identifier, Field(description="Unique in the curriculum.")]
    title: TitleText
    minutes: Annotated[
        ContactMinutes,
        Field(
            alias="contactHours",
            description="A whole number of minutes: 18.75 is 18 hours and 45 minutes.",
        ),
    ]
    outcomes: Annotated[tuple[LearningOutcome, ...], Field(max_length=MAX_OUTCOMES), *NotEmpty]
    notes: NotesText | None = None
    review_minutes: Annotated[
        SpecialMinutes,
        Field(
            alias="reviewHours",
            exclude_if=_is_absent,
            description="Hours of a review of the module; 0: none; absent: a lesson, where the"
            " hours allow it.",
        ),
    ] = None
    assessment_minutes: Annotated[
        SpecialMinutes,
        Field(
            alias="assessmentHours",
            exclude_if=_is_absent,
            description="Hours of an assessment; as `reviewHours`.",
        ),
    ] = None
    field_minutes: Annotated[
        SpecialMinutes,
        Field(
            alias="fieldPracticeHours",
            exclude_if=_is_absent,
            description="Hours of practice outside the classroom; as `reviewHours`.",
        ),
    ] = None


class TeachingPreferences(CurriculumPart):
    """The author's preferences for teaching a curriculum."""

    lesson_minutes: Annotated[
        int, Field(ge=LESSON_MINUTES[0], le=LESSON_MINUTES[1]), BeforeValidator(_require_number)
    ] = 60
    delivery_mode: DeliveryMode = "classroom"
    starts_on: Annotated[
        Annotated[date, BeforeValidator(parse_date)] | None,
        Field(description="First day. If absent, lessons have no dates."),
    ] = None
    start_time: Annotated[str, StringConstraints(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$")] = (
        "09:00"
    )
    time_zone: Annotated[
        str, AfterValidator(_check_time_zone), Field(description="An IANA name.")
    ] = "UTC"
    weekdays: Annotated[tuple[Weekday, ...], *NotEmpty, AfterValidator(_sort_weekdays)] = (
        "MO",
        "TU",
        "WE",
        "TH",
        "FR",
    )
    lessons_per_day: Annotated[
        int, Field(ge=1, le=MAX_LESSONS_PER_DAY), BeforeValidator(_require_number)
    ] = 1
    breaks: Annotated[
        tuple[SchoolBreak, ...],
        Field(
            exclude_if=not_,
            max_length=MAX_BREAKS,
            description="Holidays and breaks: no lesson is on these days.",
        ),
    ] = ()
    leftover: Annotated[
        Literal["shorter_lesson", "spread"],
        Field(
            exclude_if=lambda value: value == "shorter_lesson",
            description="Minutes beyond whole lessons make one shorter lesson, or are spread over"
            " the lessons in steps of five.",
        ),
    ] = "shorter_lesson"
    group_size: Annotated[
        int | None, Field(exclude_if=not_, ge=1, le=MAX_GROUP, description="Number of learners.")
    ] = None
    room: Annotated[RoomText | None, Field(exclude_if=not_, description="The usual room.")] = None
    materials: Annotated[
        tuple[CriterionText, ...],
        Field(
            exclude_if=not_,
            max_length=MAX_MATERIALS,
            description="Materials that every lesson has.",
        ),
    ] = ()
    wording: Annotated[
        Literal["en", "de"] | None,
        Field(
            exclude_if=not_,
            description="Language of the rules' fixed wording; by default that of `locale`, which"
            " is required to be English or German otherwise.",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        """Use the defaults for preferences that are null."""
        if isinstance(value, Mapping):
            return {key: each for key, each in value.items() if each is not None}
        return value


class Curriculum(CurriculumPart):
    """The input of a plan: modules with contact hours and learning outcomes."""

    title: TitleText
    course_id: Identifier | None = None
    locale: Annotated[
        LocaleTag,
        BeforeValidator(_english_by_default, json_schema_input_type=LocaleTag | None),
        Field(description="A language tag."),
    ] = "en"
    modules: Annotated[tuple[CurriculumModule, ...], Field(max_length=MAX_MODULES), *NotEmpty]
    preferences: Annotated[
        TeachingPreferences,
        BeforeValidator(_empty_by_default, json_schema_input_type=TeachingPreferences | None),
    ] = TeachingPreferences()

    @property
    def minutes(self) -> int:
        """Return the contact time of all modules."""
        return sum(module.minutes for module in self.modules)


def count_lessons(minutes: int, lesson_minutes: int) -> int:
    """Return the number of lessons whose length is nearest to the preferred one."""
    return max(1, (2 * minutes + lesson_minutes) // (2 * lesson_minutes))


def dump_curriculum(curriculum: Curriculum) -> dict[str, Any]:
    """Return the document with its defaults: equal curricula have equal documents.

    Fields that a later release added are left out where they have their defaults, so that the
    release before reads the document, too.
    """
    return curriculum.model_dump(mode="json", by_alias=True)


def input_hash(curriculum: Curriculum) -> str:
    """Return a hash of a curriculum; it seeds the lesson ids and must never change.

    Fields of a later release are left out where they have their defaults, so a curriculum of an
    earlier release keeps the ids of its lessons.
    """
    text = json.dumps(dump_curriculum(curriculum), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
