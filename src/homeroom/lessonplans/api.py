"""Public interface of lesson plans: create, generate, cancel, regenerate, edit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs.api import FINISHED, Registry, find
from homeroom.jobs.api import cancel as cancel_job
from homeroom.lessonplans import lesson_store, plan_queries, regeneration, store
from homeroom.lessonplans.curriculum import (
    MAX_LESSONS,
    Curriculum,
    dump_curriculum,
    input_hash,
)
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.generator import LessonGenerator, RuleBasedGenerator
from homeroom.lessonplans.jobs import (
    GenerateModule,
    GenerateModuleHandler,
    LessonRetryPolicy,
    enqueue_module,
    next_incomplete_module,
)
from homeroom.lessonplans.lesson import check_lesson, find_links
from homeroom.lessonplans.lesson_allocation import allocate_lessons
from homeroom.lessonplans.lesson_content import check_quizzes
from homeroom.lessonplans.lesson_edit import apply_changes
from homeroom.lessonplans.lesson_parts import parts_named
from homeroom.lessonplans.model.config import ModelConfig, ModelLimits
from homeroom.lessonplans.plan import LessonPlan, PlannedLesson, plan_progress, plan_status
from homeroom.lessonplans.store import PERSONAL, TOPIC, PlanRow
from homeroom.lessonplans.text_language import other_language
from homeroom.lessonplans.wording import known_language

__all__ = [
    "PERSONAL",
    "TOPIC",
    "GenerateModule",
    "GenerationStart",
    "LessonGenerator",
    "LessonPlans",
    "LessonRetryPolicy",
    "ModelConfig",
    "ModelLimits",
    "RuleBasedGenerator",
    "parse_curriculum",
]

_DEFAULT_MODEL_LESSON_MS = 30_000
"""Assumed duration of a model's lesson before any was generated."""
_DEFAULT_RULES_LESSON_MS = 10


@dataclass(frozen=True, slots=True)
class GenerationStart:
    """The result of a start, a retry or a regeneration."""

    plan_id: str
    jobs_queued: int
    modules_generated: int
    total_modules: int
    estimated_minutes: int
    is_whole_plan: bool = True
    """False: only one module, or one lesson of it, is generated again."""


