"""The engine on BullMQ: a store that may be lost, and programs that share it."""

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
from bullmq import Worker as BullWorker
from tests.support.redis_server import running_redis
from tools.servers.redis import RedisServer

from homeroom import cancellation
from homeroom.errors import Unavailable
from homeroom.jobs import job_actions, job_search, queue_store, store
from homeroom.jobs.engine import DISPATCH_WINDOW, Dispatcher, SqlEngine
from homeroom.jobs.engines.bullmq import BullmqEngine, RedisAddress
from homeroom.jobs.engines.payload import REDIS_KEY_PREFIX
from homeroom.jobs.job import JobArgs, JobState
from homeroom.jobs.maintenance import JobMaintenance, MaintenanceIntervals
from homeroom.jobs.outcome import Done, Fail, Retry

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("engine_setup", ["sqlite+bullmq", "postgresql+bullmq"], indirect=True),
]
POLL = timedelta(milliseconds=50)
QUICK = MaintenanceIntervals(reconcile=timedelta())


class Public(JobArgs, frozen=True, kw_only=True):
    """A kind that other programs may add."""

    kind = "contract.public"
    queue = "contract"
    public = True

    word: str


class Single(JobArgs, frozen=True, kw_only=True):
    """A kind whose jobs have natural ids."""

    kind = "contract.single"
    queue = "contract"
    public = True

    about: str

    def natural_id(self) -> str:
        return f"{self.about}.single"


@asynccontextmanager
async def queue_of(server: RedisServer, name: str = "contract") -> AsyncIterator[Queue]:
    """Open the queue as another program does."""
    queue = Queue(name, {"connection": server.url, "prefix": REDIS_KEY_PREFIX})
    yield queue
    await queue.close()


async def _state(queue: Queue, job_id: str) -> str:
    return str(await queue.backend.getState(job_id))


@asynccontextmanager
async def reconciled(kernel: Any) -> AsyncIterator[None]:
    """Reconcile the rows with Redis continuously for the length of a block."""
    maintenance = JobMaintenance(kernel.db, kernel.registry, kernel.engine, kernel.clock, QUICK)
    running = asyncio.create_task(maintenance.run())
    try:
        yield
    finally:
        maintenance.stop()
        await running


async def test_a_long_job_leaves_room_for_others_and_no_job_ends_with_an_error_of_bullmq(
    kernel: Any,
) -> None:
    """``adjust_concurrency`` once raised TypeError in BullMQ's worker, and no test saw it."""
    go = asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        if args.word == "long":
            await go.wait()
        return Done()

    kernel.handle(run)
    with structlog.testing.capture_logs() as lines:
        async with kernel.worker(poll=POLL, concurrency=4):
            [long] = await kernel.add_words(["long"])
            await kernel.wait_for_state(long, JobState.ACTIVE)
            for number in range(8):
                [short] = await kernel.add_words([str(number)])
                await kernel.wait_for_state(short, JobState.COMPLETED)
            go.set()
            await kernel.wait_for_state(long, JobState.COMPLETED)
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []


async def test_an_emptied_redis_is_filled_again(kernel: Any, redis_server: RedisServer) -> None:
    go = asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        await go.wait()
        return Done()

    kernel.handle(run)
    ids = await kernel.add_words([str(number) for number in range(30)])
    async with kernel.worker(poll=POLL, concurrency=2), reconciled(kernel):
        await kernel.wait_until_true(lambda: len(kernel.ran) == 2)
        redis_server.empty()
        go.set()
        for job_id in ids:
            await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert len(kernel.ran) == 30, "no job ran twice"


async def test_jobs_wait_while_redis_is_unavailable_and_run_when_it_recovers(
    kernel: Any, tmp_path: Path
) -> None:
    kernel.handle()
    with structlog.testing.capture_logs() as lines, running_redis(tmp_path) as server:
        kernel.engine = engine = BullmqEngine(RedisAddress(server.url))
        try:
            async with kernel.worker(poll=POLL):
                await kernel.wait_for_state(await kernel.add(), JobState.COMPLETED)
                assert await engine.fault() is None
                server.stop(signal.SIGKILL)
                ids = await kernel.add_words(["a", "b", "c"])

                with pytest.raises(Unavailable):
                    await engine.fault()
                for _ in range(20):  # only the first failure is logged
                    with pytest.raises(Unavailable):
                        await engine.dispatch("contract", [await kernel.job(ids[0])])
                assert [(await kernel.job(job_id)).state for job_id in ids] == ["waiting"] * 3
                server.start()
                for job_id in ids:
                    await kernel.wait_for_state(job_id, JobState.COMPLETED)
        finally:
            await engine.close()
    assert [line["event"] for line in lines if line["event"].startswith("redis_")] == [
        "redis_unavailable",
        "redis_recovered",
    ]


