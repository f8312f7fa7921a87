"""What only the engine on BullMQ has: a store that may be lost, and neighbours who share it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from bullmq import Queue
from tests.servers.redis import running_redis
from tools.servers.redis import RedisServer

from homeroom import tasks
from homeroom.errors import Unavailable
from homeroom.jobs import operate, queue_store, store
from homeroom.jobs.args import JobArgs
from homeroom.jobs.dispatcher import WINDOW, Dispatcher
from homeroom.jobs.engines.bullmq import BullmqEngine
from homeroom.jobs.engines.envelope import PREFIX
from homeroom.jobs.engines.redis_client import Address
from homeroom.jobs.job import JobState
from homeroom.jobs.outcome import Done, Fail, Retry
from homeroom.jobs.upkeep import Pace, Upkeep

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("engine_place", ["sqlite+bullmq", "postgresql+bullmq"], indirect=True),
]
POLL = timedelta(milliseconds=50)
QUICK = Pace(reconcile=timedelta())


class Public(JobArgs, frozen=True, kw_only=True):
    """A kind that other programs may add."""

    kind = "contract.public"
    queue = "contract"
    public = True

    word: str


class Single(JobArgs, frozen=True, kw_only=True):
    """A kind whose arguments say which job it is."""

    kind = "contract.single"
    queue = "contract"
    public = True

    about: str

    def natural_id(self) -> str:
        return f"{self.about}.single"


@asynccontextmanager
async def queue_of(server: RedisServer, name: str = "contract") -> AsyncIterator[Queue]:
    """Open the queue as another program does."""
    queue = Queue(name, {"connection": server.url, "prefix": PREFIX})
    yield queue
    await queue.close()


async def _state(queue: Queue, job_id: str) -> str:
    return str(await queue.backend.getState(job_id))


@asynccontextmanager
async def reconciled(kernel: Any) -> AsyncIterator[None]:
    """Let upkeep compare the rows with Redis all the time."""
    upkeep = Upkeep(kernel.db, kernel.registry, kernel.engine, kernel.clock, QUICK)
    running = asyncio.create_task(upkeep.run())
    try:
        yield
    finally:
        upkeep.stop()
        await running


async def test_an_emptied_redis_is_filled_again(kernel: Any, redis_server: RedisServer) -> None:
    go = asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        await go.wait()
        return Done()

    kernel.handle(run)
    ids = await kernel.add_words([str(number) for number in range(30)])
    async with kernel.worker(poll=POLL, concurrency=2), reconciled(kernel):
        await kernel.happens(lambda: len(kernel.ran) == 2)
        redis_server.empty()
        go.set()
        for job_id in ids:
            await kernel.reaches(job_id, JobState.COMPLETED)
    assert len(kernel.ran) == 30, "nothing ran twice"


async def test_jobs_wait_while_redis_is_away_and_run_when_it_is_back(
    kernel: Any, tmp_path: Path
) -> None:
    kernel.handle()
    with structlog.testing.capture_logs() as said, running_redis(tmp_path) as server:
        kernel.engine = engine = BullmqEngine(Address(server.url))
        try:
            async with kernel.worker(poll=POLL):
                await kernel.reaches(await kernel.add(), JobState.COMPLETED)
                assert await engine.fault() is None
                server.stop(signal.SIGKILL)
                ids = await kernel.add_words(["a", "b", "c"])

                with pytest.raises(Unavailable):
                    await engine.fault()
                for _ in range(20):  # it is asked again and again meanwhile
                    with pytest.raises(Unavailable):
                        await engine.dispatch("contract", [await kernel.job(ids[0])])
                assert [(await kernel.job(job_id)).state for job_id in ids] == ["waiting"] * 3
                server.start()
                for job_id in ids:
                    await kernel.reaches(job_id, JobState.COMPLETED)
        finally:
            await engine.close()
    assert [line["event"] for line in said if line["event"].startswith("redis_")] == [
        "redis_away",
        "redis_back",
    ]


async def test_a_worker_that_starts_without_redis_works_once_it_is_there(
    kernel: Any, tmp_path: Path
) -> None:
    kernel.handle()
    with running_redis(tmp_path) as server:
        server.stop()
        kernel.engine = engine = BullmqEngine(Address(server.url))
        async with kernel.worker(poll=POLL):
            job_id = await kernel.add()
            server.start()
            await kernel.reaches(job_id, JobState.COMPLETED)
        server.stop()
        async with kernel.worker(poll=POLL):
            pass  # and one that stops without it does stop
        await engine.close()


async def test_a_worker_stops_though_a_cancellation_was_lost_on_the_way_to_redis(
    kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.05)
    sending, lost = asyncio.Event(), asyncio.Event()

    async def dispatch(queue: str, jobs: Any) -> None:
        sending.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:  # as redis-py loses one in Python 3.11, where it sends
            lost.set()

    kernel.handle()
    monkeypatch.setattr(kernel.engine, "dispatch", dispatch)
    async with asyncio.timeout(30), kernel.worker():
        await kernel.add()
        await sending.wait()
    assert lost.is_set()


async def test_redis_holds_no_more_than_the_first_rows_of_a_queue(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    before = int(redis_server.info("used_memory"))
    await kernel.add_words([f"word {number}" for number in range(WINDOW + 50)])
    (urgent,) = await kernel.add_words(["urgent"], priority=10)
    dispatcher = Dispatcher(kernel.db, kernel.registry, kernel.engine)
    await dispatcher.dispatch("contract")
    async with queue_of(redis_server) as queue:
        assert await queue.getJobCounts("prioritized") == {"prioritized": WINDOW}
        assert await _state(queue, urgent) == "prioritized"
    assert int(redis_server.info("used_memory")) - before < 10 * 1024 * 1024
    async with kernel.worker(concurrency=50):
        await kernel.happens(lambda: len(kernel.ran) == WINDOW + 51)
    assert kernel.ran[0] == "urgent"
    async with queue_of(redis_server) as queue:
        counts = await queue.getJobCounts("completed", "failed", "prioritized", "active", "delayed")
    assert set(counts.values()) == {0}, "what is completed leaves Redis"


async def test_failed_jobs_are_kept_for_bull_board_within_bounds(
    kernel: Any, redis_server: RedisServer
) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Fail("no chalk for ada@school.example")

    kernel.handle(run)
    kernel.engine = engine = BullmqEngine(Address(redis_server.url), keep_failed=5)
    ids = await kernel.add_words(["x"] * 12)
    async with kernel.worker(poll=POLL), queue_of(redis_server) as queue:
        for job_id in ids:
            await kernel.reaches(job_id, JobState.FAILED)

        async def bounded() -> bool:
            return await queue.getJobCounts("failed", "active") == {"failed": 5, "active": 0}

        await kernel.until(bounded)
        [failed, *_] = await queue.getFailed()
        assert failed.failedReason == "no chalk for a***@school.example"
    await engine.close()


async def test_delayed_retries_leave_redis_until_their_time(
    kernel: Any, redis_server: RedisServer
) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done() if len(kernel.ran) > 1 else Retry("not yet", timedelta(hours=1))

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker(poll=POLL), queue_of(redis_server) as queue, kernel.upkept():
        await kernel.reaches(job_id, JobState.DELAYED)

        async def gone() -> bool:
            return await _state(queue, job_id) == "unknown"

        await kernel.until(gone)
        kernel.clock.advance(timedelta(hours=1))
        await kernel.reaches(job_id, JobState.COMPLETED)


async def test_a_job_of_another_program_becomes_a_row(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle(None, Public)
    data = {"version": 1, "args": {"word": "chalk"}}
    async with queue_of(redis_server) as queue:
        await queue.add("contract.public", data, {"jobId": "theirs", "priority": 2})
        numbered = await queue.add("contract.public", data)
        async with kernel.worker(poll=POLL, concurrency=1):
            theirs = await kernel.reaches_when_there("theirs", JobState.COMPLETED)
            made_up = f"bull.contract.{numbered.id}.{numbered.timestamp}"
            await kernel.reaches_when_there(made_up, JobState.COMPLETED)
            await queue.add("contract.public", data, {"jobId": "theirs"})
            await kernel.until(lambda: _is(queue, "theirs", "completed"))
    assert theirs.priority == 9
    assert kernel.ran == ["chalk", "chalk"]
    await kernel.does(operate.prune, ["theirs", made_up])
    kernel.clock.advance(timedelta(days=8))
    await kernel.upkeep.prune()
    async with kernel.db.read() as tx:
        assert list(await store.states(tx, ["theirs", made_up])) == ["theirs"]


async def _is(queue: Queue, job_id: str, state: str) -> bool:
    return await _state(queue, job_id) == state


async def test_a_kind_with_natural_ids_is_one_row_whoever_adds_it(
    kernel: Any, redis_server: RedisServer
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        begun.set()
        await go.wait()
        return Done("once")

    kernel.handle(run, Single)
    await kernel.add(Single(about="ada"), id="ada.single")
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await begun.wait()
        other = await queue.add("contract.single", {"version": 1, "args": {"about": "ada"}})

        async def looked_at() -> bool:
            return await _state(queue, other.id) == "delayed"

        await kernel.until(looked_at)
        go.set()
        await kernel.until(lambda: _is(queue, other.id, "completed"))
    assert len(kernel.changes) == 1


BAD: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "no envelope": ("contract.public", {"word": "x"}, {}, "unknown field `word`"),
    "no object": ("contract.public", ["x"], {}, "Expected `object`"),
    "no version": ("contract.public", {"args": {}}, {}, "missing required field `version`"),
    "a later version": ("contract.public", {"version": 9, "args": {"word": "x"}}, {}, "version 9"),
    "bad arguments": ("contract.public", {"version": 1, "args": {}}, {}, "field `word`"),
    "a private kind": ("contract.task", {"version": 1, "args": {}}, {}, "no job kind that other"),
    "too large": (
        "contract.public",
        {"version": 1, "args": {"word": "x" * 70_000}},
        {},
        "at most 65536 bytes",
    ),
    "a long id": (
        "contract.public",
        {"version": 1, "args": {"word": "x"}},
        {"jobId": "x" * 129},
        "1 to 128 characters",
    ),
    "another's id": (
        "contract.public",
        {"version": 1, "args": {"word": "x"}},
        {"jobId": "ours"},
        "belongs to a job of the kind contract.task",
    ),
    "a copy of ours": (
        "contract.task",
        {"version": 1, "args": {}, "row": "ours"},
        {},
        "copy of the job ours",
    ),
    "one of ours that is gone": (
        "contract.task",
        {"version": 1, "args": {}, "row": "gone"},
        {"jobId": "gone"},
        "keep this job any longer",
    ),
}


@pytest.mark.parametrize(("name", "data", "options", "why"), BAD.values(), ids=BAD)
async def test_what_cannot_be_taken_fails_in_redis_with_the_reason(
    kernel: Any,
    redis_server: RedisServer,
    name: str,
    data: Any,
    options: dict[str, Any],
    why: str,
) -> None:
    kernel.handle()
    kernel.handle(None, Public)
    await kernel.add(id="ours", delay=timedelta(hours=1))
    with structlog.testing.capture_logs() as said:
        async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
            added = await queue.add(name, data, {**options, "attempts": 5})
            await kernel.until(lambda: _is(queue, added.id, "failed"))
            [failed] = await queue.getFailed()
    assert why in failed.failedReason
    [line] = [line for line in said if line["event"] == "shared_job_refused"]
    assert (line["job"], line["queue"]) == (added.id, "contract")
    async with kernel.db.read() as tx:
        rows = await store.search(tx, store.Filter(), limit=10)
    assert [job.id for _, job in rows] == ["ours"]


async def test_a_failed_job_that_is_retried_in_redis_runs_again(
    kernel: Any, redis_server: RedisServer
) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done() if len(kernel.ran) > 1 else Fail("no chalk")

    kernel.handle(run)
    job_id = await kernel.add()
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await kernel.until(lambda: _is(queue, job_id, "failed"))
        [failed] = await queue.getFailed()
        await failed.retry()
        await kernel.reaches(job_id, JobState.COMPLETED)
        await kernel.until(lambda: _is(queue, job_id, "unknown"))


async def test_a_job_whose_worker_died_before_redis_was_told_is_no_retry(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await Dispatcher(kernel.db, kernel.registry, kernel.engine).dispatch("contract")
    await kernel.does(operate.cancel, kernel.registry, job_id, "no longer wanted")
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await kernel.until(lambda: _is(queue, job_id, "failed"))
        [failed] = await queue.getFailed()
    assert failed.failedReason == "no longer wanted"
    assert kernel.ran == []


async def test_a_job_that_was_pruned_cannot_be_retried_in_redis(
    kernel: Any, redis_server: RedisServer
) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Fail("no chalk")

    kernel.handle(run)
    await kernel.add(id="kept.id")
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await kernel.until(lambda: _is(queue, "kept.id", "failed"))
        await kernel.does(operate.prune, ["kept.id"])
        [failed] = await queue.getFailed()
        await failed.retry()
        await kernel.until(lambda: _says(queue, "while its body is kept"))
    assert len(kernel.ran) == 1


async def _says(queue: Queue, why: str) -> bool:
    failed = await queue.getFailed()
    return bool(failed) and why in failed[0].failedReason


async def test_a_job_that_is_removed_in_redis_is_not_lost(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await Dispatcher(kernel.db, kernel.registry, kernel.engine).dispatch("contract")
    async with queue_of(redis_server) as queue:
        await queue.backend.remove(job_id, False)
    async with kernel.worker(poll=POLL), reconciled(kernel):
        await kernel.reaches(job_id, JobState.COMPLETED)


async def test_a_paused_queue_puts_nothing_into_redis(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    (early,) = await kernel.add_words(["early"])
    dispatcher = Dispatcher(kernel.db, kernel.registry, kernel.engine)
    await dispatcher.dispatch("contract")
    await kernel.does(queue_store.pause, "contract")
    (late,) = await kernel.add_words(["late"])
    await dispatcher.dispatch("contract")
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await kernel.until(lambda: _is(queue, early, "unknown"))  # looked at, and dropped
        assert await _state(queue, late) == "unknown"
        assert kernel.ran == []
        await kernel.does(queue_store.resume, "contract")
        await kernel.reaches(early, JobState.COMPLETED)
        await kernel.reaches(late, JobState.COMPLETED)


async def test_a_job_is_picked_up_at_once(kernel: Any) -> None:
    loop, started = asyncio.get_running_loop(), asyncio.Queue[float]()

    async def run(ctx: Any, args: Any) -> Any:
        started.put_nowait(loop.time())
        return Done()

    kernel.handle(run)
    waits = []
    async with kernel.worker(poll=timedelta(seconds=60)):
        for _ in range(40):
            await kernel.add()
            added = loop.time()
            waits.append(await started.get() - added)
    assert_prompt(waits)


def assert_prompt(waits: list[float]) -> None:
    """Half of the jobs start in time; 5 ms on a quiet machine, and this one may be busy."""
    median = sorted(waits)[len(waits) // 2]
    print(f"pick-up: median {1_000 * median:.1f} ms, least {1_000 * min(waits):.1f} ms")
    assert median < 0.1


async def test_a_job_is_picked_up_at_once_by_another_process(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    dispatcher = Dispatcher(kernel.db, kernel.registry, kernel.engine)
    dispatching = asyncio.create_task(dispatcher.run())
    script = str(Path(__file__).with_name("prompt_worker.py"))
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        str(kernel.place),
        redis_server.url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    loop, waits = asyncio.get_running_loop(), []
    assert worker.stdout is not None
    try:
        async with asyncio.timeout(60):
            for _ in range(40):
                await kernel.add()
                added = loop.time()
                while b"." not in (line := await worker.stdout.readline()) or b" " in line:
                    assert line, "the worker ended"  # what it logs is not its answer
                waits.append(float(line) - added)
    finally:
        worker.kill()
        await worker.wait()
        dispatcher.stop()
        await dispatching
    assert_prompt(waits[1:])  # the first one waited for the worker to start
