"""Metrics of a process and its machine: disk, descriptors, memory, faults."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from homeroom import machine
from homeroom.db.database import Database
from homeroom.monitoring.memory import resident_bytes


def process_metrics(
    db: Database | None = None, folder: Path | None = None, lost_log_lines: int = 0
) -> list[Metric]:
    """Return the metrics; those of what is missing have no samples."""
    disk = None if folder is None else machine.disk_space(folder)
    descriptors, memory = machine.descriptor_usage(), machine.memory_usage()
    resident = resident_bytes() or None  # 0 where it is not reported
    log_size = None if db is None else db.log_size()
    gauges: dict[str, tuple[str, int | None]] = {
        "homeroom_disk_free_bytes": (
            "Free space for the data directory",
            None if disk is None else disk.free,
        ),
        "homeroom_disk_bytes": (
            "Size of the disk of the data directory",
            None if disk is None else disk.total,
        ),
        "homeroom_database_log_bytes": ("Length of SQLite's write-ahead log", log_size),
        "homeroom_process_open_descriptors": (
            "Old name of process_open_fds",
            None if descriptors is None else descriptors.used,
        ),
        "homeroom_process_max_descriptors": (
            "Old name of process_max_fds",
            None if descriptors is None else descriptors.limit,
        ),
        "homeroom_process_resident_bytes": ("Old name of process_resident_memory_bytes", resident),
        "process_open_fds": (
            "Open file descriptors",
            None if descriptors is None else descriptors.used,
        ),
        "process_max_fds": (
            "Limit of open file descriptors",
            None if descriptors is None else descriptors.limit,
        ),
        "process_resident_memory_bytes": ("Resident memory of this process", resident),
        "homeroom_worker_memory_limit_bytes": (
            "Memory limit of the container that this process is in",
            None if memory is None else memory.limit,
        ),
        "homeroom_memory_used_bytes": (
            "Memory of the container in use",
            None if memory is None else memory.used,
        ),
        "homeroom_memory_limit_bytes": (
            "Old name of homeroom_worker_memory_limit_bytes",
            None if memory is None else memory.limit,
        ),
    }
    families: list[Metric] = [
        GaugeMetricFamily(name, text, value=value) for name, (text, value) in gauges.items()
    ]
    cpu = CounterMetricFamily(
        "process_cpu_seconds", "Processor time of this process", value=time.process_time()
    )
    current = GaugeMetricFamily("homeroom_database_fault", "Current faults", labels=["cause"])
    failures = CounterMetricFamily(
        "homeroom_database_failures", "Transactions that failed for a fault", labels=["cause"]
    )
    for fault in () if db is None else db.faults.current:
        current.add_metric([fault.code], 1)
    for cause, count in {} if db is None else db.faults.failures.items():
        failures.add_metric([cause], count)
    lost = CounterMetricFamily("homeroom_log_lines_lost", "Log lines that could not be written")
    lost.add_metric([], lost_log_lines)
    return [*families, cpu, current, failures, lost]
