"""Courses of lesson plans, for the jobs that generate them.

The columns are named here again: ``lessonplans.store`` would load the plan model into commands that
only list jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, column, select, table

from homeroom.db.tx import Tx
from homeroom.jobs.subject import JobSubject, SubjectMatch, SubjectSource

_PLAN = table("lesson_plan", column("id"), column("course_id"))
_MODULE = table("lesson_plan_module", column("plan_id"), column("job_id"))


async def _read(tx: Tx, plan_ids: Sequence[str]) -> dict[str, JobSubject]:
    rows = await tx.fetch(select(_PLAN.c.id, _PLAN.c.course_id).where(_PLAN.c.id.in_(plan_ids)))
    return {id: JobSubject(None, course_id) for id, course_id in rows}


def _select_jobs(match: SubjectMatch) -> Select[tuple[str]]:
    job: Any = _MODULE.c.job_id
    is_course = match.course(_PLAN.c.course_id)
    joined = _MODULE.join(_PLAN, _PLAN.c.id == _MODULE.c.plan_id)
    return select(job).select_from(joined).where(is_course, job.is_not(None))


SUBJECTS = SubjectSource("planId", _read, _select_jobs)
