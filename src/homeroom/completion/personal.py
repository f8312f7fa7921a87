"""Rows of completions that speak of a person."""

from __future__ import annotations

from sqlalchemy import Select, select

from homeroom.completion.store import COMPLETION, NOTE, STEP
from homeroom.db.personal import Holding, rows_of
from homeroom.jobs import api as jobs


def _theirs(user_id: str) -> Select[tuple[str]]:
    return select(COMPLETION.c.id).where(COMPLETION.c.user_id == user_id)


PERSONAL = (
    *jobs.work_on(
        lambda user_id: select(STEP.c.job_id).where(STEP.c.completion_id.in_(_theirs(user_id)))
    ),
    Holding(STEP, lambda user_id: STEP.c.completion_id.in_(_theirs(user_id))),
    Holding(NOTE, lambda user_id: NOTE.c.completion_id.in_(_theirs(user_id))),
    rows_of(COMPLETION.c.user_id),
)
