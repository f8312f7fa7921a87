"""A course as the JSON document of ``PUT /api/v1/courses/{courseId}``, read and written (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

from homeroom.catalogue import criteria as criterion
from homeroom.catalogue import validity
from homeroom.catalogue.course import (
    Chapter,
    Course,
    LearnerPolicy,
    MoveOn,
    QuizPolicy,
    Unit,
)
from homeroom.catalogue.criteria import AllItems
from homeroom.catalogue.fault import SCALE, Faults, Place, unscaled
from homeroom.catalogue.validity import Validity

MAX_CHAPTERS = 2_000
MAX_UNITS = 1_000
MAX_WEIGHT = 1_000_000
MAX_TITLE = 500
MAX_HOURS = 10_000

_ECHOED = frozenset({"courseId", "version", "publishedAt"})
"""What a read adds; allowed in a body, so that an editor may send back what it was given."""
_COURSE = _ECHOED | {
    "title",
    "units",
    "criteria",
    "autoEnrol",
    "trustClient",
    "badgeTemplateId",
    "validity",
    "estimatedHours",
    "quizPolicy",
    "learnerPolicy",
    "completeOnEdit",
}
_UNIT = frozenset({"id", "title", "chapters"})
_CHAPTER = frozenset({"id", "title", "weight", "required", "moveOn", "quiz"})
_NEEDS_PASS = frozenset({MoveOn.PASSED, MoveOn.COMPLETED_AND_PASSED})


def parse(course_id: str, version: int, body: Any) -> Course:
    """Read a course.

    Raises ``Invalid`` with every fault and its place (``errors: [{pointer, detail}]``).
    """
    faults = Faults()
    given = faults.mapping(body, (), _COURSE)
    if given.get("courseId", course_id) != course_id:
        faults.add(("courseId",), "differs from the course in the address")
    units = _units(faults, given.get("units"))
    chapters = [chapter for unit in units for chapter in unit.chapters]
    reader = criterion.Reader(
        faults,
        course_id,
        {chapter.id for chapter in chapters if chapter.move_on is not MoveOn.NOT_APPLICABLE},
        {chapter.id for chapter in chapters if chapter.measured},
    )
    wanted = given.get("criteria")
    template = given.get("badgeTemplateId")
    hours = given.get("estimatedHours")
    course = Course(
        id=course_id,
        version=version,
        title=faults.text(given.get("title"), ("title",), MAX_TITLE),
        units=units,
        criteria=AllItems() if wanted is None else reader.read(wanted, ("criteria",)),
        auto_enrol=faults.flag(given.get("autoEnrol", True), ("autoEnrol",)),
        trust_client=faults.flag(given.get("trustClient", False), ("trustClient",)),
        badge_template_id=None if template is None else faults.id(template, ("badgeTemplateId",)),
        validity=_validity(faults, given.get("validity")),
        estimated_hours=(
            None
            if hours is None
            else unscaled(faults.scaled(hours, ("estimatedHours",), MAX_HOURS))
        ),
        quiz_policy=cast(QuizPolicy, _word(faults, given, "quizPolicy", QuizPolicy)),
        learner_policy=cast(LearnerPolicy, _word(faults, given, "learnerPolicy", LearnerPolicy)),
        complete_on_edit=faults.flag(given.get("completeOnEdit", False), ("completeOnEdit",)),
    )
    faults.check("The course")
    return course


def dump(course: Course) -> dict[str, Any]:
    """Return a course's document with every default written out: equal courses, equal documents."""
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
        "criteria": criterion.dump(course.criteria),
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


def _word(faults: Faults, given: Mapping[str, Any], key: str, words: Any) -> str:
    """Read one of a Literal's words; its first one is the default."""
    allowed = get_args(words)
    return faults.one_of(given.get(key, allowed[0]), (key,), allowed) or str(allowed[0])


def _hours(faults: Faults, value: Any) -> float:
    return unscaled(faults.scaled(value, ("estimatedHours",), MAX_HOURS))


def _validity(faults: Faults, value: Any) -> Validity | None:
    if value is None:
        return None
    try:
        return validity.parse(value if isinstance(value, str) else "")
    except ValueError as error:
        faults.add(("validity",), str(error))
        return None


def _units(faults: Faults, value: Any) -> tuple[Unit, ...]:
    given = faults.items(value, ("units",))
    if len(given) > MAX_UNITS:
        faults.add(("units",), f"a course has at most {MAX_UNITS} units")
        return ()
    count = sum(
        len(unit["chapters"])
        for unit in given
        if isinstance(unit, Mapping) and isinstance(unit.get("chapters"), list)
    )
    if count > MAX_CHAPTERS:
        faults.add(("units",), f"a course has at most {MAX_CHAPTERS} chapters; these are {count}")
        return ()
    units: list[Unit] = []
    seen: dict[str, Place] = {}
    for index, each in enumerate(given):
        at: Place = ("units", index)
        unit = faults.mapping(each, at, _UNIT)
        unit_id = faults.id(unit.get("id"), (*at, "id"))
        if unit_id and any(other.id == unit_id for other in units):
            faults.add((*at, "id"), "is the id of an earlier unit too")
        chapters = tuple(
            _chapter(faults, chapter, (*at, "chapters", position), unit_id, seen)
            for position, chapter in enumerate(
                faults.items(unit.get("chapters"), (*at, "chapters"))
            )
        )
        title = faults.text(unit.get("title"), (*at, "title"), MAX_TITLE)
        units.append(Unit(unit_id, title, chapters))
    return tuple(units)


def _chapter(
    faults: Faults, value: Any, at: Place, unit_id: str, seen: dict[str, Place]
) -> Chapter:
    given = faults.mapping(value, at, _CHAPTER)
    chapter_id = faults.id(given.get("id"), (*at, "id"))
    if chapter_id in seen:
        first = "/".join(str(part) for part in seen[chapter_id])
        faults.add((*at, "id"), f"is the id of an earlier chapter too ({first})")
    elif chapter_id:
        seen[chapter_id] = at
    word = faults.one_of(given.get("moveOn", MoveOn.COMPLETED), (*at, "moveOn"), list(MoveOn))
    move_on = MoveOn(word or MoveOn.COMPLETED)
    threshold: int | None = None
    if given.get("quiz") is not None:
        quiz = faults.mapping(given["quiz"], (*at, "quiz"), {"passThreshold"})
        threshold = faults.scaled(quiz.get("passThreshold"), (*at, "quiz", "passThreshold"), 1)
    elif move_on in _NEEDS_PASS:
        faults.add((*at, "quiz"), f"is needed where moveOn is {move_on}: nothing else can pass")
    return Chapter(
        id=chapter_id,
        title=faults.text(given.get("title"), (*at, "title"), MAX_TITLE),
        unit_id=unit_id,
        weight=faults.scaled(given.get("weight", unscaled(SCALE)), (*at, "weight"), MAX_WEIGHT),
        required=faults.flag(given.get("required", True), (*at, "required")),
        move_on=move_on,
        pass_threshold=threshold,
    )
