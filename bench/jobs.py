"""Measure no-op jobs a second and the pick-up of one job, ours against huey on SQLite.

Both run in this process on files in the same folder, one after the other in every round, and every
job is a commit of its own when it is added, on both sides. ``drain`` is from the first pick-up to
the last job's end, ``both`` counts the adding too. Huey's default is durable (SQLite's own
``synchronous=FULL``); ``fsync=True`` says so explicitly. huey forgets a job when it has run and its
result is None; ours keeps the row, its attempt and its history, and settles it durably.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
from huey import SqliteHuey

from bench.drain import IDLE_SECONDS, LIMIT_SECONDS, Meter, Numbers, drain, medians, rates, waits
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.database import Database
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs.engine import Engine, SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobArgs
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.outcome import Done
from homeroom.jobs.worker import DEFAULT_CONCURRENCY, Worker


class Noop(JobArgs, frozen=True, kw_only=True):
    """Do nothing."""

    kind = "bench.noop"
    queue = "bench"
    number: int = 0


async def homeroom(
    db: Database, engine: Engine, jobs: int, picks: int, concurrency: int
) -> Numbers:
    """Measure our kernel on a database, which is opened here, and an engine."""
    meter, registry = Meter(), Registry()

    async def run(ctx: Any, args: Noop) -> Done:
        meter.count()
        return Done()

    async def add(number: int) -> None:
        await db.transact(lambda tx: enqueue(tx, Noop(number=number)))

    async def unfinished() -> bool:
        async with db.read() as tx:
            row = await tx.fetch_one(
                "SELECT 1 FROM job WHERE queue = 'bench' AND pruned_at IS NULL"
                " AND state IN ('waiting', 'active') LIMIT 1"
            )
        return row is not None

    registry.add(Noop, run)
    await db.open()
    await engine.open()
    working = _working(
        Worker(db, registry, engine, concurrency=concurrency), JobMaintenance(db, registry, engine)
    )
    found = await drain(meter, jobs, picks, add=add, working=working, unfinished=unfinished)
    await engine.close()
    await db.close()
    return found


@asynccontextmanager
async def _working(worker: Worker, upkeep: JobMaintenance) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(worker.run()), asyncio.create_task(upkeep.run())]
    yield
    worker.stop()
    upkeep.stop()
    await asyncio.gather(*tasks)


def _huey(file: Path, jobs: int, picks: int, threads: int, fsync: bool | None) -> Numbers:
    """Do the same with huey's own consumer in threads of this process."""
    huey = SqliteHuey("bench", filename=str(file), fsync=fsync)
    ran = 0
    at = 0.0
    wanted, all_ran, lock = jobs, threading.Event(), threading.Lock()

    @huey.task()  # type: ignore[untyped-decorator]  # huey has no types
    def noop(number: int) -> None:
        nonlocal ran, at
        with lock:
            ran += 1
            at = time.perf_counter()
            if ran >= wanted:
                all_ran.set()

    begin = time.perf_counter()
    for number in range(jobs):
        noop(number)
    added = time.perf_counter() - begin
    consumer = huey.create_consumer(workers=threads, worker_type="thread")
    begun = time.perf_counter()
    consumer.start()
    if not all_ran.wait(LIMIT_SECONDS):
        raise TimeoutError(f"huey ran {ran} of {jobs} jobs in {LIMIT_SECONDS} s")
    numbers = rates(jobs, added, begun, time.perf_counter())
    seconds: list[float] = []
    for number in range(picks):
        time.sleep(random.uniform(*IDLE_SECONDS))
        all_ran.clear()
        wanted = ran + 1
        start = time.perf_counter()
        noop(number)
        if not all_ran.wait(LIMIT_SECONDS):
            raise TimeoutError("huey did not pick up a job")
        seconds.append(at - start)
    consumer.stop(graceful=True)
    huey.storage.close()
    return numbers | waits(seconds)


def _contenders(jobs: int, picks: int, concurrency: int) -> dict[str, Callable[[Path], Numbers]]:
    def ours(slots: int) -> Callable[[Path], Numbers]:
        def measured(folder: Path) -> Numbers:
            file = folder / "homeroom.db"
            migrate.upgrade(file)
            return asyncio.run(
                homeroom(SqliteDatabase(file, Clock()), SqlEngine(), jobs, picks, slots)
            )

        return measured

    def huey(threads: int, fsync: bool | None) -> Callable[[Path], Numbers]:
        return lambda folder: _huey(folder / "huey.db", jobs, picks, threads, fsync)

    return {
        f"homeroom, {DEFAULT_CONCURRENCY} at once (its default)": ours(DEFAULT_CONCURRENCY),
        f"homeroom, {concurrency} at once": ours(concurrency),
        "huey, 1 thread": huey(1, None),
        "huey, 4 threads": huey(4, None),
        "huey, 1 thread, fsync=True": huey(1, True),
        "huey, 4 threads, fsync=True": huey(4, True),
    }


def measure(jobs: int = 2_000, picks: int = 20, rounds: int = 5, concurrency: int = 64) -> Any:
    """Return medians over interleaved rounds by contender, and ours over huey's best."""
    contenders = _contenders(jobs, picks, concurrency)
    results: dict[str, list[Numbers]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            with tempfile.TemporaryDirectory() as folder:
                results[name].append(run(Path(folder)))
            gc.collect()
    found = medians(results)
    return {
        "jobs": jobs,
        "pick_ups": picks,
        "rounds": rounds,
        "versions": {name: version(name) for name in ("homeroom", "huey")}
        | {"python": sys.version.split()[0]},
        "medians": found,
        "ahead": _ahead(found),
    }


def _ahead(found: dict[str, Numbers]) -> dict[str, float]:
    """Return by what factor our best is ahead of huey's best; below 1 is behind."""
    ours = [one for name, one in found.items() if name.startswith("homeroom")]
    theirs = [one for name, one in found.items() if name.startswith("huey")]
    ahead = {
        key: max(one[key] for one in ours) / max(one[key] for one in theirs)
        for key in ("drained_per_second", "both_per_second")
    }
    ahead["pick_up_ms_p50"] = min(one["pick_up_ms_p50"] for one in theirs) / max(
        one["pick_up_ms_p50"] for one in ours
    )
    return ahead


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--picks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    given = parser.parse_args()
    logging.getLogger("huey").setLevel(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = measure(given.jobs, given.picks, given.rounds, given.concurrency)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
