"""A worker in a process of its own, whose handler never ends; test 7 kills it."""

import asyncio
import sys
from pathlib import Path
from typing import ClassVar

from tests.servers.database import database_at

from homeroom.completion.api import StepArgs
from homeroom.jobs.api import Done, JobContext, Outcome, Registry
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.worker import Worker


class Applaud(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "basics.applaud"
    queue: ClassVar[str] = "basics"


async def applaud(ctx: JobContext, args: Applaud) -> Outcome:
    print("the handler runs", flush=True)
    await asyncio.Event().wait()
    return Done()


async def main() -> None:
    place = sys.argv[1]
    db, registry = database_at(place if "://" in place else Path(place)), Registry()
    await db.open()
    registry.add(Applaud, applaud)
    await Worker(db, registry, SqlEngine()).run()


asyncio.run(main())
