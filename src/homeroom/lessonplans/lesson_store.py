"""SQL that writes the content of lessons."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from homeroom.db.tx import Tx
from homeroom.lessonplans.lesson import LessonBody, LessonFinding
from homeroom.lessonplans.lesson_parts import PARTS, LessonRequest, changed_parts
from homeroom.lessonplans.open_places import find_open_places
from homeroom.lessonplans.store import LessonRow


async def request_parts(tx: Tx, plan_id: str, index: int, request: LessonRequest) -> None:
    """Record what the next run writes into a lesson; its round must be outstanding."""
    await tx.execute(
        "UPDATE lesson_plan_lesson SET requested = ? WHERE plan_id = ? AND idx = ?",
        (_encode_json(request), plan_id, index),
    )


async def carry_over(tx: Tx, plan_id: str, indices: Sequence[int]) -> None:
    """Carry lessons into the new round of their modules unchanged."""
    for index in indices:
        await tx.execute(
            "UPDATE lesson_plan_lesson SET round = (SELECT m.round FROM lesson_plan_module AS m"
            " WHERE m.plan_id = lesson_plan_lesson.plan_id"
            " AND m.idx = lesson_plan_lesson.module_idx) WHERE plan_id = ? AND idx = ?",
            (plan_id, index),
        )


async def save_lesson(
    tx: Tx,
    lesson: LessonRow,
    current_round: int,
    body: LessonBody,
    *,
    gaps: Sequence[LessonFinding],
    generator: str,
    provenance: dict[str, object],
    took_ms: int,
    edited_parts: Collection[str] = (),
) -> bool:
    """Store a lesson as generated in a round.

    ``edited_parts`` are those that still are a person's. Returns False if the lesson was generated
    or edited meanwhile; it then stays unchanged.
    """
    kept = tuple(part for part in PARTS if part in edited_parts)
    changed = await tx.execute(
        "UPDATE lesson_plan_lesson SET title = ?, body = ?, gaps = ?, generator = ?,"
        " provenance = ?, took_ms = ?, written_at = ?, round = ?, open_places = ?,"
        " revision = revision + 1, requested = NULL, edited_parts = ?,"
        " edited_at = CASE WHEN ? = 1 THEN edited_at ELSE NULL END,"
        " edited_by = CASE WHEN ? = 1 THEN edited_by ELSE NULL END"
        " WHERE plan_id = ? AND idx = ? AND round < ? AND revision = ?",
        (
            body.title,
            body.model_dump_json(by_alias=True),
            _encode_json(gaps) if gaps else None,
            generator,
            _encode_json(provenance),
            took_ms,
            tx.now,
            current_round,
            len(find_open_places(body)),
            _encode_json(kept) if kept else None,
            int(bool(kept)),
            int(bool(kept)),
            lesson.plan_id,
            lesson.idx,
            current_round,
            lesson.revision,
        ),
    )
    return changed == 1


async def save_edit(
    tx: Tx, lesson: LessonRow, before: LessonBody, body: LessonBody, actor: str
) -> bool:
    """Store a person's edit of the lesson ``before``, which closes all gaps.

    Returns False if the lesson changed meanwhile; it then stays unchanged. An edited lesson counts
    as generated in its module's round, so the current job skips it.
    """
    edited = {*lesson.edited_parts, *changed_parts(before, body)}
    changed = await tx.execute(
        "UPDATE lesson_plan_lesson SET title = ?, body = ?, gaps = NULL, edited_at = ?,"
        " edited_by = ?, edited_parts = ?, open_places = ?, requested = NULL,"
        " revision = revision + 1,"
        " round = (SELECT m.round FROM lesson_plan_module AS m WHERE m.plan_id ="
        " lesson_plan_lesson.plan_id AND m.idx = lesson_plan_lesson.module_idx)"
        " WHERE plan_id = ? AND idx = ? AND revision = ?",
        (
            body.title,
            body.model_dump_json(by_alias=True),
            tx.now,
            actor,
            _encode_json([part for part in PARTS if part in edited]),
            len(find_open_places(body)),
            lesson.plan_id,
            lesson.idx,
            lesson.revision,
        ),
    )
    return changed == 1


def _encode_json(value: object) -> str:
    return msgspec.json.encode(value).decode()
