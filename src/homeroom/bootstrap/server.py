"""Run the server and the worker process, and shut them down gracefully."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.types import ASGIApp

from homeroom.access import routes as access_routes
from homeroom.access.api import create_first_sign_in, record_audit
from homeroom.achievements import routes as achievement_routes
from homeroom.activity import import_routes as programme_import
from homeroom.activity import routes as activity_routes
from homeroom.activity.api import find_missed_weeks
from homeroom.bootstrap.application import Application, open_application
from homeroom.bootstrap.database import require_intact, wait_for_database
from homeroom.bootstrap.job_engine import open_engine
from homeroom.bootstrap.job_subjects import JOB_SUBJECTS
from homeroom.bootstrap.manager_relations import MANAGER_RELATIONS
from homeroom.bootstrap.monitoring_app import (
    build_health,
    build_monitoring_router,
    build_probes_app,
    build_watch,
)
from homeroom.bootstrap.partners import certificate_style, public_url, secret_text
from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.bootstrap.school_accounts import build_school_sign_in
from homeroom.bootstrap.services import (
    Service,
    dispatcher_services,
    housekeeping_service,
    log,
    monitor_service,
    run_services,
    start_worker_services,
)
from homeroom.bootstrap.steps import installed_setting_names
from homeroom.catalogue import import_routes as enrolment_import
from homeroom.catalogue import routes as catalogue_routes
from homeroom.changes import routes as change_routes
from homeroom.changes.api import ChangeFeed
from homeroom.completion import routes as completion_routes
from homeroom.credentials import routes as credential_routes
from homeroom.credentials.open_badges import badge_routes
from homeroom.credentials.open_badges.page_routes import CredentialPages, page_router
from homeroom.dispatch import destination_routes, report_routes
from homeroom.dispatch import routes as dispatch_routes
from homeroom.errors import ConfigurationError, DatabaseFault
from homeroom.http import logging_config
from homeroom.http import server as http_server
from homeroom.http.app import create_app
from homeroom.http.ingest import ingest_app
from homeroom.http.openapi import INGEST_PATHS, INGEST_SCHEMAS
from homeroom.jobs import routes as job_routes
from homeroom.lessonplans import lesson_routes
from homeroom.lessonplans import output_routes as plan_output_routes
from homeroom.lessonplans import routes as plan_routes
from homeroom.machine import raise_descriptor_limit
from homeroom.monitoring import alert_routes, history_routes
from homeroom.monitoring.health import Health
from homeroom.monitoring.hint_stream import HintStreams
from homeroom.monitoring.peer_metrics import PeerMetrics
from homeroom.notify import routes as notify_routes
from homeroom.notify.email_hook_routes import EmailHooks, EmailHookSecrets
from homeroom.people import import_routes as people_import
from homeroom.people import routes as people_routes
from homeroom.progress import routes as progress_routes
from homeroom.progress import team_routes
from homeroom.settings import Settings, find_setting_problems
from homeroom.web.identity import Auth


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """The context of a process that is one of several of one server."""

    name: str
    folder: Path
    """The folder of the sockets for peer metrics."""
    listening: socket.socket
    """The socket that all processes share."""


def _build_app(
    application: Application, health: Health, hints: HintStreams, peers: PeerMetrics | None
) -> ASGIApp:
    settings, db = application.settings, application.db
    auth = Auth(application.access.identify, MANAGER_RELATIONS)
    school_sign_in = build_school_sign_in(settings, db)
    routers: Sequence[APIRouter] = (
        catalogue_routes.router(db, auth, application.catalogue, application.progress_jobs.preview),
        people_routes.router(db, auth, PERSONAL_DATA),
        progress_routes.router(db, auth, application.ingest),
        team_routes.router(db, auth, find_missed_weeks),
        completion_routes.router(db, auth, application.completions),
        achievement_routes.router(db, auth, application.achievements),
        credential_routes.router(
            db,
            auth,
            application.credentials,
            application.completions,
            application.achievements,
        ),
        badge_routes.router(db, auth, application.badge_issuer),
        page_router(db, CredentialPages(db, application.badge_issuer, certificate_style(settings))),
        dispatch_routes.router(db, auth, application.dispatches, application.completions),
        report_routes.router(auth, application.hr_reports),
        change_routes.router(auth, _build_change_feed(application)),
        destination_routes.router(db, auth, application.destinations, application.dispatches),
        notify_routes.router(db, auth, application.notifications, _build_email_hooks(application)),
        activity_routes.router(db, auth, application.activity),
        people_import.router(db, auth),
        enrolment_import.router(db, auth, application.catalogue),
        programme_import.router(db, auth, application.activity),
        plan_routes.router(db, auth, application.plans, application.plan_style),
        plan_output_routes.router(db, auth, application.plan_publisher),
        lesson_routes.router(db, auth),
        job_routes.router(db, auth, application.registry, record_audit, JOB_SUBJECTS),
        access_routes.router(
            db,
            auth,
            application.access,
            session_lifetime=settings.session_lifetime,
            secure_cookie=public_url(settings).startswith("https:"),
            has_school_accounts=school_sign_in is not None,
        ),
        *([] if school_sign_in is None else [school_sign_in]),
        build_monitoring_router(application, auth, health, hints, peers),
        alert_routes.router(db, auth, application.alerts),
        history_routes.router(db, auth),
    )
    return create_app(
        routers,
        ingest=ingest_app(
            application.ingest,
            auth,
            db,
            observe_status=application.metrics.count_events,
            beacon_origins=settings.cors_origins,
        ),
        ingest_paths=INGEST_PATHS,
        ingest_schemas=INGEST_SCHEMAS,
        observe=application.metrics.observe_request,
        tracer=application.db.tracer,
        max_body_bytes=settings.max_body_bytes,
        cors_origins=settings.cors_origins,
    )


def _build_email_hooks(application: Application) -> EmailHooks:
    """Return the verification of webhooks about mails."""
    settings = application.settings
    secrets = EmailHookSecrets(
        standard=secret_text(settings.email_hook_secret),
        ses_topic=settings.email_hook_ses_topic,
        sendgrid_key=settings.email_hook_sendgrid_key,
        postmark_login=secret_text(settings.email_hook_postmark_login),
        mailgun_key=secret_text(settings.email_hook_mailgun_key),
    )
    return EmailHooks(application.notifications, secrets)


def _build_change_feed(application: Application) -> ChangeFeed:
    return ChangeFeed(
        application.db,
        {
            **completion_routes.change_records(application.completions),
            **credential_routes.change_records(application.credentials),
            **catalogue_routes.change_records(),
        },
    )


async def _first_sign_in(application: Application) -> str | None:
    """Return the token of the first sign-in; None if it is not needed or fails.

    The link is printed: only where the reader is at this machine or its terminal, and not into the
    log of a server that others reach.
    """
    if not (application.settings.is_loopback or sys.stdout.isatty()):
        return None
    with suppress(DatabaseFault):  # it is logged; the next start makes the token
        async with application.db.write() as tx:
            return await create_first_sign_in(tx)
    return None


def validate_settings(settings: Settings) -> None:
    """Log warnings about the settings; raise ``ConfigurationError`` for errors.

    A misspelt name is a warning: it has no effect, and the log shows it. A step that cannot be used
    is an error, before anything is opened.
    """
    problems = find_setting_problems(settings, None, installed_setting_names(settings))
    for problem in problems:
        if problem.severity == "warning":
            log.warning(
                "setting_suspect", setting=problem.setting, problem=problem.message, fix=problem.fix
            )
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise ConfigurationError(
            " ".join(f"{error.setting}: {error.message}" for error in errors),
            hint=" ".join(error.fix for error in errors),
        )


async def run_server(
    settings: Settings,
    *,
    worker: bool = True,
    on_started: Callable[[str, str | None], None],
    process: ProcessContext | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; ``worker`` runs jobs and schedules too.

    ``on_started`` gets the URL and, until someone has signed in, a one-time sign-in link.
    ``process`` is the context of one of several processes.
    """
    logging_config.configure_logging(settings.log_level, settings.log_format)
    if process is None:  # else the supervisor has validated them
        validate_settings(settings)
    raise_descriptor_limit()
    stop = asyncio.Event()
    http_server.stop_on_signals(stop, supervised=process is not None)
    # Before the database is opened: a second server by mistake would otherwise upgrade it, and run
    # its jobs, until it finds its port taken.
    listening = (
        http_server.bind_socket(settings.host, settings.port)
        if process is None
        else process.listening
    )
    try:
        if await wait_for_database(settings, stop):
            await _serve(settings, stop, listening, worker, on_started, process)
    finally:
        if listening is not None:
            listening.close()


