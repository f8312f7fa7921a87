"""Rows of progress that speak of a person."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, select

from homeroom.db.id import natural_id
from homeroom.db.personal import Holding, rows_of
from homeroom.jobs import api as jobs
from homeroom.progress.jobs import ReplayQuarantine
from homeroom.progress.store import (
    course_progress,
    progress_event,
    progress_fold,
    progress_quarantine,
    quiz_attempt,
)


def _in_ledger(user_id: str) -> ColumnElement[bool]:
    """Follow the chains of the learner's courses: the ledger has no index by learner."""
    ends = select(func.max(course_progress.c.last_seq).label("seq")).where(
        course_progress.c.user_id == user_id
    )
    chain = ends.group_by(course_progress.c.course_id).cte("chain", recursive=True, nesting=True)
    before = select(progress_event.c.previous).join(chain, progress_event.c.seq == chain.c.seq)
    links = chain.union_all(before.where(progress_event.c.previous.is_not(None)))
    return progress_event.c.seq.in_(select(links.c.seq))


PERSONAL = (
    *jobs.work_that_names(
        ReplayQuarantine.kind, lambda user_id: f".{natural_id(user_id)}."
    ),  # an id of before it was hashed names the learner
    Holding(progress_event, _in_ledger),  # before the rows that say where the chains end
    rows_of(progress_fold.c.user_id),
    rows_of(course_progress.c.user_id),
    rows_of(quiz_attempt.c.user_id),
    rows_of(progress_quarantine.c.user_id),
)
