"""Skip the steps of a missing plug-in, and resume them once it is back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from homeroom.catalogue import api as catalogue
from homeroom.completion import step_store, store
from homeroom.completion.api import Completions, StepState
from homeroom.completion.step import enqueue_step_job, save_step
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, NotFound
from homeroom.jobs import api as jobs

log = structlog.get_logger(__name__)
STEP_NOT_INSTALLED = "step_not_installed"
"""The ``skipCode`` of steps whose plug-in is not installed."""
_BATCH = 100
"""Steps in one transaction, for which ingest waits on SQLite."""


async def follow_installed_steps(db: Database, completions: Completions) -> None:
    """Skip outstanding steps that are not installed; start those that are again.

    A worker calls it at its start. A skipped step keeps its last error, and its job is cancelled: a
    queue that no worker serves holds nothing. A step whose job is running in another process is
    left alone, as that process has the plug-in.
    """
    async with db.read() as tx:
        names = await step_store.outstanding_names(tx)
    for name in names:
        if name not in completions.steps:
            count = await _skip_all(db, completions, name)
            log.warning("step_not_installed", step=name, count=count)
    for name in completions.steps:
        count = await _resume_all(db, completions, name)
        if count:
            log.info("step_installed_again", step=name, count=count)


async def _skip_all(db: Database, completions: Completions, name: str) -> int:
    count, after = 0, None
    while True:
        async with db.write() as tx:
            found = await step_store.find_idle(tx, name, after, _BATCH)
            for step in found:
                count += await _skip(tx, completions, step)
        if len(found) < _BATCH:
            return count
        after = found[-1].completion_id


async def _resume_all(db: Database, completions: Completions, name: str) -> int:
    count, after = 0, None
    while True:
        async with db.read() as tx:
            found = await step_store.find_skipped(tx, name, STEP_NOT_INSTALLED, after, _BATCH)
        if found:
            async with db.write() as tx:
                count += await _resume(tx, completions, found)
        if len(found) < _BATCH:
            return count
        after = found[-1].completion_id


async def _skip(tx: Tx, completions: Completions, found: StepState) -> bool:
    """Skip a step without a handler and cancel its job; return whether it was."""
    step = await store.get_step_for_update(tx, found.completion_id, found.name)
    if step is None or step.status not in {"waiting", "failed"} or step.job_id != found.job_id:
        return False
    if step.job_id is not None:
        with suppress(Conflict, NotFound):  # it has ended, or was pruned
            await jobs.cancel(tx, None, step.job_id)
    skipped = replace(
        step,
        status="skipped",
        job_id=None,  # a late notification of the cancelled job must not change the step
        skip_reason=f"the step {step.name} is not installed",
        skip_code=STEP_NOT_INSTALLED,
        finished_at=tx.now,
    )
    await save_step(tx, skipped)
    await completions.step_ended(tx, skipped)
    return True


async def _resume(tx: Tx, completions: Completions, found: Sequence[StepState]) -> int:
    """Start steps that are installed again; return how many changed."""
    by_id = await store.find_by_ids(tx, sorted({step.completion_id for step in found}))
    courses = await catalogue.courses_at(
        tx, {(each.course_id, each.course_version) for each in by_id.values()}
    )
    count = 0
    for each in found:
        completion = by_id.get(each.completion_id)
        step = await store.get_step_for_update(tx, each.completion_id, each.name)
        if completion is None or step is None or step.skip_code != STEP_NOT_INSTALLED:
            continue  # erased, or another worker was faster
        declared = completions.steps[step.name]
        course = courses[completion.course_id, completion.course_version]
        reason = declared.skip_reason(completion, course)
        if reason is not None:
            after = replace(step, skip_reason=reason.text, skip_code=reason.code)
        else:
            run = step.runs + 1
            job_id = await enqueue_step_job(tx, completion.id, declared, run)
            after = replace(
                step,
                status="waiting",
                job_id=job_id,
                runs=run,
                attempts=0,
                skip_reason=None,
                skip_code=None,
                finished_at=None,
            )
        await save_step(tx, after)
        count += 1
    return count
