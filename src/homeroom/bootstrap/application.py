"""The application: all packages, built from the settings on an open database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import structlog

from homeroom.access.api import Authenticator
from homeroom.access.jobs import PruneAccessHandler
from homeroom.achievements.api import Achievements
from homeroom.activity.api import Activity
from homeroom.bootstrap.database import open_database
from homeroom.bootstrap.database_commands import upgrade_in_subprocess
from homeroom.bootstrap.open_telemetry import open_tracer
from homeroom.bootstrap.partners import (
    build_assessment,
    build_badge_issuer,
    build_credly_issuer,
    build_destination,
    build_directory,
    build_generator,
    build_notifications,
    build_xapi_config,
    destination_profiles,
    llm_retry_policy,
    missing_credly_setting,
    missing_webhook_settings,
    print_style,
    public_url,
    secret_text,
)
from homeroom.bootstrap.steps import BuiltSteps, build_steps
from homeroom.bootstrap.tokens import build_jwt_verifier
from homeroom.catalogue.api import Catalogue
from homeroom.changes.api import begin_epoch_after_move
from homeroom.changes.jobs import PruneChangesHandler
from homeroom.clock import Clock
from homeroom.commit_priority import CommitPriority
from homeroom.completion.api import Completions, StepContext
from homeroom.credentials.api import (
    AwardSigner,
    Credentials,
    LearnerMessages,
    OpenBadgeIssuer,
)
from homeroom.db.database import Database
from homeroom.db.group_commit import GroupCommitLimits
from homeroom.db.sqlite.reserve import release_reserve_if_full
from homeroom.db.sqlite.transaction import translate_engine_errors
from homeroom.dispatch.api import Dispatches, XapiConfig
from homeroom.dispatch.destinations import Destinations
from homeroom.dispatch.hr_report import HrReports
from homeroom.errors import Unavailable
from homeroom.instant import SECOND
from homeroom.jobs.api import FixedDelays, Registry
from homeroom.lessonplans.api import LessonPlans
from homeroom.lessonplans.course_publication import CoursePublisher
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.monitoring.alerts import Alerts
from homeroom.monitoring.metrics import Metrics
from homeroom.notify.api import Notifications
from homeroom.partner.client import open_partner_client
from homeroom.progress.api import CommitStats, Ingest, ProgressJobs
from homeroom.settings import Settings

log = structlog.get_logger(__name__)

EXIT_STUCK = 75
"""Exit code of a process whose ingest writer neither ends nor can be interrupted (EX_TEMPFAIL)."""
_STUCK_MARKER = "writer-stuck"
_EXIT_DELAY_SECONDS = 1.0
"""Time for the 503 responses to waiting requests."""


@dataclass(frozen=True, slots=True)
class Application:
    """All packages, on one open database."""

    settings: Settings
    db: Database
    registry: Registry
    access: Authenticator
    catalogue: Catalogue
    achievements: Achievements
    credentials: Credentials
    badge_issuer: OpenBadgeIssuer
    dispatches: Dispatches
    destinations: Destinations
    steps: BuiltSteps
    hr_reports: HrReports
    notifications: Notifications
    activity: Activity
    completions: Completions
    metrics: Metrics
    alerts: Alerts
    ingest: Ingest
    progress_jobs: ProgressJobs
    plans: LessonPlans
    plan_publisher: CoursePublisher
    plan_style: PrintStyle


@asynccontextmanager
async def open_application(
    settings: Settings, *, migrated: bool = False
) -> AsyncIterator[Application]:
    """Open the database and build the application on it.

    ``migrated`` first upgrades the schema of a SQLite file, after a backup. Other processes may use
    a PostgreSQL database, perhaps of the previous release: its operator runs the upgrade.
    Raises ``ConfigurationError`` for a missing database and for the schema of an earlier release.
    The schema of a later release is accepted, so that both can run side by side.
    """
    location = settings.database_location
    if isinstance(location, Path) and release_reserve_if_full(location):
        log.error("disk_reserve_released", file=str(location), fix="Free some space on the disk.")
    if migrated and settings.is_embedded:
        with translate_engine_errors():
            backup_file = await asyncio.to_thread(upgrade_in_subprocess, settings)
        if backup_file is not None:
            log.info("database_backed_up", file=str(backup_file), before="upgrade")
    async with AsyncExitStack() as stack:
        with translate_engine_errors():
            db = await stack.enter_async_context(open_database(settings))
        await _begin_change_epoch(db)
        db.tracer = await stack.enter_async_context(open_tracer())
        client = open_partner_client(db.tracer)
        stack.push_async_callback(client.aclose)
        application = _build_application(settings, db, client)
        stack.push_async_callback(application.access.close)
        stack.push_async_callback(application.plans.close)
        stack.push_async_callback(application.badge_issuer.close)
        stack.push_async_callback(application.notifications.close)
        yield application


async def _begin_change_epoch(db: Database) -> None:
    """Begin an epoch of changes if the data has moved, before this process writes."""
    try:
        await begin_epoch_after_move(db)
    except Unavailable as error:  # a full disk: reading must work, and the feed tries again
        log.warning("change_epoch_postponed", error=error.message)


def _build_application(settings: Settings, db: Database, client: httpx.AsyncClient) -> Application:
    """Build the packages in the order of their dependencies."""
    registry, metrics, catalogue = Registry(), Metrics(), Catalogue()
    people = build_directory(settings, db, client)
    badge_issuer = build_badge_issuer(settings, db)
    notifications = build_notifications(settings, db, metrics)
    messages = LearnerMessages(db, notifications, people, is_enabled=settings.learner_messages)
    credentials = Credentials(
        db,
        issuer=build_credly_issuer(settings, db, client),
        badges=(
            badge_issuer
            if not settings.uses_credly or settings.credential_without_template == "sign"
            else None
        ),
        uses_credly=settings.uses_credly,
        directory=people,
        assessment=build_assessment(settings, db, client),
        enabled=settings.enable_credentials,
        missing_setting=missing_credly_setting(settings),
        retries=FixedDelays(settings.credly_retry_delays),
        messages=messages,
    )
    dispatches = _build_dispatches(settings, db, client, credentials)
    activity = Activity(db, notifications)
    completions = Completions()
    context = StepContext(
        db,
        client,
        public_url(settings),
        people,
        parts={
            Completions: completions,
            Credentials: credentials,
            Dispatches: dispatches,
            XapiConfig: build_xapi_config(settings, db, client),
        },
    )
    steps = build_steps(settings, context, completions, registry)
    messages.register(registry, completions)
    achievements = Achievements(db, completions)
    achievements.register(registry)
    AwardSigner(
        db, achievements, badge_issuer, people, is_enabled=settings.enable_credentials
    ).register(registry)

    def observe_commit(stats: CommitStats) -> None:
        metrics.observe_commit(stats.events, stats.seconds)

    def observe_too_busy(priority: CommitPriority, events: int) -> None:
        metrics.count_too_busy(priority.name.lower(), events)

    metrics.watch_counts(db.counts)
    ingest = Ingest(
        db,
        completions,
        limits=_group_commit_limits(settings),
        on_stuck=partial(exit_stuck, settings.data_dir),
        observe=observe_commit,
        observe_too_busy=observe_too_busy,
    )
    metrics.watch_queue(
        lambda: ingest.writer.waiting_weight,
        {
            priority.name.lower(): partial(ingest.writer.waiting_weight_of, priority)
            for priority in CommitPriority
        },
    )
    progress_jobs = ProgressJobs(
        db,
        ingest,
        completions,
        quarantine_ttl=settings.quarantine_ttl,
        event_retention=settings.event_retention,
    )
    catalogue.on_publish.append(progress_jobs.on_publish)
    catalogue.on_enrolment.append(progress_jobs.on_enrolment)
    dispatches.register(registry, completions, steps.message_steps)
    progress_jobs.register(registry)
    notifications.register(registry)
    activity.register(registry)
    plans = LessonPlans(db, build_generator(settings, db), llm_retry_policy(settings))
    plans.register(registry)
    PruneAccessHandler(db, settings.audit_retention).register(registry)
    PruneChangesHandler(db, settings.change_retention).register(registry)
    return Application(
        settings=settings,
        db=db,
        registry=registry,
        access=_build_access(settings, db),
        catalogue=catalogue,
        achievements=achievements,
        credentials=credentials,
        badge_issuer=badge_issuer,
        dispatches=dispatches,
        destinations=Destinations(
            db, destination_profiles(settings, steps.destination_profiles()), completions
        ),
        steps=steps,
        hr_reports=HrReports(db, completions, people, credentials.find_url),
        notifications=notifications,
        activity=activity,
        completions=completions,
        metrics=metrics,
        alerts=Alerts(
            db,
            notifications,
            console_url=f"{public_url(settings)}/console/alerts",
            addresses=settings.operators,
        ),
        ingest=ingest,
        progress_jobs=progress_jobs,
        plans=plans,
        plan_publisher=CoursePublisher(db, catalogue),
        plan_style=print_style(settings),
    )


def _build_dispatches(
    settings: Settings,
    db: Database,
    client: httpx.AsyncClient,
    credentials: Credentials,
) -> Dispatches:
    return Dispatches(
        db,
        source=public_url(settings),
        analytics=build_destination(
            client, settings, db, "analytics", "analytics", settings.analytics_url
        ),
        hr=build_destination(client, settings, db, "hr", "the HR system", settings.hr_url),
        credential_url=credentials.find_url,
        missing_settings=missing_webhook_settings(settings),
        retries={
            "analytics": FixedDelays(settings.analytics_retry_delays),
            "hr": FixedDelays(settings.hr_retry_delays),
        },
        rates={"analytics": settings.analytics_rate, "hr": settings.hr_rate},
    )


def _build_access(settings: Settings, db: Database) -> Authenticator:
    return Authenticator(
        db,
        admin_key=secret_text(settings.admin_key),
        jwt_verifier=build_jwt_verifier(settings),
    )


def _group_commit_limits(settings: Settings) -> GroupCommitLimits:
    return GroupCommitLimits(
        max_waiting=settings.ingest_max_queue,
        max_batch=settings.ingest_max_batch,
        timeout_seconds=settings.ingest_task_timeout.total_seconds(),
        max_retries=settings.ingest_max_retries,
        retry_delay_seconds=settings.ingest_retry_delay.total_seconds(),
    )


def exit_stuck(folder: Path, writer: str) -> None:
    """Exit after a second, so that the supervisor starts a new process.

    The database thread cannot be stopped, so a graceful shutdown is impossible. Waiting requests
    get 503 before; only stored events were acknowledged. A file in the data directory tells the
    next process, which raises the alert: this one can store nothing.
    """
    log.critical("writer_stuck", writer=writer, exit_code=EXIT_STUCK)
    with suppress(OSError):
        (folder / _STUCK_MARKER).touch()
    asyncio.get_running_loop().call_later(_EXIT_DELAY_SECONDS, os._exit, EXIT_STUCK)


def find_stuck_marker(folder: Path) -> float | None:
    """Return the age of the last stuck writer in seconds; None where none was stuck."""
    try:
        changed_at = (folder / _STUCK_MARKER).stat().st_mtime
    except OSError:
        return None
    return max(Clock().now() / SECOND - changed_at, 0.0)
