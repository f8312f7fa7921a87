"""A completion, and the state of its steps as their jobs leave it (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

import msgspec

from homeroom.catalogue.api import Course
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
    """The one completion of a course by a learner in an attempt (B10)."""

    id: str
    user_id: str
    course_id: str
    attempt: int
    course_version: int
    course_title: str
    completed_at: int
    """The latest time among the events that satisfied the course; never changed (B9)."""
    recorded_at: int
    """The instant at which Homeroom stored it."""
    score: int | None
    """Units of 1e-4; 0 is a score, None is no score."""
    time_spent: int
    """Whole seconds."""
    chapters: tuple[ChapterRecord, ...]
    superseded_by: str | None = None
    """The completion of a later attempt (B12)."""


@dataclass(frozen=True, slots=True)
class NewCompletion:
    """A learner who fulfils the criteria of a course, found by ingest in its commit."""

    user_id: str
    course: Course
    """In the version of the learner's attempt."""
    attempt: int
    completed_at: int
    score: int | None
    time_spent: int
    chapters: tuple[ChapterRecord, ...]

    def to_completion(self, id: str, recorded_at: int) -> Completion:
        """Return the completion to store."""
        return Completion(
            id=id,
            user_id=self.user_id,
            course_id=self.course.id,
            attempt=self.attempt,
            course_version=self.course.version,
            course_title=self.course.title,
            completed_at=self.completed_at,
            recorded_at=recorded_at,
            score=self.score,
            time_spent=self.time_spent,
            chapters=tuple(self.chapters),
        )


@dataclass(frozen=True, slots=True)
class SkipReason:
    """The reason for which a step is not done."""

    code: str
    """Stable and in snake_case; docs/partners.md lists all codes."""
    text: str

    def to_result(self) -> dict[str, str]:
        """Return the result of a job that skips its step."""
        return {"skipped": self.text, "skipCode": self.code}


@dataclass(frozen=True, slots=True)
class StepState:
    """The state of one step of a completion."""

    completion_id: str
    name: str
    position: int
    status: StepStatus
    job_id: str | None
    runs: int
    """Jobs that were created for it: a retry creates one where the old job cannot run again."""
    attempts: int = 0
    last_error: str | None = None
    skip_reason: str | None = None
    external_id: str | None = None
    finished_at: int | None = None
    skip_code: str | None = None
    """None where no step was skipped, or an earlier release skipped it."""


@dataclass(frozen=True, slots=True)
class ListedStep(StepState):
    """A step with what its job adds; ``status`` is ``active`` while the job runs."""

    reason_code: str | None = None
    """The ``skip_code``, or the ``JobReason`` of the job's last attempt; None when completed."""
    next_attempt_at: int | None = None
    """The instant from which a delayed job runs again."""


def describe_step(step: StepState, job: Job | None) -> ListedStep:
    """Return a step with what its job adds; ``job`` is None for a step without one."""
    fields = {field.name: getattr(step, field.name) for field in dataclass_fields(StepState)}
    if step.status in {"skipped", "completed"} or job is None:
        return ListedStep(**fields, reason_code=step.skip_code)
    if step.status == "waiting" and job.state is JobState.ACTIVE:
        fields["status"] = "active"
    is_delayed = job.state is JobState.DELAYED
    return ListedStep(
        **fields,
        reason_code=job.reason_code,
        next_attempt_at=job.run_at if is_delayed else None,
    )


def score_fraction(score: int | None) -> float | None:
    """Return a score in units of 1e-4 as a fraction of 1; None for no score."""
    return None if score is None else score / 10_000


def apply_job_to_step(step: StepState, job: Job) -> StepState:
    """Return the step in the state that its job is in after a change.

    A job's result may hold ``SkipReason.to_result()`` or ``{"externalId": id}``.
    """
    result: Mapping[str, Any] = job.result if isinstance(job.result, Mapping) else {}
    step = replace(
        step,
        attempts=job.attempts,
        last_error=job.last_error,
        skip_reason=None,
        skip_code=None,
    )
    if job.state is JobState.COMPLETED and result.get("skipped") is not None:
        code = result.get("skipCode")
        return replace(
            step,
            status="skipped",
            skip_reason=str(result["skipped"]),
            skip_code=None if code is None else str(code),
            finished_at=job.finished_at,
        )
    if job.state is JobState.COMPLETED:
        external_id = result.get("externalId")
        return replace(
            step,
            status="completed",
            last_error=None,
            external_id=step.external_id if external_id is None else str(external_id),
            finished_at=job.finished_at,
        )
    if job.state is JobState.FAILED:
        return replace(step, status="failed", finished_at=job.finished_at)
    return replace(step, status="waiting", finished_at=None)
