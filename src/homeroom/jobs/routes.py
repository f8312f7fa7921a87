"""Queues, jobs, workers and schedules over HTTP: viewers read, operators act."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from homeroom.clock import SECOND
from homeroom.db.database import Database
from homeroom.errors import Invalid, NotFound
from homeroom.jobs import operate, queue_store, store
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobState
from homeroom.jobs.record import Record
from homeroom.jobs.redact import redact
from homeroom.jobs.schedules import routes as schedule_routes
from homeroom.jobs.show import attempt_fields, job_fields, log_fields, queue_fields
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, OutsideId, PathId, View
from homeroom.web.paging import Page, PagingQuery, page

OptionalText = Annotated[str | None, Query(min_length=1, max_length=200)]
JobId = Annotated[OutsideId, Path(alias="jobId")]
_DONE = {"retry": "retried", "promote": "promoted", "cancel": "cancelled", "remove": "removed"}


class JobView(View):
    """A job in a list."""

    id: str
    queue: str
    name: str
    state: JobState
    priority: int
    data: dict[str, Any]
    attempts_made: int
    max_attempts: int
    run_at: Instant
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    failed_reason: str | None
    result: Any
    progress: Any
    cancel_requested: bool
    worker: str | None


class AttemptView(View):
    """One ended attempt."""

    number: int
    started_at: Instant
    finished_at: Instant
    outcome: Literal["done", "retry", "fail", "cancel", "lost"]
    error: str | None
    traceback: str | None
    worker: str | None


class LogLine(View):
    """A line of a job's log."""

    at: Instant
    line: str


class JobDetail(JobView):
    """A job with all that is known about it."""

    attempts: list[AttemptView]
    logs: list[LogLine]
    waits_for: list[str]


class QueueCounts(View):
    """How many jobs a queue has by state."""

    waiting: int
    delayed: int
    waiting_children: int
    active: int
    completed: int
    failed: int


class QueueStats(View):
    """The statistics under the names that seed 000 gave them."""

    queue_length: int
    active_jobs: int
    failed_jobs: int
    processing: bool


class QueueView(View):
    """A queue; ``concurrency`` is what one worker runs at once, null where none is known."""

    name: str
    paused: bool
    concurrency: int | None
    counts: QueueCounts
    oldest_waiting_seconds: float | None
    workers: int
    stats: QueueStats


class WorkerView(View):
    """A worker; ``queues`` says how many jobs of each it runs at once."""

    id: str
    host: str
    pid: int
    started_at: Instant
    heartbeat_at: Instant
    queues: dict[str, int]
    active: int


class CountView(View):
    """How many records an action changed."""

    count: int


class JobFilter(Body):
    """Which jobs a bulk action is meant for; at least one member has to be given."""

    queue: OutsideId | None = None
    state: JobState | None = None
    name: OutsideId | None = None
    q: Annotated[str | None, Field(min_length=1, max_length=200)] = None


class BulkAction(Body):
    """An action on all jobs of a filter that it applies to."""

    action: Literal["retry", "promote", "cancel", "remove"]
    filter: JobFilter


class CleanOptions(Body):
    """Which finished jobs of a queue to remove."""

    state: Literal[JobState.COMPLETED, JobState.FAILED] = JobState.COMPLETED
    older_than_seconds: Annotated[float, Field(ge=0, le=10**9)] = 0


def router(db: Database, auth: Auth, registry: Registry, record: Record) -> APIRouter:
    """Return the routes of the kernel; ``record`` notes what operators did."""
    routes = APIRouter(prefix="/api/v1", tags=["Operations"])
    _add_job_reads(routes, db, auth)
    _add_job_actions(routes, db, auth, registry, record)
    _add_bulk_action(routes, db, auth, registry, record)
    _add_queue_list(routes, db, auth)
    _add_queue_actions(routes, db, auth, record)
    _add_reads(routes, db, auth)
    routes.include_router(schedule_routes.router(db, auth, registry, record))
    return routes


def _add_job_reads(routes: APIRouter, db: Database, auth: Auth) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/jobs", dependencies=reads)
    async def search_jobs(
        paging: PagingQuery,
        queue: OptionalText = None,
        state: JobState | None = None,
        name: OptionalText = None,
        q: OptionalText = None,
    ) -> Page[JobView]:
        """List jobs, newest first; `q` is a part of the id, the data or the last error."""
        key = paging.key(int)
        async with db.read() as tx:
            rows = await store.search(
                tx,
                store.Filter(queue=queue, state=state, kind=name, text=q),
                limit=paging.limit + 1,
                before=None if key is None else key[0],
            )
        kept, cursor = page(rows, paging, lambda row: (row[0],))
        return Page(items=[JobView(**job_fields(job)) for _, job in kept], next_cursor=cursor)

    @routes.get("/jobs/{jobId}", dependencies=reads)
    async def show_job(job_id: JobId) -> JobDetail:
        """Show a job: its data with secrets hidden, attempts with tracebacks, log, progress."""
        async with db.read() as tx:
            job = await store.get(tx, job_id)
            attempts = await store.attempts(tx, job_id)
            lines = await store.logs(tx, job_id)
            waits_for = await store.waits_for(tx, job_id)
        return JobDetail(
            **job_fields(job),
            attempts=[AttemptView(**attempt_fields(attempt)) for attempt in attempts],
            logs=[LogLine(**log_fields(at, line)) for at, line in lines],
            waits_for=waits_for,
        )


