"""Health checks, monitoring routes, and the probes application of a worker."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from homeroom.access.api import redeem_stream_ticket
from homeroom.bootstrap.application import Application
from homeroom.bootstrap.database_metrics import read_database_gauges
from homeroom.bootstrap.manager_relations import MANAGER_RELATIONS
from homeroom.db import migrate
from homeroom.errors import NotFound, Unavailable
from homeroom.http import logging_config
from homeroom.http.app import create_app
from homeroom.identity import Identity
from homeroom.instant import SECOND
from homeroom.jobs.api import workers
from homeroom.jobs.engine import DispatchingEngine, Engine
from homeroom.jobs.job_counter import JobCounter
from homeroom.monitoring import routes as monitoring_routes
from homeroom.monitoring.cached_reading import CachedReading
from homeroom.monitoring.health import Health
from homeroom.monitoring.hint_stream import HintStreams
from homeroom.monitoring.peer_metrics import PeerMetrics
from homeroom.monitoring.process_watch import ProcessWatch
from homeroom.monitoring.routes import StepTotals
from homeroom.partner.key_expiry import DEGRADED_BEFORE, describe_expiry
from homeroom.settings import list_settings, list_step_settings
from homeroom.web.identity import Auth
from homeroom.web.problem import problem_response

_MIN_READING_SECONDS = 1.0
"""Shortest time for which gauges of the database are kept: several servers may be scraped."""


def build_watch(application: Application) -> ProcessWatch:
    """Return the watch of a process, as the source of its metrics too."""
    watch = ProcessWatch(
        application.db, application.settings.data_dir, lambda: logging_config.lost_lines
    )
    application.metrics.watch_process(watch.collect)
    return watch


def build_health(application: Application, engine: Engine, watch: ProcessWatch) -> Health:
    """Return the health checks of a process."""

    async def worker() -> str | None:
        async with application.db.read() as tx:
            found = await workers(tx)
        served = {queue for each in found if each.state == "running" for queue in each.queues}
        stale = sum(each.state == "stale" for each in found)
        if not served:
            return "no worker is running, so jobs wait"
        if stale:
            return f"{stale} of {len(found)} workers do not respond"
        unserved = [queue for queue in application.registry.queues() if queue not in served]
        return f"no worker runs the jobs of {', '.join(unserved)}" if unserved else None

    async def ingest() -> str | None:
        return "the ingest writer is stuck" if application.ingest.writer.stuck else None

    async def destinations() -> str | None:
        async with application.db.read() as tx:
            off = await application.dispatches.list_disabled(tx)
        return None if not off else "disabled: " + ", ".join(sorted(off))

    async def partners() -> str | None:
        async with application.db.read() as tx:
            found, now = await application.destinations.list_all(tx), tx.now
        shut = [f"{each.name} {each.state}" for each in found if each.state in {"away", "refused"}]
        messages = ["jobs wait for: " + ", ".join(shut)] if shut else []
        messages += [
            describe_expiry(each.name, each.key_expires_at, now)
            for each in found
            if each.key_expires_at is not None and now >= each.key_expires_at - DEGRADED_BEFORE
        ]
        return "; ".join(messages) or None

    probes = {
        "worker": worker,
        "ingest": ingest,
        "destinations": destinations,
        "storage": watch.storage_fault,
        "resources": watch.resource_fault,
        "partners": partners,
    }

    async def redis() -> str | None:
        try:
            return await engine.fault()
        except Unavailable:  # readiness is public: addresses appear in the log only
            return "Redis cannot be used, so jobs wait; the log has the reason"

    if isinstance(engine, DispatchingEngine):
        probes["redis"] = redis
    return Health(
        application.db, migrate.head_revision(), probes, is_newer=migrate.is_newer_revision
    )


def build_monitoring_router(
    application: Application,
    auth: Auth,
    health: Health,
    hints: HintStreams,
    peers: PeerMetrics | None = None,
) -> APIRouter:
    """Return the routes of health, metrics, settings and hints."""
    counter = JobCounter()

    async def job_counts() -> dict[str, dict[str, int]]:
        async with application.db.read() as tx:
            queues = await counter.count(tx)
        return {
            queue: {str(state): count for state, count in states.items()}
            for queue, states in queues.items()
        }

    database_gauges = CachedReading(
        lambda: read_database_gauges(application.db), min_seconds=_MIN_READING_SECONDS
    )

    async def read_shared_metrics() -> None:
        application.metrics.set_database_gauges(await database_gauges.get())
        async with application.db.read() as tx:
            found = await application.destinations.list_all(tx)
        application.metrics.set_partners(
            {each.name: (each.state, each.held_jobs) for each in found}
        )

    async def worker_counts() -> dict[str, int]:
        async with application.db.read() as tx:
            states = [worker.state for worker in await workers(tx)]
        return {state: states.count(state) for state in ("running", "stale", "gone")}

    async def step_totals() -> StepTotals:
        async with application.db.read() as tx:
            found = await application.completions.count_steps(tx)
            now = tx.now
        oldest = {
            step: max(now - since, 0) / SECOND for step, since in found.outstanding_since.items()
        }
        return StepTotals(found.by_step, oldest)

    async def redeem_ticket(ticket: str) -> Identity:
        async with application.db.write() as tx:
            return await redeem_stream_ticket(tx, ticket)

    return monitoring_routes.router(
        auth,
        metrics=application.metrics,
        health=health,
        hints=hints,
        job_counts=job_counts,
        worker_counts=worker_counts,
        step_totals=CachedReading(step_totals).get,
        settings=[
            *list_settings(application.settings),
            *list_step_settings(application.steps.settings),
        ],
        read_shared_metrics=read_shared_metrics,
        redeem_ticket=redeem_ticket,
        peers=peers,
    )


def build_probes_app(application: Application, health: Health, hints: HintStreams) -> ASGIApp:
    """Return the HTTP application of a worker: probes and metrics, no learner data."""
    auth = Auth(application.access.identify, MANAGER_RELATIONS)
    return create_app(
        (build_monitoring_router(application, auth, health, hints),),
        ingest=_reject_ingest,
        observe=application.metrics.observe_request,
        max_body_bytes=application.settings.max_body_bytes,
    )


async def _reject_ingest(scope: Scope, receive: Receive, send: Send) -> None:
    error = NotFound("A worker accepts no events.", hint="Send them to `homeroom serve`.")
    await (await problem_response(error))(scope, receive, send)
