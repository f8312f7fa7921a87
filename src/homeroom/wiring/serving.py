"""Run the house: the server, the worker, the scheduler, and what stops them in good order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from fastapi import APIRouter
from starlette.types import ASGIApp

from homeroom.access import routes as access_routes
from homeroom.access.api import first_sign_in, record
from homeroom.access.jobs import PruneAccess
from homeroom.activity import routes as activity_routes
from homeroom.activity.api import PruneRuns
from homeroom.catalogue import routes as catalogue_routes
from homeroom.completion import routes as completion_routes
from homeroom.credentials import routes as credential_routes
from homeroom.dispatch import routes as dispatch_routes
from homeroom.errors import ConfigurationError, HomeroomError
from homeroom.http import log as http_log
from homeroom.http import server
from homeroom.http.app import create_app
from homeroom.http.ingest import ingest_app
from homeroom.http.ingest_openapi import INGEST_PATHS, INGEST_SCHEMAS
from homeroom.jobs import queue_store
from homeroom.jobs import routes as job_routes
from homeroom.jobs.api import declare_schedule
from homeroom.jobs.dispatcher import Dispatcher
from homeroom.jobs.engine import DispatchingEngine, Engine
from homeroom.jobs.schedule_store import refresh_schedules
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.lessonplans import routes as plan_routes
from homeroom.monitoring.api import Health, Hints, Siblings, return_memory
from homeroom.notify import routes as notify_routes
from homeroom.notify.api import PruneNotifications
from homeroom.people import routes as people_routes
from homeroom.progress import routes as progress_routes
from homeroom.progress.api import ExpireEnrolments, FoldEvents, PruneQuarantine
from homeroom.settings import Settings, problems
from homeroom.tasks import cancel
from homeroom.web.identity import Auth
from homeroom.wiring.house import House, give_up, open_house
from homeroom.wiring.partners import public_url, secret
from homeroom.wiring.queue import open_engine
from homeroom.wiring.records import RECORDS
from homeroom.wiring.watching import health_of, monitoring, probes_app

log = structlog.get_logger(__name__)
_AFTER_GRACE_SECONDS = 8.0
"""For what was stopped at the end of the grace to end: a handler has 5 s for it, and the rest is
for a database that stands still. A keeper of processes kills after 12."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands that is one of several of one server."""

    name: str
    folder: Path
    """Where they meet, to exchange metrics."""
    listening: socket.socket
    """Their common socket."""


