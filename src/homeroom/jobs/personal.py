"""Jobs that are about a person: named by whoever added them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, Select

from homeroom.db.personal import Holding
from homeroom.jobs.table import attempt, dependency, job, log


def work_on(ids: Callable[[str], Select[tuple[str]]]) -> tuple[Holding, ...]:
    """Say that jobs are about a person, given what selects their ids by the person's id.

    Erased with the person, done or not; a worker that runs one loses it.
    """

    def rows(column: Column[str]) -> Holding:
        return Holding(column.table, lambda user_id: column.in_(ids(user_id)), is_shown=False)

    return rows(dependency.c.job), rows(log.c.job), rows(attempt.c.job), rows(job.c.id)
