"""HTTP routes of queues: counts, limits, pauses, and the removal of jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.identity import Identity, Role
from homeroom.instant import SECOND
from homeroom.jobs import job_actions, queue_store
from homeroom.jobs.api import queue_fields
from homeroom.jobs.job import JobState
from homeroom.jobs.job_actions import AuditRecorder
from homeroom.jobs.job_counter import JobCounter
from homeroom.web.identity import Auth
from homeroom.web.model import PathId, RequestModel, ResponseModel


class QueueCounts(ResponseModel):
    """The number of jobs of a queue by state."""

    waiting: int
    delayed: int
    waiting_children: int
    active: int
    completed: int
    failed: int
    cancelled: int
    """Cancelled jobs, which `failed` does not count though their state is `failed`."""


class QueueStats(ResponseModel):
    """Queue statistics under the names that dashboards use."""

    queue_length: int
    active_jobs: int
    failed_jobs: int
    processing: bool


class RedisLimits(ResponseModel):
    """Limits for all workers together, set in Redis by another program."""

    concurrency: int | None
    rate_max: int | None
    rate_window_seconds: float | None


class QueueLimitsBody(RequestModel):
    """The limits of a queue, kept in its row; null is no limit of its own.

    They hold for all workers within a second or two, on every engine.
    """

    concurrency: Annotated[int | None, Field(ge=1, le=1_000)] = None
    """Jobs that run at once in each worker; null: the setting of the worker."""
    rate_max: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Jobs that all workers together may start within `rateWindowSeconds`."""
    rate_window_seconds: Annotated[float | None, Field(gt=0, le=86_400)] = None


class QueueLimitsView(ResponseModel):
    """The limits of a queue's own; null is none."""

    concurrency: int | None
    rate_max: int | None
    rate_window_seconds: float | None


class QueueView(ResponseModel):
    """A queue; ``concurrency`` is that of one worker, null where none is known.

    A queue that is paused in Redis, as by Bull Board, is ``paused`` here within a second or two.
    """

    name: str
    paused: bool
    concurrency: int | None
    limits: QueueLimitsView
    redis_limits: RedisLimits | None
    counts: QueueCounts
    oldest_waiting_seconds: float | None
    workers: int
    stats: QueueStats


class AffectedCount(ResponseModel):
    """The number of records that an action changed."""

    count: int


class CleanOptions(RequestModel):
    """The finished jobs of a queue to remove."""

    state: Literal[JobState.COMPLETED, JobState.FAILED] = JobState.COMPLETED
    older_than_seconds: Annotated[float, Field(ge=0, le=10**9)] = 0
    outstanding: bool = False
    """Remove failed jobs too that something waits for, such as the step of a completion."""


def router(db: Database, auth: Auth, record: AuditRecorder, counter: JobCounter) -> APIRouter:
    """Return the routes; ``record`` writes audit lines."""
    routes = APIRouter()
    _add_queue_list(routes, db, auth, counter)
    _add_queue_actions(routes, db, auth, record, counter)
    return routes


def _add_queue_list(routes: APIRouter, db: Database, auth: Auth, counter: JobCounter) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/queues", dependencies=reads)
    async def list_queues() -> list[QueueView]:
        """List all queues with their counts."""
        async with db.read() as tx:
            return await _list_queues(tx, counter)


async def _list_queues(tx: Tx, counter: JobCounter) -> list[QueueView]:
    queues = await queue_store.queues(tx)
    counts = await counter.count(tx)
    oldest = await queue_store.oldest_waiting(tx)
    workers = await queue_store.workers(tx)
    return [
        QueueView.model_validate(
            queue_fields(queue, counts.get(queue.name, {}), oldest.get(queue.name), workers, tx.now)
        )
        for queue in queues
    ]


def _add_queue_actions(
    routes: APIRouter, db: Database, auth: Auth, record: AuditRecorder, counter: JobCounter
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    async def check_queue_exists(name: str) -> None:
        async with db.read() as tx:
            if name not in {queue.name for queue in await queue_store.queues(tx)}:
                raise NotFound(f"There is no queue {name!r}.")

    @routes.put("/queues/{name}")
    async def put_queue_limits(
        name: PathId, body: QueueLimitsBody, identity: Identity = operator
    ) -> QueueView:
        """Set concurrency and rate limit of a queue; members left out are removed."""
        await check_queue_exists(name)
        rate = queue_store.rate_limit(body.rate_max, body.rate_window_seconds)
        async with db.write() as tx:
            await queue_store.set_queue_limits(tx, name, concurrency=body.concurrency, rate=rate)
            details = body.model_dump(mode="json", by_alias=True)
            await record(tx, identity.subject, "queue.limited", name, details)
        async with db.read() as tx:
            return next(each for each in await _list_queues(tx, counter) if each.name == name)

    @routes.post("/queues/{name}/pause", status_code=204)
    async def pause_queue(name: PathId, identity: Identity = operator) -> None:
        """Stop starting jobs of a queue in every process; running jobs go on."""
        await check_queue_exists(name)
        async with db.write() as tx:
            await queue_store.pause(tx, name)
            await record(tx, identity.subject, "queue.paused", name)

    @routes.post("/queues/{name}/resume", status_code=204)
    async def resume_queue(name: PathId, identity: Identity = operator) -> None:
        """Start jobs of a paused queue again."""
        await check_queue_exists(name)
        async with db.write() as tx:
            await queue_store.resume(tx, name)
            await record(tx, identity.subject, "queue.resumed", name)

    @routes.post("/queues/{name}/clean")
    async def clean_queue(
        name: PathId, body: CleanOptions | None = None, identity: Identity = operator
    ) -> AffectedCount:
        """Remove finished jobs of a queue; return their number.

        Failed jobs that something still waits for are kept, unless `outstanding` is true.
        """
        await check_queue_exists(name)
        options = body or CleanOptions()
        age = round(options.older_than_seconds * SECOND)
        count = 0
        while True:
            async with db.write() as tx:
                step = await job_actions.clean(
                    tx,
                    name,
                    options.state,
                    before=tx.now - age,
                    outstanding=options.outstanding,
                )
                if step:
                    unsaid = None if options.outstanding else {"outstanding"}
                    fields = options.model_dump(mode="json", by_alias=True, exclude=unsaid)
                    details = {**fields, "count": step}
                    await record(tx, identity.subject, "queue.cleaned", name, details)
            count += step
            if not step:
                return AffectedCount(count=count)
