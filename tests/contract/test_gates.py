"""Jobs that a gate holds: they spend no attempt, and run when they are released."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from homeroom.jobs import job_actions
from homeroom.jobs.held_jobs import count_held, has_held, release_for_probe, release_held
from homeroom.jobs.job import JobReason, JobState
from homeroom.jobs.outcome import MAX_HOLD, Done, Hold, Outcome, Retry

pytestmark = pytest.mark.anyio
HOLD = Hold("bank", "the bank is closed", JobReason.PARTNER_AWAY)


def handle_first(kernel: Any, *outcomes: Outcome) -> None:
    """Make each job end with these outcomes, one a run, and then be done."""
    runs: dict[str, int] = {}

    async def run(ctx: Any, args: Any) -> Outcome:
        number = runs[ctx.job.id] = runs.get(ctx.job.id, 0) + 1
        return outcomes[number - 1] if number <= len(outcomes) else Done()

    kernel.handle(run)


async def test_a_held_job_spends_no_attempt_and_runs_when_it_is_released(kernel: Any) -> None:
    handle_first(kernel, *[HOLD] * 6)
    job_id = await kernel.add()
    async with kernel.worker(), kernel.running_maintenance():
        for _ in range(6):
            job = await kernel.wait_for_state(job_id, JobState.DELAYED)
            assert (job.attempts, job.reason_code) == (0, JobReason.PARTNER_AWAY)
            assert job.last_error == "the bank is closed"
            assert await kernel.call(count_held) == {"bank": 1}
            assert await kernel.call(release_held, "bank", 10, 0) == 1
            await kernel.wait_until(lambda: _has_run(kernel, job_id))
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert (job.attempts, job.last_error, job.reason_code) == (1, None, None)
    assert await kernel.call(count_held) == {}
    assert [one.outcome for one in await kernel.attempts(job_id)] == ["done"]


async def _has_run(kernel: Any, job_id: str) -> bool:
    return (await kernel.job(job_id)).state in (JobState.DELAYED, JobState.COMPLETED)


async def test_a_forgotten_hold_ends_after_a_day(kernel: Any) -> None:
    handle_first(kernel, HOLD)
    job_id = await kernel.add()
    async with kernel.worker(), kernel.running_maintenance():
        await kernel.wait_for_state(job_id, JobState.DELAYED)
        kernel.clock.advance(MAX_HOLD)
        await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert await kernel.call(count_held) == {}


async def test_a_gate_releases_the_oldest_first_and_no_more_than_asked(kernel: Any) -> None:
    handle_first(kernel, HOLD)
    ids = await kernel.add_words("abcde")
    async with kernel.worker(concurrency=1):
        for id in ids:
            await kernel.wait_for_state(id, JobState.DELAYED)
        assert await kernel.call(release_held, "post", 3, 0) == 0
        assert await kernel.call(release_held, "bank", 3, 0) == 3
        for id in ids[:3]:
            await kernel.wait_for_state(id, JobState.COMPLETED)
    assert kernel.ran == [*"abcde", *"abc"]
    assert await kernel.call(count_held) == {"bank": 2}


async def test_a_retry_of_before_the_gate_opened_is_released_and_a_later_one_waits(
    kernel: Any,
) -> None:
    handle_first(kernel, Retry("closed", timedelta(hours=1), gate="bank"))
    [job_id] = await kernel.add_words("a")
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.DELAYED)
        assert job.attempts == 1
        assert job.run_at > kernel.clock.now() + 3_500e6
        assert not await kernel.call(has_held, "bank", job.started_at)
        assert await kernel.call(release_held, "bank", 10, job.started_at) == 0
        assert await kernel.call(has_held, "bank", job.started_at + 1)
        assert await kernel.call(release_held, "bank", 10, job.started_at + 1) == 1
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.attempts == 2


async def test_a_probe_is_the_job_that_has_not_run_for_longest(kernel: Any) -> None:
    handle_first(kernel, HOLD, HOLD)
    ids = await kernel.add_words("abc")
    async with kernel.worker(concurrency=1):
        for id in ids:
            await kernel.wait_for_state(id, JobState.DELAYED)
        for probes in range(1, 4):
            assert await kernel.call(release_for_probe, "bank") == 1

            async def has_probed(runs: int = 3 + probes) -> bool:
                counts = await kernel.call(count_held)
                return len(kernel.ran) == runs and counts == {"bank": 3}

            await kernel.wait_until(has_probed)
    assert kernel.ran == [*"abc", *"abc"]


async def test_an_operator_may_promote_or_cancel_a_held_job(kernel: Any) -> None:
    handle_first(kernel, HOLD)
    first, second = await kernel.add_words("ab")
    async with kernel.worker():
        for id in (first, second):
            await kernel.wait_for_state(id, JobState.DELAYED)
        await kernel.call(job_actions.promote, kernel.registry, first)
        await kernel.wait_for_state(first, JobState.COMPLETED)
        await kernel.call(job_actions.cancel, kernel.registry, second)
        await kernel.wait_for_state(second, JobState.FAILED)
    assert await kernel.call(count_held) == {}
