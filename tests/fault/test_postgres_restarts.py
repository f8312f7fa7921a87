"""Restarts of PostgreSQL under load lose nothing and duplicate nothing.

An immediate stop is like a power cut: the server recovers from its log. Two programs use it here, a
server and a worker, and neither is restarted. Clients get 503 with ``Retry-After`` and retry.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.demo_checks import check_ledger, check_log, check_replay
from tests.support.effort import EFFORT
from tests.support.homeroom_process import clean_environment, homeroom_command
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.postgres import Postgres, running

from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.demo import comparison
from homeroom.demo.comparison import compare_results
from homeroom.demo.environment import DemoEnvironment, DemoOptions, open_environment
from homeroom.demo.subprocesses import ChildProcess
from homeroom.http.app import INGEST_PATH
from homeroom.jobs import store
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import JobArgs, JobState
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.worker import Worker

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]

RESTARTS = 6 * EFFORT
LEARNERS = 40 * EFFORT
SEED = 20261125
SETTLE_SECONDS = 240 * EFFORT  # much of it for a busy machine
PATIENCE_SECONDS = 580 * EFFORT


@pytest.fixture
def durable() -> Iterator[Postgres]:
    """Run a server that waits for the disk at every commit, as in production."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running(durable=True))
        except Missing as missing:
            skip_or_fail(missing)
        yield server


@asynccontextmanager
async def working(made: DemoEnvironment, folder: Path) -> AsyncIterator[ChildProcess]:
    """Run a worker process beside the server."""
    log = folder / "worker.log"
    child = ChildProcess("worker", ["homeroom", "worker"], made.server.settings, log)
    await child.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "worker_started" not in child.log.read_text(encoding="utf-8"):
                child.check()
                await asyncio.sleep(0.05)
        yield child
    finally:
        await child.stop()


async def refused(made: DemoEnvironment) -> list[httpx.Response]:
    """Send requests that need the database, while it is away."""
    event = {
        "id": f"while-away-{made.answers.events}",
        "userId": "extra-learner",
        "courseId": made.courses[0].id,
        "eventType": "heartbeat",
        "timestamp": "2026-11-20T09:00:00Z",
        "timeSpent": 0,
    }
    person = {"givenName": "Extra", "familyName": "Learner"}
    return list(
        await asyncio.gather(
            made.api.get("/api/v1/completions"),
            made.api.put("/api/v1/people/extra-learner", json=person),
            made.api.post(INGEST_PATH, json={"events": [event]}),
        )
    )


async def restart_at_random_moments(
    made: DemoEnvironment, durable: Postgres, dice: random.Random
) -> list[httpx.Response]:
    """Stop and start PostgreSQL once in every part of the play; return the answers."""
    answers: list[httpx.Response] = []
    for number in range(RESTARTS):
        made.players.pause_at((number + 1) / (RESTARTS + 1))
        await asyncio.sleep(dice.uniform(0.2, 1.5))
        await asyncio.to_thread(durable.stop, signal.SIGQUIT)
        if number in {1, 4}:  # longer than the retries of ingest
            answers += await refused(made)
        await asyncio.to_thread(durable.start)
        made.server.check()
    made.players.pause_at(1.0)
    return answers


class Lesson(JobArgs, frozen=True, kw_only=True):
    """A job of this test."""

    kind = "fault.lesson"
    queue = "fault"


@pytest.mark.parametrize("how", ["ended", "runs"])
async def test_a_worker_stops_while_the_database_is_away(durable: Postgres, how: str) -> None:
    """Jobs whose result it could not save remain leased, as after a kill."""
    url = durable.url(durable.make_database())
    await asyncio.to_thread(migrate.upgrade, url)
    registry, engine = Registry(), SqlEngine()
    begun, go = asyncio.Event(), asyncio.Event()
    runs = 0

    async def run(ctx: JobContext, args: Lesson) -> Outcome:
        nonlocal runs
        runs += 1
        begun.set()
        await go.wait()
        return Done()

    registry.add(Lesson, run)
    db = PostgresDatabase(url, Clock())
    await db.open()

    @asynccontextmanager
    async def worker() -> AsyncIterator[None]:
        brief = timedelta(milliseconds=500)
        worker = Worker(db, registry, engine, lease=2 * brief, grace=brief)
        working = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await working

    async def is_completed(job_id: str) -> bool:
        async with db.read() as tx:
            return (await store.get(tx, job_id)).state is JobState.COMPLETED

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with worker():
                async with db.write() as tx:
                    job_id = await enqueue(tx, Lesson())
                await begun.wait()
                await asyncio.to_thread(durable.stop, signal.SIGQUIT)
                if how == "ended":
                    go.set()
            await asyncio.to_thread(durable.start)
            go.set()
            upkeep = JobMaintenance(db, registry, engine)
            async with worker():
                while not await is_completed(job_id):
                    await upkeep.rescue()
                    await asyncio.sleep(0.05)
            async with db.read() as tx:
                ends = [attempt.outcome for attempt in await store.attempts(tx, job_id)]
    finally:
        await db.close()
    assert runs == 2
    assert ends == ["lost", "done"]


