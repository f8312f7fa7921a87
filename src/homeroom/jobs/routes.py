"""Queues, jobs, workers and schedules over HTTP: viewers read, operators act."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from homeroom.clock import SECOND
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Invalid, NotFound
from homeroom.jobs import operate, queue_store, schedule_store, store
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobState
from homeroom.jobs.redact import redact
from homeroom.jobs.show import attempt_fields, job_fields, log_fields, queue_fields, schedule_fields
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, OutsideId, PathId, View
from homeroom.web.paging import Page, PagingQuery, page

OptionalText = Annotated[str | None, Query(min_length=1, max_length=200)]
JobId = Annotated[OutsideId, Path(alias="jobId")]
_DONE = {"retry": "retried", "promote": "promoted", "cancel": "cancelled", "remove": "removed"}


class Record(Protocol):
    """Writes an audit line in a transaction; ``access`` lies above this room and lends its own."""

    def __call__(
        self,
        tx: Tx,
        actor: str,
        action: str,
        subject: str,
        details: Mapping[str, Any] | None = None,
    ) -> Awaitable[None]:
        """Take who did what to what."""


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


class SlotView(View):
    """What became of a slot of a schedule."""

    slot: str
    state: Literal["fired", "missed"]
    slot_at: Instant
    fired_at: Instant
    late_seconds: float
    job_id: str | None


class ScheduleView(View):
    """A schedule with its last slots."""

    name: str
    cron: str
    time_zone: str
    job_name: str
    paused: bool
    catch_up_seconds: float
    next_at: Instant | None
    slots: list[SlotView]


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


class ScheduleBody(Body):
    """When a schedule is to fire; what is left out stays as it is."""

    cron: Annotated[str | None, Field(max_length=200)] = None
    time_zone: Annotated[str | None, Field(max_length=100)] = None
    catch_up_seconds: Annotated[float | None, Field(ge=0, le=31_536_000)] = None


class RunView(View):
    """A run that was asked for; a dry one has ``preview`` and no job."""

    schedule: str
    slot: str
    slot_at: Instant
    dry_run: bool
    job_id: str | None
    preview: Any


def router(db: Database, auth: Auth, registry: Registry, record: Record) -> APIRouter:
    """Return the routes of the kernel; ``record`` notes what operators did."""
    routes = APIRouter(prefix="/api/v1", tags=["Operations"])
    _add_job_reads(routes, db, auth)
    _add_job_actions(routes, db, auth, registry, record)
    _add_bulk_action(routes, db, auth, registry, record)
    _add_queue_list(routes, db, auth)
    _add_queue_actions(routes, db, auth, record)
    _add_reads(routes, db, auth)
    _add_schedule_actions(routes, db, auth, registry, record)
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

    @routes.get("/schedules", dependencies=reads)
    async def list_schedules() -> list[ScheduleView]:
        """List the schedules with their next slot and what became of the last ones."""
        async with db.read() as tx:
            schedules = await schedule_store.schedules(tx)
            slots = {
                schedule.name: await schedule_store.fired_slots(tx, schedule.name, limit=10)
                for schedule in schedules
            }
        return [
            ScheduleView.model_validate(schedule_fields(schedule, slots[schedule.name]))
            for schedule in schedules
        ]


def _add_schedule_actions(
    routes: APIRouter, db: Database, auth: Auth, registry: Registry, record: Record
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    async def shown(name: str) -> ScheduleView:
        async with db.read() as tx:
            found = await schedule_store.get_schedule(tx, name)
            slots = await schedule_store.fired_slots(tx, name, limit=10)
        return ScheduleView.model_validate(schedule_fields(found, slots))

    @routes.post("/schedules/{name}/run")
    async def run_schedule(
        name: PathId,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        identity: Identity = operator,
    ) -> RunView:
        """Run the latest slot now, or say with `dryRun` who would get what and who would not."""
        if dry_run:
            async with db.read() as tx:
                slot, found = await schedule_store.preview(tx, registry, name)
            return RunView(
                schedule=name,
                slot=slot.name,
                slot_at=slot.at,
                dry_run=True,
                job_id=None,
                preview=redact(found),
            )
        async with db.write() as tx:
            taken = await schedule_store.run_now(tx, registry, name)
            await record(tx, identity.subject, "schedule.run", name, {"slot": taken.slot})
        return RunView(
            schedule=name,
            slot=taken.slot,
            slot_at=taken.slot_at,
            dry_run=False,
            job_id=taken.job,
            preview=None,
        )

    @routes.put("/schedules/{name}")
    async def change_schedule(
        name: PathId, body: ScheduleBody, identity: Identity = operator
    ) -> ScheduleView:
        """Change when a schedule fires; a new cron or zone counts from now on."""
        window = None
        if body.catch_up_seconds is not None:
            window = timedelta(seconds=body.catch_up_seconds)
        async with db.write() as tx:
            await schedule_store.change_schedule(
                tx, name, cron=body.cron, time_zone=body.time_zone, catch_up=window
            )
            details = body.model_dump(mode="json", by_alias=True, exclude_none=True)
            await record(tx, identity.subject, "schedule.changed", name, details)
        return await shown(name)

    @routes.post("/schedules/{name}/pause")
    async def pause_schedule(name: PathId, identity: Identity = operator) -> ScheduleView:
        """Let no slot fire until the schedule is resumed."""
        async with db.write() as tx:
            await schedule_store.pause_schedule(tx, name)
            await record(tx, identity.subject, "schedule.paused", name)
        return await shown(name)

    @routes.post("/schedules/{name}/resume")
    async def resume_schedule(name: PathId, identity: Identity = operator) -> ScheduleView:
        """Let slots fire again from now on; those of the pause are left out."""
        async with db.write() as tx:
            await schedule_store.resume_schedule(tx, name)
            await record(tx, identity.subject, "schedule.resumed", name)
        return await shown(name)
