"""No loss, no double on Redis either: workers die, stand still, and Redis is emptied and lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.effort import EFFORT
from tests.fault.shared_worker import DEATHS, Deadly
from tests.servers.proxy import Proxy, proxy_to
from tests.servers.redis import running_redis
from tools.servers.redis import RedisServer

from homeroom.clock import Clock
from homeroom.db.sqlite import SqliteDatabase
from homeroom.demo import found
from homeroom.demo.check import compare
from homeroom.demo.child import Child
from homeroom.demo.school import Options, School, school
from homeroom.jobs import store
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.job import JobState

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]

SEED = 20261125
LEASE_SECONDS = 2
PATIENCE_SECONDS = 300 * EFFORT
SLOW_PARTNERS = (
    {"server": "*", "mode": "slow", "delayMs": 700, "probability": 0.5},
    {"server": "*", "mode": "hang_after_work", "delayMs": 500, "probability": 0.2},
)
BLOWS = (
    "flush",
    "kill worker",
    "restart redis",
    "freeze worker",
    "cut network",
    "kill server",
    "freeze network",
    "kill worker",
    "flush",
    "kill redis",
    "freeze worker",
    "kill server",
) * EFFORT


class Chaos:
    """What can happen to a school on Redis with workers of their own."""

    def __init__(
        self, made: School, redis: RedisServer, proxy: Proxy, workers: list[Child]
    ) -> None:
        self.made, self.redis, self.proxy, self.workers = made, redis, proxy, workers
        self.dice = random.Random(SEED)

    async def victim(self) -> Child:
        """Return a worker that holds a job, if there is one within a moment."""
        for _ in range(60):
            holders = _holders(self.made.database)
            busy = [worker for worker in self.workers if str(worker.pid) in holders]
            if busy:
                return busy[0]
            await asyncio.sleep(0.05)
        return self.dice.choice(self.workers)

    async def strike(self, blow: str) -> None:
        """Do one bad thing, wholly: whatever was stopped goes on afterwards."""
        worker = await self.victim() if blow.endswith("worker") else self.workers[0]
        if blow == "flush":
            self.redis.empty()
        elif blow == "kill worker":
            await worker.kill()
            await worker.start()
        elif blow == "freeze worker":
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGSTOP)
            await asyncio.sleep(LEASE_SECONDS + 1)  # past its lease: others take its jobs
            os.kill(worker.pid, signal.SIGCONT)
        elif blow == "kill server":
            await self.made.server.kill()
            await self.made.server.open()
        elif blow.endswith("network"):
            (self.proxy.cut if blow.startswith("cut") else self.proxy.freeze)()
            await asyncio.sleep(1.5)
            self.proxy.mend()
        else:
            self.redis.stop(signal.SIGKILL if blow.startswith("kill") else signal.SIGTERM)
            await asyncio.sleep(1.0)
            self.redis.start()


@asynccontextmanager
async def shaken_school(folder: Path) -> AsyncIterator[Chaos]:
    """Open a school whose jobs go through Redis, a proxy before it, and two more workers."""
    async with AsyncExitStack() as stack:
        (folder / "redis").mkdir()
        redis = stack.enter_context(running_redis(folder / "redis"))
        proxy = await stack.enter_async_context(proxy_to(redis.port))
        options = Options(
            folder,
            learners=30 * EFFORT,
            seed=SEED,
            port=0,
            seconds=30.0 * EFFORT,
            settings={
                "HOMEROOM_JOB_LEASE": f"{LEASE_SECONDS}s",
                "HOMEROOM_QUEUE_URL": f"redis://127.0.0.1:{proxy.port}",
            },
        )
        made = await stack.enter_async_context(school(options))
        workers = []
        for number in range(2):
            log = folder / f"worker-{number}.log"
            worker = Child("worker", ["homeroom", "worker"], made.server.settings, log)
            stack.push_async_callback(worker.stop)
            await worker.start()
            workers.append(worker)
        yield Chaos(made, redis, proxy, workers)


async def test_blows_to_workers_and_redis_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), shaken_school(tmp_path) as chaos:
        made = chaos.made
        await made.load()
        await made.break_partners(SLOW_PARTNERS)
        made.players.hold_at(0.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(made.players.play(made.plan))
            for number, blow in enumerate(BLOWS):
                made.players.hold_at((number + 1) / (len(BLOWS) + 1))
                await asyncio.sleep(chaos.dice.uniform(0.2, 1.2))
                await chaos.strike(blow)
            made.players.hold_at(1.0)
        await made.add_later_chapter()
        assert await made.settle(90 * EFFORT), "nothing is left active, waiting or delayed"
        read = await found.read(made.api, made.sandbox.url, made.expected)
        lines = compare(made.expected, made.answers, read)
        attempts = _attempts(made.database)
    assert [line for line in lines if not line.ok] == []
    assert attempts.get("lost", 0) > 0, "some jobs were held by what died or stood still"
    assert _tracebacks(tmp_path) == []


def _holders(database: Path) -> set[str]:
    """Return the process ids of the workers that hold jobs."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT worker FROM job WHERE state = 'active'")
        return {worker.split(".")[-2] for (worker,) in rows}


def _tracebacks(folder: Path) -> list[str]:
    """Return which of our programs met something that they did not expect."""
    logs = [log for log in folder.glob("*.log") if log.name != "sandbox.log"]
    return [log.name for log in logs if "Traceback" in log.read_text(encoding="utf-8")]


def _attempts(database: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return dict(
            connection.execute("SELECT outcome, COUNT(*) FROM job_attempt GROUP BY outcome")
        )


async def test_a_job_that_kills_four_workers_is_done_by_the_fifth(
    database_file: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.empty()
    marks = tmp_path / "marks"
    db = SqliteDatabase(database_file, Clock())
    await db.open()
    async with db.write() as tx:
        job_id = await enqueue(tx, Deadly())
    arguments = [str(Path(__file__).with_name("shared_worker.py")), str(database_file)]
    arguments += [redis_server.url, str(marks)]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(DEATHS):
                doomed = await asyncio.create_subprocess_exec(sys.executable, *arguments)
                assert await doomed.wait() == -signal.SIGKILL
            last = await asyncio.create_subprocess_exec(sys.executable, *arguments)
            while True:
                async with db.read() as tx:
                    job = await store.get(tx, job_id)
                if job.state is JobState.COMPLETED:
                    break
                await asyncio.sleep(0.05)
            last.terminate()
            await last.wait()
        async with db.read() as tx:
            outcomes = [each.outcome for each in await store.attempts(tx, job_id)]
    finally:
        await db.close()
    assert outcomes == ["lost"] * DEATHS + ["done"]
    assert len(marks.read_text().splitlines()) == DEATHS + 1