class LessonPlans:
    """All lesson plans; built in ``bootstrap`` with the generator of the settings."""

    def __init__(
        self,
        db: Database,
        generator: LessonGenerator,
        retry_policy: LessonRetryPolicy | None = None,
    ) -> None:
        """Use a generator and a policy for its failures."""
        self._db = db
        self.generator = generator
        self._retry_policy = retry_policy or LessonRetryPolicy()
        self._registry: Registry | None = None

    def register(self, registry: Registry) -> None:
        """Register the handler of the module jobs."""
        handler = GenerateModuleHandler(self._db, self.generator, self._retry_policy)
        registry.add(
            GenerateModule, handler.run, handler.job_changed, is_outstanding=handler.is_outstanding
        )
        self._registry = registry

    async def close(self) -> None:
        """Close the generator's connections."""
        await self.generator.close()

    async def create(self, tx: Tx, body: Any, actor: str) -> str:
        """Store a curriculum and allocate its lessons; return the plan's id.

        Raises ``Invalid`` with every fault of the curriculum, and for a language that the rules do
        not know, or that its texts are in and it does not say, unless it names one for the wording.
        """
        curriculum = parse_curriculum(body)
        _check_language(curriculum)
        slots = allocate_lessons(curriculum)
        if len(slots) > MAX_LESSONS:
            raise _too_many_lessons(curriculum, len(slots))
        plan = PlanRow(
            id=new_id(),
            title=curriculum.title,
            course_id=curriculum.course_id,
            curriculum=msgspec.json.encode(dump_curriculum(curriculum)).decode(),
            input_hash=input_hash(curriculum),
            changes=0,
            created_at=tx.now,
            created_by=actor[:128],
        )
        await store.add_plan(tx, plan, len(curriculum.modules), slots)
        await access.record_audit(tx, actor, "plan.created", plan.id)
        tx.notify(TOPIC, plan.id)
        return plan.id

    async def start(self, plan_id: str, actor: str) -> GenerationStart:
        """Enqueue the next incomplete module, unless one is queued already.

        Raises ``NotFound``.
        """
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            return await self._start(tx, plan_id, actor, "plan.started")

    async def retry(self, plan_id: str, actor: str) -> GenerationStart:
        """Continue a failed or cancelled plan. Raises ``NotFound``, ``Conflict``."""
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            status = plan_status([row.state for row in await store.list_modules(tx, plan_id)])
            if status not in {"failed", "cancelled"}:
                raise Conflict(
                    "Only a failed or cancelled plan can be retried; the status of this plan is"
                    f" {status}.",
                    hint="To start or continue it: POST /api/v3/workflow/{id}/step10",
                )
            return await self._start(tx, plan_id, actor, "plan.retried")

    async def cancel(self, plan_id: str, actor: str) -> int:
        """Cancel the plan's queued and active jobs and return their number.

        An active job stops within a second, and generated lessons stay. Raises ``NotFound``, and
        ``Conflict`` if there is no such job.
        """
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            queued = [row for row in await store.list_modules(tx, plan_id) if row.state == "queued"]
            if not queued:
                raise Conflict(
                    "The plan has no queued or active job to cancel.",
                    hint="Its status: GET /api/v3/workflow/{id}/step10/status",
                )
            jobs = await find(tx, [row.job_id for row in queued if row.job_id is not None])
            for job in jobs.values():
                if job.state not in FINISHED:
                    await cancel_job(tx, self._registry, job.id)
            await access.record_audit(tx, actor, "plan.cancelled", plan_id)
            tx.notify(TOPIC, plan_id)
        return len(queued)

    async def delete(self, plan_id: str, actor: str) -> None:
        """Delete a plan with its lessons; the records of its model calls stay.

        Raises ``NotFound``, and ``Conflict`` while the plan is being generated.
        """
        async with self._db.write() as tx:
            await self._lock_idle(tx, plan_id)
            modules = await store.list_modules(tx, plan_id)
            jobs = await find(tx, [row.job_id for row in modules if row.job_id is not None])
            if any(job.state not in FINISHED for job in jobs.values()):
                raise Conflict("A job of the plan is still running; try again in a second.")
            await store.delete_plan(tx, plan_id)
            await access.record_audit(tx, actor, "plan.deleted", plan_id)
            tx.notify(TOPIC, plan_id)

    async def regenerate_module(
        self,
        plan_id: str,
        module_id: str,
        actor: str,
        *,
        overwrite_edits: bool,
        fill: bool = False,
    ) -> GenerationStart:
        """Regenerate a module, or fill what is empty in it.

        Lessons that a person has edited stay, unless ``overwrite_edits`` is true. Raises
        ``NotFound``, and ``Conflict`` while the plan is being generated and for ``fill`` without a
        language model.
        """
        self._require_model(fill=fill)
        async with self._db.write() as tx:
            curriculum = await self._lock_idle(tx, plan_id)
            index = _find_module_index(curriculum, module_id)
            details: dict[str, Any] = {"module": module_id, "overwriteEdits": overwrite_edits}
            if fill:
                details["fill"] = True
                await access.record_audit(tx, actor, "plan.module_regenerated", plan_id, details)
                lessons = await store.list_lessons(tx, plan_id)
                if not await regeneration.start_fill(tx, plan_id, index, lessons):
                    return await self._generation_start(tx, plan_id, 0)
                return await self._enqueue(tx, plan_id, index)
            await store.start_module_round(tx, plan_id, index)
            if not overwrite_edits:
                await store.carry_lessons_over(tx, plan_id, index, edited_only=True)
            await access.record_audit(tx, actor, "plan.module_regenerated", plan_id, details)
            return await self._enqueue(tx, plan_id, index)

    async def fill(self, plan_id: str, actor: str) -> GenerationStart:
        """Have a language model fill what is empty in a plan, module after module.

        Everything else stays, edits included. Raises ``NotFound``, and ``Conflict`` while the plan
        is being generated and without a language model.
        """
        self._require_model(fill=True)
        async with self._db.write() as tx:
            curriculum = await self._lock_idle(tx, plan_id)
            lessons = await store.list_lessons(tx, plan_id)
            for index in range(len(curriculum.modules)):
                await regeneration.start_fill(tx, plan_id, index, lessons)
            return await self._start(tx, plan_id, actor, "plan.filled")

    async def regenerate_lesson(
        self,
        plan_id: str,
        lesson_id: str,
        actor: str,
        *,
        overwrite_edits: bool,
        sections: Sequence[str] = (),
        fill: bool = False,
    ) -> GenerationStart:
        """Regenerate one lesson, or sections of it, and no other of its module.

        ``sections`` are names of sections and parts; none: the whole lesson. Of sections, the parts
        that a person has edited stay, unless ``overwrite_edits`` is true. ``fill`` writes only what
        is empty.

        Raises ``NotFound``, ``Invalid`` for an unknown section, and ``Conflict`` while the plan is
        being generated, for a lesson that is not generated yet, for edits without
        ``overwrite_edits`` that leave nothing to write, and for ``fill`` without a language model.
        """
        self._require_model(fill=fill)
        parts = parts_named(sections)
        async with self._db.write() as tx:
            await self._lock_idle(tx, plan_id)
            lesson = await self._find_lesson(tx, plan_id, lesson_id)
            request = regeneration.lesson_request(
                lesson, parts, fill=fill, overwrite_edits=overwrite_edits
            )
            details: dict[str, Any] = {"lesson": lesson_id, "overwriteEdits": overwrite_edits}
            if request is not None:
                details |= {"parts": list(request.parts), "fill": request.fill}
            await access.record_audit(tx, actor, "plan.lesson_regenerated", plan_id, details)
            if request is not None and not regeneration.writes_anything(lesson, request):
                return await self._generation_start(tx, plan_id, 0)
            await store.start_module_round(tx, plan_id, lesson.module_idx)
            await store.carry_lessons_over(
                tx, plan_id, lesson.module_idx, edited_only=False, excluded_id=lesson_id
            )
            if request is not None:
                await lesson_store.request_parts(tx, plan_id, lesson.idx, request)
            return await self._enqueue(tx, plan_id, lesson.module_idx)

    async def edit_lesson(
        self,
        plan_id: str,
        lesson_id: str,
        changes: Mapping[str, Any],
        actor: str,
        revision: int | None = None,
    ) -> tuple[LessonPlan, PlannedLesson]:
        """Replace parts of a lesson with the given values.

        The lesson must still pass every check. Raises ``NotFound``, ``Invalid`` with every failed
        check, and ``Conflict`` for a lesson that is not generated yet or has another ``revision``.
        """
        async with self._db.write() as tx:
            await self._lock(tx, plan_id)
            lesson = await self._find_lesson(tx, plan_id, lesson_id)
            current = lesson.body
            if current is None:
                raise Conflict(
                    "The lesson is not generated yet and cannot be edited.",
                    hint="Start the plan: POST /api/v3/workflow/{id}/step10",
                )
            if revision is not None and revision != lesson.revision:
                raise Conflict(
                    f"The lesson has revision {lesson.revision}; the edit is based on {revision}.",
                    hint="Read the lesson again and apply the edit to that revision.",
                )
            body = apply_changes(current, changes)
            findings = check_lesson(
                lesson.slot,
                body,
                titles=await store.list_other_titles(tx, plan_id, lesson.idx),
                allowed_links=find_links(body.texts()),  # a person may add any link
            )
            findings += check_quizzes(lesson.slot, body)
            if findings:
                raise Invalid(
                    f"The edited lesson fails a check: {findings[0].message}.",
                    details={
                        "errors": [
                            {"detail": finding.message, "code": finding.code}
                            for finding in findings
                        ]
                    },
                )
            await lesson_store.save_edit(tx, lesson, current, body, actor[:128])
            await access.record_audit(
                tx, actor, "plan.lesson_edited", plan_id, {"lesson": lesson_id}
            )
            tx.notify(TOPIC, plan_id)
            plan = await plan_queries.load_plan(tx, plan_id)
        return plan, next(each for each in plan.lessons if each.slot.id == lesson_id)

    def _require_model(self, *, fill: bool) -> None:
        if fill and not self.generator.is_model:
            raise Conflict(
                "Only a language model can fill what is empty; the rules wrote what they can.",
                hint="Set HOMEROOM_LLM_MODEL, and restart the server and its workers.",
            )

    async def _lock(self, tx: Tx, plan_id: str) -> None:
        if not await store.lock_plan(tx, plan_id):
            raise NotFound(f"There is no lesson plan {plan_id!r}.")

    async def _curriculum(self, tx: Tx, plan_id: str) -> Curriculum:
        return parse_curriculum(
            msgspec.json.decode((await plan_queries.load_plan_row(tx, plan_id)).curriculum)
        )

    async def _find_lesson(self, tx: Tx, plan_id: str, lesson_id: str) -> store.LessonRow:
        lesson = await store.find_lesson(tx, plan_id, lesson_id)
        if lesson is None:
            raise NotFound(f"The plan has no lesson {lesson_id!r}.")
        return lesson

    async def _lock_idle(self, tx: Tx, plan_id: str) -> Curriculum:
        """Lock a plan; raise ``Conflict`` if it has a queued or active job."""
        await self._lock(tx, plan_id)
        if any(row.state == "queued" for row in await store.list_modules(tx, plan_id)):
            raise Conflict(
                "The plan is being generated.",
                hint="Wait until it is complete, or: POST /api/v3/workflow/{id}/step10/cancel",
            )
        return await self._curriculum(tx, plan_id)

    async def _start(self, tx: Tx, plan_id: str, actor: str, action: str) -> GenerationStart:
        module = await next_incomplete_module(tx, plan_id)
        if module is not None:
            await enqueue_module(tx, plan_id, module, self._retry_policy, chain=True)
            await access.record_audit(tx, actor, action, plan_id)
        return await self._generation_start(tx, plan_id, 0 if module is None else 1)

    async def _enqueue(self, tx: Tx, plan_id: str, index: int) -> GenerationStart:
        module = await store.find_module(tx, plan_id, index)
        assert module is not None  # read in this transaction
        await enqueue_module(tx, plan_id, module, self._retry_policy, chain=False)
        start = await self._generation_start(tx, plan_id, 1)
        return replace(start, is_whole_plan=False)

    async def _generation_start(self, tx: Tx, plan_id: str, jobs_queued: int) -> GenerationStart:
        modules = await store.list_modules(tx, plan_id)
        progress = plan_progress(
            {module.idx: module.round for module in modules},
            await store.list_lesson_progress(tx, plan_id),
        )
        lesson_ms = await store.mean_lesson_ms(tx, self.generator.name)
        if lesson_ms is None:
            is_model = self.generator.is_model
            lesson_ms = _DEFAULT_MODEL_LESSON_MS if is_model else _DEFAULT_RULES_LESSON_MS
        return GenerationStart(
            plan_id=plan_id,
            jobs_queued=jobs_queued,
            modules_generated=sum(module.state == "complete" for module in modules),
            total_modules=len(modules),
            estimated_minutes=math.ceil(progress.lessons_left * lesson_ms / 60_000),
        )