async def test_a_worker_that_starts_without_redis_works_once_redis_starts(
    kernel: Any, tmp_path: Path
) -> None:
    kernel.handle()
    with running_redis(tmp_path) as server:
        server.stop()
        kernel.engine = engine = BullmqEngine(RedisAddress(server.url))
        async with kernel.worker(poll=POLL):
            job_id = await kernel.add()
            server.start()
            await kernel.wait_for_state(job_id, JobState.COMPLETED)
        server.stop()
        async with kernel.worker(poll=POLL):
            pass  # a worker also shuts down without Redis
        await engine.close()


async def test_a_worker_shuts_down_after_a_cancellation_was_lost_in_redis_py(
    kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "RECANCEL_SECONDS", 0.05)
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
    await kernel.add_words([f"word {number}" for number in range(DISPATCH_WINDOW + 50)])
    (urgent,) = await kernel.add_words(["urgent"], priority=10)
    dispatcher = Dispatcher(kernel.db, kernel.registry, kernel.engine)
    await dispatcher.dispatch("contract")
    async with queue_of(redis_server) as queue:
        assert await queue.getJobCounts("prioritized") == {"prioritized": DISPATCH_WINDOW}
        assert await _state(queue, urgent) == "prioritized"
    assert int(redis_server.info("used_memory")) - before < 10 * 1024 * 1024
    async with kernel.worker(concurrency=50):
        await kernel.wait_until_true(lambda: len(kernel.ran) == DISPATCH_WINDOW + 51)
    assert kernel.ran[0] == "urgent"
    async with queue_of(redis_server) as queue:
        counts = await queue.getJobCounts("completed", "failed", "prioritized", "active", "delayed")
    assert set(counts.values()) == {0}, "completed jobs leave Redis"


async def test_failed_jobs_are_kept_for_bull_board_within_bounds(
    kernel: Any, redis_server: RedisServer
) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Fail("no chalk for ada@school.example")

    kernel.handle(run)
    kernel.engine = engine = BullmqEngine(RedisAddress(redis_server.url), keep_failed=5)
    ids = await kernel.add_words(["x"] * 12)
    async with kernel.worker(poll=POLL), queue_of(redis_server) as queue:
        for job_id in ids:
            await kernel.wait_for_state(job_id, JobState.FAILED)

        async def bounded() -> bool:
            return await queue.getJobCounts("failed", "active") == {"failed": 5, "active": 0}

        await kernel.wait_until(bounded)
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
    async with (
        kernel.worker(poll=POLL),
        queue_of(redis_server) as queue,
        kernel.running_maintenance(),
    ):
        await kernel.wait_for_state(job_id, JobState.DELAYED)

        async def gone() -> bool:
            return await _state(queue, job_id) == "unknown"

        await kernel.wait_until(gone)
        kernel.clock.advance(timedelta(hours=1))
        await kernel.wait_for_state(job_id, JobState.COMPLETED)


