"""What is answered about a plan, over HTTP and by the command line alike (camelCase JSON)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from homeroom.clock import to_rfc3339
from homeroom.lessonplans.api import Started
from homeroom.lessonplans.call_store import CallRow
from homeroom.lessonplans.curriculum import hours
from homeroom.lessonplans.read import Status
from homeroom.lessonplans.status import PlanStatus

MICRO = 1_000_000
Instant = Annotated[int, PlainSerializer(to_rfc3339, return_type=str)]


class Answer(BaseModel):
    """A part of an answer: camelCase keys."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class StartedData(Answer):
    """What a start did: at most one job is added, the others follow by themselves."""

    workflow_id: str
    jobs_queued: int
    modules_generated: int
    total_modules: int
    estimated_time_minutes: int


class SpentData(Answer):
    """What was used of a model; `cost` is null where no price is known."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    currency: str | None
    cost_complete: bool


class JobData(Answer):
    """The job of a module; `progress` is in percent of its lessons' minutes."""

    job_id: str
    module_index: int
    state: str
    progress: float
    attempts_made: int
    failed_reason: str | None


class JobsData(Answer):
    """The jobs of the modules, one each, in order."""

    total: int
    active: int
    completed: int
    failed: int
    details: list[JobData]


class StatusData(Answer):
    """How far a plan is."""

    workflow_id: str
    status: PlanStatus
    modules_generated: int
    total_modules: int
    all_complete: bool
    total_lessons: int
    total_contact_hours: float
    lessons_with_gaps: int
    progress: float
    estimated_time_remaining_seconds: int | None
    heartbeat_at: Instant | None
    spent: SpentData
    jobs: JobsData


class CallData(Answer):
    """One HTTP attempt at a language model."""

    id: str
    lesson_id: str
    job_id: str
    model: str
    outcome: str
    http_status: int | None
    retry_after_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    currency: str
    price_source: str | None
    request_id: str | None
    started_at: Instant
    finished_at: Instant | None


def message_of(found: Started) -> str:
    """Say in a sentence what a start did."""
    if found.jobs_queued:
        return "Generation started. Each module queues the next one when it is done."
    if found.modules_generated == found.total_modules:
        return "All modules are generated already; nothing was queued."
    return "Generation is running already; nothing was queued."


def started(found: Started) -> StartedData:
    """Return what a start did."""
    return StartedData(
        workflow_id=found.plan_id,
        jobs_queued=found.jobs_queued,
        modules_generated=found.modules_generated,
        total_modules=found.total_modules,
        estimated_time_minutes=found.estimated_minutes,
    )


def status(found: Status) -> StatusData:
    """Return how far a plan is."""
    jobs = [
        JobData(
            job_id=each.job.id,
            module_index=each.module.idx,
            state=each.job.state.value,
            progress=each.percent,
            attempts_made=each.job.attempts,
            failed_reason=each.module.error or each.job.last_error,
        )
        for each in found.modules
    ]
    states = [job.state for job in jobs]
    spent = found.spent
    return StatusData(
        workflow_id=found.plan.id,
        status=found.status,
        modules_generated=found.modules_generated,
        total_modules=found.total_modules,
        all_complete=found.modules_generated == found.total_modules,
        total_lessons=found.lessons,
        total_contact_hours=hours(found.minutes),
        lessons_with_gaps=found.lessons_with_gaps,
        progress=found.progress.percent,
        estimated_time_remaining_seconds=found.progress.seconds_left,
        heartbeat_at=found.heartbeat_at,
        spent=SpentData(
            requests=spent.requests,
            prompt_tokens=spent.input_tokens,
            completion_tokens=spent.output_tokens,
            cost=None if spent.cost is None else spent.cost / MICRO,
            currency=spent.currency,
            cost_complete=spent.cost_complete,
        ),
        jobs=JobsData(
            total=len(jobs),
            active=states.count("active"),
            completed=states.count("completed"),
            failed=states.count("failed"),
            details=jobs,
        ),
    )


def call(row: CallRow) -> CallData:
    """Return one HTTP attempt."""
    values: dict[str, Any] = {name: getattr(row, name) for name in CallData.model_fields}
    return CallData(**{**values, "cost": None if row.cost is None else row.cost / MICRO})
