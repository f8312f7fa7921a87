"""Do the work of lesson plans in a command, as long as no worker does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeroom.clock import microseconds
from homeroom.jobs.api import Registry, workers
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.wiring.house import House

_LOOK_SECONDS = 1.0


@asynccontextmanager
async def worker_if_none(house: House) -> AsyncIterator[None]:
    """Run the jobs of lesson plans, and no others, unless a worker gives signs of life.

    A worker that runs goes first, because its settings say which model writes. One that died a
    moment ago looks alive until its lease has passed; then this one steps in.
    """
    async with asyncio.TaskGroup() as group:
        standing_in = group.create_task(_stand_in(house))
        try:
            yield
        finally:
            standing_in.cancel()


async def _stand_in(house: House) -> None:
    while True:
        if not await _somebody_works(house):
            break
        await asyncio.sleep(_LOOK_SECONDS)
    registry, engine = Registry(), SqlEngine()
    house.plans.register(registry)
    worker = Worker(house.db, registry, engine, lease=house.settings.job_lease)
    upkeep = Upkeep(house.db, registry, engine)
    running = [asyncio.create_task(worker.run()), asyncio.create_task(upkeep.run())]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        worker.stop()
        upkeep.stop()
        await asyncio.gather(*running)


async def _somebody_works(house: House) -> bool:
    async with house.db.read() as tx:
        oldest = tx.now - microseconds(house.settings.job_lease)
        return any(row.heartbeat_at > oldest for row in await workers(tx))