async def _serve(
    settings: Settings,
    stop: asyncio.Event,
    listening: socket.socket | None,
    worker: bool,
    on_started: Callable[[str, str | None], None],
    process: ProcessContext | None,
) -> None:
    """Run the services of a server until ``stop`` is set."""
    async with (
        open_engine(settings) as engine,
        open_application(settings, migrated=True) as application,
    ):
        application.db.keep_connection()
        await require_intact(application.db)
        token = await _first_sign_in(application)
        watch, hints = build_watch(application), HintStreams(application.db)
        health = build_health(application, engine, watch)
        peers = _peer_metrics(process, application)
        app = _build_app(application, health, hints, peers)

        def announce(url: str) -> None:
            public = settings.public_url or url
            on_started(url, None if token is None else access_routes.sign_in_link(public, token))

        async def serve() -> None:
            await http_server.serve_app(
                app,
                settings.host,
                settings.port,
                stop=stop,
                on_started=announce,
                before_stop=hints.close,
                grace_seconds=settings.shutdown_grace.total_seconds(),
                listening=listening,
            )

        services = [
            Service("ingest", application.ingest.run, application.ingest.close),
            housekeeping_service(application),
            Service("watch", watch.run, watch.stop, is_needed=False),
            monitor_service(application, health),
        ]
        services += _peer_metrics_services(peers)
        if worker:
            services += await start_worker_services(application, engine)
        else:
            services += dispatcher_services(application, engine)
        await run_services(services, serve, stop, settings.shutdown_grace)


