"""The job that writes one module, lesson by lesson, and queues the next module when it is done."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import msgspec
import structlog

from homeroom.clock import to_rfc3339
from homeroom.db.database import Database
from homeroom.db.id import natural_id
from homeroom.db.tx import Tx
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
from homeroom.lessonplans import store
from homeroom.lessonplans.check import links_of
from homeroom.lessonplans.curriculum import Curriculum, parse
from homeroom.lessonplans.generator import Generator, GeneratorError, NotYet, Task, Written
from homeroom.lessonplans.status import progress
from homeroom.lessonplans.store import TOPIC, LessonRow, ModuleRow, PlanRow

log = structlog.get_logger(__name__)
QUEUE = "lessonplans"
CANCELLED = "cancelled"
"""The kernel's reason of a job that somebody cancelled."""
_TELL_SECONDS = 1.0
"""How often the job says how far it is; what is stored of the plan is always up to date."""
LONGEST_RUN = timedelta(minutes=15)
"""After so long a run hands its job back to the queue: no job's time-out depends on its size."""


class GenerateModule(JobArgs, frozen=True, kw_only=True):
    """Write what is due of a module; with ``chain`` the next module follows."""

    kind: ClassVar[str] = "lessonplans.generate_module"
    queue: ClassVar[str] = QUEUE
    timeout: ClassVar[timedelta] = timedelta(minutes=30)
    backoff: ClassVar[Backoff] = Backoff(base=timedelta(minutes=1), cap=timedelta(minutes=30))

    plan_id: str
    module_index: int
    chain: bool = True


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how patiently a module is tried again where its generator fails."""

    retries: int = 3
    backoff: Backoff = GenerateModule.backoff


async def queue_module(
    tx: Tx, plan_id: str, module: ModuleRow, patience: Patience, *, chain: bool
) -> str:
    """Add the job of a module in the transaction of its cause, and return its id."""
    number = str(module.queued + 1)
    job_id = natural_id("step10", plan_id, f"module-{module.idx}", number)
    await enqueue(
        tx,
        GenerateModule(plan_id=plan_id, module_index=module.idx, chain=chain),
        id=job_id,
        max_retries=patience.retries,
    )
    await store.set_queued(tx, plan_id, module.idx, job_id)
    tx.notify(TOPIC, plan_id)
    return job_id


@dataclass(frozen=True, slots=True)
class _Work:
    """What a run knows from its last look at the database."""

    plan: PlanRow
    module: ModuleRow
    lesson: LessonRow | None
    titles: list[str]


@dataclass(frozen=True, slots=True)
class Generating:
    """What runs ``GenerateModule``."""

    db: Database
    generator: Generator
    patience: Patience

    async def run(self, ctx: JobContext, args: GenerateModule) -> Outcome:
        """Write lesson after lesson, each a commit of its own, until none of the module is due."""
        started = told = time.monotonic()
        wrote = 0
        curriculum: Curriculum | None = None
        while True:
            work = await self._look(args)
            if work is None:
                return Fail(f"there is no module {args.module_index} of a plan {args.plan_id}")
            if work.module.job_id != ctx.job.id:
                return Done({"superseded": True})
            if work.lesson is None:
                return await self._finish(ctx, args, wrote)
            if time.monotonic() - started > LONGEST_RUN.total_seconds():
                return Snooze(timedelta(), "the rest of the module follows")
            if curriculum is None:
                curriculum = parse(msgspec.json.decode(work.plan.curriculum))
            try:
                await self._write(ctx, curriculum, work, work.lesson)
            except GeneratorError as error:
                return self._interrupted(ctx, error, wrote)
            wrote += 1
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                await self._tell(ctx, work.module)

    async def _look(self, args: GenerateModule) -> _Work | None:
        async with self.db.read() as tx:
            plan = await store.plan(tx, args.plan_id)
            module = await store.module(tx, args.plan_id, args.module_index)
            if plan is None or module is None:
                return None
            lesson = await store.due(tx, args.plan_id, args.module_index, module.round)
            titles = [] if lesson is None else await store.titles(tx, args.plan_id, lesson.idx)
        return _Work(plan, module, lesson, titles)

    async def _write(
        self, ctx: JobContext, curriculum: Curriculum, work: _Work, lesson: LessonRow
    ) -> None:
        """Have a lesson written, with no transaction open, and store it."""
        began = time.monotonic()
        written = await self.generator.write(
            Task(
                plan_id=work.plan.id,
                job_id=ctx.job.id,
                curriculum=curriculum,
                module=curriculum.modules[lesson.module_idx],
                slot=lesson.slot,
                titles=work.titles,
                allowed_links=links_of(curriculum),
            )
        )
        took_ms = round((time.monotonic() - began) * 1_000)
        async with self.db.write() as tx:
            saved = await store.save_lesson(
                tx,
                lesson,
                work.module.round,
                written.body,
                gaps=written.gaps,
                generator=written.generator,
                provenance=self._provenance(tx, work.plan, written),
                took_ms=took_ms,
            )
            tx.notify(TOPIC, work.plan.id)
        if not saved:
            log.info("lesson_kept", plan=work.plan.id, lesson=lesson.id)

    async def _tell(self, ctx: JobContext, module: ModuleRow) -> None:
        """Note with the job how far it is, for those who look at jobs."""
        async with self.db.read() as tx:
            paces = await store.paces(tx, module.plan_id)
        await ctx.progress(progress([module], paces).percent)

    def _provenance(self, tx: Tx, plan: PlanRow, written: Written) -> dict[str, object]:
        return {
            "generator": written.generator,
            **written.provenance,
            "inputHash": plan.input_hash,
            "generatedAt": to_rfc3339(tx.now),
        }

    def _interrupted(self, ctx: JobContext, error: GeneratorError, wrote: int) -> Outcome:
        """Say how a run ends whose generator failed.

        A run that has written something spends no attempt: a long module would else use them up on
        failures that have nothing to do with each other.
        """
        if not error.again:
            return Fail(error.message if error.hint is None else f"{error.message} {error.hint}")
        if isinstance(error, NotYet):
            return Snooze(error.after or timedelta(), error.message)
        attempt = 1 if wrote else max(ctx.job.attempts, 1)
        wait = error.after or self.patience.backoff.delay(attempt, random.Random())
        if wrote:
            return Snooze(wait, error.message)
        return Retry(error.message, wait)

    async def _finish(self, ctx: JobContext, args: GenerateModule, wrote: int) -> Outcome:
        """Complete the module and queue the next one, in one commit."""
        outcome = Done({"lessonsWritten": wrote})
        async with self.db.write() as tx:
            await store.lock(tx, args.plan_id)
            module = await store.module(tx, args.plan_id, args.module_index)
            if module is None or module.job_id != ctx.job.id:
                return Done({"superseded": True})
            if await store.due(tx, args.plan_id, args.module_index, module.round) is not None:
                return Snooze(timedelta(), "lessons became due meanwhile")
            await store.set_module(tx, ctx.job.id, args.plan_id, "complete", None)
            if args.chain:
                following = await next_module(tx, args.plan_id)
                if following is not None:
                    await queue_module(tx, args.plan_id, following, self.patience, chain=True)
            tx.notify(TOPIC, args.plan_id)
            await ctx.settle(tx, outcome)
        return outcome

    async def changed(self, tx: Tx, job: Job, args: GenerateModule) -> None:
        """Let the module follow its job where the handler did not end it itself."""
        if job.state is JobState.FAILED:
            if job.last_error == CANCELLED:
                await store.set_module(tx, job.id, args.plan_id, "cancelled", None)
            else:
                await store.set_module(tx, job.id, args.plan_id, "failed", job.last_error)
        elif job.state is not JobState.COMPLETED:
            await store.set_module(tx, job.id, args.plan_id, "queued", None)
        tx.notify(TOPIC, args.plan_id)


async def next_module(tx: Tx, plan_id: str) -> ModuleRow | None:
    """Return the first module that is not complete, unless one is being written."""
    rows = await store.modules(tx, plan_id)
    if any(row.state == "queued" for row in rows):
        return None
    return next((row for row in rows if row.state != "complete"), None)
