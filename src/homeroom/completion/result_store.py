"""SQL of what learners have achieved in courses, for rules about several courses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from homeroom.completion.store import COMPLETION
from homeroom.db.tx import Tx

_IDS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class CourseResult:
    """The result of a completion: the course, its date and the score."""

    id: str
    """The id of the completion."""
    user_id: str
    course_id: str
    completed_at: int
    score: int | None
    """Units of 1e-4; None is no score."""


async def list_results(tx: Tx, user_ids: Sequence[str]) -> dict[str, list[CourseResult]]:
    """Return the results of learners by user id, in the order of their dates.

    All attempts count: a completion is never undone, also where it has expired since.
    """
    row = COMPLETION.c
    found: dict[str, list[CourseResult]] = {user_id: [] for user_id in user_ids}
    for start in range(0, len(user_ids), _IDS_PER_STATEMENT):
        statement = (
            select(row.id, row.user_id, row.course_id, row.completed_at, row.score)
            .where(row.user_id.in_(user_ids[start : start + _IDS_PER_STATEMENT]))
            .order_by(row.completed_at, row.id)
        )
        for result in await tx.fetch_into(CourseResult, statement):
            found[result.user_id].append(result)
    return found


async def list_learners(tx: Tx, after: str | None, count: int) -> list[str]:
    """Return the ids of learners who have completed a course, after an id, by id."""
    user_id = COMPLETION.c.user_id
    statement = select(user_id).distinct().order_by(user_id).limit(count)
    if after is not None:
        statement = statement.where(user_id > after)
    return [id for (id,) in await tx.fetch(statement)]
