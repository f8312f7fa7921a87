"""Leases, dead workers, cancellation, limits, and graceful shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.kernel import Task

from homeroom.errors import Conflict
from homeroom.instant import SECOND
from homeroom.jobs import job_actions, queue_store
from homeroom.jobs.claim import Claim, LeaseOwner, claim_next, claim_one
from homeroom.jobs.handler import JobContext, LeaseLost
from homeroom.jobs.job import JobArgs, JobReason, JobState
from homeroom.jobs.outcome import DEATH_WINDOW, Done, LeaseExpired
from homeroom.jobs.settle import RunResult, settle
from homeroom.jobs.worker import DEFAULT_CONCURRENCY, Worker

pytestmark = pytest.mark.anyio
LEASE = timedelta(seconds=30)


class Other(JobArgs, frozen=True, kw_only=True):
    """A kind in a queue of its own."""

    kind = "contract.other"
    queue = "other"


async def _claim_and_die(kernel: Any, queue: str = "contract", limit: int = 1) -> list[Claim]:
    """Claim jobs for a worker that neither renews their leases nor ends them."""
    kinds = tuple(kernel.registry.kinds())
    owner = LeaseOwner("dead", kinds, 30 * SECOND)
    async with kernel.db.write() as tx:
        claims, _ = await claim_next(tx, owner, queue, limit, f"dead.{tx.now}")
    return claims


async def test_a_job_of_a_dead_worker_runs_elsewhere_once_its_lease_expires(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await _claim_and_die(kernel)
    async with kernel.worker():
        await kernel.maintenance.rescue()
        assert (await kernel.job(job_id)).state is JobState.ACTIVE
        kernel.clock.advance(LEASE + timedelta(seconds=1))
        await kernel.maintenance.rescue()
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert (job.attempts, job.reason_code) == (2, None)
    lost, done = await kernel.attempts(job_id)
    assert (lost.outcome, lost.worker, done.outcome) == ("lost", "dead", "done")


async def _claim_alone_and_die(kernel: Any, job_id: str) -> list[Claim]:
    """Claim a job that runs alone for a worker that dies, and rescue it."""
    owner = LeaseOwner("dead", tuple(kernel.registry.kinds()), 30 * SECOND)
    async with kernel.db.write() as tx:
        claims, _ = await claim_one(tx, owner, "contract", job_id, f"dead.{tx.now}", alone=True)
    await _rescue(kernel)
    return claims


async def _rescue(kernel: Any) -> None:
    kernel.clock.advance(LEASE + timedelta(seconds=1))
    await kernel.maintenance.rescue()


async def _die_until_alone(kernel: Any) -> None:
    for _ in range(3):
        assert len(await _claim_and_die(kernel)) == 1
        await _rescue(kernel)


async def test_a_job_that_kills_its_workers_runs_alone_and_fails_in_the_end(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await _die_until_alone(kernel)
    for wait in (timedelta(seconds=30), timedelta(minutes=5), timedelta(minutes=30)):
        assert (await kernel.job(job_id)).state is JobState.DELAYED
        kernel.clock.advance(wait)
        await kernel.maintenance.promote()
        assert await _claim_and_die(kernel) == []  # no worker runs it beside others
        assert len(await _claim_alone_and_die(kernel, job_id)) == 1
    job = await kernel.job(job_id)
    assert (job.state, job.reason_code) == (JobState.FAILED, JobReason.WORKER_DIED)
    assert [each.outcome for each in await kernel.attempts(job_id)] == ["lost"] * 6
    assert kernel.changes[-1] == (job_id, JobState.FAILED)
    await kernel.call(job_actions.retry, kernel.registry, job_id)
    assert await _claim_and_die(kernel) == []
    assert len(await _claim_alone_and_die(kernel, job_id)) == 1
    assert (await kernel.job(job_id)).state is JobState.DELAYED  # as many deaths again


async def test_deaths_of_long_ago_do_not_make_a_job_run_alone(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    for _ in range(2):
        await _claim_and_die(kernel)
        await _rescue(kernel)
    kernel.clock.advance(DEATH_WINDOW)
    await _claim_and_die(kernel)
    await _rescue(kernel)
    assert (await kernel.job(job_id)).state is JobState.WAITING
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.attempts == 4


async def test_a_job_that_runs_alone_has_no_other_beside_it(kernel: Any) -> None:
    suspect = await kernel.add(Task(word="suspect"))
    running: set[str] = set()
    beside: list[set[str]] = []
    started, go = asyncio.Event(), asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        if args.word == "suspect":
            beside.append(set(running))
        running.add(args.word)
        if args.word == "first":
            started.set()
            await go.wait()
        elif args.word == "suspect":
            for number in range(3):  # others are there to be run
                await kernel.add(Task(word=f"later {number}"))
                await kernel.add(Other())
            await asyncio.sleep(0.3)
        running.discard(args.word)
        if "suspect" in running:
            beside.append({args.word})
        return Done()

    kernel.handle(run)
    kernel.handle(None, Other)
    await _die_until_alone(kernel)
    async with kernel.worker(concurrency=3, poll=timedelta(milliseconds=20)) as worker:
        await kernel.add(Task(word="first"))
        await started.wait()
        kernel.clock.advance(timedelta(seconds=31))
        await worker.check_runs()  # a heartbeat at the new time
        await kernel.maintenance.promote()
        await kernel.wait_until_true(lambda: worker.suspended)
        assert (await kernel.job(suspect)).state is JobState.WAITING  # while another one runs
        go.set()
        job = await kernel.wait_for_state(suspect, JobState.COMPLETED)
        await kernel.wait_until_true(lambda: len(kernel.ran) == 8)
    assert beside == [set()]
    assert (job.attempts, job.reason_code) == (4, None)


async def test_a_worker_that_lost_its_lease_cannot_settle(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    (old,) = await _claim_and_die(kernel)
    kernel.clock.advance(LEASE + timedelta(seconds=1))
    await kernel.maintenance.rescue()
    (new,) = await _claim_and_die(kernel)
    late = RunResult(job_id, old.token, Done("late"))
    assert await kernel.call(settle, kernel.registry, [late]) == [None]
    assert (await kernel.job(job_id)).state is JobState.ACTIVE
    (job,) = await kernel.call(
        settle, kernel.registry, [RunResult(job_id, new.token, Done("mine"))]
    )
    assert job.result == "mine"
    again = RunResult(job_id, new.token, LeaseExpired(1))
    assert await kernel.call(settle, kernel.registry, [again]) == [None]


async def _steal_lease(tx: Any, job_id: str) -> None:
    await tx.execute(
        "UPDATE job SET worker = 'thief', lease_token = 'thief.1' WHERE id = ?", (job_id,)
    )


async def test_a_running_handler_is_stopped_when_its_lease_is_lost(kernel: Any) -> None:
    begun, ended = asyncio.Event(), []

    async def run(ctx: Any, args: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("stopped")
            with pytest.raises(LeaseLost):
                async with kernel.db.write() as tx:
                    await ctx.settle(tx, Done())
            ended.append("refused")
            raise

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker(lease=LEASE) as worker:
        await begun.wait()
        await kernel.call(_steal_lease, job_id)
        kernel.clock.advance(LEASE / 3)
        await worker.check_runs()
        await kernel.wait_until_true(lambda: ended == ["stopped", "refused"] and not worker.running)
    job = await kernel.job(job_id)
    assert (job.state, job.worker) == (JobState.ACTIVE, "thief")
    assert kernel.changes == []


async def test_an_error_does_not_end_the_watch_over_leases(
    kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.handle()
    checks: list[bool] = []

    async def check(worker: Worker) -> None:
        checks.append(True)
        if len(checks) == 1:
            raise RuntimeError("unexpected")

    monkeypatch.setattr(Worker, "check_runs", check)
    async with kernel.worker(lease=timedelta(milliseconds=60)):
        await kernel.wait_until_true(lambda: len(checks) > 2)


async def test_a_worker_renews_the_lease_of_a_long_run(kernel: Any) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        begun.set()
        await go.wait()
        return Done()

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker(lease=LEASE) as worker:
        await begun.wait()
        for _ in range(5):
            kernel.clock.advance(LEASE / 2)
            await worker.check_runs()
            await kernel.maintenance.rescue()
        go.set()
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.attempts == 1


async def test_a_killed_process_leaves_its_job_to_another(kernel: Any, task: Any) -> None:
    kernel.handle()
    job_id = await kernel.add(task(word="held"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.hanging_worker",
        str(kernel.database),
        cwd=Path(__file__).parents[2],
    )
    held = await kernel.wait_for_state(job_id, JobState.ACTIVE)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert str(process.pid) in (held.worker or "")
    async with kernel.worker(), kernel.running_maintenance():
        kernel.clock.advance(LEASE + timedelta(seconds=1))
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.attempts == 2


async def test_cancelling_a_job_that_has_not_started_fails_it_at_once(
    kernel: Any, task: Any
) -> None:
    kernel.handle()
    waiting = await kernel.add()
    delayed = await kernel.add(task(), delay=timedelta(hours=1))
    child = await kernel.add(task(), after=[delayed])
    for job_id in (waiting, delayed):
        job = await kernel.call(job_actions.cancel, kernel.registry, job_id)
        assert (job.state, job.reason_code) == (JobState.FAILED, JobReason.CANCELLED)
    assert (await kernel.job(child)).reason_code == JobReason.DEPENDENCY_FAILED
    assert {job_id for job_id, _ in kernel.changes} == {waiting, delayed, child}
    async with kernel.worker():
        await kernel.wait_for_state(await kernel.add(), JobState.COMPLETED)
    assert len(kernel.ran) == 1


async def test_cancelling_a_running_job_stops_its_handler(kernel: Any) -> None:
    begun = asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker():
        await begun.wait()
        await kernel.call(job_actions.cancel, kernel.registry, job_id)
        job = await kernel.wait_for_state(job_id, JobState.FAILED)
    assert (job.reason_code, job.attempts) == (JobReason.CANCELLED, 1)
    with pytest.raises(Conflict):
        await kernel.call(job_actions.cancel, kernel.registry, job_id)


async def test_a_cancelled_job_of_a_dead_worker_does_not_run_again(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await _claim_and_die(kernel)
    await kernel.call(job_actions.cancel, kernel.registry, job_id)
    kernel.clock.advance(LEASE + timedelta(seconds=1))
    await kernel.maintenance.rescue()
    job = await kernel.job(job_id)
    assert (job.state, job.reason_code) == (JobState.FAILED, JobReason.CANCELLED)


async def test_no_more_jobs_run_at_once_than_the_queue_allows(kernel: Any) -> None:
    running, most, all_run = 0, 0, asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            all_run.set()
        await all_run.wait()  # an engine may start them one after the other
        await asyncio.sleep(0)
        running -= 1
        return Done()

    kernel.handle(run)
    await kernel.add_words(["x"] * 40)
    async with kernel.worker():
        await kernel.wait_until_true(lambda: len(kernel.ran) == 40)
    assert most == 3
    most = 0
    await kernel.call(queue_store.set_queue_limits, "contract", concurrency=1)
    last = (await kernel.add_words(["y"] * 10))[-1]
    async with kernel.worker():
        await kernel.wait_for_state(last, JobState.COMPLETED)
    assert most <= 3  # a worker reads the queue's own number with its first claim
    async with kernel.worker() as worker:
        await kernel.wait_for_state(await kernel.add(), JobState.COMPLETED)
        most = 0
        last = (await kernel.add_words(["z"] * 10))[-1]
        await kernel.wait_for_state(last, JobState.COMPLETED)
        assert worker.running == []
    assert most == 1


async def test_a_running_worker_follows_a_new_concurrency(kernel: Any) -> None:
    go = asyncio.Event()

    async def run(ctx: JobContext, args: Task) -> Done:
        await go.wait()
        return Done()

    kernel.handle(run)
    async with kernel.worker(poll=timedelta(milliseconds=10)) as worker:
        runner = worker._queue_runners["contract"]
        for concurrency in (1, 5):
            await kernel.call(queue_store.set_queue_limits, "contract", concurrency=concurrency)
            await kernel.wait_until_true(lambda most=concurrency: runner.concurrency == most)
            await kernel.add_words(["x"] * 8)
            await kernel.wait_until_true(lambda most=concurrency: len(worker.running) == most)
        await kernel.call(queue_store.set_queue_limits, "contract")
        await kernel.wait_until_true(lambda: runner.concurrency == DEFAULT_CONCURRENCY)
        assert len(worker.running) == 5
        go.set()
        await kernel.wait_until_true(lambda: len(kernel.ran) == 16)


async def test_workers_of_some_queues_run_the_jobs_of_these_alone(kernel: Any) -> None:
    kernel.handle()
    kernel.handle(None, Other)
    poll = timedelta(milliseconds=10)
    other = await kernel.add(Other())
    async with kernel.worker(queues=["contract"], poll=poll) as worker:
        await kernel.wait_for_state((await kernel.add_words(["mine"]))[0], JobState.COMPLETED)
        async with kernel.db.read() as tx:
            [row] = await queue_store.workers(tx)
            assert list(row.queues) == ["contract"]
            assert await queue_store.is_first_worker(tx, worker.id, "contract", 0)
            assert not await queue_store.is_first_worker(tx, worker.id, "other", 0)
        assert (await kernel.job(other)).state is JobState.WAITING
        async with kernel.worker(queues=["other"], poll=poll):
            await kernel.wait_for_state(other, JobState.COMPLETED)


async def test_a_rate_limit_bounds_the_starts_within_its_window(kernel: Any) -> None:
    kernel.handle()
    kernel.handle(None, Other)
    window = timedelta(hours=1)
    await kernel.call(queue_store.set_queue_limits, "contract", rate=(4, window))
    await kernel.add_words(["limited"] * 10)
    async with kernel.worker(concurrency=2, poll=timedelta(milliseconds=10)):
        for most in (4, 8, 10):
            await kernel.wait_until_true(lambda most=most: kernel.ran.count("limited") == most)
            for _ in range(3):  # the worker polls the limited queue meanwhile
                await kernel.wait_for_state(await kernel.add(Other()), JobState.COMPLETED)
            assert kernel.ran.count("limited") == most
            kernel.clock.advance(window)


async def test_a_shutdown_waits_for_running_jobs(kernel: Any) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        begun.set()
        await go.wait()
        return Done()

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker(concurrency=1) as worker:
        await begun.wait()
        worker.stop()
        later = await kernel.add()
        go.set()
    assert (await kernel.job(job_id)).state is JobState.COMPLETED
    assert (await kernel.job(later)).state is JobState.WAITING


@pytest.mark.parametrize("seconds", [0, 3], ids=["at once", "slow to end"])
async def test_a_shutdown_releases_jobs_that_outlast_the_grace(kernel: Any, seconds: int) -> None:
    begun = asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(seconds)  # such as a call that is not interrupted

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker(grace=timedelta(milliseconds=20)):
        await begun.wait()
    job = await kernel.job(job_id)
    assert (job.state, job.attempts, job.worker) == (JobState.WAITING, 0, None)
    assert await kernel.attempts(job_id) == []


async def test_two_workers_run_every_job_once(kernel: Any) -> None:
    kernel.handle()
    ids = await kernel.add_words([str(number) for number in range(200)])
    async with kernel.worker(concurrency=5), kernel.worker(concurrency=5):
        await kernel.wait_until_true(lambda: len(kernel.ran) >= 200)
        for job_id in ids:
            await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert sorted(kernel.ran, key=int) == [str(number) for number in range(200)]


async def test_a_worker_is_listed_while_it_lives(kernel: Any) -> None:
    kernel.handle()

    async def listed() -> list[str]:
        async with kernel.db.read() as tx:
            return [worker.id for worker in await queue_store.workers(tx)]

    async with kernel.worker(worker_id="west") as worker:
        assert await listed() == ["west"]
        kernel.clock.advance(timedelta(minutes=1))
        await worker.check_runs()
        await kernel.call(
            queue_store.record_heartbeat, "gone", "host", 1, {"contract": 3}, 30_000_000
        )
        kernel.clock.advance(timedelta(minutes=11))
        await worker.check_runs()
        await kernel.maintenance.prune()
        assert await listed() == ["west"]
    assert await listed() == []


async def test_a_silent_worker_is_stale_after_its_lease_and_gone_after_two(kernel: Any) -> None:
    async def states() -> list[str]:
        async with kernel.db.read() as tx:
            return [worker.state for worker in await queue_store.workers(tx)]

    async def flagged() -> list[str]:
        found = await asyncio.gather(
            queue_store.flag_silent_workers(kernel.db), queue_store.flag_silent_workers(kernel.db)
        )
        return [worker.state for workers in found for worker in workers]

    async def beat() -> None:
        await kernel.call(
            queue_store.record_heartbeat, "west", "host", 1, {"contract": 3}, 30_000_000
        )

    await beat()
    kernel.clock.advance(timedelta(seconds=29))
    assert (await states(), await flagged()) == (["running"], [])
    kernel.clock.advance(timedelta(seconds=2))
    assert (await states(), await flagged(), await flagged()) == (["stale"], ["stale"], [])
    kernel.clock.advance(timedelta(seconds=30))
    assert (await states(), await flagged(), await flagged()) == (["gone"], ["gone"], [])
    await kernel.maintenance.prune()
    assert await states() == ["gone"], "it stays in the list for ten minutes"
    await beat()
    assert (await states(), await flagged()) == (["running"], [])
    kernel.clock.advance(timedelta(seconds=61))
    assert (await states(), await flagged()) == (["gone"], ["gone"])