def _app(house: House, health: Health, hints: Hints, siblings: Siblings | None) -> ASGIApp:
    settings, db = house.settings, house.db
    auth = Auth(access_routes.identifier(house.access))
    routers: Sequence[APIRouter] = (
        catalogue_routes.router(db, auth, house.catalogue, house.progress_jobs.preview),
        people_routes.router(db, auth, RECORDS),
        progress_routes.router(db, auth, house.ingest),
        completion_routes.router(db, auth, house.completions),
        credential_routes.router(db, auth, house.credentials, house.completions),
        dispatch_routes.router(db, auth, house.dispatches),
        notify_routes.router(
            db, auth, house.notifications, hook_secret=secret(settings.email_hook_secret)
        ),
        activity_routes.router(db, auth, house.activity),
        plan_routes.router(db, auth, house.plans),
        job_routes.router(db, auth, house.registry, record),
        access_routes.router(
            db,
            auth,
            house.access,
            session_lifetime=settings.session_lifetime,
            secure_cookie=public_url(settings).startswith("https:"),
        ),
        monitoring(house, auth, health, hints, siblings),
    )
    return create_app(
        routers,
        ingest=ingest_app(house.ingest, auth, db.clock, observe_status=house.metrics.events),
        ingest_paths=INGEST_PATHS,
        ingest_schemas=INGEST_SCHEMAS,
        observe=house.metrics.request,
        max_body_bytes=settings.max_body_bytes,
        cors_origins=settings.cors_origins,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """Something that runs until it is asked to stop."""

    name: str
    run: Callable[[], Awaitable[None]]
    stop: Callable[[], None]
    is_needed: bool = True
    """Whether requests and jobs need it until they have ended. What is not needed stops as soon as
    requests do, so that both are waited for at the same time."""


async def _working_parts(house: House, engine: Engine) -> list[_Part]:
    """Return worker and scheduler, with the schedules and queues that they look after."""
    settings = house.settings
    async with house.db.write() as tx:
        await declare_schedule(tx, "progress.prune", "17 * * * *", "UTC", PruneQuarantine())
        await declare_schedule(tx, "progress.expire", "7 * * * *", "UTC", ExpireEnrolments())
        if settings.event_retention is not None:
            await declare_schedule(tx, "progress.fold_events", "23 * * * *", "UTC", FoldEvents())
        await declare_schedule(tx, "access.prune", "47 * * * *", "UTC", PruneAccess())
        await declare_schedule(tx, "notify.prune", "27 3 * * *", "UTC", PruneNotifications())
        await declare_schedule(tx, "activity.prune", "37 3 * * *", "UTC", PruneRuns())
        await refresh_schedules(tx)
        for queue in house.registry.queues():
            await queue_store.keep(
                tx,
                queue,
                completed=settings.jobs_keep_completed,
                failed=settings.jobs_keep_failed,
                age=settings.jobs_keep_for,
            )
    worker = Worker(
        house.db,
        house.registry,
        engine,
        concurrency=settings.concurrency,
        lease=settings.job_lease,
        grace=settings.shutdown_grace,
        on_stuck=give_up,
        observe=house.metrics.attempt,
    )
    upkeep = Upkeep(
        house.db,
        house.registry,
        engine,
        missed=house.activity.fan_out.missed,
        observe=house.metrics.schedule,
    )
    return [
        _Part("worker", worker.run, worker.stop, is_needed=False),
        _Part("scheduler", upkeep.run, upkeep.stop, is_needed=False),
    ]


def _dispatching_parts(house: House, engine: Engine) -> list[_Part]:
    """Return what tells Redis of the jobs that this process adds, where it runs none itself."""
    if not isinstance(engine, DispatchingEngine):
        return []
    dispatcher = Dispatcher(house.db, house.registry, engine)
    return [_Part("dispatcher", dispatcher.run, dispatcher.stop)]


def _caretaker(house: House) -> _Part:
    """Return the part that checkpoints the database and gives memory back now and then."""
    stopped = asyncio.Event()
    seconds = house.settings.health_check_interval.total_seconds()

    async def run() -> None:
        while not stopped.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await stopped.wait()
            except TimeoutError:
                try:
                    await house.db.checkpoint()
                except (
                    HomeroomError
                ) as error:  # a full disk: requests get 503, and may again succeed
                    log.warning("checkpoint_failed", error=error.message)
                return_memory()

    return _Part("caretaker", run, stopped.set)


async def _run(
    parts: Sequence[_Part],
    main: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    grace: timedelta,
) -> None:
    """Run ``main`` and its parts until ``stop`` is set or one ends; what others need stops last.

    A part that does not end within the grace and some seconds, such as one that waits for a
    database that stands still, is left behind.
    Raises what the first one raised, so that a part that died is never missed.
    """
    first = asyncio.create_task(_awaited(main), name="main")
    others = {asyncio.create_task(_awaited(part.run), name=part.name): part for part in parts}
    asked = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([asked, first, *others], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for task in done - {asked, first}:
        if not task.cancelled():
            log.error("part_ended", part=task.get_name(), error=repr(task.exception()))
    stop.set()
    early = {task: part for task, part in others.items() if not part.is_needed}
    for part in early.values():
        part.stop()
    limit = grace.total_seconds() + _AFTER_GRACE_SECONDS
    _, late = await asyncio.wait([first, *early], timeout=limit)
    for task in late:
        log.error("part_left_behind", part=task.get_name(), seconds=limit)
    await cancel(*late)
    for task, part in others.items():
        if task not in early:
            part.stop()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


def look_over(settings: Settings) -> None:
    """Log what is doubtful about the settings; raise ``ConfigurationError`` for what is wrong.

    A setting whose name is misspelt has no effect, and whoever set it learns it from the log.
    """
    found = problems(settings)
    for each in found:
        if each.severity == "warning":
            log.warning("setting_doubtful", setting=each.setting, what=each.what, mend=each.mend)
    wrong = [each for each in found if each.severity == "error"]
    if wrong:
        raise ConfigurationError(
            " ".join(f"{each.setting}: {each.what}" for each in wrong),
            hint=" ".join(each.mend for each in wrong),
        )


async def serve(
    settings: Settings,
    *,
    worker: bool = True,
    started: Callable[[str, str | None], None],
    place: Place | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; with ``worker``, run the jobs and the schedules too.

    ``started`` is given the URL and, at the very first start, a one-time sign-in link. ``place`` is
    for one of several processes.
    """
    http_log.configure(settings.log_level, settings.log_format)
    if place is None:  # else it was done for all of them
        look_over(settings)
    stop = asyncio.Event()
    server.stop_on_signals(stop, kept=place is not None)
    async with open_engine(settings) as engine, open_house(settings, migrated=True) as house:
        house.db.stay_connected()
        async with house.db.write() as tx:
            token = await first_sign_in(tx)
        health, hints = health_of(house, engine), Hints(house.db)
        siblings = None if place is None else Siblings(place.folder, place.name, house.metrics)
        app = _app(house, health, hints, siblings)

        def on_started(url: str) -> None:
            public = settings.public_url or url
            started(url, None if token is None else access_routes.sign_in_link(public, token))

        async def answer() -> None:
            await server.serve(
                app,
                settings.host,
                settings.port,
                stop=stop,
                started=on_started,
                stopping=hints.close,
                grace_seconds=settings.shutdown_grace.total_seconds(),
                listening=None if place is None else place.listening,
            )

        parts = [_Part("ingest", house.ingest.run, house.ingest.close), _caretaker(house)]
        parts += _sharing_parts(siblings)
        if worker:
            parts += await _working_parts(house, engine)
        else:
            parts += _dispatching_parts(house, engine)
        await _run(parts, answer, stop, settings.shutdown_grace)


def _sharing_parts(siblings: Siblings | None) -> list[_Part]:
    return [] if siblings is None else [_Part("siblings", siblings.run, siblings.close)]


async def work(
    settings: Settings, *, started: Callable[[str | None], None], place: Place | None = None
) -> None:
    """Run worker and scheduler alone until SIGTERM or SIGINT.

    Where the settings name a port, probes and metrics are answered there; ``started`` is given the
    URL, or None. ``place`` is for one of several processes.
    """
    http_log.configure(settings.log_level, settings.log_format)
    if place is None:
        look_over(settings)
    stop = asyncio.Event()
    server.stop_on_signals(stop, kept=place is not None)
    async with open_engine(settings) as engine, open_house(settings) as house:
        house.db.stay_connected()
        siblings = None if place is None else Siblings(place.folder, place.name, house.metrics)
        ingest = _Part("ingest", house.ingest.run, house.ingest.close)
        parts = [ingest, *_sharing_parts(siblings), *await _working_parts(house, engine)]
        hints = Hints(house.db)

        async def wait() -> None:
            port = None if place is not None else settings.worker_port
            if port is None:
                started(None)
                await stop.wait()
                return
            await server.serve(
                probes_app(house, health_of(house, engine), hints),
                settings.host,
                port,
                stop=stop,
                started=started,
                stopping=hints.close,
            )

        await _run(parts, wait, stop, settings.shutdown_grace)
