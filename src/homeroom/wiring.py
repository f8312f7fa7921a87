"""Build the whole house from the settings: the only file that knows everyone.

Nothing here runs at import time. ``open_house`` makes the parts that every command needs,
``serve`` and ``work`` add what runs for ever.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from fastapi import APIRouter
from pydantic import SecretStr
from starlette.types import ASGIApp

from homeroom.access import routes as access_routes
from homeroom.access.api import Access, Jwks, JwtVerifier, first_sign_in
from homeroom.access.jobs import PruneAccess, Pruning
from homeroom.catalogue import routes as catalogue_routes
from homeroom.catalogue.api import Catalogue
from homeroom.clock import Clock, to_datetime
from homeroom.completion import routes as completion_routes
from homeroom.completion.api import Completions
from homeroom.credentials import routes as credential_routes
from homeroom.credentials.api import (
    BuiltInDirectory,
    CourseScores,
    Credentials,
    CredlyIssuer,
    Directory,
    HttpAssessment,
    HttpDirectory,
)
from homeroom.db import migrate
from homeroom.db.group_commit import Limits
from homeroom.db.migrate import SchemaState
from homeroom.db.sqlite import SqliteDatabase
from homeroom.dispatch import routes as dispatch_routes
from homeroom.dispatch.api import Destination, Dispatches
from homeroom.errors import ConfigurationError
from homeroom.http import log as http_log
from homeroom.http import server
from homeroom.http.app import create_app
from homeroom.http.ingest import ingest_app
from homeroom.http.ingest_openapi import INGEST_PATHS, INGEST_SCHEMAS
from homeroom.jobs import queue_store
from homeroom.jobs import routes as job_routes
from homeroom.jobs.api import Registry, counts, declare_schedule, workers
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.monitoring import routes as monitoring_routes
from homeroom.monitoring.api import Health, Hints, Metrics
from homeroom.partner import Partner, bearer, open_client
from homeroom.people import routes as people_routes
from homeroom.progress import routes as progress_routes
from homeroom.progress.api import CommitStats, Ingest, ProgressJobs, PruneQuarantine
from homeroom.settings import Problem, Settings, load, problems, view
from homeroom.web.identity import Auth

__all__ = [
    "House",
    "Problem",
    "SchemaState",
    "Settings",
    "database_state",
    "load_settings",
    "open_house",
    "problems",
    "serve",
    "upgrade_database",
    "work",
]

log = structlog.get_logger(__name__)
EXIT_STUCK = 75
"""The exit code of a process whose writer can neither finish nor be interrupted (EX_TEMPFAIL)."""
_LAST_ANSWERS_SECONDS = 1.0


def load_settings(**given: object) -> Settings:
    """Read the settings; raise ``ConfigurationError``. ``given`` goes before the environment."""
    return load(**given)


def database_state(settings: Settings) -> SchemaState:
    """Compare the configured database with this release's schema."""
    return migrate.state(settings.database_file)


def upgrade_database(settings: Settings) -> SchemaState:
    """Bring the configured database to this release's schema; make it if it is not there."""
    migrate.upgrade(settings.database_file)
    return database_state(settings)


@dataclass(frozen=True, slots=True)
class House:
    """The parts that every command may need, on an open database."""

    settings: Settings
    db: SqliteDatabase
    registry: Registry
    access: Access
    catalogue: Catalogue
    credentials: Credentials
    dispatches: Dispatches
    completions: Completions
    metrics: Metrics
    ingest: Ingest
    progress_jobs: ProgressJobs


@asynccontextmanager
async def open_house(settings: Settings, *, migrated: bool = False) -> AsyncIterator[House]:
    """Open the database and build the rooms on it; ``migrated`` brings its schema up first.

    Raises ``ConfigurationError`` for a database that is not there or not at this release's schema.
    """
    path = settings.database_file
    if migrated:
        await asyncio.to_thread(migrate.upgrade, path)
    else:
        await asyncio.to_thread(_check_schema, path)
    clock = Clock(settings.clock_offset(to_datetime(Clock().now())))
    async with AsyncExitStack() as stack:
        db = SqliteDatabase(path, clock)
        await db.open()
        stack.push_async_callback(db.close)
        client = open_client()
        stack.push_async_callback(client.aclose)
        house = _furnish(settings, db, client)
        stack.push_async_callback(house.access.close)
        yield house


