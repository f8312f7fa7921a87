"""Learner and course of messages to partners, for the jobs that send them again.

``bootstrap`` passes what it needs of completions, since ``completion.api`` would load much more
into commands that only list jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Select, literal, or_, select

from homeroom.db.tx import Tx
from homeroom.dispatch.store import DISPATCH
from homeroom.jobs import api as jobs
from homeroom.jobs.subject import JobSubject, SubjectMatch, SubjectSource


def subject_source(
    completions: SubjectSource, select_completions: Callable[[SubjectMatch], Select[tuple[str]]]
) -> SubjectSource:
    """Return the subjects of dispatches, which are those of their completions."""

    async def read(tx: Tx, dispatch_ids: Sequence[str]) -> dict[str, JobSubject]:
        rows = await tx.fetch(
            select(DISPATCH.c.id, DISPATCH.c.user_id, DISPATCH.c.completion_id).where(
                DISPATCH.c.id.in_(dispatch_ids)
            )
        )
        found = await completions.read(tx, sorted({completion_id for _, _, completion_id in rows}))
        return {
            id: found.get(completion_id, JobSubject(user_id, None, completion_id))
            for id, user_id, completion_id in rows
        }

    def select_jobs(match: SubjectMatch) -> Select[tuple[str]]:
        dispatch = DISPATCH.c
        prefix: Any = (literal("dispatch.") + dispatch.id).label("cause")
        return jobs.select_jobs_by_cause(
            select(prefix).where(
                or_(
                    match.user(dispatch.user_id),
                    dispatch.completion_id.in_(select_completions(match)),
                )
            )
        )

    return SubjectSource("dispatchId", read, select_jobs)
