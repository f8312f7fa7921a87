"""Queries on lesson plans: plans, generation status, lists and model calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.jobs.api import Job, JobState, find, workers
from homeroom.lessonplans import store
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.model import call_store
from homeroom.lessonplans.model.call_store import ModelCallRow, ModelSpending
from homeroom.lessonplans.plan import (
    LessonPlan,
    PlanKind,
    PlannedLesson,
    PlanProgress,
    PlanStatus,
    plan_kind,
    plan_progress,
    plan_status,
)
from homeroom.lessonplans.store import ModuleRow, PlanRow


@dataclass(frozen=True, slots=True)
class ModuleProgress:
    """A module and its job."""

    module: ModuleRow
    job: Job
    percent: float


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """The generation status of a plan."""

    plan: PlanRow
    status: PlanStatus
    minutes: int
    """Contact time of the whole plan."""
    progress: PlanProgress
    modules: Sequence[ModuleProgress]
    modules_generated: int
    total_modules: int
    lessons: int
    lessons_with_gaps: int
    kind: PlanKind
    open_places: int
    all_complete: bool
    """All modules are generated, and each has a lesson that no check refused."""
    heartbeat_at: int | None
    """The last heartbeat of the worker that generates; None while no job is active."""
    spent: ModelSpending


@dataclass(frozen=True, slots=True)
class LessonPlanSummary:
    """A plan in a list."""

    plan: PlanRow
    status: PlanStatus
    modules_generated: int
    total_modules: int


async def load_plan_row(tx: Tx, plan_id: str) -> PlanRow:
    """Return a plan's row. Raises ``NotFound``."""
    plan = await store.find_plan(tx, plan_id)
    if plan is None:
        raise NotFound(f"There is no lesson plan {plan_id!r}.")
    return plan


async def load_plan(tx: Tx, plan_id: str) -> LessonPlan:
    """Return a plan with its lessons. Raises ``NotFound``."""
    plan = await load_plan_row(tx, plan_id)
    modules = await store.list_modules(tx, plan_id)
    return LessonPlan(
        id=plan.id,
        curriculum=parse_curriculum(msgspec.json.decode(plan.curriculum)),
        status=plan_status([module.state for module in modules]),
        input_hash=plan.input_hash,
        created_at=plan.created_at,
        created_by=plan.created_by,
        schedule_revision=plan.schedule_revision,
        scheduled_at=plan.scheduled_at,
        lessons=tuple(
            PlannedLesson(
                slot=lesson.slot,
                body=lesson.body,
                gaps=lesson.gaps,
                generator=lesson.generator,
                revision=lesson.revision,
                edited=lesson.edited_at is not None,
                provenance=lesson.provenance,
                changed_at=max(lesson.written_at or 0, lesson.edited_at or 0) or None,
                edited_parts=lesson.edited_parts,
            )
            for lesson in await store.list_lessons(tx, plan_id)
        ),
    )


async def load_generation_status(tx: Tx, plan_id: str) -> GenerationStatus:
    """Return the generation status of a plan. Raises ``NotFound``."""
    plan = await load_plan_row(tx, plan_id)
    modules = await store.list_modules(tx, plan_id)
    lessons = await store.list_lesson_progress(tx, plan_id)
    jobs = await find(tx, [module.job_id for module in modules if module.job_id is not None])
    status = plan_status([module.state for module in modules])
    progress = plan_progress({module.idx: module.round for module in modules}, lessons)
    is_delayed = any(job.state is JobState.DELAYED for job in jobs.values())
    if status != "complete" and (status != "in_progress" or is_delayed):
        # No job is active, or its next attempt is delayed: the remaining time is unknown.
        progress = PlanProgress(progress.percent, progress.lessons_left, None)
    open_places = sum(lesson.open_places or 0 for lesson in lessons)
    if any(lesson.open_places is None and lesson.round > 0 for lesson in lessons):
        open_places += await store.count_uncounted_open_places(tx, plan_id)
    modules_generated = sum(module.state == "complete" for module in modules)
    usable = {lesson.module_idx for lesson in lessons if lesson.round > 0 and not lesson.has_gaps}
    return GenerationStatus(
        plan=plan,
        status=status,
        minutes=sum(lesson.minutes for lesson in lessons),
        progress=progress,
        modules=[
            ModuleProgress(
                module,
                jobs[module.job_id],
                plan_progress({module.idx: module.round}, lessons).percent,
            )
            for module in modules
            if module.job_id is not None and module.job_id in jobs
        ],
        modules_generated=modules_generated,
        total_modules=len(modules),
        lessons=len(lessons),
        lessons_with_gaps=sum(lesson.has_gaps for lesson in lessons),
        kind=plan_kind(
            is_written=all(lesson.round > 0 for lesson in lessons), open_places=open_places
        ),
        open_places=open_places,
        all_complete=modules_generated == len(modules) == len(usable),
        heartbeat_at=await _worker_heartbeat(tx, list(jobs.values())),
        spent=await call_store.sum_spending(tx, plan_id),
    )


async def list_plan_calls(tx: Tx, plan_id: str, after: str, count: int) -> list[ModelCallRow]:
    """Return a plan's model calls by id, after an id. Raises ``NotFound``."""
    await load_plan_row(tx, plan_id)
    return await call_store.list_calls(tx, plan_id, after, count)


async def list_newest_plans(
    tx: Tx, before: tuple[int, str] | None, count: int
) -> list[LessonPlanSummary]:
    """Return plans, newest first, before a pair of ``created_at`` and ``id``."""
    plans = await store.list_newest(tx, before, count)
    states: dict[str, list[str]] = {plan.id: [] for plan in plans}
    for plan_id, state in await store.list_module_states(tx, list(states)):
        states[plan_id].append(state)
    return [
        LessonPlanSummary(
            plan=plan,
            status=plan_status(states[plan.id]),
            modules_generated=states[plan.id].count("complete"),
            total_modules=len(states[plan.id]),
        )
        for plan in plans
    ]


async def _worker_heartbeat(tx: Tx, jobs: Sequence[Job]) -> int | None:
    active = {job.worker for job in jobs if job.state is JobState.ACTIVE}
    if not active:
        return None
    heartbeats = [each.heartbeat_at for each in await workers(tx) if each.id in active]
    return max(heartbeats, default=None)
