"""Course documents of ``PUT /api/v1/courses/{courseId}``: parse and dump (pure).

Pydantic models check a document and give its JSON Schema. They are converted to the frozen
``Course``, which ingest reads for every event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from homeroom.catalogue.course import (
    Chapter,
    Course,
    LearnerPolicy,
    MoveOn,
    QuizPolicy,
    Unit,
    parse_validity,
)
from homeroom.catalogue.criteria import AllItems, dump_criteria, facts_needed, unscaled
from homeroom.catalogue.criteria_document import (
    CourseContext,
    CriterionBody,
    DocumentPart,
    ExternalIdText,
    Fraction,
    check_criteria_size,
    check_decimals,
    context_of,
    scaled,
)
from homeroom.catalogue.document_faults import (
    DocumentFaults,
    DocumentPath,
    check_text,
    invalid_document,
)
from homeroom.plain_text import ID_RULE, LINE_RULE, is_external_id, is_line

_FACTS_OF_CHAPTERS = frozenset({"items", "grade"})
MAX_CHAPTERS = 2_000
MAX_UNITS = 1_000
MAX_WEIGHT = 1_000_000
MAX_TITLE = 500
MAX_HOURS = 10_000
_MOVE_ON_WITH_PASS = frozenset({MoveOn.PASSED, MoveOn.COMPLETED_AND_PASSED})
_EXAMPLE: JsonDict = {
    "title": "Fire safety induction",
    "units": [
        {
            "id": "basics",
            "title": "Basics",
            "chapters": [
                {"id": "exits", "title": "Where the exits are"},
                {
                    "id": "check",
                    "title": "Check yourself",
                    "moveOn": "Passed",
                    "quiz": {"passThreshold": 0.8},
                },
            ],
        }
    ],
}


def _check_validity(text: str) -> str:
    parse_validity(text)
    return text


def _unique(id: str, known: set[str], what: str) -> str:
    if id in known:
        raise ValueError(f"is the id of an earlier {what} too")
    known.add(id)
    return id


Title = Annotated[
    str, Field(min_length=1, max_length=MAX_TITLE, strict=True), AfterValidator(check_text)
]
Weight = Annotated[
    float,
    Field(ge=0, le=MAX_WEIGHT, strict=True, allow_inf_nan=False),
    AfterValidator(check_decimals),
]
Hours = Annotated[
    float,
    Field(ge=0, le=MAX_HOURS, strict=True, allow_inf_nan=False),
    AfterValidator(check_decimals),
]
IgnoredVersion = Annotated[Any, WithJsonSchema({"type": "integer"})]
IgnoredText = Annotated[Any, WithJsonSchema({"type": "string"})]


class QuizBody(DocumentPart):
    """A chapter's quiz."""

    pass_threshold: Fraction


class ChapterBody(DocumentPart):
    """A chapter of a course document."""

    id: ExternalIdText
    title: Title
    weight: Weight = 1
    """At most 4 decimals."""
    required: StrictBool = True
    move_on: MoveOn = MoveOn.COMPLETED
    quiz: QuizBody | None = Field(default=None, validate_default=True)
    """Required if `moveOn` needs a pass."""

    @model_validator(mode="before")
    @classmethod
    def _add_to_course(cls, value: Any, info: ValidationInfo) -> Any:
        context_of(info).add_chapter(value)
        return value

    @field_validator("id")
    @classmethod
    def _check_unique(cls, id: str, info: ValidationInfo) -> str:
        return _unique(id, context_of(info).chapter_ids, "chapter")

    @field_validator("quiz")
    @classmethod
    def _check_can_pass(cls, quiz: QuizBody | None, info: ValidationInfo) -> QuizBody | None:
        move_on = info.data.get("move_on")
        if quiz is None and move_on in _MOVE_ON_WITH_PASS:
            raise ValueError(f"is needed for moveOn {move_on}: only a quiz can be passed")
        return quiz

    def chapter(self, unit_id: str) -> Chapter:
        """Return the runtime type."""
        return Chapter(
            id=self.id,
            title=self.title,
            unit_id=unit_id,
            weight=scaled(self.weight),
            required=self.required,
            move_on=self.move_on,
            pass_threshold=None if self.quiz is None else scaled(self.quiz.pass_threshold),
        )


class UnitBody(DocumentPart):
    """A unit of a course document: a titled group of chapters."""

    id: ExternalIdText
    title: Title
    chapters: Annotated[list[ChapterBody], Field(max_length=MAX_CHAPTERS)]

    @field_validator("id")
    @classmethod
    def _check_unique(cls, id: str, info: ValidationInfo) -> str:
        return _unique(id, context_of(info).unit_ids, "unit")

    def unit(self) -> Unit:
        """Return the runtime type."""
        return Unit(self.id, self.title, tuple(each.chapter(self.id) for each in self.chapters))


def _check_sizes(value: Any) -> Any:
    """Check the numbers of units and chapters before the models check each of them."""
    if not isinstance(value, list):
        return value
    if len(value) > MAX_UNITS:
        raise ValueError(f"a course has at most {MAX_UNITS} units")
    count = sum(
        len(unit["chapters"])
        for unit in value
        if isinstance(unit, Mapping) and isinstance(unit.get("chapters"), list)
    )
    if count > MAX_CHAPTERS:
        raise ValueError(f"a course has at most {MAX_CHAPTERS} chapters; these are {count}")
    return value


