"""Lesson plans: making, starting, stopping, reading and editing them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ValidationError

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs.api import FINISHED, Job, JobState, Registry, find, workers
from homeroom.jobs.api import cancel as cancel_job
from homeroom.lessonplans import store
from homeroom.lessonplans.call_store import CallRow, Limits, Spent, calls, spent
from homeroom.lessonplans.check import check_lesson, links
from homeroom.lessonplans.curriculum import Curriculum, dump, input_hash, parse
from homeroom.lessonplans.generator import Generator, RuleBased
from homeroom.lessonplans.jobs import (
    CANCELLED,
    QUEUE,
    TOPIC,
    GenerateModule,
    Generating,
    Patience,
    next_module,
    queue_module,
)
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.model.config import ModelConfig
from homeroom.lessonplans.plan import Lesson, Plan, document, lesson_document
from homeroom.lessonplans.skeleton import skeleton
from homeroom.lessonplans.status import PlanStatus, Progress, plan_status, progress
from homeroom.lessonplans.store import ModuleRow, PlanRow

__all__ = [
    "CANCELLED",
    "QUEUE",
    "TOPIC",
    "CallRow",
    "GenerateModule",
    "Generator",
    "LessonPlans",
    "Limits",
    "ModelConfig",
    "ModuleProgress",
    "Patience",
    "Plan",
    "PlanStatus",
    "RuleBased",
    "Spent",
    "Started",
    "Status",
    "Summary",
    "document",
    "lesson_document",
    "parse",
]

_FIRST_GUESS_MS = 30_000
"""How long a model's lesson is taken to need while none was ever written."""
MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Started:
    """What a start or a retry did."""

    plan_id: str
    jobs_queued: int
    modules_generated: int
    total_modules: int
    estimated_minutes: int


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
    curriculum: Curriculum
    status: PlanStatus
    progress: Progress
    modules: Sequence[ModuleProgress]
    modules_generated: int
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


