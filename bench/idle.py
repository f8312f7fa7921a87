"""The cost of monitoring: idle, and for each ingested event.

Servers with and without it run beside each other; ``python -m bench.idle serve`` is one without.
"""

import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.load import Plan
from bench.memory import load_in_process
from bench.server_process import ServerProcess, run_server, stop_process
from homeroom.cli import main
from homeroom.monitoring.monitor import Monitor

POLL_SECONDS = 0.02
_SETTLE_SECONDS = 8.0
"""Time for the start: declared schedules, the first minute of the history."""
_COURSE = {
    "title": "Load",
    "units": [
        {
            "id": "u",
            "title": "Unit",
            "chapters": [{"id": f"chapter-{n:03}", "title": f"{n}"} for n in range(50)],
        }
    ],
}


@contextlib.contextmanager
def _installation(
    is_monitored: bool, has_worker: bool
) -> Iterator[tuple[ServerProcess, list[psutil.Process]]]:
    """Run a server, and a worker of its own; yield their processes."""
    module = "homeroom" if is_monitored else "bench.idle"
    with (
        tempfile.TemporaryDirectory() as folder,
        run_server(Path(folder), "--no-worker", module=module) as server,
    ):
        server.call("PUT", "/api/v1/courses/course-000", _COURSE)
        processes = [psutil.Process(server.process.pid)]
        if not has_worker:
            yield server, processes
            return
        worker = subprocess.Popen(
            [sys.executable, "-m", module, "worker"],
            env={**_without_settings(), "HOMEROOM_DATA_DIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield server, [*processes, psutil.Process(worker.pid)]
        finally:
            stop_process(worker)


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}


def _seconds(processes: list[psutil.Process]) -> float:
    """Return the user and system time of some processes."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _idle(seconds: float) -> dict[str, Any]:
    """Return commits a minute and the share of a core, with monitoring and without."""
    with (
        _installation(True, True) as (monitored, its_processes),
        _installation(False, True) as (bare, other_processes),
        contextlib.closing(sqlite3.connect(monitored.database)) as one,
        contextlib.closing(sqlite3.connect(bare.database)) as two,
    ):
        time.sleep(_SETTLE_SECONDS)
        names = ("on", "off")
        processes = dict(zip(names, (its_processes, other_processes), strict=True))
        connections = dict(zip(names, (one, two), strict=True))
        before = {name: _seconds(processes[name]) for name in names}
        versions = {name: _version(connections[name]) for name in names}
        commits = dict.fromkeys(names, 0)
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            time.sleep(POLL_SECONDS)
            for name in names:
                found = _version(connections[name])
                commits[name] += found != versions[name]
                versions[name] = found
        elapsed = time.monotonic() - started
        share = {n: 100 * (_seconds(processes[n]) - before[n]) / elapsed for n in names}
    rate = {name: 60 * commits[name] / elapsed for name in names}
    return {
        "idle_seconds": round(elapsed),
        "commits_a_minute_on": round(rate["on"], 2),
        "commits_a_minute_off": round(rate["off"], 2),
        "commits_a_minute_of_monitoring": round(rate["on"] - rate["off"], 2),
        "percent_of_a_core_on": round(share["on"], 2),
        "percent_of_a_core_off": round(share["off"], 2),
        "percent_of_a_core_of_monitoring": round(share["on"] - share["off"], 2),
    }


def _version(connection: sqlite3.Connection) -> int:
    """Return a number that changes with each commit of another connection."""
    [version] = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def _per_event(pairs: int, seconds: float) -> dict[str, Any]:
    """Return the processor time of an event by pairs of runs, whose order alternates."""
    with (
        _installation(True, False) as (monitored, its_processes),
        _installation(False, False) as (bare, other_processes),
    ):
        servers = {"on": (monitored, its_processes), "off": (bare, other_processes)}
        for server, _ in servers.values():
            _load(server, seconds)
        costs: dict[str, list[float]] = {"on": [], "off": []}
        for number in range(pairs):
            for name in ("on", "off") if number % 2 else ("off", "on"):
                server, processes = servers[name]
                before = _seconds(processes)
                events = _load(server, seconds)
                costs[name].append(1e6 * (_seconds(processes) - before) / events)
    ratios = [on / off for on, off in zip(costs["on"], costs["off"], strict=True)]
    return {
        "pairs": pairs,
        "us_per_event_on": round(statistics.median(costs["on"]), 1),
        "us_per_event_off": round(statistics.median(costs["off"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "lowest_ratio": round(min(ratios), 3),
        "highest_ratio": round(max(ratios), 3),
    }


def _load(server: ServerProcess, seconds: float) -> int:
    plan = Plan(port=server.port, key=server.key, seconds=seconds, learners=5_000)
    return int(load_in_process(plan)["events"]["accepted"])


def measure(seconds: float = 120.0, pairs: int = 12, load_seconds: float = 3.0) -> dict[str, Any]:
    """Return what monitoring costs while nothing happens, and for each event."""
    return {"idle": _idle(seconds), "events": _per_event(pairs, load_seconds)}


def _run_unmonitored() -> None:
    """Run the command line with a monitor that neither records nor evaluates."""

    async def wait(self: Monitor) -> None:
        await self._stopped.wait()

    Monitor.run = wait  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    _run_unmonitored()
