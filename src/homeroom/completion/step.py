"""Declaration of the steps that follow a completion, and their jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from homeroom.catalogue.api import Course
from homeroom.completion import store
from homeroom.completion.completion import (
    Completion,
    SkipReason,
    StepState,
)
from homeroom.db.ids import natural_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict
from homeroom.jobs import api as jobs
from homeroom.jobs.job import JobArgs, JobState

TOPIC = "completions"


class StepArgs(JobArgs, frozen=True, kw_only=True):
    """The arguments of a step's job; a subclass declares kind, queue and priority.

    The kind is ``completion.`` and the step's name. Every producer gives the job the id of the
    step's first run, since two rows of one step could run at the same time.
    """

    public: ClassVar[bool] = True
    max_retries: ClassVar[int] = len(jobs.PARTNER_DELAYS.delays)
    backoff: ClassVar[jobs.RetryDelays] = jobs.PARTNER_DELAYS

    completion_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the id of the completion."""
        return {"completion_id": self.completion_id}

    def natural_id(self) -> str:
        """Return the id of the step's first run."""
        return natural_id(self.completion_id, self.kind.partition(".")[2])


@dataclass(frozen=True, slots=True)
class CompletionStep:
    """A step that follows every completion, independent of the other steps."""

    name: str
    args: Callable[[str], JobArgs]
    """Make the job's arguments from the completion's id."""
    skip_reason: Callable[[Completion, Course], SkipReason | None] = lambda completion, course: None
    """Return the reason to skip the step, which then gets no job, or None."""


async def start_step(
    tx: Tx, completion: Completion, course: Course, step: CompletionStep, position: int
) -> StepState:
    """Enqueue a step's first job, or skip the step, and return its state."""
    reason = step.skip_reason(completion, course)
    if reason is None:
        job_id = await enqueue_step_job(tx, completion.id, step, run=1)
        return StepState(completion.id, step.name, position, "waiting", job_id, runs=1)
    return StepState(
        completion.id,
        step.name,
        position,
        "skipped",
        None,
        runs=0,
        skip_reason=reason.text,
        skip_code=reason.code,
        finished_at=tx.now,
    )


async def retry_failed_job(tx: Tx, step: StepState) -> bool:
    """Retry a step's failed job; return False where it was pruned."""
    if step.job_id is None:
        return False
    state = (await jobs.states(tx, [step.job_id])).get(step.job_id)
    if state is None:
        return False
    if state is not JobState.FAILED:
        raise Conflict(f"The step's job is {state} already.")
    try:
        await jobs.retry(tx, None, step.job_id)
    except Conflict:
        return False
    return True


async def enqueue_step_job(tx: Tx, completion_id: str, step: CompletionStep, run: int) -> str:
    """Enqueue the job of a step's run, counted from 1; return its id."""
    parts = (completion_id, step.name) if run == 1 else (completion_id, step.name, str(run))
    job_id = natural_id(*parts)
    await jobs.enqueue(tx, step.args(completion_id), id=job_id)
    return job_id


async def save_step(tx: Tx, step: StepState) -> None:
    """Save a step, and publish that its completion changed."""
    await store.update_step(tx, step)
    tx.notify(TOPIC, step.completion_id)
