"""A worker process whose handlers never end: ``python -m tests.support.hanging_worker DATABASE``.

It prints a line when a job starts; the test kills it.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import ClassVar

from tests.support.basic_school import Applaud
from tests.support.database import database_at, place_of

from homeroom.jobs.api import JobArgs, JobContext, Outcome, Registry
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.worker import Worker


class Task(JobArgs, frozen=True, kw_only=True):
    """The job kind of the contract suite, as another program would declare it."""

    kind: ClassVar[str] = "contract.task"
    queue: ClassVar[str] = "contract"
    timeout: ClassVar[timedelta] = timedelta(hours=1)

    word: str = ""


async def hang(ctx: JobContext, args: JobArgs) -> Outcome:
    print("the handler runs", flush=True)
    await asyncio.Event().wait()
    raise AssertionError("the event is never set")


async def main(database: str) -> None:
    db, registry = database_at(place_of(database)), Registry()
    await db.open()
    registry.add(Applaud, hang)
    registry.add(Task, hang)
    await Worker(db, registry, SqlEngine()).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
