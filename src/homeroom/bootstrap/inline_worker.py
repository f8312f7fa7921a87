"""A worker inside a command, for lesson plans while no other worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeroom.bootstrap.application import Application
from homeroom.jobs.api import Registry, running_workers
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.worker import Worker
from homeroom.lessonplans.jobs import GenerateModule

_POLL_SECONDS = 1.0


@asynccontextmanager
async def inline_worker_if_none(application: Application) -> AsyncIterator[None]:
    """Run the jobs of lesson plans, and no others, while no worker is alive.

    A running worker has priority, because its settings name the language model. A worker that died
    counts as alive until its lease expires; then the inline worker starts.
    """
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_run_inline_worker(application))
        try:
            yield
        finally:
            task.cancel()


async def _run_inline_worker(application: Application) -> None:
    while True:
        if not await _has_live_worker(application):
            break
        await asyncio.sleep(_POLL_SECONDS)
    registry, engine = Registry(), SqlEngine()
    application.plans.register(registry)
    worker = Worker(application.db, registry, engine, lease=application.settings.job_lease)
    maintenance = JobMaintenance(application.db, registry, engine)
    tasks = [asyncio.create_task(worker.run()), asyncio.create_task(maintenance.run())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        worker.stop()
        maintenance.stop()
        await asyncio.gather(*tasks)


async def _has_live_worker(application: Application) -> bool:
    async with application.db.read() as tx:
        return any(GenerateModule.queue in each.queues for each in await running_workers(tx))
