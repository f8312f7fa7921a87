"""Build what watches a process: health, metrics, and the small application of a worker."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from homeroom.access import routes as access_routes
from homeroom.db import migrate
from homeroom.errors import NotFound, Unavailable
from homeroom.http.app import create_app
from homeroom.jobs.api import counts, workers
from homeroom.jobs.engine import DispatchingEngine, Engine
from homeroom.monitoring import routes as monitoring_routes
from homeroom.monitoring.api import Health, Hints, Siblings
from homeroom.settings import view
from homeroom.web.identity import Auth
from homeroom.web.problem import problem_response
from homeroom.wiring.house import House


def health_of(house: House, engine: Engine) -> Health:
    """Return what asks every part of a process how it is."""

    async def worker() -> str | None:
        async with house.db.read() as tx:
            return None if await workers(tx) else "no worker is running: jobs wait"

    async def ingest() -> str | None:
        return "the ingest writer is stuck" if house.ingest.writer.stuck else None

    async def destinations() -> str | None:
        async with house.db.read() as tx:
            off = await house.dispatches.off(tx)
        return None if not off else "switched off: " + ", ".join(sorted(off))

    probes = {"worker": worker, "ingest": ingest, "destinations": destinations}

    async def redis() -> str | None:
        try:
            return await engine.fault()
        except Unavailable:  # anybody may ask for readiness: addresses are for the log
            return "Redis cannot be used, so jobs wait; the log says why"

    if isinstance(engine, DispatchingEngine):
        probes["redis"] = redis
    return Health(house.db, migrate.head(), probes, is_newer=migrate.is_newer)


def monitoring(
    house: House, auth: Auth, health: Health, hints: Hints, siblings: Siblings | None = None
) -> APIRouter:
    """Return the routes of health, metrics, settings and hints."""

    async def job_counts() -> dict[str, dict[str, int]]:
        async with house.db.read() as tx:
            found = await counts(tx)
        return {name: {state.value: n for state, n in each.items()} for name, each in found.items()}

    async def worker_count() -> int:
        async with house.db.read() as tx:
            return len(await workers(tx))

    return monitoring_routes.router(
        auth,
        metrics=house.metrics,
        health=health,
        hints=hints,
        job_counts=job_counts,
        worker_count=worker_count,
        settings=view(house.settings),
        siblings=siblings,
    )


def probes_app(house: House, health: Health, hints: Hints) -> ASGIApp:
    """Return what a worker answers: probes and metrics, and nothing about learners."""
    auth = Auth(access_routes.identifier(house.access))
    return create_app(
        (monitoring(house, auth, health, hints),),
        ingest=_elsewhere,
        observe=house.metrics.request,
        max_body_bytes=house.settings.max_body_bytes,
    )


async def _elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    error = NotFound("A worker takes no events.", hint="Send them to `homeroom serve`.")
    await (await problem_response(error))(scope, receive, send)
