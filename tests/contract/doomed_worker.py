"""A worker process that takes a job and never lets go of it; the test kills it."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.servers.database import database_at

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
    place = sys.argv[1]
    db = database_at(place if "://" in place else Path(place))
    await db.open()
    registry = Registry()
    registry.add(Task, hang)
    await Worker(db, registry, SqlEngine()).run()


asyncio.run(main())