def _peer_metrics(process: ProcessContext | None, application: Application) -> PeerMetrics | None:
    if process is None:
        return None
    return PeerMetrics(process.folder, process.name, application.metrics)


def _peer_metrics_services(peers: PeerMetrics | None) -> list[Service]:
    return [] if peers is None else [Service("peer_metrics", peers.run, peers.close)]


async def run_worker(
    settings: Settings,
    *,
    on_started: Callable[[str | None], None],
    process: ProcessContext | None = None,
) -> None:
    """Run worker and scheduler alone until SIGTERM or SIGINT.

    Probes and metrics are served on ``HOMEROOM_WORKER_PORT``, if it is set. ``on_started`` gets
    their URL, or None. ``process`` is the context of one of several processes.
    """
    logging_config.configure_logging(settings.log_level, settings.log_format)
    if process is None:
        validate_settings(settings)
    raise_descriptor_limit()
    stop = asyncio.Event()
    http_server.stop_on_signals(stop, supervised=process is not None)
    if not await wait_for_database(settings, stop):
        return
    async with open_engine(settings) as engine, open_application(settings) as application:
        application.db.keep_connection()
        await require_intact(application.db)
        peers = _peer_metrics(process, application)
        watch = build_watch(application)
        health = build_health(application, engine, watch)
        ingest = Service("ingest", application.ingest.run, application.ingest.close)
        services = [
            ingest,
            Service("watch", watch.run, watch.stop, is_needed=False),
            monitor_service(application, health),
            *_peer_metrics_services(peers),
            *await start_worker_services(application, engine),
        ]
        hints = HintStreams(application.db)

        async def wait() -> None:
            port = None if process is not None else settings.worker_port
            if port is None:
                on_started(None)
                await stop.wait()
                return
            await http_server.serve_app(
                build_probes_app(application, health, hints),
                settings.host,
                port,
                stop=stop,
                on_started=on_started,
                before_stop=hints.close,
                grace_seconds=settings.shutdown_grace.total_seconds(),
            )

        await run_services(services, wait, stop, settings.shutdown_grace)
