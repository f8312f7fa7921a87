"""A worker process that takes a job and never lets go of it; the test kills it."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from homeroom.clock import Clock
from homeroom.db.sqlite import SqliteDatabase
from homeroom.jobs.args import JobArgs
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.worker import Worker


class Task(JobArgs, frozen=True, kw_only=True):
    """The suite's kind, as another program would declare it."""

    kind = "contract.task"
    queue = "contract"
    timeout = timedelta(hours=1)

    word: str = ""


async def hang(ctx: Any, args: Task) -> Any:
    await asyncio.Event().wait()


async def main() -> None:
    db = SqliteDatabase(Path(sys.argv[1]), Clock())
    await db.open()
    registry = Registry()
    registry.add(Task, hang)
    await Worker(db, registry, SqlEngine()).run()


asyncio.run(main())