async def test_a_job_of_another_program_becomes_a_row(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle(None, Public)
    data = {"version": 1, "args": {"word": "chalk"}}
    async with queue_of(redis_server) as queue:
        await queue.add("contract.public", data, {"jobId": "theirs", "priority": 2})
        numbered = await queue.add("contract.public", data)
        async with kernel.worker(poll=POLL, concurrency=1):
            theirs = await kernel.wait_for_added_job("theirs", JobState.COMPLETED)
            generated = f"bull.contract.{numbered.id}.{numbered.timestamp}"
            await kernel.wait_for_added_job(generated, JobState.COMPLETED)
            await queue.add("contract.public", data, {"jobId": "theirs"})
            await kernel.wait_until(lambda: _is(queue, "theirs", "completed"))
    assert theirs.priority == 9
    assert kernel.ran == ["chalk", "chalk"]
    await kernel.call(job_actions.prune, ["theirs", generated])
    kernel.clock.advance(timedelta(days=8))
    await kernel.maintenance.prune()
    async with kernel.db.read() as tx:
        assert list(await store.states(tx, ["theirs", generated])) == ["theirs"]


async def _is(queue: Queue, job_id: str, state: str) -> bool:
    return await _state(queue, job_id) == state


async def test_a_job_with_a_natural_id_is_one_row_for_all_programs(
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

        async def checked() -> bool:
            return await _state(queue, other.id) == "delayed"

        await kernel.wait_until(checked)
        go.set()
        await kernel.wait_until(lambda: _is(queue, other.id, "completed"))
    assert len(kernel.changes) == 1


BAD: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "no envelope": ("contract.public", {"word": "x"}, {}, "unknown field `word`"),
    "no object": ("contract.public", ["x"], {}, "Expected `object`"),
    "no version": ("contract.public", {"args": {}}, {}, "missing required field `version`"),
    "a later version": ("contract.public", {"version": 9, "args": {"word": "x"}}, {}, "version 9"),
    "bad arguments": ("contract.public", {"version": 1, "args": {}}, {}, "field `word`"),
    "a private kind": (
        "contract.task",
        {"version": 1, "args": {}},
        {},
        "not a job kind that other",
    ),
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
    "a pruned one of ours": (
        "contract.task",
        {"version": 1, "args": {}, "row": "gone"},
        {"jobId": "gone"},
        "has deleted this job",
    ),
}


@pytest.mark.parametrize(("name", "data", "options", "reason"), BAD.values(), ids=BAD)
async def test_an_invalid_external_job_fails_in_redis_with_the_reason(
    kernel: Any,
    redis_server: RedisServer,
    name: str,
    data: Any,
    options: dict[str, Any],
    reason: str,
) -> None:
    kernel.handle()
    kernel.handle(None, Public)
    await kernel.add(id="ours", delay=timedelta(hours=1))
    with structlog.testing.capture_logs() as lines:
        async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
            added = await queue.add(name, data, {**options, "attempts": 5})
            await kernel.wait_until(lambda: _is(queue, added.id, "failed"))
            [failed] = await queue.getFailed()
    assert reason in failed.failedReason
    [line] = [line for line in lines if line["event"] == "external_job_refused"]
    assert (line["job_id"], line["queue"]) == (added.id, "contract")
    async with kernel.db.read() as tx:
        rows = await job_search.search(tx, job_search.JobQuery(), limit=10)
    assert [job.id for _, job in rows] == ["ours"]


async def test_a_failed_job_that_is_retried_in_redis_runs_again(
    kernel: Any, redis_server: RedisServer
) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done() if len(kernel.ran) > 1 else Fail("no chalk")

    kernel.handle(run)
    job_id = await kernel.add()
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await kernel.wait_until(lambda: _is(queue, job_id, "failed"))
        [failed] = await queue.getFailed()
        await failed.retry()
        await kernel.wait_for_state(job_id, JobState.COMPLETED)
        await kernel.wait_until(lambda: _is(queue, job_id, "unknown"))


async def test_a_job_whose_worker_died_before_its_report_is_not_retried(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await Dispatcher(kernel.db, kernel.registry, kernel.engine).dispatch("contract")
    await kernel.call(job_actions.cancel, kernel.registry, job_id, "no longer wanted")
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await kernel.wait_until(lambda: _is(queue, job_id, "failed"))
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
        await kernel.wait_until(lambda: _is(queue, "kept.id", "failed"))
        await kernel.call(job_actions.prune, ["kept.id"])
        [failed] = await queue.getFailed()
        await failed.retry()
        await kernel.wait_until(lambda: _has_failed(queue, "that was not pruned"))
    assert len(kernel.ran) == 1


async def _has_failed(queue: Queue, reason: str) -> bool:
    failed = await queue.getFailed()
    return bool(failed) and reason in failed[0].failedReason


async def test_a_job_that_is_removed_in_redis_is_not_lost(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await Dispatcher(kernel.db, kernel.registry, kernel.engine).dispatch("contract")
    async with queue_of(redis_server) as queue:
        await queue.backend.remove(job_id, False)
    async with kernel.worker(poll=POLL), reconciled(kernel):
        await kernel.wait_for_state(job_id, JobState.COMPLETED)


async def test_a_paused_queue_dispatches_no_job(kernel: Any, redis_server: RedisServer) -> None:
    kernel.handle()
    (early,) = await kernel.add_words(["early"])
    dispatcher = Dispatcher(kernel.db, kernel.registry, kernel.engine)
    await dispatcher.dispatch("contract")
    await kernel.call(queue_store.pause, "contract")
    (late,) = await kernel.add_words(["late"])
    await dispatcher.dispatch("contract")
    async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
        await kernel.wait_until(queue.isPaused)
        assert await _state(queue, late) == "unknown"
        assert kernel.ran == []
        await kernel.call(queue_store.resume, "contract")
        await kernel.wait_for_state(early, JobState.COMPLETED)
        await kernel.wait_for_state(late, JobState.COMPLETED)


async def _row(kernel: Any) -> queue_store.QueueSettings:
    async with kernel.db.read() as tx:
        return await queue_store.find_queue(tx, "contract")


async def test_a_pause_in_redis_is_one_of_the_queue_and_either_side_ends_it(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()

    async def is_paused() -> bool:
        return (await _row(kernel)).paused

    async def goes_on() -> bool:
        return not await queue.isPaused() and not await is_paused()

    with structlog.testing.capture_logs() as lines:
        async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
            await queue.pause()
            await kernel.wait_until(is_paused)
            job_id = await kernel.add()
            await kernel.call(queue_store.resume, "contract")
            await kernel.wait_for_state(job_id, JobState.COMPLETED)
            await kernel.wait_until(goes_on)
            await kernel.call(queue_store.pause, "contract")
            await kernel.wait_until(queue.isPaused)
            await queue.resume()
            await kernel.wait_until(goes_on)
            redis_server.empty()
            await kernel.call(queue_store.pause, "contract")
            await kernel.wait_until(queue.isPaused)
            redis_server.empty()
            await kernel.wait_until(queue.isPaused)  # a paused row pauses an emptied Redis again
    events = [line["event"] for line in lines if line["event"].startswith("queue_")]
    assert events == ["queue_paused_in_redis", "queue_resumed_in_redis"]


async def test_limits_that_were_set_in_redis_are_known_and_logged(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()

    async def limits() -> tuple[Any, ...]:
        found = (await _row(kernel)).shared_limits
        return found.concurrency, found.rate_max, found.rate_window_seconds

    async def are(*expected: Any) -> bool:
        return await limits() == expected

    with structlog.testing.capture_logs() as lines:
        async with queue_of(redis_server) as queue, kernel.worker(poll=POLL):
            await queue.setGlobalConcurrency(2)
            await queue.setGlobalRateLimit(10, 1_500)
            await kernel.wait_until(lambda: are(2, 10, 1.5))
            await kernel.wait_for_state(await kernel.add(), JobState.COMPLETED)
            await queue.removeGlobalConcurrency()
            await queue.removeGlobalRateLimit()
            await kernel.wait_until(lambda: are(None, None, None))
            await queue.setGlobalConcurrency(3)
            await kernel.wait_until(lambda: are(3, None, None))
    assert "queue_limited_in_redis" in [line["event"] for line in lines]
    kernel.engine = SqlEngine()
    async with kernel.worker(poll=POLL):
        assert await limits() == (None, None, None), "the table knows no limits of Redis"


async def test_what_a_foreign_worker_takes_is_said(kernel: Any, redis_server: RedisServer) -> None:
    kernel.handle()
    job_id = await kernel.add()
    connection = {"connection": redis_server.url, "prefix": REDIS_KEY_PREFIX}
    foreign = BullWorker("contract", None, connection)
    await foreign.backend.setName(foreign.clientName)
    with structlog.testing.capture_logs() as lines:
        await Dispatcher(kernel.db, kernel.registry, kernel.engine).dispatch("contract")
        taken = await foreign.moveToActive("their token")
        await foreign.backend.moveToCompleted(taken, "done?", True, "their token", fetch_next=False)
        fault = await kernel.engine.fault()
        await kernel.engine.reconcile("contract")
    await foreign.close()
    assert taken.id == job_id
    assert fault is not None
    assert "take jobs of the queue contract" in fault
    [line] = [line for line in lines if line["event"] == "jobs_taken_by_foreign_worker"]
    assert (line["queue"], line["count"], line["job_ids"]) == ("contract", 1, [job_id])
    assert (await kernel.job(job_id)).state == JobState.WAITING, "the row is what counts"

    async def is_over() -> bool:
        return await kernel.engine.fault() is None

    await kernel.wait_until(is_over)


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
    """Half of the jobs start within 0.1 s: 5 ms on a quiet machine, more on a busy one."""
    median = sorted(waits)[len(waits) // 2]
    print(f"pick-up: median {1_000 * median:.1f} ms, least {1_000 * min(waits):.1f} ms")
    assert median < 0.1


async def test_a_job_is_picked_up_at_once_by_another_process(
    kernel: Any, redis_server: RedisServer
) -> None:
    kernel.handle()
    dispatcher = Dispatcher(kernel.db, kernel.registry, kernel.engine)
    dispatching = asyncio.create_task(dispatcher.run())
    script = str(Path(__file__).parents[1] / "support" / "start_time_worker.py")
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        str(kernel.database),
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
                    assert line, "the worker ended"  # skip log lines
                waits.append(float(line) - added)
    finally:
        worker.kill()
        await worker.wait()
        dispatcher.stop()
        await dispatching
    assert_prompt(waits[1:])  # the first one waited for the worker to start
