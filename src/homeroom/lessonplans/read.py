"""Read lesson plans: whole ones, how far they are, which there are, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.jobs.api import Job, JobState, find, workers
from homeroom.lessonplans import call_store, store
from homeroom.lessonplans.call_store import CallRow, Spent
from homeroom.lessonplans.curriculum import parse
from homeroom.lessonplans.plan import Lesson, Plan
from homeroom.lessonplans.status import PlanStatus, Progress, plan_status, progress
from homeroom.lessonplans.store import ModuleRow, PlanRow


@dataclass(frozen=True, slots=True)
class ModuleProgress:
    """A module and the job that writes it."""

    module: ModuleRow
    job: Job
    percent: float


@dataclass(frozen=True, slots=True)
class Status:
    """How far a plan is."""

    plan: PlanRow
    status: PlanStatus
    minutes: int
    """All contact time."""
    progress: Progress
    modules: Sequence[ModuleProgress]
    modules_generated: int
    total_modules: int
    lessons: int
    lessons_with_gaps: int
    heartbeat_at: int | None
    """The last sign of life of the worker that writes; None while none does."""
    spent: Spent


@dataclass(frozen=True, slots=True)
class Summary:
    """A plan in a list."""

    plan: PlanRow
    status: PlanStatus
    modules_generated: int
    total_modules: int


async def row(tx: Tx, plan_id: str) -> PlanRow:
    """Return a plan's row. Raises ``NotFound``."""
    found = await store.plan(tx, plan_id)
    if found is None:
        raise NotFound(f"There is no lesson plan {plan_id!r}.")
    return found


async def plan(tx: Tx, plan_id: str) -> Plan:
    """Return a plan with its lessons. Raises ``NotFound``."""
    found = await row(tx, plan_id)
    modules = await store.modules(tx, plan_id)
    return Plan(
        id=found.id,
        curriculum=parse(msgspec.json.decode(found.curriculum)),
        status=plan_status([module.state for module in modules]),
        input_hash=found.input_hash,
        created_at=found.created_at,
        created_by=found.created_by,
        lessons=tuple(
            Lesson(
                slot=each.slot,
                body=each.body,
                gaps=each.gaps,
                generator=each.generator,
                revision=each.revision,
                edited=each.edited_at is not None,
                provenance=each.provenance,
            )
            for each in await store.lessons(tx, plan_id)
        ),
    )


async def status(tx: Tx, plan_id: str) -> Status:
    """Return how far a plan is. Raises ``NotFound``."""
    found = await row(tx, plan_id)
    modules = await store.modules(tx, plan_id)
    paces = await store.paces(tx, plan_id)
    jobs = await find(tx, [module.job_id for module in modules if module.job_id is not None])
    now = plan_status([module.state for module in modules])
    overall = progress(modules, paces)
    waits = any(job.state is JobState.DELAYED for job in jobs.values())
    if now != "complete" and (now != "in_progress" or waits):
        # nobody writes, or the next try is some time away: what is left cannot be known
        overall = Progress(overall.percent, overall.lessons_left, None)
    return Status(
        plan=found,
        status=now,
        minutes=sum(pace.minutes for pace in paces),
        progress=overall,
        modules=[
            ModuleProgress(module, jobs[module.job_id], progress([module], paces).percent)
            for module in modules
            if module.job_id is not None and module.job_id in jobs
        ],
        modules_generated=sum(module.state == "complete" for module in modules),
        total_modules=len(modules),
        lessons=len(paces),
        lessons_with_gaps=sum(pace.has_gaps for pace in paces),
        heartbeat_at=await _heartbeat(tx, list(jobs.values())),
        spent=await call_store.spent(tx, plan_id),
    )


async def calls(tx: Tx, plan_id: str, after: str, count: int) -> list[CallRow]:
    """Return what a plan asked of models, call by call. Raises ``NotFound``."""
    await row(tx, plan_id)
    return await call_store.calls(tx, plan_id, after, count)


async def newest(tx: Tx, before: tuple[int, str] | None, count: int) -> list[Summary]:
    """Return plans by (created_at, id), newest first, before such a pair."""
    rows = await store.newest(tx, before, count)
    states: dict[str, list[str]] = {each.id: [] for each in rows}
    for plan_id, state in await store.module_states(tx, list(states)):
        states[plan_id].append(state)
    return [
        Summary(
            each,
            plan_status(states[each.id]),
            states[each.id].count("complete"),
            len(states[each.id]),
        )
        for each in rows
    ]


async def _heartbeat(tx: Tx, jobs: Sequence[Job]) -> int | None:
    held_by = {job.worker for job in jobs if job.state is JobState.ACTIVE}
    if not held_by:
        return None
    signs = [each.heartbeat_at for each in await workers(tx) if each.id in held_by]
    return max(signs, default=None)
