"""Outcomes of handlers, and the state of a job after its run (pure)."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from homeroom.jobs.job import Job, JobReason, JobState, RetryDelays

CANCELLED = "cancelled"
DEATHS_UNTIL_ALONE = 3
"""Deaths of workers within ``DEATH_WINDOW`` after which a job runs alone in its process."""
DEATH_WINDOW = timedelta(hours=72)
MAX_DEATHS_ALONE = 3
"""Deaths of workers that ran nothing else after which the job fails as their cause."""
WAITS_BEFORE_ALONE = (timedelta(seconds=30), timedelta(minutes=5), timedelta(minutes=30))
"""Waits before a job runs alone, by the deaths that it has had alone.

A machine that is restarted again and again within minutes must not fail the job that happens to
run first each time, so the runs alone are far apart (decision 0023).
"""
AttemptOutcome = Literal["done", "retry", "exhausted", "fail", "cancel", "lost"]
"""Outcome of an attempt: ``retry`` failed and another follows, ``exhausted`` was the last one."""
MAX_HOLD = timedelta(days=1)
"""Time after which a held job runs without its gate, should that have been forgotten."""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done; ``result`` is stored with the job and must be JSON."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Retry:
    """This attempt failed and another may succeed; ``after`` overrides the backoff."""

    error: str
    after: timedelta | None = None
    at_least: timedelta = timedelta()
    """The shortest wait, for work that may still go on elsewhere."""
    gate: str | None = None
    """A gate that may release the job earlier; see ``Hold``."""


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job again later; no attempt is spent."""

    after: timedelta
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Run the job again when a gate releases it (``held_jobs``); no attempt is spent."""

    gate: str
    reason: str
    code: JobReason
    """One of ``HOLD_REASONS``."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The job cannot succeed and is not retried; an operator may still retry it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The job is not needed any more: failed with the reason ``cancelled``."""

    reason: str = CANCELLED


Outcome = Done | Retry | Snooze | Hold | Fail | Cancel


@dataclass(frozen=True, slots=True)
class Released:
    """The worker shuts down: the job waits again, and its attempt is not spent."""


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """The lease expired: the worker is presumed dead. That spends no attempt."""

    deaths: int
    """Deaths that count, this one included: those within ``DEATH_WINDOW``, or those alone."""
    was_alone: bool = False
    """The worker ran nothing else when it died."""

    @property
    def isolates(self) -> bool:
        """Return whether the job runs alone from now on, and did not before."""
        return not self.was_alone and self.deaths >= DEATHS_UNTIL_ALONE


RunEnd = Outcome | Released | LeaseExpired


@dataclass(frozen=True, slots=True)
class NextState:
    """The job after the run."""

    state: JobState
    run_at: int
    attempts: int
    error: str | None
    attempt_outcome: AttemptOutcome | None
    """The outcome recorded for the attempt; None: the attempt is not recorded."""
    reason_code: str | None = None
    result: Any = None
    grants_attempt: bool = False
    """The attempt counts, but one more is allowed for it."""
    held_by: str | None = None
    """The gate that may release the job before ``run_at``."""

    @property
    def finished(self) -> bool:
        """Return whether no run follows."""
        return self.state in (JobState.COMPLETED, JobState.FAILED)


def next_state(
    job: Job,
    end: RunEnd,
    *,
    now: int,
    allowance: int,
    backoff: RetryDelays,
    random_source: random.Random,
    reason: JobReason | None = None,
) -> NextState:
    """Return the state of an active job after its run; ``now`` in microseconds UTC.

    ``allowance`` is the number of attempts in one round, so that the backoff of a job that an
    operator retried starts again. A job whose cancellation was requested does not run again,
    whatever its handler returned, but one that was done first is completed. ``reason`` is given
    where the kernel ended the run and not the handler.
    """
    if isinstance(end, Done):
        return NextState(
            JobState.COMPLETED, job.run_at, job.attempts, None, "done", result=end.result
        )
    if isinstance(end, Fail):
        return _fail(job, end.reason, "fail", reason or JobReason.HANDLER_FAILED)
    if isinstance(end, Cancel) or job.cancel_requested:
        text = end.reason if isinstance(end, Cancel) else CANCELLED
        # A death counts, also of a job that is cancelled: a person may retry it.
        outcome: AttemptOutcome = "lost" if isinstance(end, LeaseExpired) else "cancel"
        return _fail(job, text, outcome, JobReason.CANCELLED)
    if isinstance(end, Released):
        return NextState(
            JobState.WAITING, job.run_at, job.attempts - 1, job.last_error, None, job.reason_code
        )
    if isinstance(end, Snooze):
        code = reason or JobReason.SNOOZED
        return _run_later(job, end.after, now, job.attempts - 1, job.last_error, None, code)
    if isinstance(end, Hold):
        held = _run_later(job, MAX_HOLD, now, job.attempts - 1, end.reason, None, end.code)
        return replace(held, held_by=end.gate)
    if isinstance(end, LeaseExpired):
        return _lease_expired(job, end, now)
    if job.attempts >= job.max_attempts:
        return _fail(job, end.error, "exhausted", JobReason.ATTEMPTS_EXHAUSTED)
    attempts_in_round = job.attempts - (job.max_attempts - allowance)
    wait = backoff.delay(attempts_in_round, random_source) if end.after is None else end.after
    code = reason or JobReason.HANDLER_ERROR
    later = _run_later(job, max(wait, end.at_least), now, job.attempts, end.error, "retry", code)
    return replace(later, held_by=end.gate if later.state is JobState.DELAYED else None)


def _lease_expired(job: Job, end: LeaseExpired, now: int) -> NextState:
    """Return the state after a death, which spends no attempt (decision 0023)."""
    if end.was_alone and end.deaths >= MAX_DEATHS_ALONE:
        error = f"the worker died {end.deaths} times while it ran nothing else"
        return _fail(job, error, "lost", JobReason.WORKER_DIED)
    wait, error = timedelta(), "the worker died"
    if end.was_alone:
        wait = WAITS_BEFORE_ALONE[end.deaths]
        error = "the worker died while it ran nothing else; the job runs alone again"
    elif end.isolates:
        wait = WAITS_BEFORE_ALONE[0]
        hours = DEATH_WINDOW // timedelta(hours=1)
        error = f"workers died {end.deaths} times within {hours} h; the job runs alone from now on"
    after = _run_later(job, wait, now, job.attempts, error, "lost", JobReason.WORKER_DIED)
    if not wait:  # it keeps its place
        after = replace(after, run_at=job.run_at)
    return replace(after, grants_attempt=True)


def _fail(
    job: Job,
    error: str,
    attempt_outcome: AttemptOutcome,
    code: JobReason,
) -> NextState:
    return NextState(JobState.FAILED, job.run_at, job.attempts, error, attempt_outcome, code)


def _run_later(
    job: Job,
    wait: timedelta,
    now: int,
    attempts: int,
    error: str | None,
    attempt_outcome: AttemptOutcome | None,
    code: JobReason,
) -> NextState:
    span = max(wait // _MICROSECOND, 0)
    state = JobState.DELAYED if span else JobState.WAITING
    return NextState(state, now + span, attempts, error, attempt_outcome, code)
