"""Lesson plans on a real database with the real worker, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.support.kernel import POLL, Kernel

from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs.api import Backoff
from homeroom.jobs.worker import Worker
from homeroom.lessonplans import plan_queries
from homeroom.lessonplans.api import LessonGenerator, LessonPlans, LessonRetryPolicy
from homeroom.lessonplans.model import call_store
from homeroom.lessonplans.model.call_store import ModelCallRow
from homeroom.lessonplans.plan import LessonPlan
from homeroom.lessonplans.plan_queries import GenerationStatus

ACTOR = "tests"
FAST = LessonRetryPolicy(
    retries=3, backoff=Backoff(timedelta(milliseconds=1), timedelta(milliseconds=5))
)


def curriculum(modules: int = 2, lessons: int = 2, **more: Any) -> dict[str, Any]:
    """Return a curriculum with a number of one-hour lessons in each module."""
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
class PlanApplication:
    """The parts of lesson plans that ``bootstrap`` builds."""

    db: SqliteDatabase
    plans: LessonPlans
    kernel: Kernel

    async def create(self, body: dict[str, Any] | None = None) -> str:
        async with self.db.write() as tx:
            return await self.plans.create(tx, body or curriculum(), ACTOR)

    async def create_and_start(self, body: dict[str, Any] | None = None) -> str:
        plan_id = await self.create(body)
        await self.plans.start(plan_id, ACTOR)
        return plan_id

    async def status(self, plan_id: str) -> GenerationStatus:
        async with self.db.read() as tx:
            return await plan_queries.load_generation_status(tx, plan_id)

    async def plan(self, plan_id: str) -> LessonPlan:
        async with self.db.read() as tx:
            return await plan_queries.load_plan(tx, plan_id)

    async def calls(self, plan_id: str) -> list[ModelCallRow]:
        async with self.db.read() as tx:
            return await call_store.list_calls(tx, plan_id, "", 1_000)

    @asynccontextmanager
    async def run_worker(self, *, concurrency: int = 3) -> AsyncIterator[Worker]:
        """Run a worker and job maintenance until the block ends."""
        running = self.kernel.worker(concurrency=concurrency, poll=POLL)
        async with self.kernel.running_maintenance(), running as worker:
            yield worker

    async def wait_for_status(self, plan_id: str, *statuses: str) -> GenerationStatus:
        """Wait until a plan has one of these statuses."""

        async def has() -> bool:
            return (await self.status(plan_id)).status in statuses

        await self.kernel.wait_until(has)
        return await self.status(plan_id)

    async def job_states(self, *plan_ids: str) -> list[str]:
        """Return the states of the jobs of some plans."""
        found = [await self.status(plan_id) for plan_id in plan_ids]
        return [each.job.state.value for status in found for each in status.modules]

    async def run(self, plan_id: str) -> GenerationStatus:
        """Run a worker until a plan is complete, failed or cancelled."""
        async with self.run_worker():
            return await self.wait_for_status(plan_id, "complete", "failed", "cancelled")


def build_plan_application(
    db: SqliteDatabase, generator: LessonGenerator, retry_policy: LessonRetryPolicy = FAST
) -> PlanApplication:
    plans, kernel = LessonPlans(db, generator, retry_policy), Kernel(db)
    plans.register(kernel.registry)
    return PlanApplication(db, plans, kernel)
