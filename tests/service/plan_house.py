"""Lesson plans on a real database with the real worker, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from homeroom.db.sqlite import SqliteDatabase
from homeroom.jobs.api import Backoff, Registry
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.lessonplans import call_store, read
from homeroom.lessonplans.api import Generator, LessonPlans, Patience
from homeroom.lessonplans.call_store import CallRow
from homeroom.lessonplans.plan import Plan
from homeroom.lessonplans.read import Status

PATIENCE_SECONDS = 30.0
ACTOR = "tests"
FAST = Patience(retries=3, backoff=Backoff(timedelta(milliseconds=1), timedelta(milliseconds=5)))


def curriculum(modules: int = 2, lessons: int = 2, **more: Any) -> dict[str, Any]:
    """Return a curriculum with so many lessons of an hour in each module."""
    return {
        "title": "Bread for beginners",
        "modules": [
            {
                "id": f"m{module}",
                "title": f"Module {module}",
                "contactHours": lessons,
                "outcomes": [
                    {"id": f"m{module}.o{number}", "text": f"Explain step {module}.{number}"}
                    for number in range(1, lessons + 1)
                ],
            }
            for module in range(1, modules + 1)
        ],
        "preferences": {"lessonMinutes": 60},
        **more,
    }


@dataclass
class PlanHouse:
    """Everything that wiring would build for lesson plans."""

    db: SqliteDatabase
    plans: LessonPlans
    registry: Registry

    async def create(self, body: dict[str, Any] | None = None) -> str:
        async with self.db.write() as tx:
            return await self.plans.create(tx, body or curriculum(), ACTOR)

    async def started(self, body: dict[str, Any] | None = None) -> str:
        plan_id = await self.create(body)
        await self.plans.start(plan_id, ACTOR)
        return plan_id

    async def status(self, plan_id: str) -> Status:
        async with self.db.read() as tx:
            return await read.status(tx, plan_id)

    async def plan(self, plan_id: str) -> Plan:
        async with self.db.read() as tx:
            return await read.plan(tx, plan_id)

    async def calls(self, plan_id: str) -> list[CallRow]:
        async with self.db.read() as tx:
            return await call_store.calls(tx, plan_id, "", 1_000)

    @asynccontextmanager
    async def working(self, *, concurrency: int = 3) -> AsyncIterator[Worker]:
        """Run a worker and the upkeep until the block ends."""
        engine = SqlEngine()
        worker = Worker(
            self.db,
            self.registry,
            engine,
            concurrency=concurrency,
            poll=timedelta(milliseconds=50),
        )
        upkeep = Upkeep(self.db, self.registry, engine)
        tasks = [asyncio.create_task(worker.run()), asyncio.create_task(upkeep.run())]
        try:
            yield worker
        finally:
            worker.stop()
            upkeep.stop()
            await asyncio.gather(*tasks)

    async def when(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something holds, looking at it after every commit."""
        changed = asyncio.Event()
        forget = self.db.subscribe(lambda topics: changed.set())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    changed.clear()
                    if await holds():
                        return
                    await changed.wait()
        finally:
            forget()

    async def until(self, plan_id: str, *statuses: str) -> Status:
        """Wait until a plan has one of these statuses."""

        async def has() -> bool:
            return (await self.status(plan_id)).status in statuses

        await self.when(has)
        return await self.status(plan_id)

    async def job_states(self, *plan_ids: str) -> list[str]:
        """Return the states of the jobs of some plans."""
        found = [await self.status(plan_id) for plan_id in plan_ids]
        return [each.job.state.value for status in found for each in status.modules]

    async def run(self, plan_id: str) -> Status:
        """Work until a plan stands still."""
        async with self.working():
            return await self.until(plan_id, "complete", "failed", "cancelled")


def plan_house(db: SqliteDatabase, generator: Generator, patience: Patience = FAST) -> PlanHouse:
    plans, registry = LessonPlans(db, generator, patience), Registry()
    plans.register(registry)
    return PlanHouse(db, plans, registry)
