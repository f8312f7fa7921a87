"""The job that generates one module, lesson by lesson.

The commit that completes a module enqueues the job of the next one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import msgspec
import structlog

from homeroom.db.database import Database
from homeroom.db.ids import natural_id
from homeroom.db.tx import Tx
from homeroom.instant import to_rfc3339
from homeroom.jobs.api import (
    Backoff,
    Done,
    Fail,
    Job,
    JobArgs,
    JobContext,
    JobState,
    Outcome,
    Retry,
    Snooze,
    enqueue,
)
from homeroom.lessonplans import lesson_store, store
from homeroom.lessonplans.curriculum import Curriculum
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.generator import (
    GeneratorError,
    LessonGenerator,
    LessonResult,
    ProviderThrottled,
)
from homeroom.lessonplans.lesson_task import (
    generator_label,
    kept_gaps,
    lesson_task,
    part_authors,
)
from homeroom.lessonplans.plan import plan_progress
from homeroom.lessonplans.store import TOPIC, LessonRow, ModuleRow, PlanRow

log = structlog.get_logger(__name__)
QUEUE = "lessonplans"
CANCELLED = "cancelled"
"""The failure reason that the job kernel gives to a cancelled job."""
_PROGRESS_INTERVAL_SECONDS = 1.0
"""Minimum interval between progress reports of a job; the plan's own rows are always current."""
MAX_RUN_TIME = timedelta(minutes=15)
"""Run time after which the job is snoozed, so that its timeout is independent of module size."""


class GenerateModule(JobArgs, frozen=True, kw_only=True):
    """Generate a module's outstanding lessons; ``chain`` continues with the next."""

    kind: ClassVar[str] = "lessonplans.generate_module"
    queue: ClassVar[str] = QUEUE
    timeout: ClassVar[timedelta] = timedelta(minutes=30)
    backoff: ClassVar[Backoff] = Backoff(base=timedelta(minutes=1), cap=timedelta(minutes=30))

    plan_id: str
    module_index: int
    chain: bool = True

    def log_fields(self) -> dict[str, str | int]:
        """Return the plan and the index of its module."""
        return {"plan_id": self.plan_id, "module_index": self.module_index}


@dataclass(frozen=True, slots=True)
class LessonRetryPolicy:
    """Retries and backoff of a module whose generator fails."""

    retries: int = 3
    backoff: Backoff = GenerateModule.backoff


async def enqueue_module(
    tx: Tx, plan_id: str, module: ModuleRow, retry_policy: LessonRetryPolicy, *, chain: bool
) -> str:
    """Enqueue a module's job in the caller's transaction and return the job id."""
    number = str(module.queued + 1)
    job_id = natural_id("step10", plan_id, f"module-{module.idx}", number)
    await enqueue(
        tx,
        GenerateModule(plan_id=plan_id, module_index=module.idx, chain=chain),
        id=job_id,
        max_retries=retry_policy.retries,
    )
    await store.mark_module_queued(tx, plan_id, module.idx, job_id)
    tx.notify(TOPIC, plan_id)
    return job_id


async def next_incomplete_module(tx: Tx, plan_id: str) -> ModuleRow | None:
    """Return the first incomplete module; None while any module is queued."""
    modules = await store.list_modules(tx, plan_id)
    if any(module.state == "queued" for module in modules):
        return None
    return next((module for module in modules if module.state != "complete"), None)


@dataclass(frozen=True, slots=True)
class _ModuleWork:
    """The plan, module and outstanding lesson as last read from the database."""

    plan: PlanRow
    module: ModuleRow
    lesson: LessonRow | None
    titles: list[str]