def _check_schema(path: Path) -> None:
    found = migrate.state(path)
    if found.current is None:
        raise ConfigurationError(
            f"There is no database at {path}.", hint="Make it with: homeroom db upgrade"
        )
    if found.current != found.head:
        raise ConfigurationError(
            f"The database is at {found.current}, this release needs {found.head}.",
            hint="Bring it there with: homeroom db upgrade",
        )


def _furnish(settings: Settings, db: SqliteDatabase, client: httpx.AsyncClient) -> House:
    """Build the rooms, from the ones that know nobody to the ones that know many."""
    registry, metrics, catalogue = Registry(), Metrics(), Catalogue()
    directory = _directory(settings, db, client)
    credentials = Credentials(
        db,
        issuer=_issuer(settings, client),
        directory=directory,
        assessment=_assessment(settings, client),
        enabled=settings.enable_credentials,
        unset=_credly_unset(settings),
    )
    dispatches = Dispatches(
        db,
        source=_public_url(settings),
        analytics=_destination(client, settings, "analytics", "analytics", settings.analytics_url),
        hr=_destination(client, settings, "hr", "the HR system", settings.hr_url),
        directory=directory,
        credential_url=credentials.url_of,
        unset=_webhook_unset(settings),
    )
    completions = Completions([credentials.step(), *dispatches.steps()])

    def observe(stats: CommitStats) -> None:
        metrics.commit(stats.events, stats.seconds)

    ingest = Ingest(db, completions, limits=_limits(settings), on_stuck=_give_up, observe=observe)
    metrics.watch_queue(lambda: ingest.writer.waiting_weight)
    progress_jobs = ProgressJobs(
        db,
        ingest,
        completions,
        quarantine_ttl=settings.quarantine_ttl,
    )
    catalogue.on_publish.append(progress_jobs.on_publish)
    catalogue.on_enrolment.append(progress_jobs.on_enrolment)
    credentials.register(registry, completions)
    dispatches.register(registry, completions)
    progress_jobs.register(registry)
    Pruning(db, settings.audit_retention).register(registry)
    return House(
        settings=settings,
        db=db,
        registry=registry,
        access=_access(settings, db),
        catalogue=catalogue,
        credentials=credentials,
        dispatches=dispatches,
        completions=completions,
        metrics=metrics,
        ingest=ingest,
        progress_jobs=progress_jobs,
    )


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _public_url(settings: Settings) -> str:
    return settings.public_url or f"http://{settings.host}:{settings.port}"