@contextmanager
def suspended(server: Postgres) -> Iterator[None]:
    """Suspend all processes of a server: it accepts connections and does not answer."""
    assert server.process is not None
    postmaster = psutil.Process(server.process.pid)
    stopped = [postmaster, *postmaster.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def test_a_server_stops_while_the_database_is_suspended(durable: Postgres, tmp_path: Path) -> None:
    url = durable.url(durable.make_database())
    migrate.upgrade(url)
    server = subprocess.Popen(
        homeroom_command("serve"),
        env=clean_environment(
            HOMEROOM_DATABASE_URL=url,
            HOMEROOM_DATA_DIR=str(tmp_path),
            HOMEROOM_PORT="0",
            HOMEROOM_ADMIN_KEY="the-admin-key-of-the-test",
            HOMEROOM_SHUTDOWN_GRACE="1s",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[3]
        headers = {"Authorization": "Bearer the-admin-key-of-the-test"}
        while True:  # until its worker runs, too
            queues = httpx.get(f"{address}/api/v1/queues", headers=headers, trust_env=False)
            if {each["workers"] for each in queues.json()} == {1}:
                break
            time.sleep(0.05)
        with suspended(durable), ThreadPoolExecutor(1) as pool:
            answer = pool.submit(
                httpx.put,
                f"{address}/api/v1/people/ada",
                json={"givenName": "Ada", "familyName": "Example"},
                headers=headers,
                timeout=PATIENCE_SECONDS,
                trust_env=False,
            )
            time.sleep(0.5)
            server.terminate()
            # Waiting for the statements of the database would take a minute.
            _, logged = server.communicate(timeout=40)
            assert server.returncode == 0, logged
            with suppress(httpx.TransportError):
                assert answer.result().status_code == 503
    finally:
        server.kill()
        server.communicate()


async def test_restarts_under_load_lose_nothing_and_duplicate_nothing(
    durable: Postgres, tmp_path: Path
) -> None:
    url = durable.url(durable.make_database())
    await asyncio.to_thread(migrate.upgrade, url)
    options = DemoOptions(
        tmp_path,
        learners=LEARNERS,
        seed=SEED,
        port=0,
        seconds=20.0 * EFFORT,
        settings={"HOMEROOM_JOB_LEASE": "2s", "HOMEROOM_DATABASE_URL": url},
    )
    async with asyncio.timeout(PATIENCE_SECONDS), open_environment(options) as made:
        await made.load()
        await made.inject_partner_faults()
        async with working(made, tmp_path) as worker:
            made.players.pause_at(0.0)
            async with asyncio.TaskGroup() as group:
                group.create_task(made.players.play(made.plan))
                restarting = group.create_task(
                    restart_at_random_moments(made, durable, random.Random(SEED))
                )
            await made.add_later_chapter()
            assert await made.settle(SETTLE_SECONDS), "nothing is left active, waiting or delayed"
            ready = (await made.api.get("/readyz")).json()
            assert {part["status"] for part in ready["checks"].values()} == {"ok"}, ready
            read = await comparison.read_actual(made.api, made.sandbox.url, made.expected)
            lines = compare_results(made.expected, made.answers, read)
            worker.check()
            made.server.check()
        await made.server.stop()

    answers = restarting.result()
    assert [answer.status_code for answer in answers] == [503] * 6
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    assert [line for line in lines if not line.ok] == []
    await check_ledger(made, url)
    check_log(made)
    assert "Traceback" not in worker.log.read_text(encoding="utf-8")
    await check_replay(made, url)
