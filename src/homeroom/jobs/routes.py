"""HTTP routes of jobs and workers: viewers read, operators act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Invalid
from homeroom.identity import Identity, Role
from homeroom.jobs import job_actions, queue_routes, queue_store, schedule_routes, store
from homeroom.jobs.api import (
    attempt_fields,
    job_fields,
    log_line_fields,
    worker_fields,
)
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.job_actions import AuditRecorder
from homeroom.jobs.job_counter import JobCounter
from homeroom.jobs.job_search import JobQuery, search
from homeroom.jobs.outcome import AttemptOutcome
from homeroom.jobs.queue_routes import AffectedCount
from homeroom.jobs.subject import JobSubjects
from homeroom.redaction import redact_json
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

OptionalText = Annotated[str | None, Query(min_length=1, max_length=200)]
JobId = Annotated[ExternalId, Path(alias="jobId")]
_AUDIT_ACTIONS = {
    "retry": "retried",
    "promote": "promoted",
    "cancel": "cancelled",
    "remove": "removed",
}


class JobView(ResponseModel):
    """A job in a list."""

    id: str
    queue: str
    name: str
    state: JobState
    priority: int
    data: dict[str, Any]
    attempts_made: int
    max_attempts: int
    run_at: Rfc3339Instant
    created_at: Rfc3339Instant
    started_at: Rfc3339Instant | None
    finished_at: Rfc3339Instant | None
    failed_reason: str | None
    reason_code: str | None
    result: Any
    progress: Any
    cancel_requested: bool
    worker: str | None
    user_id: str | None
    """The learner, or the recipient, that the job is for."""
    course_id: str | None
    completion_id: str | None


class JobAttemptView(ResponseModel):
    """One ended attempt."""

    number: int
    started_at: Rfc3339Instant
    finished_at: Rfc3339Instant
    outcome: AttemptOutcome
    error: str | None
    traceback: str | None
    worker: str | None


class JobLogLine(ResponseModel):
    """A line of a job's log."""

    at: Rfc3339Instant
    line: str


class JobDetail(JobView):
    """A job with its attempts, log and dependencies."""

    attempts: list[JobAttemptView]
    logs: list[JobLogLine]
    waits_for: list[str]


class WorkerView(ResponseModel):
    """A worker; ``queues`` holds its concurrency by queue.

    A worker without a heartbeat for one lease is `stale`, for two `gone`.
    """

    id: str
    host: str
    pid: int
    started_at: Rfc3339Instant
    heartbeat_at: Rfc3339Instant
    state: Literal["running", "stale", "gone"]
    lease_seconds: float
    queues: dict[str, int]
    active: int


class JobFilter(RequestModel):
    """The jobs of a bulk action; at least one member has to be given."""

    queue: ExternalId | None = None
    state: JobState | None = None
    name: ExternalId | None = None
    q: Annotated[str | None, Field(min_length=1, max_length=200)] = None


class BulkAction(RequestModel):
    """An action on all jobs of a filter whose states allow it."""

    action: Literal["retry", "promote", "cancel", "remove"]
    filter: JobFilter


def router(
    db: Database,
    auth: Auth,
    registry: Registry,
    record: AuditRecorder,
    subjects: JobSubjects | None = None,
    counter: JobCounter | None = None,
) -> APIRouter:
    """Return the routes of the kernel.

    ``record`` writes audit lines, ``subjects`` knows the learners and courses of jobs.
    """
    routes = APIRouter(prefix="/api/v1", tags=["Operations"])
    subjects = subjects or JobSubjects()
    _add_job_reads(routes, db, auth, subjects)
    _add_job_actions(routes, db, auth, registry, record, subjects)
    _add_bulk_action(routes, db, auth, registry, record, subjects)
    _add_worker_list(routes, db, auth)
    routes.include_router(queue_routes.router(db, auth, record, counter or JobCounter()))
    routes.include_router(schedule_routes.router(db, auth, registry, record))
    return routes


async def _with_subjects(
    tx: Tx, subjects: JobSubjects, jobs: Sequence[Job]
) -> list[dict[str, Any]]:
    """Return the fields of jobs with the learners and courses that they are for."""
    found = await subjects.describe(tx, jobs)
    return [{**job_fields(job), **asdict(found[job.id])} for job in jobs]