def _add_job_actions(
    routes: APIRouter, db: Database, auth: Auth, registry: Registry, record: Record
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.post("/jobs/{jobId}/retry")
    async def retry_job(job_id: JobId, identity: Identity = operator) -> JobView:
        """Let a failed job run again, with a fresh set of attempts."""
        async with db.write() as tx:
            job = await operate.retry(tx, registry, job_id)
            await record(tx, identity.subject, "job.retried", job_id)
        return JobView(**job_fields(job))

    @routes.post("/jobs/{jobId}/promote")
    async def promote_job(job_id: JobId, identity: Identity = operator) -> JobView:
        """Let a delayed job run now."""
        async with db.write() as tx:
            job = await operate.promote(tx, registry, job_id)
            await record(tx, identity.subject, "job.promoted", job_id)
        return JobView(**job_fields(job))

    @routes.post("/jobs/{jobId}/cancel")
    async def cancel_job(job_id: JobId, identity: Identity = operator) -> JobView:
        """Cancel a job; an active one ends as soon as its worker has seen it."""
        async with db.write() as tx:
            job = await operate.cancel(tx, registry, job_id)
            await record(tx, identity.subject, "job.cancelled", job_id)
        return JobView(**job_fields(job))


def _add_bulk_action(
    routes: APIRouter, db: Database, auth: Auth, registry: Registry, record: Record
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.post("/jobs/bulk")
    async def act_on_jobs(body: BulkAction, identity: Identity = operator) -> CountView:
        """Do something to all jobs of a filter that it applies to; answer how many those were.

        Each of its transactions leaves an audit line with how many jobs it changed.
        """
        wanted = body.filter
        given = wanted.model_dump(mode="json", exclude_none=True)
        if not given:
            raise Invalid("A bulk action needs a filter with at least one member.")
        chosen = store.Filter(
            queue=wanted.queue, state=wanted.state, kind=wanted.name, text=wanted.q
        )
        count, before = 0, None
        while True:
            async with db.write() as tx:
                step = await operate.act(tx, registry, body.action, chosen, before)
                if step.count:
                    details = {"filter": redact(given), "count": step.count}
                    action = f"jobs.{_DONE[body.action]}"
                    await record(tx, identity.subject, action, wanted.queue or "jobs", details)
            count, before = count + step.count, step.before
            if before is None:
                return CountView(count=count)


def _add_queue_list(routes: APIRouter, db: Database, auth: Auth) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/queues", dependencies=reads)
    async def list_queues() -> list[QueueView]:
        """List all queues with their counts."""
        async with db.read() as tx:
            queues = await queue_store.queues(tx)
            counts = await store.counts(tx)
            oldest = await queue_store.oldest_waiting(tx)
            workers = await queue_store.workers(tx)
        return [
            QueueView.model_validate(
                queue_fields(
                    queue, counts.get(queue.name, {}), oldest.get(queue.name), workers, tx.now
                )
            )
            for queue in queues
        ]


def _add_queue_actions(routes: APIRouter, db: Database, auth: Auth, record: Record) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    async def known(name: str) -> None:
        async with db.read() as tx:
            if name not in {queue.name for queue in await queue_store.queues(tx)}:
                raise NotFound(f"There is no queue {name!r}.")

    @routes.post("/queues/{name}/pause", status_code=204)
    async def pause_queue(name: PathId, identity: Identity = operator) -> None:
        """Let no job of a queue start, in any process; what runs goes on."""
        await known(name)
        async with db.write() as tx:
            await queue_store.pause(tx, name)
            await record(tx, identity.subject, "queue.paused", name)

    @routes.post("/queues/{name}/resume", status_code=204)
    async def resume_queue(name: PathId, identity: Identity = operator) -> None:
        """Let jobs of a paused queue start again."""
        await known(name)
        async with db.write() as tx:
            await queue_store.resume(tx, name)
            await record(tx, identity.subject, "queue.resumed", name)

    @routes.post("/queues/{name}/clean")
    async def clean_queue(
        name: PathId, body: CleanOptions | None = None, identity: Identity = operator
    ) -> CountView:
        """Remove finished jobs of a queue; answer how many."""
        await known(name)
        options = body or CleanOptions()
        age = round(options.older_than_seconds * SECOND)
        count = 0
        while True:
            async with db.write() as tx:
                step = await operate.clean(tx, name, options.state, before=tx.now - age)
                if step:
                    details = {**options.model_dump(mode="json", by_alias=True), "count": step}
                    await record(tx, identity.subject, "queue.cleaned", name, details)
            count += step
            if not step:
                return CountView(count=count)


def _add_reads(routes: APIRouter, db: Database, auth: Auth) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/workers", dependencies=reads)
    async def list_workers() -> list[WorkerView]:
        """List the workers that gave a sign of life."""
        async with db.read() as tx:
            workers = await queue_store.workers(tx)
        return [WorkerView.model_validate(worker) for worker in workers]
