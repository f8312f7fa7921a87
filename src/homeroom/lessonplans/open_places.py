"""Open places of a lesson: what a person still has to fill in (pure).

A place is written into the text as ``[add: what is asked for]``, in German ``[ergänzen: ...]``.
It is closed when the text no longer has it. Lessons of earlier releases mark a place by a sentence
that begins with "Facilitator:".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from homeroom.lessonplans.lesson import LessonBody

_PLACE = re.compile(
    r"\[(?:add|ergänzen): ([^\[\]]{1,600})\]|Facilitator: ((?:list|name|add) [^\n]+)"
)
_OPENING = re.compile(r"\[(?=(?:add|ergänzen): )|Facilitator:(?= (?:list|name|add) )")


@dataclass(frozen=True, slots=True)
class OpenPlace:
    """A place in a lesson that a person fills."""

    field: str
    """Path in the lesson's JSON, such as ``activities/1/facilitatorDoes``."""
    asks: str


def find_open_places(body: LessonBody) -> list[OpenPlace]:
    """Return the open places of a lesson, in the order of its fields.

    The title is none of them: it is the author's words.
    """
    document = body.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"title"})
    return list(_find_in(document, ""))


def has_open_place(text: str) -> bool:
    """Return whether a text has an open place."""
    return _PLACE.search(text) is not None


def replace_open_place(document: Any, field: str, number: int, text: str) -> None:
    """Replace an open place in a lesson's JSON by a text.

    ``field`` is the path of the place; ``number`` counts the places of that field from 0.
    """
    *parents, last = (int(key) if key.isdecimal() else key for key in field.split("/"))
    holder = document
    for key in parents:
        holder = holder[key]
    found = list(_PLACE.finditer(holder[last]))[number]
    holder[last] = holder[last][: found.start()] + text + holder[last][found.end() :]


def close_author_marks(text: str) -> str:
    """Return an author's text so that nothing in it counts as an open place."""
    return _OPENING.sub(lambda found: "(" if found[0] == "[" else "Facilitator", text)


def _find_in(value: object, path: str) -> Iterator[OpenPlace]:
    if isinstance(value, str):
        for found in _PLACE.finditer(value):
            yield OpenPlace(path, (found[1] or found[2]).strip().rstrip("."))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _find_in(each, f"{path}/{key}" if path else str(key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _find_in(each, f"{path}/{index}")
