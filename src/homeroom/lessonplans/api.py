"""Lesson plans: making, starting, stopping, reading and editing them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ValidationError

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs.api import FINISHED, Registry, find
from homeroom.jobs.api import cancel as cancel_job
from homeroom.lessonplans import read, store
from homeroom.lessonplans.check import check_lesson, links
from homeroom.lessonplans.curriculum import Curriculum, dump, input_hash, parse
from homeroom.lessonplans.generator import Generator, RuleBased
from homeroom.lessonplans.jobs import (
    GenerateModule,
    Generating,
    Patience,
    next_module,
    queue_module,
)
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.model.config import Limits, ModelConfig
from homeroom.lessonplans.personal import PERSONAL
from homeroom.lessonplans.plan import Lesson, Plan
from homeroom.lessonplans.skeleton import skeleton
from homeroom.lessonplans.status import plan_status, progress
from homeroom.lessonplans.store import TOPIC, PlanRow

__all__ = [
    "PERSONAL",
    "TOPIC",
    "GenerateModule",
    "Generator",
    "LessonPlans",
    "Limits",
    "ModelConfig",
    "Patience",
    "RuleBased",
    "Started",
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
            plan = await read.plan(tx, plan_id)
        return plan, next(each for each in plan.lessons if each.slot.id == lesson_id)

    # What several of these need

    async def _lock(self, tx: Tx, plan_id: str) -> None:
        if not await store.lock(tx, plan_id):
            raise NotFound(f"There is no lesson plan {plan_id!r}.")

    async def _curriculum(self, tx: Tx, plan_id: str) -> Curriculum:
        return parse(msgspec.json.decode((await read.row(tx, plan_id)).curriculum))

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
