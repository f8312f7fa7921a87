"""A worker on Redis in its own process: ``self_killing_worker.py DATABASE URL MARKS``.

Its jobs kill it while the file MARKS has fewer than three lines; each run adds a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs.engines.bullmq import BullmqEngine, RedisAddress
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import JobArgs
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.worker import Worker

LEASE = timedelta(milliseconds=600)
DEATHS = 2


class Deadly(JobArgs, frozen=True, kw_only=True):
    """A job that kills its worker."""

    kind = "fault.deadly"
    queue = "fault"


def count_run(marks: Path) -> int:
    """Add a line for this run; return the number of runs so far."""
    with marks.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(marks.read_text().splitlines())


async def main(database: Path, url: str, marks: Path) -> None:
    async def run(ctx: JobContext, args: Deadly) -> Outcome:
        if count_run(marks) <= DEATHS:
            os.kill(os.getpid(), signal.SIGKILL)
        return Done("alive")

    registry = Registry()
    registry.add(Deadly, run)
    db = SqliteDatabase(database, Clock())
    await db.open()
    engine = BullmqEngine(RedisAddress(url), lease=LEASE)
    worker = Worker(db, registry, engine, lease=LEASE, poll=timedelta(milliseconds=100))
    maintenance = JobMaintenance(db, registry, engine)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    running = asyncio.create_task(maintenance.run())
    await worker.run()
    maintenance.stop()
    await running
    await engine.close()
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