def _find_module_index(curriculum: Curriculum, module_id: str) -> int:
    for index, module in enumerate(curriculum.modules):
        if module.id == module_id:
            return index
    raise NotFound(f"The plan has no module {module_id!r}.")


def _check_language(curriculum: Curriculum) -> None:
    """Raise ``Invalid`` for a language that outcomes cannot be read in.

    A curriculum that names a language for the wording asks to go on all the same.
    """
    if curriculum.preferences.wording is not None:
        return
    choice = (
        "the rules know English and German. Set preferences.wording to 'en' or 'de' to go on, with"
        " their wording in that language around your texts"
    )
    if known_language(curriculum) is None:
        detail = f"is {curriculum.locale!r}; {choice}"
    elif "locale" not in curriculum.model_fields_set:
        texts = [outcome.text for module in curriculum.modules for outcome in module.outcomes]
        language = other_language([curriculum.title, *texts])
        if language is None:
            return
        detail = f"is not given, and the texts look like {language}. Set locale; {choice}"
    else:
        return
    raise Invalid(
        f"The language of the curriculum {detail}.",
        details={"errors": [{"pointer": "#/locale", "detail": detail, "code": "unknown_language"}]},
    )


def _too_many_lessons(curriculum: Curriculum, count: int) -> Invalid:
    length = curriculum.preferences.lesson_minutes
    detail = f"makes {count} lessons of {length} minutes; a plan has at most {MAX_LESSONS}"
    return Invalid(
        f"The lesson length {detail}.",
        details={
            "errors": [
                {"pointer": "#/preferences/lessonMinutes", "detail": detail, "code": "invalid"}
            ]
        },
    )
