"""Run the jobs of one room for a while, in a command that has no worker beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeroom.jobs.api import Registry, workers
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.wiring.house import House

__all__ = ["run_plans", "workers"]


@asynccontextmanager
async def run_plans(house: House) -> AsyncIterator[None]:
    """Run the jobs of lesson plans, and no others, until the block ends."""
    registry, engine = Registry(), SqlEngine()
    house.plans.register(registry)
    worker = Worker(house.db, registry, engine, lease=house.settings.job_lease)
    upkeep = Upkeep(house.db, registry, engine)
    running = [asyncio.create_task(worker.run()), asyncio.create_task(upkeep.run())]
    try:
        yield
    finally:
        worker.stop()
        upkeep.stop()
        await asyncio.gather(*running)
