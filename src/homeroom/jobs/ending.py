"""What becomes of a job when a run of it ends (pure)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from homeroom.jobs.backoff import Backoff
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.outcome import Cancel, Done, Fail, Outcome, Snooze

CANCELLED = "cancelled"
MAX_DEATHS = 20
"""How many workers may die over a job before it is taken for what kills them, and fails.

Deploys and crashes of other causes must not use up the attempts of an innocent job (decision 0006).
"""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class HandBack:
    """The worker shuts down: the job waits again and its attempt is not spent."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease ended: whoever ran the job is taken for dead. That spends none of its attempts."""

    deaths: int
    """How often that has happened to the job, this time included."""


Ended = Outcome | HandBack | Lost


@dataclass(frozen=True, slots=True)
class After:
    """The job after the run. ``attempt`` is how the attempt is recorded; None: not at all."""

    state: JobState
    run_at: int
    attempts: int
    error: str | None
    attempt: Literal["done", "retry", "fail", "cancel", "lost"] | None
    result: Any = None
    forgiven: bool = False
    """The attempt counts, but one more is allowed for it."""

    @property
    def finished(self) -> bool:
        """Say whether no run follows."""
        return self.state in (JobState.COMPLETED, JobState.FAILED)


def decide(
    job: Job, ended: Ended, *, now: int, allowance: int, backoff: Backoff, chance: random.Random
) -> After:
    """Return what becomes of an active job. ``now`` is in microseconds UTC.

    ``allowance`` is how many attempts one go has, so that the backoff of a job that was retried by
    hand starts again. A job whose cancellation was asked for runs no more, whatever it returned,
    but one that was done first is completed.
    """
    if isinstance(ended, Done):
        return After(JobState.COMPLETED, job.run_at, job.attempts, None, "done", ended.result)
    if isinstance(ended, Fail):
        return _failed(job, ended.reason, "fail")
    if isinstance(ended, Cancel) or job.cancel_requested:
        return _failed(job, ended.reason if isinstance(ended, Cancel) else CANCELLED, "cancel")
    if isinstance(ended, HandBack):
        return After(JobState.WAITING, job.run_at, job.attempts - 1, job.last_error, None)
    if isinstance(ended, Snooze):
        return _later(job, ended.after, now, job.attempts - 1, job.last_error, None)
    if isinstance(ended, Lost):
        if ended.deaths % MAX_DEATHS == 0:  # a retry by hand allows as many deaths again
            return _failed(job, f"the worker died {ended.deaths} times", "lost")
        why = "the worker died"
        return After(JobState.WAITING, job.run_at, job.attempts, why, "lost", forgiven=True)
    if job.attempts >= job.max_attempts:
        return _failed(job, ended.error, "retry")
    in_this_go = job.attempts - (job.max_attempts - allowance)
    wait = backoff.delay(in_this_go, chance) if ended.after is None else ended.after
    return _later(job, wait, now, job.attempts, ended.error, "retry")


def _failed(job: Job, reason: str, how: Literal["retry", "fail", "cancel", "lost"]) -> After:
    return After(JobState.FAILED, job.run_at, job.attempts, reason, how)


def _later(
    job: Job,
    wait: timedelta,
    now: int,
    attempts: int,
    error: str | None,
    how: Literal["retry"] | None,
) -> After:
    span = max(wait // _MICROSECOND, 0)
    state = JobState.DELAYED if span else JobState.WAITING
    return After(state, now + span, attempts, error, how)