def _access(settings: Settings, db: SqliteDatabase) -> Access:
    secret, jwks = _secret(settings.jwt_secret), settings.jwt_jwks_url
    verifier = None
    if secret is not None or jwks is not None:
        verifier = JwtVerifier(
            secret=secret,
            jwks=None if jwks is None else Jwks(jwks),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    return Access(db, admin_key=_secret(settings.admin_key), jwt_verifier=verifier)


def _directory(settings: Settings, db: SqliteDatabase, client: httpx.AsyncClient) -> Directory:
    if settings.directory_url is None:
        return BuiltInDirectory(db)
    token = bearer(_secret(settings.directory_token))
    return HttpDirectory(
        Partner(client, "the directory", settings.directory_url, authorization=token)
    )


def _assessment(settings: Settings, client: httpx.AsyncClient) -> HttpAssessment | CourseScores:
    if settings.assessment_url is None:
        return CourseScores()
    token = bearer(_secret(settings.assessment_token))
    return HttpAssessment(
        Partner(client, "the assessment service", settings.assessment_url, authorization=token)
    )


def _issuer(settings: Settings, client: httpx.AsyncClient) -> CredlyIssuer | None:
    url, organization = settings.credly_url, settings.credly_organization
    token = _secret(settings.credly_token)
    if url is None or organization is None or token is None:
        return None
    return CredlyIssuer(client, url, organization, token)


def _credly_unset(settings: Settings) -> str:
    for name in ("credly_url", "credly_organization", "credly_token"):
        if getattr(settings, name) is None:
            return f"HOMEROOM_{name.upper()} is not set"
    return "HOMEROOM_CREDLY_URL is not set"


def _destination(
    client: httpx.AsyncClient, settings: Settings, name: str, title: str, url: str | None
) -> Destination | None:
    secret = _secret(settings.webhook_secret)
    if url is None or secret is None:
        return None
    return Destination(client, name, title, url, secret)


def _webhook_unset(settings: Settings) -> dict[str, str]:
    """Say which setting a destination lacks: its URL, or the secret that signs."""
    if settings.webhook_secret is not None:
        return {}
    urls = {"analytics": settings.analytics_url, "hr": settings.hr_url}
    return {name: "HOMEROOM_WEBHOOK_SECRET is not set" for name, url in urls.items() if url}


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_waiting=settings.ingest_max_queue,
        max_batch=settings.ingest_max_batch,
        timeout_seconds=settings.ingest_task_timeout.total_seconds(),
        max_retries=settings.ingest_max_retries,
        retry_delay_seconds=settings.ingest_retry_delay.total_seconds(),
    )


def _give_up(writer: str) -> None:
    """End the process a moment from now, for its supervisor to start it again.

    Its database thread cannot be stopped, so no orderly end is possible; what waits is answered
    with 503 first. Nothing that is not stored was acknowledged.
    """
    log.critical("writer_stuck", writer=writer, exit_code=EXIT_STUCK)
    asyncio.get_running_loop().call_later(_LAST_ANSWERS_SECONDS, os._exit, EXIT_STUCK)


def _app(house: House, health: Health, hints: Hints) -> ASGIApp:
    settings, db, metrics = house.settings, house.db, house.metrics
    auth = Auth(access_routes.identifier(house.access))

    async def job_counts() -> dict[str, dict[str, int]]:
        async with db.read() as tx:
            found = await counts(tx)
        return {name: {state.value: n for state, n in each.items()} for name, each in found.items()}

    async def worker_count() -> int:
        async with db.read() as tx:
            return len(await workers(tx))

    routers: Sequence[APIRouter] = (
        catalogue_routes.router(db, auth, house.catalogue, house.progress_jobs.preview),
        people_routes.router(db, auth),
        progress_routes.router(db, auth, house.ingest),
        completion_routes.router(db, auth, house.completions),
        credential_routes.router(db, auth, house.credentials, house.completions),
        dispatch_routes.router(db, auth, house.dispatches),
        job_routes.router(db, auth, house.registry),
        access_routes.router(
            db,
            auth,
            house.access,
            session_lifetime=settings.session_lifetime,
            secure_cookie=_public_url(settings).startswith("https:"),
        ),
        monitoring_routes.router(
            auth,
            metrics=metrics,
            health=health,
            hints=hints,
            job_counts=job_counts,
            worker_count=worker_count,
            settings=view(settings),
        ),
    )
    return create_app(
        routers,
        ingest=ingest_app(house.ingest, auth, db.clock, observe_status=metrics.events),
        ingest_paths=INGEST_PATHS,
        ingest_schemas=INGEST_SCHEMAS,
        observe=metrics.request,
        max_body_bytes=settings.max_body_bytes,
        cors_origins=settings.cors_origins,
    )


def _health(house: House) -> Health:
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
    return Health(house.db, migrate.head(), probes)


@dataclass(frozen=True, slots=True)
class _Part:
    """Something that runs until it is asked to stop."""

    name: str
    run: Callable[[], Awaitable[None]]
    stop: Callable[[], None]