class LessonPlans:
    """All lesson plans; built in ``wiring`` with the generator that its settings name."""

    def __init__(
        self, db: Database, generator: Generator, patience: Patience | None = None
    ) -> None:
        """Take who writes the lessons, and how patiently it is tried again."""
        self._db = db
        self.generator = generator
        self._patience = patience or Patience()
        self._registry: Registry | None = None

    def register(self, registry: Registry) -> None:
        """Say who runs the jobs."""
        generating = Generating(self._db, self.generator, self._patience)
        registry.add(GenerateModule, generating.run, generating.changed)
        self._registry = registry

    async def close(self) -> None:
        """Let go of the generator's connections."""
        await self.generator.close()

    async def create(self, tx: Tx, body: Any, actor: str) -> str:
        """Store a curriculum with the skeleton of its lessons, and return the plan's id.

        Raises ``Invalid`` with every fault of the curriculum.
        """
        curriculum = parse(body)
        plan = PlanRow(
            id=new_id(),
            title=curriculum.title,
            course_id=curriculum.course_id,
            curriculum=msgspec.json.encode(dump(curriculum)).decode(),
            input_hash=input_hash(curriculum),
            changes=0,
            created_at=tx.now,
            created_by=actor[:128],
        )
        await store.add_plan(tx, plan, len(curriculum.modules), skeleton(curriculum))
        await access.record(tx, actor, "plan.created", plan.id)
        tx.notify(TOPIC, plan.id)
        return plan.id

    async def start(self, plan_id: str, actor: str) -> Started:
        """Queue the next module that is not complete; nothing while one is queued or runs.

        Raises ``NotFound``.
        """
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            return await self._start(tx, plan_id, actor, "plan.started")

    async def retry(self, plan_id: str, actor: str) -> Started:
        """Go on with a plan that failed or was cancelled. Raises ``NotFound``, ``Conflict``."""
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            status = plan_status([row.state for row in await store.modules(tx, plan_id)])
            if status not in {"failed", "cancelled"}:
                raise Conflict(
                    f"Only a plan that failed or was cancelled can be retried; this is {status}.",
                    hint="To begin or to go on: POST /api/v3/workflow/{id}/step10",
                )
            return await self._start(tx, plan_id, actor, "plan.retried")

    async def cancel(self, plan_id: str, actor: str) -> int:
        """Cancel what is queued or runs; what is written stays. Returns how many jobs.

        A running job stops within a second. Raises ``NotFound``; ``Conflict`` where none is.
        """
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            queued = [row for row in await store.modules(tx, plan_id) if row.state == "queued"]
            if not queued:
                raise Conflict("Nothing of this plan is being generated.")
            jobs = await find(tx, [row.job_id for row in queued if row.job_id is not None])
            for job in jobs.values():
                if job.state not in FINISHED:
                    await cancel_job(tx, self._registry, job.id)
            await access.record(tx, actor, "plan.cancelled", plan_id)
            tx.notify(TOPIC, plan_id)
        return len(queued)

    async def regenerate_module(
        self, plan_id: str, module_id: str, actor: str, *, overwrite_edits: bool
    ) -> Started:
        """Write a module anew; lessons that a person has edited stay unless they may go.

        Raises ``NotFound``; ``Conflict`` while the plan is being generated.
        """
        async with self._db.write() as tx:
            curriculum = await self._idle(tx, plan_id)
            index = _module_index(curriculum, module_id)
            await store.new_round(tx, plan_id, index)
            if not overwrite_edits:
                await store.keep_lessons(tx, plan_id, index, edited_only=True)
            details = {"module": module_id, "overwriteEdits": overwrite_edits}
            await access.record(tx, actor, "plan.module_regenerated", plan_id, details)
            return await self._queue(tx, plan_id, index)

    async def regenerate_lesson(
        self, plan_id: str, lesson_id: str, actor: str, *, overwrite_edits: bool
    ) -> Started:
        """Write one lesson anew, and nothing else of its module.

        Raises ``NotFound``; ``Conflict`` while the plan is being generated, for a lesson that was
        not written yet, and for one that a person has edited unless that may go.
        """
        async with self._db.write() as tx:
            await self._idle(tx, plan_id)
            lesson = await self._lesson(tx, plan_id, lesson_id)
            if lesson.body is None:
                raise Conflict("This lesson is not written yet; start the plan instead.")
            if lesson.edited_at is not None and not overwrite_edits:
                raise Conflict(
                    "A person has edited this lesson.",
                    hint="Add overwriteEdits=true to have it written anew all the same.",
                )
            await store.new_round(tx, plan_id, lesson.module_idx)
            await store.keep_lessons(
                tx, plan_id, lesson.module_idx, edited_only=False, but=lesson_id
            )
            details = {"lesson": lesson_id, "overwriteEdits": overwrite_edits}
            await access.record(tx, actor, "plan.lesson_regenerated", plan_id, details)
            return await self._queue(tx, plan_id, lesson.module_idx)

    async def edit_lesson(
        self,
        plan_id: str,
        lesson_id: str,
        changes: Mapping[str, Any],
        actor: str,
        revision: int | None = None,
    ) -> tuple[Plan, Lesson]:
        """Change parts of a lesson; what is given replaces what was there.

        The lesson must still pass every check. Raises ``NotFound``; ``Invalid`` with every reason;
        ``Conflict`` for a lesson that is not written yet, or that has another ``revision``.
        """
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            lesson = await self._lesson(tx, plan_id, lesson_id)
            if lesson.body is None:
                raise Conflict("This lesson is not written yet, so there is nothing to edit.")
            if revision is not None and revision != lesson.revision:
                raise Conflict(
                    f"The lesson is at revision {lesson.revision} by now, not at {revision}.",
                    hint="Read it again, and make the change there.",
                )
            body = _edited(lesson.body, changes)
            findings = check_lesson(
                lesson.slot,
                body,
                titles=await store.titles(tx, plan_id, lesson.idx),
                # a person may link to where they like
                allowed_links=links(body.texts()),
            )
            if findings:
                raise Invalid(
                    f"The edited lesson would not hold: {findings[0].message}.",
                    details={
                        "errors": [{"detail": one.message, "code": one.code} for one in findings]
                    },
                )
            await store.save_edit(tx, lesson, body, actor[:128])
            await access.record(tx, actor, "plan.lesson_edited", plan_id, {"lesson": lesson_id})
            tx.notify(TOPIC, plan_id)
            plan = await self.plan(tx, plan_id)
        return plan, next(each for each in plan.lessons if each.slot.id == lesson_id)

    # Reading

    async def plan(self, tx: Tx, plan_id: str) -> Plan:
        """Return a plan with its lessons. Raises ``NotFound``."""
        row = await self._row(tx, plan_id)
        modules = await store.modules(tx, plan_id)
        return Plan(
            id=row.id,
            curriculum=parse(msgspec.json.decode(row.curriculum)),
            status=plan_status([module.state for module in modules]),
            input_hash=row.input_hash,
            created_at=row.created_at,
            created_by=row.created_by,
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

    async def status(self, tx: Tx, plan_id: str) -> Status:
        """Return how far a plan is. Raises ``NotFound``."""
        row = await self._row(tx, plan_id)
        modules = await store.modules(tx, plan_id)
        paces = await store.paces(tx, plan_id)
        jobs = await find(tx, [module.job_id for module in modules if module.job_id is not None])
        status = plan_status([module.state for module in modules])
        overall = progress(modules, paces)
        waits = any(job.state is JobState.DELAYED for job in jobs.values())
        if status != "complete" and (status != "in_progress" or waits):
            # nobody writes, or the next try is some time away: what is left cannot be known
            overall = Progress(overall.percent, overall.lessons_left, None)
        return Status(
            plan=row,
            curriculum=parse(msgspec.json.decode(row.curriculum)),
            status=status,
            progress=overall,
            modules=[
                ModuleProgress(module, jobs[module.job_id], progress([module], paces).percent)
                for module in modules
                if module.job_id is not None and module.job_id in jobs
            ],
            modules_generated=sum(module.state == "complete" for module in modules),
            lessons=len(paces),
            lessons_with_gaps=sum(pace.has_gaps for pace in paces),
            heartbeat_at=await _heartbeat(tx, list(jobs.values())),
            spent=await spent(tx, plan_id),
        )

    async def calls(self, tx: Tx, plan_id: str, after: str, count: int) -> list[CallRow]:
        """Return what a plan asked of models, call by call. Raises ``NotFound``."""
        await self._row(tx, plan_id)
        return await calls(tx, plan_id, after, count)

    async def newest(self, tx: Tx, before: tuple[int, str] | None, count: int) -> list[Summary]:
        """Return plans by (created_at, id), newest first, before such a pair."""
        rows = await store.newest(tx, before, count)
        states: dict[str, list[str]] = {row.id: [] for row in rows}
        for plan_id, state in await store.module_states(tx, list(states)):
            states[plan_id].append(state)
        return [
            Summary(
                row,
                plan_status(states[row.id]),
                states[row.id].count("complete"),
                len(states[row.id]),
            )
            for row in rows
        ]

    # What several of these need

    async def _row(self, tx: Tx, plan_id: str) -> PlanRow:
        row = await store.plan(tx, plan_id)
        if row is None:
            raise NotFound(f"There is no lesson plan {plan_id!r}.")
        return row

    async def _lock(self, tx: Tx, plan_id: str) -> None:
        if not await store.lock(tx, plan_id):
            raise NotFound(f"There is no lesson plan {plan_id!r}.")

    async def _curriculum(self, tx: Tx, plan_id: str) -> Curriculum:
        return parse(msgspec.json.decode((await self._row(tx, plan_id)).curriculum))

    async def _lesson(self, tx: Tx, plan_id: str, lesson_id: str) -> store.LessonRow:
        lesson = await store.lesson(tx, plan_id, lesson_id)
        if lesson is None:
            raise NotFound(f"The plan has no lesson {lesson_id!r}.")
        return lesson

    async def _idle(self, tx: Tx, plan_id: str) -> Curriculum:
        """Lock a plan of which nothing is queued or runs; raise ``Conflict`` for another."""
        await self._lock(tx, plan_id)
        if any(row.state == "queued" for row in await store.modules(tx, plan_id)):
            raise Conflict(
                "The plan is being generated; cancel that or wait for its end.",
                hint="POST /api/v3/workflow/{id}/step10/cancel",
            )
        return await self._curriculum(tx, plan_id)

    async def _start(self, tx: Tx, plan_id: str, actor: str, action: str) -> Started:
        module = await next_module(tx, plan_id)
        if module is not None:
            await queue_module(tx, plan_id, module, self._patience, chain=True)
            await access.record(tx, actor, action, plan_id)
        return await self._started(tx, plan_id, 0 if module is None else 1)

    async def _queue(self, tx: Tx, plan_id: str, index: int) -> Started:
        module = await store.module(tx, plan_id, index)
        assert module is not None  # read in this transaction
        await queue_module(tx, plan_id, module, self._patience, chain=False)
        return await self._started(tx, plan_id, 1)

    async def _started(self, tx: Tx, plan_id: str, queued: int) -> Started:
        modules = await store.modules(tx, plan_id)
        left = progress(modules, await store.paces(tx, plan_id)).lessons_left
        each_ms = await store.mean_ms(tx, self.generator.name)
        if each_ms is None:
            each_ms = _FIRST_GUESS_MS if self.generator.is_model else 10
        return Started(
            plan_id,
            queued,
            sum(module.state == "complete" for module in modules),
            len(modules),
            math.ceil(left * each_ms / 60_000),
        )


def _module_index(curriculum: Curriculum, module_id: str) -> int:
    for index, module in enumerate(curriculum.modules):
        if module.id == module_id:
            return index
    raise NotFound(f"The plan has no module {module_id!r}.")


def _edited(body: LessonBody, changes: Mapping[str, Any]) -> LessonBody:
    try:
        return LessonBody.model_validate({**body.model_dump(by_alias=True), **changes})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise Invalid(
            details={
                "errors": [
                    {
                        "pointer": "#" + "".join(f"/{part}" for part in fault["loc"]),
                        "detail": fault["msg"].removeprefix("Value error, "),
                        "code": fault["type"],
                    }
                    for fault in faults[:MAX_SHOWN]
                ]
            }
        ) from None


async def _heartbeat(tx: Tx, jobs: Sequence[Job]) -> int | None:
    held_by = {job.worker for job in jobs if job.state is JobState.ACTIVE}
    if not held_by:
        return None
    signs = [row.heartbeat_at for row in await workers(tx) if row.id in held_by]
    return max(signs, default=None)
