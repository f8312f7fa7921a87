"""A worker in its own process: ``-m tests.support.mortal_worker DATABASE REDIS_URL CONCURRENCY``.

An empty REDIS_URL means the engine on the database. The jobs of the kind ``Killer`` kill it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from datetime import timedelta

from tests.support.database import database_at, place_of

from homeroom.clock import Clock
from homeroom.jobs.engine import Engine, SqlEngine
from homeroom.jobs.engines.bullmq import BullmqEngine, RedisAddress
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import JobArgs
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.worker import Worker

LEASE = timedelta(milliseconds=900)
INNOCENT_SECONDS = 0.1
PATIENCE_SECONDS = 1.5
"""Time for which a killer waits for others to run beside it, before it kills them all."""
_innocent_began = asyncio.Event()


class Innocent(JobArgs, frozen=True, kw_only=True):
    """A job that takes a while."""

    kind = "fault.innocent"
    queue = "fault"


class Killer(JobArgs, frozen=True, kw_only=True):
    """A job that kills its worker."""

    kind = "fault.killer"
    queue = "fault"
    priority = 10


async def run_innocent(ctx: JobContext, args: Innocent) -> Outcome:
    """Do some work."""
    _innocent_began.set()
    await asyncio.sleep(INNOCENT_SECONDS)
    return Done()


async def run_killer(ctx: JobContext, args: Killer) -> Outcome:
    """Kill the worker, beside a job that has just begun if there is any."""
    _innocent_began.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _innocent_began.wait()
    os.kill(os.getpid(), signal.SIGKILL)
    return Done()


async def main(database: str, redis_url: str, concurrency: int) -> None:
    """Work until SIGTERM."""
    registry = Registry()
    registry.add(Innocent, run_innocent)
    registry.add(Killer, run_killer)
    db = database_at(place_of(database), Clock())
    await db.open()
    engine: Engine = SqlEngine()
    if redis_url:
        engine = BullmqEngine(RedisAddress(redis_url), lease=LEASE)
        await engine.open()
    worker = Worker(
        db,
        registry,
        engine,
        lease=LEASE,
        concurrency=concurrency,
        poll=timedelta(milliseconds=100),
    )
    maintenance = JobMaintenance(db, registry, engine)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    running = asyncio.create_task(maintenance.run())
    await worker.run()
    maintenance.stop()
    await running
    await engine.close()
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
