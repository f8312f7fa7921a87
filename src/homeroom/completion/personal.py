"""Rows of completions that speak of a person."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, select

from homeroom.completion.store import COMPLETION, NOTE, STEP
from homeroom.db.personal import Holding, held_first, rows_of
from homeroom.jobs import api as jobs


def _theirs(user_id: str) -> Select[tuple[str]]:
    return select(COMPLETION.c.id).where(COMPLETION.c.user_id == user_id)


def _step(user_id: str) -> ColumnElement[bool]:
    return STEP.c.completion_id.in_(_theirs(user_id))


PERSONAL = (
    held_first(STEP.c.runs, _step),
    *jobs.work_of(_theirs),
    Holding(STEP, _step),
    Holding(NOTE, lambda user_id: NOTE.c.completion_id.in_(_theirs(user_id))),
    rows_of(COMPLETION.c.user_id),
)
