"""Watch what a process needs: database, disk, descriptors, memory, workers.

Everything that is found is logged once when it begins and once when it is over, and is shown by
``/readyz`` and the metrics meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import structlog
from prometheus_client import Metric

from homeroom import machine
from homeroom.db.database import Database
from homeroom.errors import DatabaseFault, HomeroomError, TooManyOpenFiles
from homeroom.instant import SECOND
from homeroom.jobs.api import flag_silent_workers
from homeroom.machine import format_bytes
from homeroom.monitoring.process_metrics import process_metrics

log = structlog.get_logger(__name__)

PROBE_SECONDS = 1.0
"""Interval of the writes that find out whether a fault of the database is over."""
CHECK_SECONDS = 5.0
"""Interval of the other checks."""
LARGE_LOG_BYTES = 512 * 1024**2
"""Length of SQLite's log that only a reader explains: it is restarted from about 94 MiB on."""


class ProcessWatch:
    """The faults around one process."""

    def __init__(
        self, db: Database, folder: Path, lost_log_lines: Callable[[], int] = lambda: 0
    ) -> None:
        """Watch the disk of ``folder``; ``lost_log_lines`` counts lines without room."""
        self._db, self._folder, self._lost_log_lines = db, folder, lost_log_lines
        self._stopped = asyncio.Event()
        self._resources: dict[str, str] = {}

    async def run(self) -> None:
        """Check until ``stop`` is called."""
        loop = asyncio.get_running_loop()
        next_check = loop.time()
        while not self._stopped.is_set():
            try:
                if self._db.faults.current:
                    with suppress(HomeroomError):
                        await self._db.probe_write()
                if loop.time() >= next_check:
                    next_check = loop.time() + CHECK_SECONDS
                    self.check_resources()
                    self._db.keep_reserve()
                    with suppress(HomeroomError):  # the database has recorded its fault
                        await self._flag_workers()
            except Exception:  # a watch that ends would end the process
                log.exception("process_watch_failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._stopped.wait()

    def stop(self) -> None:
        """End ``run``."""
        self._stopped.set()

    async def _flag_workers(self) -> None:
        now = self._db.clock.now()
        for worker in await flag_silent_workers(self._db):
            silent_seconds = round((now - worker.heartbeat_at) / SECOND, 1)
            fields = {
                "worker_id": worker.id,
                "host": worker.host,
                "pid": worker.pid,
                "silent_seconds": silent_seconds,
            }
            if worker.state == "stale":
                log.warning("worker_stale", **fields)
            else:
                log.error("worker_gone", **fields)

    def check_resources(self) -> None:
        """Log which resources run out, and which have recovered."""
        found = dict(self._find_shortages())
        for name in found.keys() - self._resources.keys():
            log.error("resource_short", resource=name, error=found[name])
        for name in self._resources.keys() - found.keys():
            log.warning("resource_recovered", resource=name)
        self._resources = found

    def _find_shortages(self) -> Iterator[tuple[str, str]]:
        disk = machine.disk_space(self._folder)
        if disk is not None and disk.is_low:
            yield (
                "disk",
                f"the disk of the data directory has {format_bytes(disk.free)} free of"
                f" {format_bytes(disk.total)}",
            )
        log_size = self._db.log_size()
        if log_size is not None and log_size > LARGE_LOG_BYTES:
            yield (
                "database_log",
                f"the -wal file of the database has {format_bytes(log_size)}: a program that reads"
                " keeps it from being restarted",
            )
        descriptors = machine.descriptor_usage()
        if descriptors is not None and descriptors.is_high:
            yield (
                "descriptors",
                f"{descriptors.used} of {descriptors.limit} file descriptors are in use",
            )
        memory = machine.memory_usage()
        if memory is not None and memory.is_high:
            yield (
                "memory",
                f"{format_bytes(memory.used)} of {format_bytes(memory.limit)} of memory are in use",
            )

    async def storage_fault(self) -> str | None:
        """Return the faults of the database and its disk, for ``/readyz``."""
        messages = [
            _summary(fault)
            for fault in self._db.faults.current
            if not isinstance(fault, TooManyOpenFiles)
        ]
        self.check_resources()
        messages += [
            self._resources[name] for name in ("disk", "database_log") if name in self._resources
        ]
        return "; ".join(messages) or None

    async def resource_fault(self) -> str | None:
        """Return which resources of the process run out, for ``/readyz``."""
        self.check_resources()
        messages = [
            _summary(fault)
            for fault in self._db.faults.current
            if isinstance(fault, TooManyOpenFiles)
        ]
        messages += [
            self._resources[name] for name in ("descriptors", "memory") if name in self._resources
        ]
        return "; ".join(messages) or None

    def collect(self) -> list[Metric]:
        """Return the metrics of this process and its machine."""
        return process_metrics(self._db, self._folder, self._lost_log_lines())


def _summary(fault: DatabaseFault) -> str:
    """Return what a fault means, without an address: readiness is public."""
    return (type(fault).__doc__ or fault.code).splitlines()[0].rstrip(".")
