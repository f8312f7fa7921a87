"""Background services of a process: worker, scheduler, dispatcher, housekeeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import monotonic

import structlog

from homeroom.access.jobs import PruneAccess
from homeroom.activity.api import PruneScheduleRuns, enqueue_missed_report
from homeroom.bootstrap.alert_readings import AlertReadings
from homeroom.bootstrap.application import Application, exit_stuck
from homeroom.bootstrap.database import require_unsealed
from homeroom.cancellation import cancel_and_wait
from homeroom.changes.jobs import PruneChanges
from homeroom.completion.step_installation import follow_installed_steps
from homeroom.credentials.api import AnnounceExpiries
from homeroom.db.seal import InstallationSealed
from homeroom.errors import ConfigurationError, DatabaseFault, HomeroomError, Unavailable
from homeroom.jobs import queue_store
from homeroom.jobs.api import Job, declare_schedule
from homeroom.jobs.downtime import record_scheduler_heartbeat
from homeroom.jobs.engine import Dispatcher, DispatchingEngine, Engine
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.run_observation import ObserveRun, wait_seconds
from homeroom.jobs.schedule_store import refresh_schedules
from homeroom.jobs.worker import Worker
from homeroom.monitoring.health import Health
from homeroom.monitoring.history import HistoryRecorder
from homeroom.monitoring.memory import release_memory
from homeroom.monitoring.metrics import Metrics
from homeroom.monitoring.monitor import Monitor
from homeroom.notify.api import PruneNotifications
from homeroom.partner.backlog import PartnerBacklogs
from homeroom.progress.api import CompactEvents, ExpireEnrolments, PruneQuarantine

log = structlog.get_logger(__name__)
_AFTER_GRACE_SECONDS = 8.0
"""Time after the grace period for cancelled work to end: 5 s for a job handler, the rest for a
database that hangs. The supervisor kills a process 12 s after the grace period."""
_DECLARE_RETRY_SECONDS = 2.0
_JOB_COUNTERS = (
    "jobs_enqueued",
    "jobs_completed",
    "jobs_retried",
    "jobs_cancelled",
    "jobs_stalled",
)
_INTEGRITY_CHECK_INTERVAL_SECONDS = 86_400.0
_INTEGRITY_CHECK_SECONDS = 30.0
"""Longest daily check of a SQLite file's structure, on a thread of its own."""


@dataclass(frozen=True, slots=True)
class Service:
    """A background task of a process: its ``run`` ends after a call of ``stop``."""

    name: str
    run: Callable[[], Awaitable[None]]
    stop: Callable[[], None]
    is_needed: bool = True
    """Whether requests and jobs need it until they end. Other services stop at the same time as
    requests do."""


async def _declare(application: Application) -> None:
    """Store the schedules, and how long queues keep finished jobs."""
    settings = application.settings
    async with application.db.write() as tx:
        await declare_schedule(tx, "progress.prune", "17 * * * *", "UTC", PruneQuarantine())
        await declare_schedule(tx, "progress.expire", "7 * * * *", "UTC", ExpireEnrolments())
        if settings.event_retention is not None:
            await declare_schedule(tx, "progress.fold_events", "23 * * * *", "UTC", CompactEvents())
        await declare_schedule(tx, "access.prune", "47 * * * *", "UTC", PruneAccess())
        await declare_schedule(tx, "changes.prune", "57 * * * *", "UTC", PruneChanges())
        await declare_schedule(tx, "notify.prune", "27 3 * * *", "UTC", PruneNotifications())
        await declare_schedule(tx, "activity.prune", "37 3 * * *", "UTC", PruneScheduleRuns())
        await declare_schedule(tx, "credentials.expiry", "37 * * * *", "UTC", AnnounceExpiries())
        await refresh_schedules(tx)
        await record_scheduler_heartbeat(tx)  # before the first job asks for downtimes
        for queue in application.registry.queues():
            await queue_store.set_queue_retention(
                tx,
                queue,
                completed=settings.jobs_keep_completed,
                failed=settings.jobs_keep_failed,
                age=settings.jobs_keep_for,
            )


async def start_worker_services(application: Application, engine: Engine) -> list[Service]:
    """Declare schedules and queue retention; return worker and scheduler.

    Where nothing can be stored, such as on a full disk, that is done later.
    """
    settings = application.settings
    stopped = asyncio.Event()

    async def declare_later() -> None:
        while not stopped.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_DECLARE_RETRY_SECONDS):
                    await stopped.wait()
            with suppress(DatabaseFault):
                await _declare(application)
                break
        await stopped.wait()

    services = [step_service(application)]
    try:
        await _declare(application)
    except DatabaseFault:
        services.append(Service("declarations", declare_later, stopped.set, is_needed=False))
    for queue, kind in application.registry.queue_and_kinds():
        for counter in _JOB_COUNTERS:  # a rate needs the zero before the first job
            application.db.counts.setdefault((counter, (queue, kind)), 0)
    worker = Worker(
        application.db,
        application.registry,
        engine,
        concurrency=settings.concurrency,
        queues=_worker_queues(application),
        lease=settings.job_lease,
        grace=settings.shutdown_grace,
        on_stuck=partial(exit_stuck, settings.data_dir),
        observe=_observe_run(application.metrics),
    )
    rates = {profile.name: profile.rate for profile in application.destinations.profiles}
    backlogs = PartnerBacklogs(application.db, rates)
    maintenance = JobMaintenance(
        application.db,
        application.registry,
        engine,
        missed=enqueue_missed_report,
        records_uptime=True,
        release_held=backlogs.release_partner_jobs,
    )
    return [
        *services,
        Service("worker", worker.run, worker.stop, is_needed=False),
        Service("scheduler", maintenance.run, maintenance.stop, is_needed=False),
    ]