@dataclass(frozen=True, slots=True)
class GenerateModuleHandler:
    """Handler of ``GenerateModule``."""

    db: Database
    generator: LessonGenerator
    retry_policy: LessonRetryPolicy

    async def run(self, ctx: JobContext, args: GenerateModule) -> Outcome:
        """Generate the module's outstanding lessons, each in its own commit."""
        started = reported = time.monotonic()
        lessons_written = 0
        curriculum: Curriculum | None = None
        while True:
            work = await self._load_work(args)
            if work is None:
                return Fail(f"The plan {args.plan_id} has no module {args.module_index}.")
            if work.module.job_id != ctx.job.id:
                return Done({"superseded": True})
            if work.lesson is None:
                return await self._complete_module(ctx, args, lessons_written)
            if time.monotonic() - started > MAX_RUN_TIME.total_seconds():
                return Snooze(timedelta(), "the run reached its time limit; the next run continues")
            if curriculum is None:
                curriculum = parse_curriculum(msgspec.json.decode(work.plan.curriculum))
            try:
                await self._write_lesson(ctx, curriculum, work, work.lesson)
            except GeneratorError as error:
                return self._failure_outcome(ctx, error, lessons_written)
            lessons_written += 1
            if time.monotonic() - reported > _PROGRESS_INTERVAL_SECONDS:
                reported = time.monotonic()
                await self._report_progress(ctx, work.module)

    async def job_changed(self, tx: Tx, job: Job, args: GenerateModule) -> None:
        """Copy the state of a job to its module where the handler itself did not."""
        if job.state is JobState.FAILED:
            if job.last_error == CANCELLED:
                await store.set_module_state(tx, job.id, args.plan_id, "cancelled", None)
            else:
                await store.set_module_state(tx, job.id, args.plan_id, "failed", job.last_error)
        elif job.state is not JobState.COMPLETED:
            await store.set_module_state(tx, job.id, args.plan_id, "queued", None)
        tx.notify(TOPIC, args.plan_id)

    async def is_outstanding(self, tx: Tx, job: Job, args: GenerateModule) -> bool:
        """Return whether the module has failed with this job, and no other generates it."""
        module = await store.find_module(tx, args.plan_id, args.module_index)
        return module is not None and module.job_id == job.id and module.state == "failed"

    async def _load_work(self, args: GenerateModule) -> _ModuleWork | None:
        async with self.db.read() as tx:
            plan = await store.find_plan(tx, args.plan_id)
            module = await store.find_module(tx, args.plan_id, args.module_index)
            if plan is None or module is None:
                return None
            lesson = await store.next_outstanding_lesson(
                tx, args.plan_id, args.module_index, module.round
            )
            titles = (
                []
                if lesson is None
                else await store.list_other_titles(tx, args.plan_id, lesson.idx)
            )
        return _ModuleWork(plan, module, lesson, titles)

    async def _write_lesson(
        self, ctx: JobContext, curriculum: Curriculum, work: _ModuleWork, lesson: LessonRow
    ) -> None:
        """Generate a lesson with no transaction open, then store it."""
        started = time.monotonic()
        task = lesson_task(lesson, ctx.job.id, curriculum, titles=work.titles, plan_id=work.plan.id)
        result = await self.generator.write(task)
        took_ms = round((time.monotonic() - started) * 1_000)
        written_by = part_authors(lesson, task, result)
        async with self.db.write() as tx:
            saved = await lesson_store.save_lesson(
                tx,
                lesson,
                work.module.round,
                result.body,
                gaps=(*kept_gaps(lesson, task), *result.gaps),
                generator=generator_label(result, written_by),
                provenance=self._provenance(tx, work.plan, result, written_by),
                took_ms=took_ms,
                edited_parts=set(lesson.edited_parts) - set(task.parts),
            )
            outcome = "incomplete" if result.gaps else "written"
            tx.count("plan_lessons", result.generator, outcome if saved else "discarded")
            tx.notify(TOPIC, work.plan.id)
        if not saved:
            log.info(
                "lesson_result_discarded",
                job_id=ctx.job.id,
                plan_id=work.plan.id,
                lesson_id=lesson.id,
            )

    async def _report_progress(self, ctx: JobContext, module: ModuleRow) -> None:
        """Store the module's percentage as the job's progress."""
        async with self.db.read() as tx:
            lessons = await store.list_lesson_progress(tx, module.plan_id)
        await ctx.progress(plan_progress({module.idx: module.round}, lessons).percent)

    def _provenance(
        self, tx: Tx, plan: PlanRow, result: LessonResult, written_by: Mapping[str, str]
    ) -> dict[str, object]:
        label = generator_label(result, written_by)
        return {
            "generator": label,
            **result.provenance,
            **({"parts": written_by} if len(set(written_by.values())) > 1 else {}),
            "inputHash": plan.input_hash,
            "generatedAt": to_rfc3339(tx.now),
        }

    def _failure_outcome(
        self, ctx: JobContext, error: GeneratorError, lessons_written: int
    ) -> Outcome:
        """Return the outcome of a run whose generator failed.

        A run that generated a lesson spends no attempt: otherwise unrelated failures would use up
        the attempts of a long module.
        """
        if not error.is_retryable:
            return Fail(error.message if error.hint is None else f"{error.message} {error.hint}")
        if isinstance(error, ProviderThrottled):
            return Snooze(error.retry_after or timedelta(), error.message)
        attempt = 1 if lessons_written else max(ctx.job.attempts, 1)
        delay = error.retry_after or self.retry_policy.backoff.delay(attempt, random.Random())
        if lessons_written:
            return Snooze(delay, error.message)
        return Retry(error.message, delay)

    async def _complete_module(
        self, ctx: JobContext, args: GenerateModule, lessons_written: int
    ) -> Outcome:
        """Complete the module and enqueue the next one in one commit."""
        outcome = Done({"lessonsWritten": lessons_written})
        async with self.db.write() as tx:
            await store.lock_plan(tx, args.plan_id)
            module = await store.find_module(tx, args.plan_id, args.module_index)
            if module is None or module.job_id != ctx.job.id:
                return Done({"superseded": True})
            if (
                await store.next_outstanding_lesson(
                    tx, args.plan_id, args.module_index, module.round
                )
                is not None
            ):
                return Snooze(timedelta(), "lessons became outstanding during the run")
            await store.set_module_state(tx, ctx.job.id, args.plan_id, "complete", None)
            if args.chain:
                following = await next_incomplete_module(tx, args.plan_id)
                if following is not None:
                    await enqueue_module(tx, args.plan_id, following, self.retry_policy, chain=True)
            tx.notify(TOPIC, args.plan_id)
            await ctx.settle(tx, outcome)
        return outcome
