"""Requests for the next run: sections to regenerate, and lessons to fill."""

from __future__ import annotations

from collections.abc import Sequence

from homeroom.db.tx import Tx
from homeroom.errors import Conflict
from homeroom.lessonplans import lesson_store, store
from homeroom.lessonplans.lesson_parts import (
    PARTS,
    LessonRequest,
    requested_parts,
    requested_places,
)
from homeroom.lessonplans.store import LessonRow

FILL_ALL = LessonRequest(PARTS, fill=True)


def lesson_request(
    lesson: LessonRow, parts: Sequence[str], *, fill: bool, overwrite_edits: bool
) -> LessonRequest | None:
    """Return what is to be written into a lesson; None: all of it.

    Raises ``Conflict`` for a lesson that is not generated yet, and where a person's edits leave
    nothing to write.
    """
    if lesson.body_json is None:
        raise Conflict(
            "The lesson is not generated yet.",
            hint="Start the plan: POST /api/v3/workflow/{id}/step10",
        )
    if fill:
        return LessonRequest(tuple(parts) or PARTS, fill=True)
    edited = () if overwrite_edits else lesson.edited_parts
    free = tuple(part for part in parts if part not in edited)
    if free:
        return LessonRequest(free)
    if edited:
        what = "every part of this section" if parts else "this lesson"
        raise Conflict(
            f"A person has edited {what}.",
            hint="To discard the edit and regenerate it, add overwriteEdits=true.",
        )
    return None


def writes_anything(lesson: LessonRow, request: LessonRequest) -> bool:
    """Return whether a request leaves something to write."""
    body = lesson.body
    if body is None:
        return True
    return bool(requested_parts(body, request) or requested_places(body, request))


async def start_fill(tx: Tx, plan_id: str, index: int, lessons: Sequence[LessonRow]) -> int:
    """Start a round of a module that fills its lessons; return how many.

    ``lessons`` are those of the plan. Without any to fill, the module stays as it is.
    """
    lessons = [each for each in lessons if each.module_idx == index]
    wanted = [each for each in lessons if writes_anything(each, FILL_ALL)]
    if not wanted:
        return 0
    await store.start_module_round(tx, plan_id, index)
    ids = {each.id for each in wanted}
    await lesson_store.carry_over(tx, plan_id, [each.idx for each in lessons if each.id not in ids])
    for lesson in wanted:
        if lesson.body_json is not None:
            await lesson_store.request_parts(tx, plan_id, lesson.idx, FILL_ALL)
    return len(wanted)
