"""Retention of finished jobs, search, and actions on many jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from homeroom.errors import Conflict, NotFound
from homeroom.jobs import job_actions, job_search, queue_store, store
from homeroom.jobs.job import JobReason, JobState
from homeroom.jobs.outcome import Done, Fail

pytestmark = pytest.mark.anyio


async def _counts(kernel: Any) -> dict[JobState, int]:
    async with kernel.db.read() as tx:
        found = (await queue_store.counts(tx)).get("contract", {})
    return {state: number for state, number in found.items() if number}


async def _run_jobs(kernel: Any, task: Any, good: int, bad: int) -> tuple[list[str], list[str]]:
    async def run(ctx: Any, args: Any) -> Any:
        return Done() if args.word.startswith("good") else Fail("bad pupil@school.example")

    kernel.handle(run)
    completed = await kernel.add_words([f"good {number}" for number in range(good)])
    failed = await kernel.add_words([f"bad {number}" for number in range(bad)])
    async with kernel.worker(concurrency=8):
        for job_id in completed:
            await kernel.wait_for_state(job_id, JobState.COMPLETED)
        for job_id in failed:
            await kernel.wait_for_state(job_id, JobState.FAILED)
    return completed, failed


async def test_a_queue_keeps_its_last_100_completed_and_200_failed(kernel: Any, task: Any) -> None:
    completed, failed = await _run_jobs(kernel, task, 130, 210)
    assert await kernel.maintenance.prune() == 40
    assert await _counts(kernel) == {JobState.COMPLETED: 100, JobState.FAILED: 200}
    async with kernel.db.read() as tx:
        left = await store.states(tx, completed + failed)
        orphans = await tx.fetch(
            "SELECT COUNT(*) FROM job_attempt WHERE job NOT IN (SELECT id FROM job)"
        )
    assert len(left) == 300
    assert orphans == [(0,)]
    assert await kernel.maintenance.prune() == 0


async def test_a_queue_can_keep_jobs_by_age(kernel: Any, task: Any) -> None:
    await _run_jobs(kernel, task, 5, 0)
    await kernel.call(
        queue_store.set_queue_retention,
        "contract",
        completed=100,
        failed=200,
        age=timedelta(days=7),
    )
    assert await kernel.maintenance.prune() == 0
    kernel.clock.advance(timedelta(days=7, seconds=1))
    assert await kernel.maintenance.prune() == 5


async def test_a_pruned_job_keeps_a_given_id_and_cannot_run_again(kernel: Any, task: Any) -> None:
    kernel.handle()
    await kernel.call(queue_store.set_queue_retention, "contract", completed=0, failed=0)
    await kernel.add(task(word="once"), id="step.1")
    async with kernel.worker():
        await kernel.wait_for_state("step.1", JobState.COMPLETED)
        await kernel.maintenance.prune()
        await kernel.add(task(word="twice"), id="step.1")
        await kernel.wait_for_state(await kernel.add(task(word="last")), JobState.COMPLETED)
    assert kernel.ran == ["once", "last"]
    job = await kernel.job("step.1")
    assert (job.state, job.payload, job.result) == (JobState.COMPLETED, {}, None)
    assert await kernel.attempts("step.1") == []
    async with kernel.db.read() as tx:
        listed = await job_search.search(tx, job_search.JobQuery(), limit=10)
    assert "step.1" not in [job.id for _, job in listed]
    await kernel.call(job_actions.delete_finished_jobs, ["step.1"])
    with pytest.raises(NotFound):
        await kernel.job("step.1")


async def test_a_job_whose_feature_was_not_notified_is_not_pruned(kernel: Any, task: Any) -> None:
    await kernel.call(queue_store.set_queue_retention, "contract", completed=0, failed=0)
    job_id = await kernel.add()
    await kernel.call(job_actions.cancel, None, job_id)
    assert await kernel.maintenance.prune() == 0
    kernel.handle()
    await kernel.maintenance.announce_pending()
    assert kernel.changes == [(job_id, JobState.FAILED)]
    assert await kernel.maintenance.release_outstanding() == 1
    assert await kernel.maintenance.prune() == 1


async def test_jobs_are_found_by_queue_state_kind_and_text(kernel: Any, task: Any) -> None:
    completed, failed = await _run_jobs(kernel, task, 3, 2)

    async def found(**query: Any) -> list[str]:
        async with kernel.db.read() as tx:
            rows = await job_search.search(tx, job_search.JobQuery(**query), limit=100)
        return [job.id for _, job in rows]

    assert await found() == list(reversed(completed + failed))
    assert await found(queue="elsewhere") == []
    assert await found(state=JobState.FAILED) == list(reversed(failed))
    assert await found(kind="contract.task", text="good 1") == [completed[1]]
    assert await found(text="pupil@school.example") == list(reversed(failed))
    assert await found(text="pupil@school") == []  # a part of what is masked
    assert await found(text="100%") == []
    assert await found(text=completed[0]) == [completed[0]]


async def test_a_list_can_be_read_page_by_page(kernel: Any, task: Any) -> None:
    ids = await kernel.add_words([str(number) for number in range(7)])
    seen: list[str] = []
    before = None
    while True:
        async with kernel.db.read() as tx:
            rows = await job_search.search(tx, job_search.JobQuery(), limit=3, before=before)
        if not rows:
            break
        seen += [job.id for _, job in rows]
        before = rows[-1][0]
    assert seen == ids[::-1]


async def test_finished_jobs_can_be_removed_and_cleaned_others_not(kernel: Any, task: Any) -> None:
    completed, failed = await _run_jobs(kernel, task, 3, 3)
    waiting = await kernel.add()
    await kernel.call(job_actions.remove, completed[0])
    with pytest.raises(Conflict):
        await kernel.call(job_actions.remove, waiting)
    with pytest.raises(Conflict):
        await kernel.call(job_actions.clean, "contract", JobState.WAITING)
    assert await kernel.call(job_actions.clean, "contract", JobState.FAILED) == 3
    assert await _counts(kernel) == {JobState.COMPLETED: 2, JobState.WAITING: 1}
    with pytest.raises(NotFound):
        await kernel.job(failed[0])


async def test_an_action_on_many_jobs_changes_those_whose_states_allow_it(
    kernel: Any, task: Any
) -> None:
    _, failed = await _run_jobs(kernel, task, 2, 250)
    query = job_search.JobQuery(queue="contract")
    count, before, steps = 0, None, 0
    while True:
        step = await kernel.call(
            job_actions.apply_bulk_action, kernel.registry, "retry", query, before
        )
        count, before, steps = count + step.count, step.before, steps + 1
        if before is None:
            break
    assert (count, steps) == (250, 2)
    assert await _counts(kernel) == {JobState.COMPLETED: 2, JobState.WAITING: 250}
    cancelled = await kernel.call(
        job_actions.apply_bulk_action, kernel.registry, "cancel", job_search.JobQuery(text="bad 1")
    )
    assert cancelled.count == 111
    assert (await kernel.job(failed[1])).reason_code == JobReason.CANCELLED
