"""Jobs that are about a person: named by whoever added them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, ColumnElement, Select, and_, func, or_, select

from homeroom.db.personal import NOTHING, Holding, says
from homeroom.jobs.table import attempt, dependency, job, log

Ids = Callable[[str], Select[tuple[str]]]
"""What selects ids, by the person's id."""


def work_on(ids: Ids) -> tuple[Holding, ...]:
    """Say that the jobs with some ids are about a person.

    Erased with the person, done or not; a worker that runs one loses it.
    """

    def rows(column: Column[str]) -> Holding:
        return Holding(column.table, lambda user_id: column.in_(ids(user_id)), shown=NOTHING)

    return rows(dependency.c.job), rows(log.c.job), rows(attempt.c.job), rows(job.c.id)


def work_of(causes: Ids) -> tuple[Holding, ...]:
    """Say that all jobs whose natural ids begin with some causes' ids are about a person."""

    def ids(user_id: str) -> Select[tuple[str]]:
        cause = causes(user_id).subquery()
        [id] = cause.columns
        begins = and_(job.c.id > id.concat("."), job.c.id < id.concat("/"))
        return select(job.c.id).select_from(cause).join(job, begins)

    return work_on(ids)


def work_that_names(kind: str, *named: Callable[[str], str]) -> tuple[Holding, ...]:
    """Say that jobs of a kind are about the people whom their arguments or ids name.

    ``named`` are pieces of the id or the arguments, by the person's id.
    """

    def ids(user_id: str) -> Select[tuple[str]]:
        def holds(column: Column[str]) -> list[ColumnElement[bool]]:
            return [func.replace(column, piece(user_id), "") != column for piece in named]

        told = or_(says(job.c.payload, user_id), *holds(job.c.id), *holds(job.c.payload))
        return select(job.c.id).where(job.c.kind == kind, told)

    return work_on(ids)
