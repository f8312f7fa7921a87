"""No loss and no duplicate on Redis: workers die or freeze, Redis is emptied or killed."""

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
from tests.support.effort import EFFORT
from tests.support.proxy import Proxy, proxy_to
from tests.support.redis_server import running_redis
from tests.support.self_killing_worker import DEATHS, Deadly
from tools.servers.redis import RedisServer

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.demo import comparison
from homeroom.demo.comparison import compare_results
from homeroom.demo.environment import DemoEnvironment, DemoOptions, open_environment
from homeroom.demo.subprocesses import ChildProcess
from homeroom.jobs import store
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.job import JobState

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]

SEED = 20261125
LEASE_SECONDS = 2
TIMEOUT_SECONDS = 300 * EFFORT
SLOW_PARTNERS = (
    {"server": "*", "mode": "slow", "delayMs": 700, "probability": 0.5},
    {"server": "*", "mode": "hang_after_work", "delayMs": 500, "probability": 0.2},
)
FAULTS = (
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
    """Faults of a demo environment on Redis with separate workers."""

    def __init__(
        self, made: DemoEnvironment, redis: RedisServer, proxy: Proxy, workers: list[ChildProcess]
    ) -> None:
        self.made, self.redis, self.proxy, self.workers = made, redis, proxy, workers
        self.random = random.Random(SEED)

    async def busy_worker(self) -> ChildProcess:
        """Return a worker that holds a job, or any after 3 s."""
        for _ in range(60):
            holders = _lease_holders(self.made.database)
            busy = [worker for worker in self.workers if str(worker.pid) in holders]
            if busy:
                return busy[0]
            await asyncio.sleep(0.05)
        return self.random.choice(self.workers)

    async def inject(self, fault: str) -> None:
        """Inject one fault to its end: stopped processes run again afterwards."""
        worker = await self.busy_worker() if fault.endswith("worker") else self.workers[0]
        if fault == "flush":
            self.redis.empty()
        elif fault == "kill worker":
            await worker.kill()
            await worker.start()
        elif fault == "freeze worker":
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGSTOP)
            await asyncio.sleep(LEASE_SECONDS + 1)  # past its lease: other workers claim its jobs
            os.kill(worker.pid, signal.SIGCONT)
        elif fault == "kill server":
            await self.made.server.kill()
            await self.made.server.open()
        elif fault.endswith("network"):
            (self.proxy.cut if fault.startswith("cut") else self.proxy.freeze)()
            await asyncio.sleep(1.5)
            self.proxy.restore()
        else:
            self.redis.stop(signal.SIGKILL if fault.startswith("kill") else signal.SIGTERM)
            await asyncio.sleep(1.0)
            self.redis.start()


@asynccontextmanager
async def redis_environment(folder: Path) -> AsyncIterator[Chaos]:
    """Open a demo environment on Redis behind a proxy, with two more workers."""
    async with AsyncExitStack() as stack:
        (folder / "redis").mkdir()
        redis = stack.enter_context(running_redis(folder / "redis"))
        proxy = await stack.enter_async_context(proxy_to(redis.port, Proxy))
        options = DemoOptions(
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
        made = await stack.enter_async_context(open_environment(options))
        workers = []
        for number in range(2):
            log = folder / f"worker-{number}.log"
            worker = ChildProcess("worker", ["homeroom", "worker"], made.server.settings, log)
            stack.push_async_callback(worker.stop)
            await worker.start()
            workers.append(worker)
        yield Chaos(made, redis, proxy, workers)


async def test_faults_of_workers_and_redis_lose_and_duplicate_no_job(tmp_path: Path) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), redis_environment(tmp_path) as chaos:
        made = chaos.made
        await made.load()
        await made.inject_partner_faults(SLOW_PARTNERS)
        made.players.pause_at(0.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(made.players.play(made.plan))
            for number, fault in enumerate(FAULTS):
                made.players.pause_at((number + 1) / (len(FAULTS) + 1))
                await asyncio.sleep(chaos.random.uniform(0.2, 1.2))
                await chaos.inject(fault)
            made.players.pause_at(1.0)
        await made.add_later_chapter()
        assert await made.settle(90 * EFFORT), "no job is active, waiting or delayed"
        read = await comparison.read_actual(made.api, made.sandbox.url, made.expected)
        lines = compare_results(made.expected, made.answers, read)
        attempts = _attempts(made.database)
    assert [line for line in lines if not line.ok] == []
    assert attempts.get("lost", 0) > 0, "some jobs were held by workers that died or froze"
    assert _tracebacks(tmp_path) == []


def _lease_holders(database: Path) -> set[str]:
    """Return the process ids of the workers that hold jobs."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT worker FROM job WHERE state = 'active'")
        return {worker.split(".")[-2] for (worker,) in rows}


def _tracebacks(folder: Path) -> list[str]:
    """Return the logs of programs that hold a traceback."""
    logs = [log for log in folder.glob("*.log") if log.name != "sandbox.log"]
    return [log.name for log in logs if "Traceback" in log.read_text(encoding="utf-8")]


def _attempts(database: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return dict(
            connection.execute("SELECT outcome, COUNT(*) FROM job_attempt GROUP BY outcome")
        )


async def test_a_job_that_kills_two_workers_is_done_by_the_third(
    database_file: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.empty()
    marks = tmp_path / "marks"
    db = SqliteDatabase(database_file, Clock())
    await db.open()
    async with db.write() as tx:
        job_id = await enqueue(tx, Deadly())
    script = Path(__file__).parents[1] / "support" / "self_killing_worker.py"
    arguments = [str(script), str(database_file), redis_server.url, str(marks)]
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
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
