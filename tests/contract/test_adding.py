"""Enqueueing: in the cause's transaction, once per id, in the documented order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from homeroom.errors import Conflict, Invalid
from homeroom.instant import SECOND
from homeroom.jobs import job_actions, queue_store
from homeroom.jobs.enqueue import (
    UnknownDependency,
    add,
    add_high_priority,
    add_low_priority,
    enqueue,
)
from homeroom.jobs.job import JobArgs, JobReason, JobState
from homeroom.jobs.outcome import Done, Fail

pytestmark = pytest.mark.anyio


async def test_a_job_runs_and_keeps_its_result(kernel: Any, task: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done({"length": len(args.word)})

    kernel.handle(run)
    job_id = await kernel.add(task(word="chalk"))
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.result == {"length": 5}
    assert job.attempts == 1
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.started_at <= job.finished_at
    assert [one.outcome for one in await kernel.attempts(job_id)] == ["done"]


async def test_a_job_of_a_failed_transaction_does_not_exist(kernel: Any, task: Any) -> None:
    kernel.handle()

    async def fails(tx: Any) -> None:
        await enqueue(tx, task(word="never"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await kernel.call(fails)
    async with kernel.worker():
        await kernel.wait_for_state(await kernel.add(task(word="after")), JobState.COMPLETED)
    assert kernel.ran == ["after"]


async def test_a_job_cannot_run_before_its_cause_is_committed(kernel: Any, task: Any) -> None:
    kernel.handle()
    async with kernel.worker(), kernel.db.write() as tx:
        await enqueue(tx, task(word="early"), id="early")
        async with kernel.db.read() as outside:
            assert await outside.fetch("SELECT id FROM job") == []
        assert kernel.ran == []


async def test_an_id_that_is_added_twice_is_one_job(kernel: Any, task: Any) -> None:
    kernel.handle()
    first = await kernel.add(task(word="one"), id="badge.7")
    second = await kernel.add(task(word="two"), id="badge.7")
    assert first == second == "badge.7"
    async with kernel.worker():
        await kernel.wait_for_state("badge.7", JobState.COMPLETED)
        await kernel.add(task(word="three"), id="badge.7")
        await kernel.wait_for_state(await kernel.add(task(word="last")), JobState.COMPLETED)
    assert kernel.ran == ["one", "last"]


async def test_jobs_run_by_priority_and_then_by_age(kernel: Any, task: Any) -> None:
    kernel.handle()
    async with kernel.db.write() as tx:
        await add_low_priority(tx, task(word="low"))
        for word in ("a", "b", "c"):
            await add(tx, task(word=word))
        await add_high_priority(tx, task(word="high"))
        await enqueue(tx, task(word="seven"), priority=7)
    last = await kernel.add(task(word="lowest"), priority=1)
    async with kernel.worker(concurrency=1):
        await kernel.wait_for_state(last, JobState.COMPLETED)
    assert kernel.ran == ["high", "seven", "a", "b", "c", "low", "lowest"]


async def test_a_delayed_job_waits_for_its_time(kernel: Any, task: Any) -> None:
    kernel.handle()
    job_id = await kernel.add(task(word="later"), delay=timedelta(hours=2))
    async with kernel.worker(), kernel.running_maintenance():
        await kernel.wait_for_state(await kernel.add(task(word="now")), JobState.COMPLETED)
        assert (await kernel.job(job_id)).state is JobState.DELAYED
        kernel.clock.advance(timedelta(hours=2))
        await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert kernel.ran == ["now", "later"]


async def test_a_delayed_job_can_be_promoted(kernel: Any, task: Any) -> None:
    kernel.handle()
    job_id = await kernel.add(task(), delay=timedelta(hours=2))
    async with kernel.worker():
        await kernel.call(job_actions.promote, kernel.registry, job_id)
        await kernel.wait_for_state(job_id, JobState.COMPLETED)
    with pytest.raises(Conflict):
        await kernel.call(job_actions.promote, kernel.registry, job_id)


async def test_a_job_runs_once_all_its_dependencies_are_completed(kernel: Any, task: Any) -> None:
    kernel.handle()
    first, second = await kernel.add_words(["first", "second"])
    last = await kernel.add(task(word="last"), after=[first, second], priority=10)
    assert (await kernel.job(last)).state is JobState.WAITING_CHILDREN
    async with kernel.worker(concurrency=1):
        await kernel.wait_for_state(last, JobState.COMPLETED)
    assert kernel.ran == ["first", "second", "last"]


async def test_a_job_does_not_wait_for_a_completed_one(kernel: Any, task: Any) -> None:
    kernel.handle()
    first = await kernel.add()
    async with kernel.worker():
        await kernel.wait_for_state(first, JobState.COMPLETED)
        await kernel.wait_for_state(await kernel.add(task(), after=[first]), JobState.COMPLETED)


async def test_a_delay_holds_after_the_dependency_too(kernel: Any, task: Any) -> None:
    kernel.handle()
    first = await kernel.add()
    second = await kernel.add(task(), after=[first], delay=timedelta(hours=1))
    async with kernel.worker():
        await kernel.wait_for_state(first, JobState.COMPLETED)
        job = await kernel.wait_for_state(second, JobState.DELAYED)
    assert job.run_at - job.created_at == 3_600 * SECOND


async def test_a_failure_fails_its_dependents_unless_they_run_all_the_same(
    kernel: Any, task: Any
) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Fail("no chalk") if args.word == "first" else Done()

    kernel.handle(run)
    (first,) = await kernel.add_words(["first"])
    child = await kernel.add(task(word="child"), after=[first])
    grandchild = await kernel.add(task(word="grandchild"), after=[child])
    independent = await kernel.add(task(word="independent"), after=[first], if_fails="run")
    async with kernel.worker():
        await kernel.wait_for_state(independent, JobState.COMPLETED)
        failed = await kernel.wait_for_state(child, JobState.FAILED)
        assert (await kernel.wait_for_state(grandchild, JobState.FAILED)).attempts == 0
    assert first in (failed.last_error or "")
    assert failed.reason_code == JobReason.DEPENDENCY_FAILED
    assert kernel.ran == ["first", "independent"]
    assert (child, JobState.FAILED) in kernel.changes
    assert (grandchild, JobState.FAILED) in kernel.changes


async def test_a_job_that_waits_for_a_failed_one_fails_at_once_and_its_feature_is_notified(
    kernel: Any, task: Any
) -> None:
    kernel.handle()
    first = await kernel.add()
    await kernel.call(job_actions.cancel, kernel.registry, first)
    child = await kernel.add(task(), after=[first])
    job = await kernel.job(child)
    assert (job.state, job.reason_code) == (JobState.FAILED, JobReason.DEPENDENCY_FAILED)
    await kernel.maintenance.tick()
    assert (child, JobState.FAILED) in kernel.changes
    independent = await kernel.add(task(), after=[first], if_fails="run")
    assert (await kernel.job(independent)).state is JobState.WAITING


async def test_a_job_cannot_wait_for_one_that_does_not_exist(kernel: Any, task: Any) -> None:
    with pytest.raises(UnknownDependency, match="unknown"):
        await kernel.add(task(), after=["unknown"])


@pytest.mark.parametrize(
    "options",
    [{"priority": 0}, {"priority": 11}, {"id": "a:b"}, {"id": ""}, {"id": "x" * 129}],
    ids=str,
)
async def test_an_invalid_job_is_not_added(kernel: Any, options: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        await kernel.add(None, **options)
    async with kernel.db.read() as tx:
        assert await tx.fetch("SELECT id FROM job") == []


class Other(JobArgs, frozen=True, kw_only=True):
    """A kind in a queue of its own."""

    kind = "contract.other"
    queue = "other"


async def test_a_paused_queue_starts_no_job_until_it_is_resumed(kernel: Any, task: Any) -> None:
    kernel.handle()
    kernel.handle(None, Other)
    await kernel.call(queue_store.pause, task.queue)
    (waiting,) = await kernel.add_words(["paused"])
    async with kernel.worker(poll=timedelta(milliseconds=10)):
        for _ in range(3):
            await kernel.wait_for_state(await kernel.add(Other()), JobState.COMPLETED)
        assert (await kernel.job(waiting)).state is JobState.WAITING
        await kernel.call(queue_store.resume, task.queue)
        await kernel.wait_for_state(waiting, JobState.COMPLETED)