async def _working_parts(house: House) -> list[_Part]:
    """Return worker and scheduler, with the schedules and queues that they look after."""
    settings = house.settings
    async with house.db.write() as tx:
        await declare_schedule(tx, "progress.prune", "17 * * * *", "UTC", PruneQuarantine())
        await declare_schedule(tx, "access.prune", "47 * * * *", "UTC", PruneAccess())
        for queue in house.registry.queues():
            await queue_store.keep(
                tx,
                queue,
                completed=settings.jobs_keep_completed,
                failed=settings.jobs_keep_failed,
                age=settings.jobs_keep_for,
            )
    engine = SqlEngine()
    await engine.open()
    worker = Worker(
        house.db,
        house.registry,
        engine,
        concurrency=settings.concurrency,
        lease=settings.job_lease,
        grace=settings.shutdown_grace,
        on_stuck=_give_up,
    )
    upkeep = Upkeep(house.db, house.registry, engine)
    return [
        _Part("worker", worker.run, worker.stop),
        _Part("scheduler", upkeep.run, upkeep.stop),
    ]


def _caretaker(house: House) -> _Part:
    """Return the part that checkpoints the database and gives memory back now and then."""
    stopped = asyncio.Event()
    seconds = house.settings.health_check_interval.total_seconds()

    async def run() -> None:
        while not stopped.is_set():
            try:
                await asyncio.wait_for(stopped.wait(), seconds)
            except TimeoutError:
                await house.db.checkpoint()

    return _Part("caretaker", run, stopped.set)


async def _run(parts: Sequence[_Part], main: _Part) -> None:
    """Run ``main`` and its parts; when one ends, stop them all, ``main`` before the others.

    Raises what the first one raised, so that a part that died is never missed.
    """
    first = asyncio.create_task(_awaited(main.run), name=main.name)
    others = {asyncio.create_task(_awaited(part.run), name=part.name): part for part in parts}
    done, _ = await asyncio.wait([first, *others], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if task is not first and not task.cancelled():
            log.error("part_ended", part=task.get_name(), error=repr(task.exception()))
    main.stop()
    await asyncio.wait([first])
    for part in others.values():
        part.stop()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


def _refuse_problems(settings: Settings) -> None:
    wrong = [problem for problem in problems(settings) if problem.severity == "error"]
    if wrong:
        raise ConfigurationError(
            " ".join(f"{each.setting}: {each.what}" for each in wrong),
            hint=" ".join(each.mend for each in wrong),
        )


async def serve(
    settings: Settings, *, worker: bool = True, started: Callable[[str, str | None], None]
) -> None:
    """Serve until SIGTERM or SIGINT; with ``worker``, run the jobs and the schedules too.

    ``started`` is given the URL and, at the very first start, a one-time sign-in link.
    """
    http_log.configure(settings.log_level, settings.log_format)
    _refuse_problems(settings)
    stop = asyncio.Event()
    server.stop_on_signals(stop)
    async with open_house(settings, migrated=True) as house:
        async with house.db.write() as tx:
            token = await first_sign_in(tx)
        health, hints = _health(house), Hints(house.db)
        app = _app(house, health, hints)

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
            )

        parts = [_Part("ingest", house.ingest.run, house.ingest.close), _caretaker(house)]
        if worker:
            parts += await _working_parts(house)
        await _run(parts, _Part("server", answer, stop.set))


async def work(settings: Settings, *, started: Callable[[], None]) -> None:
    """Run worker and scheduler alone until SIGTERM or SIGINT."""
    http_log.configure(settings.log_level, settings.log_format)
    stop = asyncio.Event()
    server.stop_on_signals(stop)
    async with open_house(settings) as house:
        ingest = _Part("ingest", house.ingest.run, house.ingest.close)
        parts = [ingest, *await _working_parts(house)]

        async def wait() -> None:
            started()
            await stop.wait()

        await _run(parts, _Part("signals", wait, stop.set))
