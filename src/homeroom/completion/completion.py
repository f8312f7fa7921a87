"""What a completion is, and what a job's state says of one of its steps (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from homeroom.jobs.job import Job, JobState

StepStatus = Literal["waiting", "active", "completed", "failed", "skipped"]


class ChapterRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A chapter as it stood when the course was completed."""

    chapter_id: str
    progress: int
    """Basis points."""
    time_spent: int
    """Whole seconds."""
    completed: bool


@dataclass(frozen=True, slots=True)
class Completion:
    """One learner completed one course in one attempt, once (B10). Instants are microseconds."""

    id: str
    user_id: str
    course_id: str
    attempt: int
    course_version: int
    course_title: str
    completed_at: int
    """The latest time among the events that satisfied the course; never changed (B9)."""
    recorded_at: int
    """When Homeroom noticed."""
    score: int | None
    """Units of 1e-4; 0 is a score, None is none."""
    time_spent: int
    """Whole seconds."""
    chapters: tuple[ChapterRecord, ...]
    superseded_by: str | None = None
    """The completion of a later attempt (B12)."""


@dataclass(frozen=True, slots=True)
class StepState:
    """How far one of the things is that must follow a completion."""

    completion_id: str
    name: str
    position: int
    status: StepStatus
    job_id: str | None
    runs: int
    """How many jobs were made for it: a retry makes another one where the old cannot run again."""
    attempts: int = 0
    last_error: str | None = None
    skip_reason: str | None = None
    external_id: str | None = None
    finished_at: int | None = None


def follow(step: StepState, job: Job) -> StepState:
    """Return the step as its job, after a change, says it is.

    A job's result may say ``{"skipped": reason}`` or ``{"externalId": id}``.
    """
    result: Mapping[str, Any] = job.result if isinstance(job.result, Mapping) else {}
    step = replace(step, attempts=job.attempts, last_error=job.last_error, skip_reason=None)
    if job.state is JobState.COMPLETED and result.get("skipped") is not None:
        return replace(
            step, status="skipped", skip_reason=str(result["skipped"]), finished_at=job.finished_at
        )
    if job.state is JobState.COMPLETED:
        external = result.get("externalId")
        return replace(
            step,
            status="completed",
            last_error=None,
            external_id=step.external_id if external is None else str(external),
            finished_at=job.finished_at,
        )
    if job.state is JobState.FAILED:
        return replace(step, status="failed", finished_at=job.finished_at)
    return replace(step, status="waiting", finished_at=None)