class CourseContent(DocumentPart):
    """The part of a course document that its author writes."""

    title: Title
    units: Annotated[list[UnitBody], Field(max_length=MAX_UNITS), BeforeValidator(_check_sizes)]
    criteria: Annotated[CriterionBody | None, BeforeValidator(check_criteria_size)] = None
    """The criteria of completion; null is `all_items`."""
    auto_enrol: StrictBool = True
    """A learner's first event enrols."""
    trust_client: StrictBool = False
    """Scores from learners' own tokens count."""
    badge_template_id: ExternalIdText | None = None
    validity: Annotated[str, Field(strict=True), AfterValidator(_check_validity)] | None = None
    """Validity of a completion: an ISO 8601 duration, such as P1Y."""
    estimated_hours: Hours | None = None
    quiz_policy: QuizPolicy = "best"
    learner_policy: LearnerPolicy = "at_next_visit"
    complete_on_edit: StrictBool = False
    """An edit may itself complete learners."""


class CourseBody(CourseContent):
    """A course document; the ids, `version` and times are those of a read."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    course_id: ExternalIdText | None = None
    """Must equal the id in the address."""
    version: IgnoredVersion = None
    """Ignored."""
    published_at: IgnoredText = None
    """Ignored."""
    archived_at: IgnoredText = None
    """Ignored."""

    @field_validator("course_id")
    @classmethod
    def _check_address(cls, course_id: str | None, info: ValidationInfo) -> str | None:
        if course_id != context_of(info).course_id:
            raise ValueError("differs from the course in the address")
        return course_id

    def course(self, course_id: str, version: int) -> Course:
        """Return the runtime type."""
        hours = self.estimated_hours
        return Course(
            id=course_id,
            version=version,
            title=self.title,
            units=tuple(unit.unit() for unit in self.units),
            criteria=AllItems() if self.criteria is None else self.criteria.criteria(),
            auto_enrol=self.auto_enrol,
            trust_client=self.trust_client,
            badge_template_id=self.badge_template_id,
            validity=None if self.validity is None else parse_validity(self.validity),
            estimated_hours=None if hours is None else unscaled(scaled(hours)),
            quiz_policy=self.quiz_policy,
            learner_policy=self.learner_policy,
            complete_on_edit=self.complete_on_edit,
        )


def parse_course(course_id: str, version: int, body: Any) -> Course:
    """Parse a course document.

    Raises ``Invalid`` with every fault and its place (``errors: [{pointer, detail, code}]``).
    """
    try:
        document = CourseBody.model_validate(body, context=CourseContext(course_id))
    except ValidationError as error:
        raise invalid_document("The course", error) from None
    return document.course(course_id, version)


def check_new_course(course: Course) -> None:
    """Raise ``Invalid`` with all that a new version must not hold.

    Releases before these rules stored such courses, and those are still read.
    """
    faults = DocumentFaults()

    def check(at: DocumentPath, id: str | None, title: str) -> None:
        if id is not None and not is_external_id(id):
            faults.add((*at, "id"), f"must be an id: {ID_RULE}")
        if not is_line(title):
            faults.add((*at, "title"), f"must be {LINE_RULE}")

    check((), None, course.title)
    for index, unit in enumerate(course.units):
        check(("units", index), unit.id, unit.title)
        for number, chapter in enumerate(unit.chapters):
            check(("units", index, "chapters", number), chapter.id, chapter.title)
    has_chapters = any(unit.chapters for unit in course.units)
    if not has_chapters and facts_needed(course.criteria) <= _FACTS_OF_CHAPTERS:
        faults.add(("units",), "must hold a chapter: no learner can finish a course without one")
    faults.check("The course")


def dump_course(course: Course) -> dict[str, Any]:
    """Return a course's document with all defaults, so that equal courses are equal."""
    return {
        "title": course.title,
        "units": [
            {
                "id": unit.id,
                "title": unit.title,
                "chapters": [_dump_chapter(chapter) for chapter in unit.chapters],
            }
            for unit in course.units
        ],
        "criteria": dump_criteria(course.criteria),
        "autoEnrol": course.auto_enrol,
        "trustClient": course.trust_client,
        "badgeTemplateId": course.badge_template_id,
        "validity": None if course.validity is None else course.validity.text,
        "estimatedHours": course.estimated_hours,
        "quizPolicy": course.quiz_policy,
        "learnerPolicy": course.learner_policy,
        "completeOnEdit": course.complete_on_edit,
    }


def _dump_chapter(chapter: Chapter) -> dict[str, Any]:
    threshold = chapter.pass_threshold
    return {
        "id": chapter.id,
        "title": chapter.title,
        "weight": unscaled(chapter.weight),
        "required": chapter.required,
        "moveOn": chapter.move_on.value,
        "quiz": None if threshold is None else {"passThreshold": unscaled(threshold)},
    }