def _worker_queues(application: Application) -> Collection[str] | None:
    """Return the queues of the setting; raise ``ConfigurationError`` if unknown."""
    chosen, known = application.settings.worker_queues, application.registry.queues()
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ConfigurationError(
            f"There is no queue {unknown[0]!r}.", hint=f"There are {', '.join(known)}."
        )
    return chosen or None


def _observe_run(metrics: Metrics) -> ObserveRun:
    def observe(job: Job, label: str, seconds: float) -> None:
        metrics.observe_attempt(job.queue, job.kind, label, seconds, wait_seconds(job))

    return observe


def step_service(application: Application) -> Service:
    """Return the service that skips the steps of missing plug-ins, once at start.

    It does so once, at the start; a commit that fails is tried again.
    """
    stopped = asyncio.Event()

    async def run() -> None:
        while not stopped.is_set():
            with suppress(Unavailable):
                await follow_installed_steps(application.db, application.completions)
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(_DECLARE_RETRY_SECONDS):
                    await stopped.wait()
        await stopped.wait()

    return Service("steps", run, stopped.set, is_needed=False)


def dispatcher_services(application: Application, engine: Engine) -> list[Service]:
    """Return the dispatcher, for a process that enqueues jobs but runs none."""
    if not isinstance(engine, DispatchingEngine):
        return []
    dispatcher = Dispatcher(application.db, application.registry, engine)
    return [Service("dispatcher", dispatcher.run, dispatcher.stop)]


def housekeeping_service(application: Application) -> Service:
    """Return the service that checkpoints the WAL, frees memory, reads the seal.

    A process that lost all its connections is not seen in use by a copy; the seal ends it.
    """
    stopped = asyncio.Event()
    seconds = application.settings.health_check_interval.total_seconds()

    async def run() -> None:
        checked_at = monotonic()
        while not stopped.is_set():
            if monotonic() - checked_at >= _INTEGRITY_CHECK_INTERVAL_SECONDS:
                checked_at = monotonic()
                await application.db.check_integrity(_INTEGRITY_CHECK_SECONDS)
            try:
                async with asyncio.timeout(seconds):
                    await stopped.wait()
            except TimeoutError:
                try:
                    await application.db.checkpoint()
                    await require_unsealed(application.db, application.settings)
                except InstallationSealed:
                    raise
                except HomeroomError as error:  # such as a full disk, which may be temporary
                    if not isinstance(error, DatabaseFault):  # its cause is logged once
                        log.warning("checkpoint_failed", error=error.message)
                release_memory()

    return Service("housekeeping", run, stopped.set)


def monitor_service(application: Application, health: Health) -> Service:
    """Return the service that records the history and evaluates alerts."""
    readings = AlertReadings(application, health)
    monitor = Monitor(
        application.db,
        readings.process_id,
        readings.host,
        HistoryRecorder(application.metrics),
        application.alerts,
        readings.sources(),
        evaluate_seconds=application.settings.alert_interval.total_seconds(),
    )
    return Service("monitor", monitor.run, monitor.stop, is_needed=False)


async def run_services(
    services: Sequence[Service],
    main: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    grace: timedelta,
) -> None:
    """Run ``main`` and the services until ``stop`` is set or one of them ends.

    Services that requests and jobs need are stopped last. A service that does not end within the
    grace period and 8 s, such as one that waits for a hanging database, is cancelled.
    Raises the first exception, so that a service that crashed ends the process.
    """
    main_task = asyncio.create_task(_await_service(main), name="main")
    tasks = {
        asyncio.create_task(_await_service(service.run), name=service.name): service
        for service in services
    }
    stop_task = asyncio.create_task(stop.wait())
    ended, _ = await asyncio.wait(
        [stop_task, main_task, *tasks], return_when=asyncio.FIRST_COMPLETED
    )
    stop_task.cancel()
    for task in ended - {stop_task, main_task}:
        if not task.cancelled():
            log.error("service_ended", service=task.get_name(), error=repr(task.exception()))
    stop.set()
    stopped_first = {task: service for task, service in tasks.items() if not service.is_needed}
    for service in stopped_first.values():
        service.stop()
    limit = grace.total_seconds() + _AFTER_GRACE_SECONDS
    _, late = await asyncio.wait([main_task, *stopped_first], timeout=limit)
    for task in late:
        log.error("service_abandoned", service=task.get_name(), seconds=limit)
    await cancel_and_wait(*late)
    for task, service in tasks.items():
        if task not in stopped_first:
            service.stop()
    results = await asyncio.gather(main_task, *tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _await_service(run: Callable[[], Awaitable[None]]) -> None:
    await run()
