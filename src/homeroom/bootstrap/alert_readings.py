"""The figures that alerts are about, read from all packages."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from homeroom import machine
from homeroom.bootstrap.application import Application, find_stuck_marker
from homeroom.completion import store as completion_store
from homeroom.completion.api import StepBacklog
from homeroom.db.tx import Tx
from homeroom.dispatch.destinations import DestinationStatus
from homeroom.errors import HomeroomError
from homeroom.instant import DAY, SECOND, to_rfc3339
from homeroom.jobs import queue_store, schedule_store
from homeroom.jobs.api import counts, running_workers, workers
from homeroom.machine import format_bytes
from homeroom.monitoring import alert_store, history_store
from homeroom.monitoring.alert_evaluation import Figures, Reading
from homeroom.monitoring.alert_rules import NO_WORKER, THOUSAND
from homeroom.monitoring.health import Health
from homeroom.monitoring.monitor import MonitorSources
from homeroom.partner.certificate_expiry import (
    CertificateWatch,
    describe_certificate,
    https_servers,
)
from homeroom.partner.key_expiry import describe_expiry

log = structlog.get_logger(__name__)
FAILED_WINDOW = 900 * SECOND
"""The time in which a failed job is a reason for an alert."""
ERROR_WINDOW = 600 * SECOND
LEAST_ATTEMPTS = 20
"""Fewer jobs, requests or events make no rate."""
MISSED_WINDOW = 3_600 * SECOND
STUCK_SECONDS = 600
"""The time for which a writer that was stuck is a reason for an alert: its process has ended."""
CHECKS_WITH_RULES = frozenset(
    {"database", "worker", "ingest", "destinations", "storage", "partners"}
)
"""Checks of ``/readyz`` that another rule is about."""
_ERROR_RATES: Mapping[str, tuple[str, str, str]] = {
    "jobs": ("job_failures", "job_completions", "jobs failed"),
    "requests": ("request_errors", "requests", "requests were answered with a server error"),
    "events": ("event_errors", "events", "events were rejected, in conflict or refused"),
}
_OUTSTANDING = ("failed_steps", "owed_steps")
ReadGroup = Callable[[], Awaitable[list[Reading]]]


class AlertReadings:
    """Reads the figures of an application; a part that fails leaves the others."""

    def __init__(self, application: Application, health: Health) -> None:
        """Read the checks of ``/readyz`` from ``health``."""
        self._application, self._health = application, health
        self.host = socket.gethostname()
        self.process_id = f"{self.host}.{os.getpid()}.{secrets.token_hex(3)}"
        self._db = application.db
        values = dict(application.settings).values()
        self._certificates = CertificateWatch(
            https_servers(value for value in values if isinstance(value, str))
        )

    def sources(self) -> MonitorSources:
        """Return what the monitor of this process records and evaluates."""
        return MonitorSources(
            report=self.report,
            samples=self.read_samples,
            completions=completion_store.count_recorded,
            figures=self.read,
        )

    def report(self) -> dict[str, int | None]:
        """Return what this process knows of itself and its machine."""
        folder = self._application.settings.data_dir
        disk, memory = machine.disk_space(folder), machine.memory_usage()
        stuck = self._application.ingest.writer.stuck or _was_stuck(folder)
        return {
            "diskFree": None if disk is None else disk.free,
            "diskTotal": None if disk is None else disk.total,
            "memoryUsed": None if memory is None else memory.used,
            "memoryLimit": None if memory is None else memory.limit,
            "stuck": int(stuck),
        }

    async def read_samples(self, tx: Tx) -> dict[str, int]:
        """Return the values that the history samples."""
        by_queue = await counts(tx)
        backlogs = await self._application.completions.count_backlogs(tx)
        return {
            "waiting_jobs": sum(states["waiting"] for states in by_queue.values()),
            "failed_jobs": sum(states["failed"] for states in by_queue.values()),
            "owed_steps": sum(each.waiting + each.failed for each in backlogs.values()),
            "workers": len(await running_workers(tx)),
        }

    async def read(self) -> Figures:
        """Return all figures; kinds that could not be read are named."""
        groups: Sequence[tuple[tuple[str, ...], ReadGroup]] = (
            ((NO_WORKER, "worker_down"), self._read_workers),
            (("queue_size", "queue_age", "failed_jobs"), self._read_queues),
            (("error_rate",), self._read_error_rates),
            (("destination", "mail_server", "key_expiry", *_OUTSTANDING), self._read_destinations),
            (("certificate_expiry",), self._read_certificates),
            (("worker_memory", "disk_space", "stuck_writer"), self._read_machines),
            (("missed_schedule",), self._read_schedules),
            (("health_check",), self._read_health),
        )
        readings: list[Reading] = []
        unread: set[str] = set()
        for kinds, read in groups:
            try:
                readings += await read()
            except HomeroomError as error:
                log.warning("alert_figures_unread", rules=", ".join(kinds), error=error.message)
                unread.update(kinds)
        return Figures(readings, unread)

    async def _read_workers(self) -> list[Reading]:
        async with self._db.read() as tx:
            found, now = await workers(tx), tx.now
        running = [worker for worker in found if worker.state == "running"]
        latest = max((worker.heartbeat_at + worker.lease for worker in found), default=None)
        readings = [
            Reading(
                NO_WORKER,
                "",
                len(running) * THOUSAND,
                "No worker is running, so jobs and mails wait." if not running else None,
                latest,
            )
        ]
        for worker in found:
            if worker.state != "running":
                silent = (now - worker.heartbeat_at) // SECOND
                detail = f"Process {worker.pid} on {worker.host} is silent for {silent} s."
                since = worker.heartbeat_at + worker.lease
                readings.append(Reading("worker_down", worker.id, silent * THOUSAND, detail, since))
        return readings

    async def _read_queues(self) -> list[Reading]:
        async with self._db.read() as tx:
            by_queue, now = await counts(tx), tx.now
            oldest = await queue_store.oldest_waiting(tx)
            paused = await queue_store.paused_queues(tx)
            failed = await queue_store.failed_since(tx, list(by_queue), now - FAILED_WINDOW)
        readings: list[Reading] = []
        for queue, states in by_queue.items():
            waiting = states["waiting"]
            readings.append(
                Reading("queue_size", queue, waiting * THOUSAND, f"{waiting} jobs wait.")
            )
            if queue in oldest and queue not in paused:
                age = max(now - oldest[queue], 0) // SECOND
                detail = f"The oldest of {waiting} jobs waits for {age} s."
                readings.append(Reading("queue_age", queue, age * THOUSAND, detail))
            if queue in failed:
                detail = f"{failed[queue]} jobs failed in the last {FAILED_WINDOW // SECOND} s."
                readings.append(Reading("failed_jobs", queue, failed[queue] * THOUSAND, detail))
        return readings

    async def _read_error_rates(self) -> list[Reading]:
        names = [name for bad, good, _ in _ERROR_RATES.values() for name in (bad, good)]
        async with self._db.read() as tx:
            sums = await history_store.sum_since(tx, names, tx.now - ERROR_WINDOW)
        readings = []
        for subject, (bad, good, text) in _ERROR_RATES.items():
            all_of = sums[good] + (0 if subject == "requests" else sums[bad])
            if all_of >= LEAST_ATTEMPTS:
                share = THOUSAND * sums[bad] // all_of
                detail = f"{sums[bad]} of {all_of} {text} in the last {ERROR_WINDOW // SECOND} s."
                readings.append(Reading("error_rate", subject, share, detail))
        return readings

    async def _read_destinations(self) -> list[Reading]:
        async with self._db.read() as tx:
            found = await self._application.destinations.list_all(tx)
            backlogs = await self._application.completions.count_backlogs(tx)
            now = tx.now
        used = [each for each in found if each.is_configured]
        profiles = self._application.destinations.profiles
        partners = {profile.step: profile.name for profile in profiles}
        off = {each.name for each in used if each.state != "on"}
        readings = [reading for each in used for reading in _of_destination(each, now)]
        for step, backlog in backlogs.items():
            partner = partners.get(step)
            group = f"partner:{partner}" if partner in off else None
            readings += _of_backlog(step, backlog, now, group)
        return readings

    async def _read_certificates(self) -> list[Reading]:
        now = self._db.clock.now()
        return [
            Reading(
                "certificate_expiry",
                str(server),
                (expires_at - now) * THOUSAND // DAY,
                describe_certificate(server, expires_at, now),
            )
            for server, expires_at in self._certificates.known().items()
        ]

    async def _read_machines(self) -> list[Reading]:
        """Return disk, memory and writer of each host: of several reports, the worst."""
        async with self._db.read() as tx:
            rows = await alert_store.list_processes(tx)
        reports = [(row.host, row.report) for row in rows if row.id != self.process_id]
        worst: dict[tuple[str, str], Reading] = {}
        for host, report in [*reports, (self.host, self.report())]:
            for reading in _of_machine(host, report):
                key = (reading.kind, reading.subject)
                known = worst.get(key)
                is_worse = known is None or (
                    reading.value < known.value
                    if reading.kind == "disk_space"
                    else reading.value > known.value
                )
                if is_worse:
                    worst[key] = reading
        return list(worst.values())

    async def _read_schedules(self) -> list[Reading]:
        async with self._db.read() as tx:
            missed = await schedule_store.missed_since(tx, tx.now - MISSED_WINDOW)
        by_schedule: dict[str, list[schedule_store.SlotRecord]] = {}
        for slot in missed:
            by_schedule.setdefault(slot.schedule, []).append(slot)
        return [
            Reading(
                "missed_schedule",
                schedule,
                len(slots) * THOUSAND,
                f"Missed: {', '.join(slot.slot for slot in slots[-3:])}.",
            )
            for schedule, slots in by_schedule.items()
        ]

    async def _read_health(self) -> list[Reading]:
        readiness = await self._health.ready()
        return [
            Reading("health_check", name, THOUSAND, check.detail)
            for name, check in readiness.checks.items()
            if name not in CHECKS_WITH_RULES and check.status != "ok"
        ]


def _was_stuck(folder: Path) -> bool:
    """Return whether a writer was stuck a short time ago."""
    age = find_stuck_marker(folder)
    return age is not None and age < STUCK_SECONDS


def _of_destination(status: DestinationStatus, now: int) -> Iterator[Reading]:
    group = f"partner:{status.name}"
    if status.state != "on":
        since = now if status.since is None else status.since
        kind = "mail_server" if status.kind == "mail" else "destination"
        error = status.disabled_reason or status.last_error or "no answer"
        detail = f"It is {status.state}: {error}"
        seconds = max((now - since) // SECOND, 1)
        yield Reading(kind, status.name, seconds * THOUSAND, detail, since, group)
    if status.key_expires_at is not None:
        days = (status.key_expires_at - now) * THOUSAND // DAY
        detail = f"{describe_expiry(status.name, status.key_expires_at, now)}."
        yield Reading("key_expiry", status.name, days, detail)


def _of_backlog(step: str, backlog: StepBacklog, now: int, group: str | None) -> Iterator[Reading]:
    """Yield the figures of the outstanding steps of one name."""
    if backlog.failed:
        detail = f"{backlog.failed} failed and are not tried again by themselves."
        yield Reading("failed_steps", step, backlog.failed * THOUSAND, detail, group=group)
    if backlog.since is not None:
        age = max(now - backlog.since, 0) // SECOND
        count = backlog.waiting + backlog.failed
        detail = f"{count} are outstanding, the oldest since {to_rfc3339(backlog.since)}."
        yield Reading("owed_steps", step, age * THOUSAND, detail, group=group)


def _of_machine(host: str, report: Mapping[str, int | None]) -> Iterator[Reading]:
    free, total = report.get("diskFree"), report.get("diskTotal")
    if free is not None and total is not None:
        # On a disk below 10 GiB the default of 1 GiB stands for a tenth of its size.
        scale = max(machine.LOW_DISK_BYTES / max(total * machine.LOW_DISK_SHARE, 1), 1.0)
        detail = f"{format_bytes(free)} of {format_bytes(total)} are free."
        yield Reading("disk_space", host, round(free * scale) * THOUSAND, detail)
    used, limit = report.get("memoryUsed"), report.get("memoryLimit")
    if used is not None and limit:
        detail = f"{format_bytes(used)} of {format_bytes(limit)} are in use."
        yield Reading("worker_memory", host, THOUSAND * used // limit, detail)
    if report.get("stuck"):
        yield Reading(
            "stuck_writer",
            host,
            THOUSAND,
            "The database did not answer, so the process ended and was started again.",
        )
