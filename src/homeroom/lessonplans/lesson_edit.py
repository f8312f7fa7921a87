"""A person's changes of a lesson: whole parts, or values by path (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from homeroom.errors import Invalid
from homeroom.lessonplans.lesson import LessonBody

MAX_ERRORS_SHOWN = 50
VALUES = "values"
"""The key of changes that holds values by path."""


def apply_changes(body: LessonBody, changes: Mapping[str, Any]) -> LessonBody:
    """Return a lesson with changed parts.

    ``changes`` maps parts to new values; under ``values`` it maps paths, as open places have them
    (``activities/1/facilitatorDoes``), to new values. A path that ends in ``-`` appends to a list,
    and null removes an entry of a list. Raises ``Invalid`` with every fault.
    """
    document: dict[str, Any] = body.model_dump(mode="json", by_alias=True)
    document |= {part: value for part, value in changes.items() if part != VALUES}
    faults = []
    removed: list[tuple[list[Any], int]] = []
    for path, value in (changes.get(VALUES) or {}).items():
        fault = _set_value(document, path, value, removed)
        if fault is not None:
            pointer = f"#/{VALUES}/{path.replace('~', '~0').replace('/', '~1')}"
            faults.append({"pointer": pointer, "detail": fault, "code": "no_such_field"})
    if faults:
        raise Invalid(details={"errors": faults[:MAX_ERRORS_SHOWN]})
    for entries, index in sorted(removed, key=lambda each: -each[1]):
        del entries[index]
    try:
        return LessonBody.model_validate(document)
    except ValidationError as error:
        raise Invalid(
            details={
                "errors": [
                    {
                        "pointer": "#" + "".join(f"/{part}" for part in fault["loc"]),
                        "detail": fault["msg"].removeprefix("Value error, "),
                        "code": fault["type"],
                    }
                    for fault in error.errors(
                        include_url=False, include_input=False, include_context=False
                    )[:MAX_ERRORS_SHOWN]
                ]
            }
        ) from None


def _set_value(
    document: dict[str, Any], path: str, value: Any, removed: list[tuple[list[Any], int]]
) -> str | None:
    """Set the value at a path; return why that is not possible, else None."""
    *parents, last = path.split("/")
    holder: Any = document
    for key in parents:
        if isinstance(holder, list) and key.isdecimal() and int(key) < len(holder):
            holder = holder[int(key)]
        elif isinstance(holder, dict) and isinstance(holder.get(key), dict | list):
            holder = holder[key]
        else:
            return f"the lesson has no {path!r}"
    if isinstance(holder, dict):
        holder[last] = value
    elif not isinstance(holder, list):
        return f"the lesson has no {path!r}"
    elif last == "-":
        holder.append(value)
    elif not last.isdecimal() or int(last) >= len(holder):
        return f"the lesson has no {path!r}"
    elif value is None:
        removed.append((holder, int(last)))
    else:
        holder[int(last)] = value
    return None
