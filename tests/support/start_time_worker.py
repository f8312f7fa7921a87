"""A worker on Redis in its own process that prints the start times of its jobs."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from tests.support.database import database_at, place_of

from homeroom.jobs.engines.bullmq import BullmqEngine, RedisAddress
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import JobArgs
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.worker import Worker


class Task(JobArgs, frozen=True, kw_only=True):
    """The suite's kind, as another program would declare it."""

    kind = "contract.task"
    queue = "contract"

    word: str = ""


async def print_start_time(ctx: JobContext, args: Task) -> Outcome:
    print(asyncio.get_running_loop().time(), flush=True)
    return Done()


async def main() -> None:
    db = database_at(place_of(sys.argv[1]))
    await db.open()
    registry = Registry()
    registry.add(Task, print_start_time)
    engine = BullmqEngine(RedisAddress(sys.argv[2]))
    # It never polls the table: the process that added a job has to dispatch it.
    await Worker(db, registry, engine, poll=timedelta(hours=1)).run()


if __name__ == "__main__":
    asyncio.run(main())
