"""Measure how long jobs wait for real workers: processes of their own on one database file."""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.queueing import Arrival, Plan, arrivals, simulate, summary
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.http import logging_config
from homeroom.instant import SECOND
from homeroom.jobs import queue_store
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobArgs
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.outcome import Done
from homeroom.jobs.worker import Worker

POLL = timedelta(milliseconds=10)
"""How often a worker asks the table: the file has no way to tell another process."""
LIMIT_SECONDS = 120.0
READY = "ready"
SCENES = {
    "half full": Plan(rate=15.0, seconds=0.2, jobs=450, lease=3.0),
    "nearly full": Plan(rate=26.0, seconds=0.2, jobs=780, lease=3.0),
    "a worker dies": Plan(rate=15.0, seconds=0.2, jobs=450, lease=3.0, deaths=(10.0,)),
}
"""What is compared with real workers: half a minute each, with a lease to match."""
SMALL = {
    "a worker dies": Plan(rate=45.0, seconds=0.1, jobs=150, lease=1.5, deaths=(1.5,), restart=1.0)
}


class Nap(JobArgs, frozen=True, kw_only=True):
    """Take some time."""

    kind = "bench.nap"
    queue = "bench"
    number: int = 0
    seconds: float = 0.0


async def _nap(_: Any, args: Nap) -> Done:
    await asyncio.sleep(args.seconds)
    return Done()


async def work(file: Path, concurrency: int, lease: float) -> None:
    """Be one worker until SIGTERM."""
    logging_config.configure_logging(
        "error"
    )  # to standard error; standard output says when it is ready
    db = SqliteDatabase(file, Clock())
    await db.open()
    registry, engine = Registry(), SqlEngine()
    registry.add(Nap, _nap)
    worker = Worker(
        db,
        registry,
        engine,
        concurrency=concurrency,
        lease=timedelta(seconds=lease),
        poll=POLL,
    )
    upkeep = JobMaintenance(db, registry, engine)

    def stop() -> None:
        worker.stop()
        upkeep.stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    running = asyncio.gather(worker.run(), upkeep.run())
    await worker.started.wait()
    print(READY, flush=True)
    await running
    await db.close()


class _Crew:
    """The worker processes of a measurement."""

    def __init__(self, plan: Plan, file: Path) -> None:
        self._plan, self._file = plan, file
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    async def start(self, number: int) -> None:
        """Start a worker and wait until it claims."""
        plan = self._plan
        words = [str(self._file), str(plan.concurrency), str(plan.lease)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.queueing_workers",
            *words,
            cwd=Path(__file__).parents[1],
            stdout=PIPE,
        )
        self._processes[number] = process
        assert process.stdout is not None
        said = await process.stdout.readline()
        if said.decode().strip() != READY:
            raise RuntimeError("a worker did not start")

    async def kill(self, number: int) -> None:
        """End a worker as a power cut would."""
        self._processes[number].kill()
        await self._processes[number].wait()

    async def stop(self) -> None:
        """End all workers in good order."""
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        for process in self._processes.values():
            await asyncio.wait_for(process.wait(), LIMIT_SECONDS)


def measure(plan: Plan, jobs: Sequence[Arrival]) -> dict[str, Any]:
    """Add the jobs at their times and return how long they waited for their last start.

    ``overhead`` is the median of how much longer than its own time a job was active, in seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.db"
        migrate.upgrade(file)
        return asyncio.run(_measure(plan, jobs, file))


async def _measure(plan: Plan, jobs: Sequence[Arrival], file: Path) -> dict[str, Any]:
    db = SqliteDatabase(file, Clock())
    await db.open()
    crew = _Crew(plan, file)
    try:
        async with db.write() as tx:
            await queue_store.set_queue_retention(
                tx, Nap.queue, completed=len(jobs), failed=len(jobs), age=None
            )
        await asyncio.gather(*(crew.start(number) for number in range(plan.workers)))
        begin = time.monotonic() + 0.1
        await asyncio.gather(_add(db, jobs, begin), _deaths(crew, plan, begin))
        return await _waits(db, jobs)
    finally:
        await crew.stop()
        await db.close()


async def _add(db: SqliteDatabase, jobs: Sequence[Arrival], begin: float) -> None:
    for number, job in enumerate(jobs):
        await asyncio.sleep(max(0.0, begin + job.at - time.monotonic()))
        async with db.write() as tx:
            await enqueue(tx, Nap(number=number, seconds=job.seconds), priority=job.priority)


async def _deaths(crew: _Crew, plan: Plan, begin: float) -> None:
    for number, at in enumerate(plan.deaths):
        await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
        await crew.kill(number % plan.workers)
        began = time.monotonic()
        await asyncio.sleep(plan.restart / 2)
        # a start takes a good part of the pause itself
        await crew.start(number % plan.workers)
        await asyncio.sleep(max(0.0, began + plan.restart - time.monotonic()))


async def _waits(db: SqliteDatabase, jobs: Sequence[Arrival]) -> dict[str, Any]:
    """Wait until no job is unfinished, then read what became of them."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            async with db.read() as tx:
                open_ones = await tx.fetch_one(
                    "SELECT COUNT(*) FROM job WHERE queue = 'bench' AND finished_at IS NULL"
                )
            if open_ones is not None and open_ones[0] == 0:
                break
            await asyncio.sleep(0.05)
    async with db.read() as tx:
        rows = await tx.fetch(
            "SELECT priority, created_at, started_at, finished_at FROM job"
            " WHERE queue = 'bench' ORDER BY seq"
        )
        lost = await tx.fetch("SELECT 1 FROM job_attempt WHERE outcome = 'lost'")
    if len(rows) != len(jobs):
        raise RuntimeError(f"{len(jobs)} jobs were added and {len(rows)} were found")
    spent = [(row[3] - row[2]) / SECOND for row in rows]
    overhead = statistics.median(took - job.seconds for took, job in zip(spent, jobs, strict=True))
    waits = [(row[0], (row[2] - row[1]) / SECOND) for row in rows]
    return {"waits": summary(waits), "lost": len(lost), "overhead": round(max(0.0, overhead), 4)}


def compare(scenes: dict[str, Plan]) -> dict[str, Any]:
    """Run each plan with real workers and in the simulation; return both, side by side."""
    rows: dict[str, Any] = {}
    plans = {}
    for name, plan in scenes.items():
        jobs = arrivals(plan)
        found = measure(plan, jobs)
        known = replace(plan, overhead=found["overhead"])
        told = simulate(known, jobs)
        plans[name] = {"load": round(known.load, 2), "overhead_ms": 1_000 * known.overhead}
        for group, measured in found["waits"].items():
            predicted = told[group]
            rows[f"{name}: {group}"] = {
                "predicted_mean_ms": predicted["mean_ms"],
                "measured_mean_ms": measured["mean_ms"],
                "predicted_p95_ms": predicted["p95_ms"],
                "measured_p95_ms": measured["p95_ms"],
            }
        plans[name] |= {"predicted_lost": told["lost"], "measured_lost": found["lost"]}
    return {"scenes": plans, "waits": rows}


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
