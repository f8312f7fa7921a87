"""No loss, no double: PostgreSQL is stopped at once, and started again, under load (issue 3).

Its immediate stop is what a power cut is to it: it recovers from its log. Two programs use it here,
a server and a worker, and neither is started again. Players are told to come back, and do.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from tests.docs.serving import clean_environment
from tests.effort import EFFORT
from tests.fault.aftermath import check_ledger, check_log, check_replay
from tests.servers.missing import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.postgres import Postgres, running

from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.postgres import PostgresDatabase
from homeroom.demo import found
from homeroom.demo.check import compare
from homeroom.demo.child import Child
from homeroom.demo.school import Options, School, school
from homeroom.http.app import INGEST_PATH
from homeroom.jobs import store
from homeroom.jobs.args import JobArgs
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import JobState
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]

RESTARTS = 6 * EFFORT
PARTNERS = tuple(
    f"HOMEROOM_{name}"
    for name in ("CREDLY", "ANALYTICS", "HR", "DIRECTORY", "ASSESSMENT", "WEBHOOK")
)
LEARNERS = 40 * EFFORT
SEED = 20261125
PATIENCE_SECONDS = 400 * EFFORT


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
async def working(made: School, url: str, folder: Path) -> AsyncIterator[Child]:
    """Run a worker of its own beside the server."""
    settings = {
        "HOMEROOM_DATABASE_URL": url,
        "HOMEROOM_LOG_FORMAT": "json",
        "HOMEROOM_JOB_LEASE": "2s",
        "HOMEROOM_JOBS_KEEP_COMPLETED": "1000000",
        **{
            name: value for name, value in made.server.settings.items() if name.startswith(PARTNERS)
        },
    }
    child = Child("worker", ["homeroom", "worker"], settings, folder / "worker.log")
    await child.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "worker_started" not in child.log.read_text(encoding="utf-8"):
                child.check()
                await asyncio.sleep(0.05)
        yield child
    finally:
        await child.stop()


async def refused(made: School) -> list[httpx.Response]:
    """Ask for what needs the database, while it is away."""
    event = {
        "id": f"while-away-{made.answers.events}",
        "userId": "nobody",
        "courseId": made.courses[0].id,
        "eventType": "heartbeat",
        "timestamp": "2026-11-20T09:00:00Z",
        "timeSpent": 0,
    }
    person = {"givenName": "Nobody", "familyName": "Atall"}
    return list(
        await asyncio.gather(
            made.api.get("/api/v1/completions"),
            made.api.put("/api/v1/people/nobody", json=person),
            made.api.post(INGEST_PATH, json={"events": [event]}),
        )
    )


async def restart_at_random_moments(
    made: School, durable: Postgres, dice: random.Random
) -> list[httpx.Response]:
    """Stop and start PostgreSQL once in every part of the play; return what was answered."""
    answers: list[httpx.Response] = []
    for number in range(RESTARTS):
        made.players.hold_at((number + 1) / (RESTARTS + 1))
        await asyncio.sleep(dice.uniform(0.2, 1.5))
        await asyncio.to_thread(durable.stop, signal.SIGQUIT)
        if number in {1, 4}:  # longer than ingest tries again by itself
            answers += await refused(made)
        await asyncio.to_thread(durable.start)
        made.server.check()
    made.players.hold_at(1.0)
    return answers


class Lesson(JobArgs, frozen=True, kw_only=True):
    """A job of this test's own."""

    kind = "fault.lesson"
    queue = "fault"


@pytest.mark.parametrize("how", ["ended", "runs"])
async def test_a_worker_stops_while_the_database_is_away(durable: Postgres, how: str) -> None:
    """What it could not save is left to its lease, as if it had died."""
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
            upkeep = Upkeep(db, registry, engine)
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
def standing_still(server: Postgres) -> Iterator[None]:
    """Stop all processes of a server for a while: it takes connections and answers nothing."""
    assert server.process is not None
    keeper = psutil.Process(server.process.pid)
    stopped = [keeper, *keeper.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def test_a_server_stops_while_the_database_stands_still(durable: Postgres, tmp_path: Path) -> None:
    url = durable.url(durable.make_database())
    migrate.upgrade(url)
    server = subprocess.Popen(
        [sys.executable, "-m", "homeroom", "serve"],
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
        while True:  # until its worker is at work, too
            queues = httpx.get(f"{address}/api/v1/queues", headers=headers, trust_env=False)
            if {each["workers"] for each in queues.json()} == {1}:
                break
            time.sleep(0.05)
        with standing_still(durable), ThreadPoolExecutor(1) as pool:
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
            # Waiting for what the database has been asked would be a minute.
            _, logged = server.communicate(timeout=40)
            assert server.returncode == 0, logged
            with suppress(httpx.TransportError):
                assert answer.result().status_code == 503
    finally:
        server.kill()
        server.communicate()


async def test_restarts_of_the_database_under_load_lose_nothing_and_double_nothing(
    durable: Postgres, tmp_path: Path
) -> None:
    url = durable.url(durable.make_database())
    await asyncio.to_thread(migrate.upgrade, url)
    options = Options(
        tmp_path,
        learners=LEARNERS,
        seed=SEED,
        port=0,
        seconds=20.0 * EFFORT,
        settings={"HOMEROOM_JOB_LEASE": "2s", "HOMEROOM_DATABASE_URL": url},
    )
    async with asyncio.timeout(PATIENCE_SECONDS), school(options) as made:
        await made.load()
        await made.break_partners()
        async with working(made, url, tmp_path) as worker:
            made.players.hold_at(0.0)
            async with asyncio.TaskGroup() as group:
                group.create_task(made.players.play(made.plan))
                restarting = group.create_task(
                    restart_at_random_moments(made, durable, random.Random(SEED))
                )
            await made.add_later_chapter()
            assert await made.settle(60 * EFFORT), "nothing is left active, waiting or delayed"
            ready = (await made.api.get("/readyz")).json()
            assert {part["status"] for part in ready["checks"].values()} == {"ok"}, ready
            read = await found.read(made.api, made.sandbox.url, made.expected)
            lines = compare(made.expected, made.answers, read)
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
