"""Build the rooms from the settings, on an open database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog

from homeroom.access.api import Access, Jwks, JwtVerifier
from homeroom.access.jobs import Pruning
from homeroom.activity.api import Activity
from homeroom.catalogue.api import Catalogue
from homeroom.clock import Clock, to_datetime
from homeroom.completion.api import Completions
from homeroom.credentials.api import (
    Credentials,
)
from homeroom.db import migrate
from homeroom.db.database import Database
from homeroom.db.group_commit import Limits
from homeroom.db.migrate import SchemaState
from homeroom.db.postgres import PostgresDatabase
from homeroom.db.sqlite import SqliteDatabase
from homeroom.dispatch.api import Dispatches
from homeroom.errors import ConfigurationError
from homeroom.jobs.api import Registry
from homeroom.lessonplans.api import LessonPlans
from homeroom.monitoring.api import Metrics
from homeroom.notify.api import Notifications
from homeroom.partner import open_client
from homeroom.progress.api import CommitStats, Ingest, ProgressJobs
from homeroom.settings import Settings, load
from homeroom.wiring.messages import notifications as build_notifications
from homeroom.wiring.moving import upgrade_apart
from homeroom.wiring.partners import (
    assessment,
    credly_unset,
    destination,
    directory,
    generator,
    issuer,
    patience,
    public_url,
    secret,
    webhook_unset,
)

log = structlog.get_logger(__name__)
EXIT_STUCK = 75
"""The exit code of a process whose writer can neither finish nor be interrupted (EX_TEMPFAIL)."""
_LAST_ANSWERS_SECONDS = 1.0


def load_settings(**given: object) -> Settings:
    """Read the settings; raise ``ConfigurationError``. ``given`` goes before the environment."""
    return load(**given)


def database_state(settings: Settings) -> SchemaState:
    """Compare the configured database with this release's schema."""
    return migrate.state(settings.database_place)


@dataclass(frozen=True, slots=True)
class House:
    """The parts that every command may need, on an open database."""

    settings: Settings
    db: Database
    registry: Registry
    access: Access
    catalogue: Catalogue
    credentials: Credentials
    dispatches: Dispatches
    notifications: Notifications
    activity: Activity
    completions: Completions
    metrics: Metrics
    ingest: Ingest
    progress_jobs: ProgressJobs
    plans: LessonPlans


@asynccontextmanager
async def open_house(settings: Settings, *, migrated: bool = False) -> AsyncIterator[House]:
    """Open the database and build the rooms on it.

    ``migrated`` brings the schema of a SQLite file up first, after a backup. A PostgreSQL database
    has other processes on it, perhaps of the release before, so that its operator says when.
    Raises ``ConfigurationError`` for a database that is not there or at an earlier release's
    schema. A later release's is worked with, so that both can run side by side.
    """
    if migrated and settings.is_embedded:
        kept = await asyncio.to_thread(upgrade_apart, settings)
        if kept is not None:
            log.info("database_backed_up", file=str(kept), before="upgrade")
    await asyncio.to_thread(_check_schema, settings)
    clock = Clock(settings.clock_offset(to_datetime(Clock().now())))
    async with AsyncExitStack() as stack:
        db = _database(settings, clock)
        await db.open()
        stack.push_async_callback(db.close)
        client = open_client()
        stack.push_async_callback(client.aclose)
        house = _furnish(settings, db, client)
        stack.push_async_callback(house.access.close)
        stack.push_async_callback(house.plans.close)
        yield house


def _database(settings: Settings, clock: Clock) -> Database:
    place = settings.database_place
    if isinstance(place, Path):
        return SqliteDatabase(place, clock)
    return PostgresDatabase(place, clock, connections=settings.database_connections)


