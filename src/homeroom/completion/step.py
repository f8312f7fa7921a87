"""Declaration of the steps that follow a completion, and their jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
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
from homeroom.errors import Conflict, NotFound
from homeroom.jobs import api as jobs
from homeroom.jobs.job import JobArgs, JobState

TOPIC = "completions"
MAX_WAIT_FOR_STEPS = timedelta(hours=24)
"""Longest time that a step waits for others to end; then it runs without what they know."""


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
    waits_for: tuple[str, ...] = ()
    """Steps of the same completion that end before this one's first run, which needs what they
    know: at most ``MAX_WAIT_FOR_STEPS``."""
    is_switched_on: bool = True
    """False: new completions do not have the step; those that have it go on."""


@dataclass(frozen=True, slots=True)
class RetryProgress:
    """Progress of the retry of many steps."""

    count: int
    """Steps that this transaction retried."""
    after: str | None
    """Id of the completion after which to continue; None: all are done."""


def check_retryable(
    declared: CompletionStep, completion: Completion, course: Course, step: StepState
) -> None:
    """Raise ``Conflict`` for a step that cannot be retried now."""
    if step.status not in {"failed", "skipped"}:
        raise Conflict(f"The step is {step.status}; only a failed or skipped one can be retried.")
    reason = declared.skip_reason(completion, course)
    if reason is not None:
        raise Conflict(f"The step is still to be skipped: {reason.text}.")


def check_steps(steps: Sequence[CompletionStep]) -> None:
    """Raise ValueError for two steps of one name, or one that waits for a waiter."""
    by_name = {step.name: step for step in steps}
    if len(by_name) != len(steps):
        raise ValueError("two steps of a completion have the same name")
    for step in steps:
        for name in step.waits_for:
            if name in by_name and by_name[name].waits_for:
                raise ValueError(f"the step {step.name} waits for {name}, which waits itself")


async def start_steps(
    tx: Tx,
    completion: Completion,
    course: Course,
    steps: Sequence[tuple[int, CompletionStep]],
    known: Sequence[StepState] = (),
) -> list[StepState]:
    """Start steps of a completion, each with its position; return their states.

    ``known`` are the steps that it has already. One that waits for a step that has not ended gets a
    delayed job, which ``run_waiting_steps`` runs earlier.
    """
    waiting = {step.name for step in known if step.status == "waiting"}
    states = []
    for position, step in sorted(steps, key=lambda each: bool(each[1].waits_for)):
        delay = None if waiting.isdisjoint(step.waits_for) else MAX_WAIT_FOR_STEPS
        states.append(await start_step(tx, completion, course, step, position, delay))
        if states[-1].status == "waiting":
            waiting.add(step.name)
    return states


async def start_step(
    tx: Tx,
    completion: Completion,
    course: Course,
    step: CompletionStep,
    position: int,
    delay: timedelta | None = None,
) -> StepState:
    """Enqueue a step's first job, or skip the step, and return its state."""
    reason = step.skip_reason(completion, course)
    if reason is None:
        job_id = await enqueue_step_job(tx, completion.id, step, run=1, delay=delay)
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


async def run_waiting_steps(
    tx: Tx, waits: Sequence[CompletionStep], steps: Sequence[StepState]
) -> None:
    """Run the first jobs of steps now that waited for steps which have ended.

    ``waits`` are those that waited, ``steps`` all of the completion. One whose first job has run is
    left alone: it may wait for a retry.
    """
    waiting = {step.name: step.job_id for step in steps if step.status == "waiting"}
    ids = [
        job_id
        for step in waits
        if waiting.keys().isdisjoint(step.waits_for)
        and (job_id := waiting.get(step.name)) is not None
    ]
    for job_id, job in sorted((await jobs.find(tx, ids)).items()):
        if job.state is JobState.DELAYED and job.started_at is None:
            with suppress(Conflict, NotFound):  # an operator was faster
                await jobs.promote(tx, None, job_id)


async def enqueue_step_job(
    tx: Tx, completion_id: str, step: CompletionStep, run: int, delay: timedelta | None = None
) -> str:
    """Enqueue the job of a step's run, counted from 1; return its id."""
    parts = (completion_id, step.name) if run == 1 else (completion_id, step.name, str(run))
    job_id = natural_id(*parts)
    await jobs.enqueue(tx, step.args(completion_id), id=job_id, delay=delay)
    return job_id


async def save_step(tx: Tx, step: StepState) -> None:
    """Save a step, and publish that its completion changed."""
    await store.update_step(tx, step)
    tx.count("completion_steps", step.name, step.status)
    tx.notify(TOPIC, step.completion_id)
