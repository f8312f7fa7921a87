"""A worker on Redis in a process of its own: ``shared_worker.py DATABASE URL MARKS``.

It runs jobs that kill their worker for as long as the file MARKS has fewer than four lines; each
run adds one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from homeroom.clock import Clock
from homeroom.db.sqlite import SqliteDatabase
from homeroom.jobs.args import JobArgs
from homeroom.jobs.engines.bullmq import BullmqEngine
from homeroom.jobs.engines.redis_client import Address
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker

LEASE = timedelta(milliseconds=600)
DEATHS = 4


class Deadly(JobArgs, frozen=True, kw_only=True):
    """A job that kills its worker."""

    kind = "fault.deadly"
    queue = "fault"


def mark(marks: Path) -> int:
    """Note that the job runs; return for which time."""
    with marks.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(marks.read_text().splitlines())


async def main(database: Path, url: str, marks: Path) -> None:
    async def run(ctx: JobContext, args: Deadly) -> Outcome:
        if mark(marks) <= DEATHS:
            os.kill(os.getpid(), signal.SIGKILL)
        return Done("alive")

    registry = Registry()
    registry.add(Deadly, run)
    db = SqliteDatabase(database, Clock())
    await db.open()
    engine = BullmqEngine(Address(url), lease=LEASE)
    worker = Worker(db, registry, engine, lease=LEASE, poll=timedelta(milliseconds=100))
    upkeep = Upkeep(db, registry, engine)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    working, keeping = asyncio.create_task(worker.run()), asyncio.create_task(upkeep.run())
    await working
    upkeep.stop()
    await keeping
    await engine.close()
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
