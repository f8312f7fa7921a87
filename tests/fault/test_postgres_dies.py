"""PostgreSQL that dies between any two messages: 503, no double work, no broken connection kept."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.api_client import as_
from tests.support.condition import until
from tests.support.homeroom_process import clean_environment, homeroom_command
from tests.support.progress_school import SERVICE, chapter, event, open_school
from tests.support.proxy import LAST_WORDS, MessageProxy, proxy_to

from homeroom.clock import Clock
from homeroom.db.group_commit import GroupCommitLimits
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.tx import Tx
from homeroom.errors import Unavailable
from homeroom.jobs import queue_runner, store, worker
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import JobArgs, JobState
from homeroom.jobs.outcome import Done, Outcome

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

HOWS = tuple(LAST_WORDS)
PATIENCE_SECONDS = 120


class Lesson(JobArgs, frozen=True, kw_only=True):
    """A job of this test."""

    kind = "fault.dying"
    queue = "dying"


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[MessageProxy]:
    port = int(postgres_url.rpartition(":")[2].partition("/")[0])
    async with proxy_to(port, MessageProxy) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: MessageProxy, postgres_url: str) -> AsyncIterator[PostgresDatabase]:
    """Open the database through the proxy."""
    name = postgres_url.rpartition("/")[2]
    url = f"postgresql://homeroom@127.0.0.1:{proxy.port}/{name}?sslmode=disable"
    db = PostgresDatabase(url, Clock())
    await db.open()
    yield db
    proxy.arm(None)
    await db.close()


@pytest.mark.parametrize("how", HOWS)
async def test_a_transaction_is_unavailable_and_the_next_one_works(
    proxy: MessageProxy, behind: PostgresDatabase, how: str
) -> None:
    retry_after: list[float | None] = []

    async def write(number: int) -> None:
        async with behind.write() as tx:
            await tx.execute(
                "INSERT INTO person (id, given_name, family_name, roles, created_at,"
                " updated_at) VALUES (?, 'A', 'B', '[]', 1, 1)",
                (f"learner-{number}",),
            )
            await tx.fetch("SELECT id FROM person LIMIT 3")

    await write(0)
    proxy.arm(None)
    await write(1)
    for number in range(1, proxy.counted + 2):
        await write(1_000 + number)  # on a connection that has prepared the statements
        proxy.arm(number, how)
        try:
            await write(2_000 + number)
        except Unavailable as error:
            retry_after.append(error.retry_after_seconds)
        proxy.arm(None)
        await write(3_000 + number)
    assert len(retry_after) > 5
    assert set(retry_after) == {1}


@pytest.mark.parametrize("how", HOWS)
async def test_requests_are_answered_with_503_and_a_time_to_retry(
    proxy: MessageProxy, behind: PostgresDatabase, how: str
) -> None:
    limits = GroupCommitLimits(retry_delay_seconds=0.01)
    async with open_school(behind, limits=limits) as school:
        await school.publish("fire", chapter("a"))
        path = "/api/v1/courses/fire"
        course = (await school.http.get(path, headers=SERVICE)).json()
        body = {key: course[key] for key in ("title", "units")}

        await school.send(event("first", timeSpent=1))
        proxy.arm(None)
        await school.send(event("second", timeSpent=1))
        messages, statuses = proxy.counted, []
        for number in range(1, messages + 8):
            sent = event(f"cut-{number}", timeSpent=1)
            proxy.arm(number, how)
            answers = [
                await school.post(sent),
                await school.http.get(f"{path}/progress?userId=ada", headers=SERVICE),
                await school.http.put(path, json=body, headers=as_("admin")),
            ]
            proxy.arm(None)
            for answer in answers:
                statuses.append(answer.status_code)
                if answer.status_code == 503:
                    assert int(answer.headers["Retry-After"]) >= 1
            await school.send(sent)  # once more, as a client does
        assert set(statuses) <= {200, 201, 403, 503}, statuses
        assert 503 in statuses
        assert (await school.progress())["timeSpent"] == 2 + messages + 7


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("saver", ["kernel", "handler"])
async def test_a_finished_job_runs_once(
    proxy: MessageProxy,
    behind: PostgresDatabase,
    how: str,
    saver: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outcome is saved again, instead of being told as a failed attempt."""
    monkeypatch.setattr(worker, "_SAVE_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(queue_runner, "COMMIT_RETRY_SECONDS", 0.02)
    registry, runs, cut_at = Registry(), 0, 0

    async def run(ctx: JobContext, args: Lesson) -> Outcome:
        nonlocal runs
        runs += 1
        if cut_at:
            proxy.arm(cut_at, how)

        async def save(tx: Tx) -> Outcome:
            await store.add_log_line(tx, ctx.job.id, "saved")
            return Done()

        return await ctx.commit(save) if saver == "handler" else Done()

    registry.add(Lesson, run)
    # The kernel's own commit is tried again after a pause of its own, of 1 s.
    monkeypatch.setattr(
        worker, "GroupCommitLimits", lambda: GroupCommitLimits(retry_delay_seconds=0.02)
    )
    working = worker.Worker(behind, registry, SqlEngine(), lease=timedelta(seconds=60))
    task = asyncio.create_task(working.run())
    await working.started.wait()

    async def run_one() -> list[str | None]:
        async with behind.write() as tx:
            job_id = await enqueue(tx, Lesson())
        while True:
            try:
                async with behind.read() as tx:
                    if (await store.get(tx, job_id)).state is JobState.COMPLETED:
                        saved = await tx.fetch("SELECT 1 FROM job_log WHERE job = ?", (job_id,))
                        assert len(saved) == (saver == "handler")
                        return [attempt.outcome for attempt in await store.attempts(tx, job_id)]
            except Unavailable:
                pass
            await asyncio.sleep(0.01)

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number in range(16):
                cut_at, runs = number, 0
                assert await run_one() == ["done"], number
                assert runs == 1, number
                proxy.arm(None)
    finally:
        proxy.arm(None)
        working.stop()
        await task


def started(command: str, log: Path, **settings: str) -> subprocess.Popen[bytes]:
    """Start a process that writes its log to a file."""
    environment = clean_environment(**settings)
    with log.open("wb") as output:
        return subprocess.Popen(
            homeroom_command(command), env=environment, stdout=output, stderr=subprocess.STDOUT
        )


@pytest.mark.parametrize("command", ["worker", "serve"])
async def test_a_process_waits_for_a_server_that_is_starting(
    proxy: MessageProxy, postgres_url: str, command: str, tmp_path: Path
) -> None:
    proxy.cut()
    name = postgres_url.rpartition("/")[2]
    log = tmp_path / "log"
    process = started(
        command,
        log,
        HOMEROOM_DATABASE_URL=f"postgresql://homeroom@127.0.0.1:{proxy.port}/{name}?sslmode=disable",
        HOMEROOM_DATA_DIR=str(tmp_path),
        HOMEROOM_PORT="0",
    )
    try:
        await asyncio.to_thread(until, lambda: b"database_awaited" in log.read_bytes())
        proxy.restore()
        await asyncio.to_thread(until, lambda: b"worker_started" in log.read_bytes())
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
    assert b"Traceback" not in log.read_bytes()