def _check_schema(settings: Settings) -> None:
    found = migrate.standing(settings.database_place)
    if found.current is None:
        what = "There is no database at" if settings.is_embedded else "There are no tables yet in"
        raise ConfigurationError(
            f"{what} {settings.database_name}.", hint="Make it with: homeroom db upgrade"
        )
    if found.is_newer:
        log.warning("schema_is_newer", current=found.current, head=found.head)
    elif found.current != found.head:
        raise ConfigurationError(
            f"The database is at {found.current}, this release needs {found.head}.",
            hint="Bring it there with: homeroom db upgrade",
        )


def _furnish(settings: Settings, db: Database, client: httpx.AsyncClient) -> House:
    """Build the rooms, from the ones that know nobody to the ones that know many."""
    registry, metrics, catalogue = Registry(), Metrics(), Catalogue()
    people = directory(settings, db, client)
    credentials = Credentials(
        db,
        issuer=issuer(settings, client),
        directory=people,
        assessment=assessment(settings, client),
        enabled=settings.enable_credentials,
        unset=credly_unset(settings),
    )
    dispatches = Dispatches(
        db,
        source=public_url(settings),
        analytics=destination(client, settings, "analytics", "analytics", settings.analytics_url),
        hr=destination(client, settings, "hr", "the HR system", settings.hr_url),
        directory=people,
        credential_url=credentials.url_of,
        unset=webhook_unset(settings),
    )
    notifications = build_notifications(settings, db, metrics)
    activity = Activity(db, notifications)
    completions = Completions([credentials.step(), *dispatches.steps()])

    def observe(stats: CommitStats) -> None:
        metrics.commit(stats.events, stats.seconds)

    ingest = Ingest(db, completions, limits=_limits(settings), on_stuck=give_up, observe=observe)
    metrics.watch_queue(lambda: ingest.writer.waiting_weight)
    progress_jobs = ProgressJobs(
        db,
        ingest,
        completions,
        quarantine_ttl=settings.quarantine_ttl,
        event_retention=settings.event_retention,
    )
    catalogue.on_publish.append(progress_jobs.on_publish)
    catalogue.on_enrolment.append(progress_jobs.on_enrolment)
    credentials.register(registry, completions)
    dispatches.register(registry, completions)
    progress_jobs.register(registry)
    notifications.register(registry)
    activity.register(registry)
    plans = LessonPlans(db, generator(settings, db), patience(settings))
    plans.register(registry)
    Pruning(db, settings.audit_retention).register(registry)
    return House(
        settings=settings,
        db=db,
        registry=registry,
        access=_access(settings, db),
        catalogue=catalogue,
        credentials=credentials,
        dispatches=dispatches,
        notifications=notifications,
        activity=activity,
        completions=completions,
        metrics=metrics,
        ingest=ingest,
        progress_jobs=progress_jobs,
        plans=plans,
    )


def _access(settings: Settings, db: Database) -> Access:
    shared, jwks = secret(settings.jwt_secret), settings.jwt_jwks_url
    verifier = None
    if shared is not None or jwks is not None:
        verifier = JwtVerifier(
            secret=shared,
            jwks=None if jwks is None else Jwks(jwks),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    return Access(db, admin_key=secret(settings.admin_key), jwt_verifier=verifier)


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_waiting=settings.ingest_max_queue,
        max_batch=settings.ingest_max_batch,
        timeout_seconds=settings.ingest_task_timeout.total_seconds(),
        max_retries=settings.ingest_max_retries,
        retry_delay_seconds=settings.ingest_retry_delay.total_seconds(),
    )


def give_up(writer: str) -> None:
    """End the process a moment from now, for its supervisor to start it again.

    Its database thread cannot be stopped, so no orderly end is possible; what waits is answered
    with 503 first. Nothing that is not stored was acknowledged.
    """
    log.critical("writer_stuck", writer=writer, exit_code=EXIT_STUCK)
    asyncio.get_running_loop().call_later(_LAST_ANSWERS_SECONDS, os._exit, EXIT_STUCK)
