"""The task for a stored lesson, and who wrote which of its parts (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homeroom.lessonplans.curriculum import Curriculum
from homeroom.lessonplans.generator import RULE_BASED, LessonResult, LessonTask
from homeroom.lessonplans.lesson import LessonFinding, curriculum_links
from homeroom.lessonplans.lesson_parts import (
    PARTS,
    part_value,
    requested_parts,
    requested_places,
)
from homeroom.lessonplans.store import LessonRow

_SEPARATOR = ", "


def lesson_task(
    lesson: LessonRow, job_id: str, curriculum: Curriculum, *, titles: Sequence[str], plan_id: str
) -> LessonTask:
    """Return the task to write a lesson, or the parts of it that were requested."""
    current, request = lesson.body, lesson.requested
    given: dict[str, Any] = {}
    if current is not None and request is not None:
        given = {
            "current": current,
            "parts": requested_parts(current, request),
            "places": requested_places(current, request),
        }
    return LessonTask(
        plan_id=plan_id,
        job_id=job_id,
        curriculum=curriculum,
        module=curriculum.modules[lesson.module_idx],
        slot=lesson.slot,
        titles=titles,
        allowed_links=curriculum_links(curriculum),
        **given,
    )


def part_authors(lesson: LessonRow, task: LessonTask, result: LessonResult) -> dict[str, str]:
    """Return the generators of a lesson's parts, by part; a part may have several."""
    written = result.written_by
    if written is None:
        written = dict.fromkeys(task.parts, result.generator)
    authors: dict[str, str] = {}
    if task.current is not None:
        earlier = lesson.provenance.get("parts")
        name = lesson.generator or RULE_BASED
        authors = dict(earlier) if isinstance(earlier, dict) else dict.fromkeys(PARTS, name)
    authors.update(written)
    for part in result.filled:
        authors[part] = _join(authors.get(part, ""), result.generator)
    return {
        part: authors[part] for part in PARTS if part in authors and part_value(result.body, part)
    }


def generator_label(result: LessonResult, written_by: Mapping[str, str]) -> str:
    """Return the names of all generators that wrote into a lesson."""
    return _join(*written_by.values()) or result.generator


def kept_gaps(lesson: LessonRow, task: LessonTask) -> list[LessonFinding]:
    """Return the gaps of the parts that a task leaves as they are."""
    if task.current is None:
        return []
    is_fill = lesson.requested is not None and lesson.requested.fill
    return [
        gap for gap in lesson.gaps if gap.field not in task.names and (gap.field or not is_fill)
    ]


def _join(*labels: str) -> str:
    names = {name for label in labels for name in label.split(_SEPARATOR) if name}
    return _SEPARATOR.join(sorted(names))
