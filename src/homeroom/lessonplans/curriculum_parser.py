"""Parser of curricula: names every error with its place (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from homeroom.errors import Invalid
from homeroom.lessonplans.curriculum import (
    MAX_ERRORS_SHOWN,
    MAX_LESSONS,
    Curriculum,
    CurriculumModule,
    LearningOutcome,
    TeachingPreferences,
    count_lessons,
)
from homeroom.lessonplans.lesson_sequence import prerequisite_order
from homeroom.lessonplans.lesson_time import module_time_error
from homeroom.lessonplans.school_break import SchoolBreak

_MESSAGES = {
    "extra_forbidden": "is not a known field",
    "invalid_key": "is not a known field",
    "missing": "is required",
    "model_type": "must be an object",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "string_unicode": "must be text without half of a surrogate pair",
    "tuple_type": "must be a list",
}
"""Messages for pydantic's error types that would otherwise name Python types."""

_PATTERNS = {
    "locale": "must be a language tag such as en or de-CH",
    "startTime": "must be a time from 00:00 to 23:59 such as 09:00",
}
_ITEMS = {
    "modules": "module",
    "outcomes": "outcome",
    "criteria": "criterion",
    "prerequisites": "prerequisite",
    "materials": "material",
    "weekdays": "weekday",
    "breaks": "break",
}
_FIELDS = sorted(
    {
        field.alias or name
        for model in (
            Curriculum,
            CurriculumModule,
            LearningOutcome,
            SchoolBreak,
            TeachingPreferences,
        )
        for name, field in model.model_fields.items()
    }
)

_Path = tuple[str | int, ...]
CurriculumError = tuple[_Path, str]
"""The path of a value in the body, and its error."""


def parse_curriculum(body: Any) -> Curriculum:
    """Validate a curriculum.

    Raises ``Invalid`` with every error and its place (``errors: [{pointer, detail}]``).
    """
    curriculum, errors = _validate(body)
    if curriculum is None or errors:
        raise _invalid(errors)
    return curriculum


def find_errors(body: Any) -> list[CurriculumError]:
    """Return every error of a curriculum with its path; a valid one has none."""
    return _validate(body)[1]


def path_words(path: Sequence[str | int]) -> list[str]:
    """Return the steps of a path in words, such as ``module 2`` and ``text``."""
    words: list[str] = []
    steps = list(path)
    while steps:
        step = steps.pop(0)
        if step in _ITEMS and steps and isinstance(steps[0], int):
            words.append(f"{_ITEMS[str(step)]} {int(steps.pop(0)) + 1}")
        else:
            words.append(str(step)[:100])
    return words


def _validate(body: Any) -> tuple[Curriculum | None, list[CurriculumError]]:
    curriculum: Curriculum | None = None
    errors: list[CurriculumError] = []
    try:
        curriculum = Curriculum.model_validate(body)
    except ValidationError as error:
        errors += [
            (each["loc"], _error_message(each["loc"], each["type"], each["msg"]))
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    errors += _duplicate_ids(body)
    if curriculum is None or errors:
        return None, errors
    errors += _prerequisite_errors(curriculum)
    errors += _time_errors(curriculum)
    errors += [] if errors else _length_errors(curriculum)
    return curriculum, errors


def _error_message(path: _Path, kind: str, message: str) -> str:
    """Return pydantic's message, or a better one where it names types or patterns."""
    known = _MESSAGES.get(kind)
    field = path[-1] if path else None
    if kind == "string_pattern_mismatch" and field in _PATTERNS:
        return _PATTERNS[str(field)]
    if kind == "extra_forbidden" and isinstance(field, str):
        near = get_close_matches(field[:100], _FIELDS, n=1, cutoff=0.75)
        return f"is not a known field; did you mean {near[0]}?" if near else str(known)
    return known or message.removeprefix("Value error, ")


def _length_errors(curriculum: Curriculum) -> list[CurriculumError]:
    lesson_minutes = curriculum.preferences.lesson_minutes
    count = sum(count_lessons(module.minutes, lesson_minutes) for module in curriculum.modules)
    if count <= MAX_LESSONS:
        return []
    detail = f"makes {count} lessons of {lesson_minutes} minutes; a plan has at most {MAX_LESSONS}"
    return [(("preferences", "lessonMinutes"), detail)]


def _duplicate_ids(body: Any) -> list[CurriculumError]:
    """Return an error for each id that an earlier module or outcome has.

    It reads the body instead of the model, so that duplicates are reported with all other errors.
    """
    errors: list[CurriculumError] = []
    modules: dict[str, _Path] = {}
    outcomes: dict[str, _Path] = {}
    for path, module in _objects(body, (), "modules"):
        errors += _check_unique(module, path, modules, "module")
        for outcome_path, outcome in _objects(module, path, "outcomes"):
            errors += _check_unique(outcome, outcome_path, outcomes, "outcome")
    return errors


def _prerequisite_errors(curriculum: Curriculum) -> Iterator[CurriculumError]:
    """Yield an error for each prerequisite that cannot hold."""
    module_of = {
        outcome.id: index
        for index, module in enumerate(curriculum.modules)
        for outcome in module.outcomes
    }
    for index, module in enumerate(curriculum.modules):
        for place, outcome in enumerate(module.outcomes):
            path = ("modules", index, "outcomes", place, "prerequisites")
            for id in outcome.prerequisites:
                if id not in module_of:
                    yield path, f"names {id!r}; the curriculum has no such outcome"
                elif module_of[id] > index:
                    yield (
                        path,
                        f"names {id!r}, which module {module_of[id] + 1} teaches later: move it to"
                        f" module {index + 1} or earlier",
                    )
        circle = prerequisite_order(module.outcomes)[1]
        if circle:
            yield (
                ("modules", index, "outcomes"),
                "have prerequisites in a circle: " + ", ".join(repr(id) for id in circle),
            )


def _time_errors(curriculum: Curriculum) -> Iterator[CurriculumError]:
    for index, module in enumerate(curriculum.modules):
        error = module_time_error(module)
        if error is not None:
            yield ("modules", index, "contactHours"), error


def _objects(parent: Any, path: _Path, key: str) -> Iterator[tuple[_Path, Mapping[Any, Any]]]:
    """Yield the objects in a list of an object, if there are any."""
    items = parent.get(key) if isinstance(parent, Mapping) else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping):
            yield (*path, key, index), item


def _check_unique(
    item: Mapping[Any, Any], path: _Path, earlier: dict[str, _Path], kind: str
) -> Iterator[CurriculumError]:
    id = item.get("id")
    if not isinstance(id, str):
        return
    if id in earlier:
        words = ", ".join(path_words(earlier[id]))
        yield (*path, "id"), f"is also the id of an earlier {kind} ({words})"
    else:
        earlier[id] = path


def _invalid(errors: list[CurriculumError]) -> Invalid:
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    path, first = errors[0]
    return Invalid(
        f"The curriculum has {count}; the first: {_json_pointer(path)}: {first}.",
        details={
            "errors": [
                {"pointer": _json_pointer(path), "detail": detail, "code": "invalid"}
                for path, detail in errors[:MAX_ERRORS_SHOWN]
            ],
            "errorCount": len(errors),
        },
    )


def _json_pointer(path: _Path) -> str:
    """Return a JSON pointer in a URI fragment (RFC 6901).

    Steps are shortened to 100 characters. A key may hold half of a surrogate pair, which no
    response can carry; it is shown as ``?``.
    """
    steps = (str(step)[:100].replace("~", "~0").replace("/", "~1") for step in path)
    return "#" + "".join(f"/{step}" for step in steps).encode(errors="replace").decode()
