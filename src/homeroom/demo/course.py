"""The example courses, as the plan and the expectation need to know them (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCALE = 10_000
"""Weights and scores are counted in units of 1e-4, percentages in basis points."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One chapter of a course document."""

    id: str
    weight: int
    """In units of 1e-4."""
    required: bool
    needs_completion: bool
    needs_pass: bool
    threshold: int | None
    """Share of the points that passes its quiz, in units of 1e-4; None where there is no quiz."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A course as far as playing it needs it."""

    id: str
    lessons: tuple[Lesson, ...]
    document: Mapping[str, Any]
    """The body of ``PUT /api/v1/courses/{id}``."""
    hours: float

    def with_chapter(self, id: str, title: str) -> dict[str, Any]:
        """Return the document with one more optional chapter at its end: a later version."""
        units = [dict(unit) for unit in self.document["units"]]
        more = {"id": id, "title": title, "required": False}
        units[-1] = {**units[-1], "chapters": [*units[-1]["chapters"], more]}
        return {**self.document, "units": units}


def outline(document: Mapping[str, Any]) -> Outline:
    """Read a course document; raise KeyError where a part of it is missing."""
    return Outline(
        id=str(document["courseId"]),
        lessons=tuple(
            _lesson(chapter) for unit in document["units"] for chapter in unit["chapters"]
        ),
        document=document,
        hours=float(document.get("estimatedHours", 1)),
    )


def _lesson(chapter: Mapping[str, Any]) -> Lesson:
    move_on = chapter.get("moveOn", "Completed")
    if move_on not in {"Completed", "Passed", "CompletedAndPassed"}:
        raise ValueError(f"the demo does not play chapters that move on by {move_on}")
    quiz = chapter.get("quiz")
    return Lesson(
        id=str(chapter["id"]),
        weight=round(chapter.get("weight", 1) * SCALE),
        required=bool(chapter.get("required", True)),
        needs_completion=move_on != "Passed",
        needs_pass=move_on != "Completed",
        threshold=None if quiz is None else round(quiz["passThreshold"] * SCALE),
    )
