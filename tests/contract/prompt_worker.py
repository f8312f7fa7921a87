"""A worker on Redis in a process of its own that says by the machine's clock when a job started."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.servers.database import database_at

from homeroom.jobs.args import JobArgs
from homeroom.jobs.engines.bullmq import BullmqEngine
from homeroom.jobs.engines.redis_client import Address
from homeroom.jobs.handler import Registry
from homeroom.jobs.outcome import Done
from homeroom.jobs.worker import Worker


class Task(JobArgs, frozen=True, kw_only=True):
    """The suite's kind, as another program would declare it."""

    kind = "contract.task"
    queue = "contract"

    word: str = ""


async def told(ctx: Any, args: Task) -> Any:
    print(asyncio.get_running_loop().time(), flush=True)
    return Done()


async def main() -> None:
    place = sys.argv[1]
    db = database_at(place if "://" in place else Path(place))
    await db.open()
    registry = Registry()
    registry.add(Task, told)
    engine = BullmqEngine(Address(sys.argv[2]))
    # It never asks the table by itself: what it runs was dispatched by the process that added it.
    await Worker(db, registry, engine, poll=timedelta(hours=1)).run()


asyncio.run(main())
