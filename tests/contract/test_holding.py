"""Who holds a job: leases, lost workers, cancellation, limits, and stopping in good order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from homeroom.clock import SECOND
from homeroom.errors import Conflict
from homeroom.jobs import operate, queue_store
from homeroom.jobs.args import JobArgs
from homeroom.jobs.claim import Claim, Holder, claim_next
from homeroom.jobs.ending import MAX_DEATHS, Lost
from homeroom.jobs.handler import LeaseLost
from homeroom.jobs.job import JobState
from homeroom.jobs.outcome import Done
from homeroom.jobs.settle import Ending, settle
from homeroom.jobs.worker import Worker

pytestmark = pytest.mark.anyio
LEASE = timedelta(seconds=30)


class Other(JobArgs, frozen=True, kw_only=True):
    """A kind in a queue of its own."""

    kind = "contract.other"
    queue = "other"


async def _ghost(kernel: Any, queue: str = "contract", limit: int = 1) -> list[Claim]:
    """Claim as a worker does that is then never heard of again."""
    kinds = tuple(kernel.registry.kinds())
    holder = Holder("ghost", kinds, 30 * SECOND)
    async with kernel.db.write() as tx:
        claims, _ = await claim_next(tx, holder, queue, limit, f"ghost.{tx.now}")
    return claims


async def test_a_job_of_a_lost_worker_runs_elsewhere_once_its_lease_ends(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await _ghost(kernel)
    async with kernel.worker():
        await kernel.upkeep.rescue()
        assert (await kernel.job(job_id)).state is JobState.ACTIVE
        kernel.clock.advance(LEASE + timedelta(seconds=1))
        await kernel.upkeep.rescue()
        job = await kernel.reaches(job_id, JobState.COMPLETED)
    assert job.attempts == 2
    lost, done = await kernel.attempts(job_id)
    assert (lost.outcome, lost.worker, done.outcome) == ("lost", "ghost", "done")


async def test_a_job_that_kills_its_workers_is_not_run_for_ever(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    for _ in range(MAX_DEATHS):
        assert len(await _ghost(kernel)) == 1
        kernel.clock.advance(LEASE + timedelta(seconds=1))
        await kernel.upkeep.rescue()
    job = await kernel.job(job_id)
    assert (job.state, job.last_error) == (JobState.FAILED, f"the worker died {MAX_DEATHS} times")
    assert await _ghost(kernel) == []
    assert kernel.changes[-1] == (job_id, JobState.FAILED)


async def test_a_worker_that_lost_its_lease_cannot_settle(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    (old,) = await _ghost(kernel)
    kernel.clock.advance(LEASE + timedelta(seconds=1))
    await kernel.upkeep.rescue()
    (new,) = await _ghost(kernel)
    late = Ending(job_id, old.token, Done("late"))
    assert await kernel.does(settle, kernel.registry, [late]) == [None]
    assert (await kernel.job(job_id)).state is JobState.ACTIVE
    (job,) = await kernel.does(settle, kernel.registry, [Ending(job_id, new.token, Done("mine"))])
    assert job.result == "mine"
    again = Ending(job_id, new.token, Lost(1))
    assert await kernel.does(settle, kernel.registry, [again]) == [None]


async def _stolen(tx: Any, job_id: str) -> None:
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
        await kernel.does(_stolen, job_id)
        kernel.clock.advance(LEASE / 3)
        await worker.check()
        await kernel.happens(lambda: ended == ["stopped", "refused"] and not worker.running)
    job = await kernel.job(job_id)
    assert (job.state, job.worker) == (JobState.ACTIVE, "thief")
    assert kernel.changes == []


async def test_a_fault_of_the_watch_does_not_end_it(
    kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.handle()
    looks: list[bool] = []

    async def check(worker: Worker) -> None:
        looks.append(True)
        if len(looks) == 1:
            raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(Worker, "check", check)
    async with kernel.worker(lease=timedelta(milliseconds=60)):
        await kernel.happens(lambda: len(looks) > 2)


async def test_a_worker_renews_the_lease_of_what_runs_long(kernel: Any) -> None:
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
            await worker.check()
            await kernel.upkeep.rescue()
        go.set()
        job = await kernel.reaches(job_id, JobState.COMPLETED)
    assert job.attempts == 1


async def test_a_killed_process_leaves_its_job_to_another(kernel: Any, task: Any) -> None:
    kernel.handle()
    job_id = await kernel.add(task(word="held"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.doomed_worker",
        str(kernel.place),
        cwd=Path(__file__).parents[2],
    )
    held = await kernel.reaches(job_id, JobState.ACTIVE)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert str(process.pid) in (held.worker or "")
    async with kernel.worker(), kernel.upkept():
        kernel.clock.advance(LEASE + timedelta(seconds=1))
        job = await kernel.reaches(job_id, JobState.COMPLETED)
    assert job.attempts == 2


async def test_cancelling_a_job_that_has_not_started_fails_it_at_once(
    kernel: Any, task: Any
) -> None:
    kernel.handle()
    waiting = await kernel.add()
    delayed = await kernel.add(task(), delay=timedelta(hours=1))
    child = await kernel.add(task(), after=[delayed])
    for job_id in (waiting, delayed):
        job = await kernel.does(operate.cancel, kernel.registry, job_id)
        assert (job.state, job.last_error) == (JobState.FAILED, "cancelled")
    assert (await kernel.job(child)).state is JobState.FAILED
    assert {job_id for job_id, _ in kernel.changes} == {waiting, delayed, child}
    async with kernel.worker():
        await kernel.reaches(await kernel.add(), JobState.COMPLETED)
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
        await kernel.does(operate.cancel, kernel.registry, job_id)
        job = await kernel.reaches(job_id, JobState.FAILED)
    assert (job.last_error, job.attempts) == ("cancelled", 1)
    with pytest.raises(Conflict):
        await kernel.does(operate.cancel, kernel.registry, job_id)


async def test_a_cancelled_job_of_a_lost_worker_does_not_run_again(kernel: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await _ghost(kernel)
    await kernel.does(operate.cancel, kernel.registry, job_id)
    kernel.clock.advance(LEASE + timedelta(seconds=1))
    await kernel.upkeep.rescue()
    job = await kernel.job(job_id)
    assert (job.state, job.last_error) == (JobState.FAILED, "cancelled")


async def test_no_more_run_at_once_than_the_queue_allows(kernel: Any) -> None:
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
        await kernel.happens(lambda: len(kernel.ran) == 40)
    assert most == 3
    most = 0
    await kernel.does(queue_store.limit, "contract", concurrency=1)
    last = (await kernel.add_words(["y"] * 10))[-1]
    async with kernel.worker():
        await kernel.reaches(last, JobState.COMPLETED)
    assert most <= 3  # the worker learns of the queue's own number with its first claim
    async with kernel.worker() as worker:
        await kernel.reaches(await kernel.add(), JobState.COMPLETED)
        most = 0
        last = (await kernel.add_words(["z"] * 10))[-1]
        await kernel.reaches(last, JobState.COMPLETED)
        assert worker.running == []
    assert most == 1


async def test_a_rate_limit_lets_so_many_start_within_its_window(kernel: Any) -> None:
    kernel.handle()
    kernel.handle(None, Other)
    window = timedelta(hours=1)
    await kernel.does(queue_store.limit, "contract", rate=(4, window))
    await kernel.add_words(["limited"] * 10)
    async with kernel.worker(concurrency=2, poll=timedelta(milliseconds=10)):
        for most in (4, 8, 10):
            await kernel.happens(lambda most=most: kernel.ran.count("limited") == most)
            for _ in range(3):  # the worker asks again and again meanwhile
                await kernel.reaches(await kernel.add(Other()), JobState.COMPLETED)
            assert kernel.ran.count("limited") == most
            kernel.clock.advance(window)


async def test_a_stop_waits_for_what_runs(kernel: Any) -> None:
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
async def test_a_stop_hands_back_what_outlasts_the_grace(kernel: Any, seconds: int) -> None:
    begun = asyncio.Event()

    async def run(ctx: Any, args: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(seconds)  # such as a call that is let come to its end

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
        await kernel.happens(lambda: len(kernel.ran) >= 200)
        for job_id in ids:
            await kernel.reaches(job_id, JobState.COMPLETED)
    assert sorted(kernel.ran, key=int) == [str(number) for number in range(200)]


async def test_a_worker_is_listed_while_it_lives(kernel: Any) -> None:
    kernel.handle()

    async def listed() -> list[str]:
        async with kernel.db.read() as tx:
            return [worker.id for worker in await queue_store.workers(tx)]

    async with kernel.worker(worker_id="west") as worker:
        assert await listed() == ["west"]
        kernel.clock.advance(timedelta(minutes=1))
        await worker.check()
        await kernel.does(queue_store.heartbeat, "gone", "host", 1, {"contract": 3})
        kernel.clock.advance(timedelta(minutes=3))
        await worker.check()
        await kernel.upkeep.prune()
        assert await listed() == ["west"]
    assert await listed() == []
