"""Deaths of workers: the job that causes them fails, those beside it never do (decision 0023)."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.support import mortal_worker
from tests.support.database import DATABASES, database_at
from tests.support.effort import EFFORT
from tests.support.mortal_worker import Innocent, Killer

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.jobs import job_actions, store
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.job import JobReason, JobState

pytestmark = pytest.mark.anyio
TIMEOUT_SECONDS = 180.0
CONCURRENCY = 8
INNOCENTS = 40
RESTARTS = 20 * EFFORT
LONGEST_LIFE_SECONDS = 0.3


class Deaths:
    """A worker in a process, which is started again whenever it is killed."""

    def __init__(self, db: Database, database: Path | str, redis_url: str) -> None:
        self.db = db
        module = ["-m", mortal_worker.__name__]
        self._command = [sys.executable, *module, str(database), redis_url, str(CONCURRENCY)]
        self.deaths = 0

    async def start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*self._command)

    async def run_until_all_have_ended(self) -> None:
        """Restart dead workers, and skip the waits between runs alone, until no job is left."""
        process = await self.start()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while await self._open_jobs():
                    if process.returncode is not None:
                        assert process.returncode == -signal.SIGKILL
                        self.deaths += 1
                        process = await self.start()
                    await asyncio.sleep(0.05)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    async def _open_jobs(self) -> int:
        async with self.db.read() as tx:
            rows = await tx.fetch(
                "SELECT id, state FROM job WHERE state NOT IN ('completed', 'failed')"
            )
        for job_id, state in rows:
            if state == JobState.DELAYED:
                async with self.db.write() as tx:
                    await job_actions.promote(tx, None, job_id)
        return len(rows)


@pytest.fixture(params=["sqlite", "postgresql", "postgresql+bullmq"])
def places(request: pytest.FixtureRequest) -> tuple[Path | str, str]:
    """Return the database and the URL of Redis, empty for the engine on the database."""
    name = request.param.partition("+")[0]
    redis_url = ""
    if request.param.endswith("bullmq"):
        server = request.getfixturevalue("redis_server")
        server.empty()
        redis_url = server.url
    return request.getfixturevalue(DATABASES[name]), redis_url


@pytest.fixture
async def workers(places: tuple[Path | str, str]) -> Any:
    database, redis_url = places
    db = database_at(database, Clock())
    await db.open()
    yield Deaths(db, database, redis_url)
    await db.close()


async def _ends(db: Database, ids: list[str]) -> Counter[tuple[str, str | None]]:
    async with db.read() as tx:
        found = await store.find(tx, ids)
    return Counter((job.state.value, job.reason_code) for job in found.values())


async def test_a_killer_fails_after_three_deaths_alone_and_no_innocent_does(workers: Any) -> None:
    async with workers.db.write() as tx:
        killer = await enqueue(tx, Killer())
        innocents = [await enqueue(tx, Innocent()) for _ in range(INNOCENTS)]
    await workers.run_until_all_have_ended()
    assert await _ends(workers.db, innocents) == {("completed", None): INNOCENTS}
    assert await _ends(workers.db, [killer]) == {("failed", JobReason.WORKER_DIED): 1}
    async with workers.db.read() as tx:
        attempts = await store.attempts(tx, killer)
        beside = await tx.fetch(
            "SELECT worker, COUNT(*) FROM job_attempt WHERE outcome = 'lost' GROUP BY worker"
        )
    assert [each.outcome for each in attempts] == ["lost"] * 6
    assert workers.deaths == 6
    lost_by_worker = dict(beside)
    alone = [lost_by_worker[each.worker] for each in attempts]
    assert max(alone[:3]) > 1  # it took others with it
    assert alone[3:] == [1, 1, 1]


async def test_workers_that_are_killed_again_and_again_fail_no_job(workers: Any) -> None:
    chance = random.Random(20261130)
    async with workers.db.write() as tx:
        innocents = [await enqueue(tx, Innocent()) for _ in range(INNOCENTS)]
    for _ in range(RESTARTS):
        process = await workers.start()
        await asyncio.sleep(0.6 + chance.random() * LONGEST_LIFE_SECONDS)  # Python starts first
        process.kill()
        await process.wait()
    await workers.run_until_all_have_ended()
    assert await _ends(workers.db, innocents) == {("completed", None): INNOCENTS}
