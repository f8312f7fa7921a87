"""Learner and course of completions, for the jobs of their steps.

The columns are named here again: ``completion.store`` would load more into commands that only list
jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, column, or_, select, table

from homeroom.db.tx import Tx
from homeroom.jobs import api as jobs
from homeroom.jobs.subject import JobSubject, SubjectMatch, SubjectSource

_COMPLETION = table("completion", column("id"), column("user_id"), column("course_id"))


async def _read(tx: Tx, completion_ids: Sequence[str]) -> dict[str, JobSubject]:
    """Return the learners and courses of completions, by id."""
    rows = await tx.fetch(select(_COMPLETION).where(_COMPLETION.c.id.in_(completion_ids)))
    return {id: JobSubject(user_id, course_id, id) for id, user_id, course_id in rows}


def select_completions(match: SubjectMatch) -> Select[tuple[str]]:
    """Select the ids of completions whose learner or course matches."""
    id: Any = _COMPLETION.c.id
    return select(id).where(
        or_(match.user(_COMPLETION.c.user_id), match.course(_COMPLETION.c.course_id))
    )


SUBJECTS = SubjectSource(
    "completionId", _read, lambda match: jobs.select_jobs_by_cause(select_completions(match))
)