def _add_job_reads(routes: APIRouter, db: Database, auth: Auth, subjects: JobSubjects) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/jobs", dependencies=reads)
    async def search_jobs(
        paging: PagingQuery,
        queue: OptionalText = None,
        state: JobState | None = None,
        name: OptionalText = None,
        q: OptionalText = None,
        done: bool | None = None,
    ) -> Page[JobView]:
        """List jobs, newest first; `done=false` leaves out those that are completed.

        `q` is a part of the id, the data, the last error, or the id of the learner or course that
        the job is for, among jobs that are not completed and the 10,000 newest completed ones. The
        id of a job, a completion or a learner finds older ones too; `state=completed` looks for a
        part in all of them, which takes seconds with a million. A secret that the data shows as
        `[hidden]` is not found, and of a masked e-mail address only the whole.
        """
        key = paging.key(int)
        async with db.read() as tx:
            rows = await search(
                tx,
                JobQuery(queue, state, name, q, subjects, done),
                limit=paging.limit + 1,
                before=None if key is None else key[0],
            )
            page, cursor = cut_page(rows, paging, lambda row: row[:1])
            fields = await _with_subjects(tx, subjects, [job for _, job in page])
        return Page(items=[JobView(**each) for each in fields], next_cursor=cursor)

    @routes.get("/jobs/{jobId}", dependencies=reads)
    async def get_job(job_id: JobId) -> JobDetail:
        """Show a job with its attempts, log and progress; secrets are hidden."""
        async with db.read() as tx:
            job = await store.get(tx, job_id)
            [fields] = await _with_subjects(tx, subjects, [job])
            attempts = await store.attempts(tx, job_id)
            lines = await store.logs(tx, job_id)
            waits_for = await store.dependencies_of(tx, job_id)
        return JobDetail(
            **fields,
            attempts=[JobAttemptView(**attempt_fields(attempt)) for attempt in attempts],
            logs=[JobLogLine(**log_line_fields(at, line)) for at, line in lines],
            waits_for=waits_for,
        )


def _add_job_actions(
    routes: APIRouter,
    db: Database,
    auth: Auth,
    registry: Registry,
    record: AuditRecorder,
    subjects: JobSubjects,
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.post("/jobs/{jobId}/retry")
    async def retry_job(job_id: JobId, identity: Identity = operator) -> JobView:
        """Retry a failed job with a fresh set of attempts."""
        async with db.write() as tx:
            job = await job_actions.retry(tx, registry, job_id)
            await record(tx, identity.subject, "job.retried", job_id)
            [fields] = await _with_subjects(tx, subjects, [job])
        return JobView(**fields)

    @routes.post("/jobs/{jobId}/promote")
    async def promote_job(job_id: JobId, identity: Identity = operator) -> JobView:
        """Run a delayed job now."""
        async with db.write() as tx:
            job = await job_actions.promote(tx, registry, job_id)
            await record(tx, identity.subject, "job.promoted", job_id)
            [fields] = await _with_subjects(tx, subjects, [job])
        return JobView(**fields)

    @routes.post("/jobs/{jobId}/cancel")
    async def cancel_job(job_id: JobId, identity: Identity = operator) -> JobView:
        """Cancel a job; an active one ends when its worker sees the request."""
        async with db.write() as tx:
            job = await job_actions.cancel(tx, registry, job_id)
            await record(tx, identity.subject, "job.cancelled", job_id)
            [fields] = await _with_subjects(tx, subjects, [job])
        return JobView(**fields)


def _add_bulk_action(
    routes: APIRouter,
    db: Database,
    auth: Auth,
    registry: Registry,
    record: AuditRecorder,
    subjects: JobSubjects,
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.post("/jobs/bulk")
    async def act_on_jobs(body: BulkAction, identity: Identity = operator) -> AffectedCount:
        """Apply an action to the jobs of a filter where it fits; return the number.

        Each transaction writes an audit line with the number of jobs that it changed.
        """
        jobs = body.filter
        filter_fields = jobs.model_dump(mode="json", exclude_none=True)
        if not filter_fields:
            raise Invalid("A bulk action needs a filter with at least one member.")
        query = JobQuery(jobs.queue, jobs.state, jobs.name, jobs.q, subjects)
        count, before = 0, None
        while True:
            async with db.write() as tx:
                step = await job_actions.apply_bulk_action(tx, registry, body.action, query, before)
                if step.count:
                    details = {"filter": redact_json(filter_fields), "count": step.count}
                    action = f"jobs.{_AUDIT_ACTIONS[body.action]}"
                    await record(tx, identity.subject, action, jobs.queue or "jobs", details)
            count, before = count + step.count, step.before
            if before is None:
                return AffectedCount(count=count)


def _add_worker_list(routes: APIRouter, db: Database, auth: Auth) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/workers", dependencies=reads)
    async def list_workers() -> list[WorkerView]:
        """List the workers that run, are stale (silent for one lease) or gone (for two).

        Those that are gone are removed after ten minutes, those that stopped at once.
        """
        async with db.read() as tx:
            workers = await queue_store.workers(tx)
        return [WorkerView.model_validate(worker_fields(worker)) for worker in workers]
