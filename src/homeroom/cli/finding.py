"""Findings of ``homeroom check``, and those about the machine and its workers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from homeroom.cli.application import run_with_database
from homeroom.cli.group import LazyModule
from homeroom.cli.terminal import pluralize
from homeroom.errors import Unavailable
from homeroom.notify.delivery_rules import MAIL_GATE

if TYPE_CHECKING:
    from homeroom import machine
    from homeroom.bootstrap import partner_keys
    from homeroom.db.database import Database
    from homeroom.dispatch import store as dispatch_store
    from homeroom.jobs import held_jobs, queue_store
    from homeroom.partner import key_expiry
    from homeroom.partner import store as partner_store
    from homeroom.partner.breaker import Breaker
    from homeroom.settings import Settings
else:
    dispatch_store = LazyModule("homeroom.dispatch.store")
    held_jobs = LazyModule("homeroom.jobs.held_jobs")
    machine = LazyModule("homeroom.machine")
    key_expiry = LazyModule("homeroom.partner.key_expiry")
    partner_keys = LazyModule("homeroom.bootstrap.partner_keys")
    partner_store = LazyModule("homeroom.partner.store")
    queue_store = LazyModule("homeroom.jobs.queue_store")


@dataclass(frozen=True, slots=True)
class ConfigurationFinding:
    """The state of one setting or part of the application."""

    status: Literal["ok", "warning", "error"]
    subject: str
    """The name of the setting, or of the part."""
    what: str
    fix: str | None = None
    exit_code: int = 0


def disk_finding(settings: Settings) -> ConfigurationFinding | None:
    """Return the state of the data directory's disk; None where it cannot be read."""
    location = settings.database_location
    folder = location.parent if isinstance(location, Path) else settings.data_dir
    disk = machine.disk_space(folder)
    if disk is None:
        return None
    free, total = machine.format_bytes(disk.free), machine.format_bytes(disk.total)
    what = f"{folder} has {free} free of {total}."
    if machine.is_read_only(folder):
        return ConfigurationFinding(
            "error",
            "disk",
            f"The disk of {folder} is read-only, so nothing can be stored.",
            "Mount it for writing. After an error of the disk, check it first (fsck).",
            Unavailable.exit_code,
        )
    if disk.is_full:
        fix = "Free some space; the server goes on by itself."
        what = f"The disk is full, so nothing can be stored: {what}"
        return ConfigurationFinding("error", "disk", what, fix, Unavailable.exit_code)
    if disk.is_low:
        return ConfigurationFinding("warning", "disk", what, "Free some space, or add some.")
    return ConfigurationFinding("ok", "disk", what)


def worker_findings() -> list[ConfigurationFinding]:
    """Return the state of the workers, and of their file descriptors.

    There are none before the first start. Raises ``HomeroomError`` if the database cannot be read.
    """

    async def read(db: Database) -> list[queue_store.WorkerRow]:
        async with db.read() as tx:
            return await queue_store.workers(tx)

    workers = run_with_database(read)
    running = [worker for worker in workers if worker.state == "running"]
    findings = [
        ConfigurationFinding(
            "warning",
            "workers",
            f"The worker {worker.id} is {worker.state}: its last heartbeat is older than its"
            f" lease of {worker.lease / 1_000_000:g} s. Other workers take over its jobs.",
            f"See whether the process {worker.pid} on {worker.host} hangs or has died; start it"
            " again.",
        )
        for worker in workers
        if worker.state != "running"
    ]
    if workers and not running:
        findings.append(
            ConfigurationFinding(
                "error",
                "workers",
                "No worker is running, so jobs wait.",
                "Start one: homeroom worker",
                Unavailable.exit_code,
            )
        )
    elif running:
        findings.append(ConfigurationFinding("ok", "workers", f"Running: {len(running)}."))
    return [*findings, *_descriptor_findings(running)]


def partner_findings(settings: Settings) -> list[ConfigurationFinding]:
    """Return the partners that jobs wait for, disabled ones, expiring keys."""

    async def read(
        db: Database,
    ) -> tuple[
        list[Breaker],
        dict[str, int],
        dict[str, dispatch_store.DisabledDestination],
        list[ConfigurationFinding],
    ]:
        async with db.read() as tx:
            breakers = [each for each in await partner_store.list_all(tx) if each.is_open]
            keys = (await partner_store.list_keys(tx)).get("credly", (None, None))
            held, disabled = await held_jobs.count_held(tx), await dispatch_store.list_disabled(tx)
            return breakers, held, disabled, _key_findings(settings, keys, tx.now)

    breakers, held, disabled, expiring = run_with_database(read)
    findings = [
        ConfigurationFinding(
            "warning",
            "partners",
            f"{breaker.name} {_partner_state(breaker)}: {breaker.last_error}."
            f" {pluralize(held.get(breaker.name, 0), 'job')} waiting.",
            _MAIL_FIX if breaker.name == MAIL_GATE else _PARTNER_FIXES[breaker.state],
        )
        for breaker in breakers
    ]
    return (
        findings
        + [
            ConfigurationFinding(
                "warning",
                "partners",
                f"{name} is disabled: {each.reason}. Its steps wait until it is on again.",
                f"Ask the partner, then: homeroom destinations switch-on {name}",
            )
            for name, each in disabled.items()
        ]
        + expiring
    )


def _key_findings(
    settings: Settings, known: tuple[str | None, int | None], now: int
) -> list[ConfigurationFinding]:
    """Warn of a key that expires soon; ``known`` is what the database has of it."""
    key = partner_keys.credly_key(settings)
    expires_at = None if key is None else key.expiry(*known)
    if expires_at is None or now < expires_at - key_expiry.WARN_BEFORE:
        return []
    return [
        ConfigurationFinding(
            "warning",
            "HOMEROOM_CREDLY_TOKEN",
            f"{key_expiry.describe_expiry('Credly', expires_at, now)}.",
            "Make a new key at Credly, set it, restart, and then revoke the old one there.",
        )
    ]


_PARTNER_STATES = {"away": "does not answer", "refused": "refuses the key or the secret"}
_MAIL_STATE = "refuses the sender or the session"
_MAIL_FIX = (
    "The answer says why; fix the relay, the sender or the password. Mails then start by"
    " themselves, or at once after: homeroom destinations switch-on mail"
)
_PARTNER_FIXES = {
    "away": "Nothing is lost: the jobs start when it answers again.",
    "refused": "Replace its key or secret in the settings; the jobs then start by themselves.",
}


def _partner_state(breaker: Breaker) -> str:
    return _MAIL_STATE if breaker.name == MAIL_GATE else _PARTNER_STATES[breaker.state]


def _descriptor_findings(workers: list[queue_store.WorkerRow]) -> list[ConfigurationFinding]:
    """Warn of processes on this machine that run out of file descriptors."""
    findings = []
    for worker in workers:
        usage = (
            machine.descriptor_usage(worker.pid) if worker.host == socket.gethostname() else None
        )
        if usage is not None and usage.is_high:
            findings.append(
                ConfigurationFinding(
                    "warning",
                    "descriptors",
                    f"The process {worker.pid} has {usage.used} of {usage.limit} file descriptors"
                    " in use.",
                    "Raise the limit of open files (ulimit -n, LimitNOFILE=), or lower the number"
                    " of connections.",
                )
            )
    return findings
