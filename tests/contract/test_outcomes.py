"""Jobs after their handler returned, raised, timed out, or could not be called."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from homeroom.jobs import job_actions, store
from homeroom.jobs.job import Backoff, Job, JobArgs, JobReason, JobState
from homeroom.jobs.outcome import Cancel, Done, Fail, Retry, Snooze

pytestmark = pytest.mark.anyio


class Quick(JobArgs, frozen=True, kw_only=True):
    """A kind whose attempts follow each other at once."""

    kind = "contract.quick"
    queue = "contract"
    backoff = Backoff(base=timedelta(0))
    timeout = timedelta(milliseconds=50)


async def test_an_exception_is_a_failed_attempt_with_its_traceback(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        raise LookupError("no such pupil")

    kernel.handle(run, Quick)
    job_id = await kernel.add(Quick())
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.FAILED)
    attempts = await kernel.attempts(job_id)
    assert job.last_error == "LookupError: no such pupil"
    assert job.reason_code == JobReason.ATTEMPTS_EXHAUSTED
    assert [one.number for one in attempts] == [1, 2, 3, 4]
    assert all("raise LookupError" in (one.traceback or "") for one in attempts)


async def test_a_job_that_fails_first_and_works_later_is_completed(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done() if ctx.job.attempts == 3 else Retry("not yet")

    kernel.handle(run, Quick)
    job_id = await kernel.add(Quick())
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.attempts == 3
    assert (job.last_error, job.reason_code) == (None, None)
    assert [one.outcome for one in await kernel.attempts(job_id)] == ["retry", "retry", "done"]


async def test_a_retry_waits_as_long_as_it_says(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done() if kernel.ran.count("") > 1 else Retry("busy", after=timedelta(minutes=5))

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker(), kernel.running_maintenance():
        job = await kernel.wait_for_state(job_id, JobState.DELAYED)
        assert job.reason_code == JobReason.HANDLER_ERROR
        assert 299e6 < job.run_at - kernel.clock.now() <= 300e6
        kernel.clock.advance(timedelta(minutes=5))
        await kernel.wait_for_state(job_id, JobState.COMPLETED)


async def test_a_snooze_spends_no_attempt(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        if len(kernel.ran) <= 6:
            return Snooze(timedelta(microseconds=1), "the partner sleeps")
        return Done()

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker(), kernel.running_maintenance():
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.attempts == 1
    assert len(kernel.ran) == 7
    async with kernel.db.read() as tx:
        assert len(await store.logs(tx, job_id)) == 6


async def test_a_fail_is_final_until_an_operator_retries_it(kernel: Any) -> None:
    fixed = False

    async def run(ctx: Any, args: Any) -> Any:
        return Done() if fixed else Fail("no e-mail address")

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.FAILED)
        assert (job.attempts, job.last_error) == (1, "no e-mail address")
        assert job.reason_code == JobReason.HANDLER_FAILED
        fixed = True
        retried = await kernel.call(job_actions.retry, kernel.registry, job_id)
        assert retried.reason_code is None
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.attempts == 2
    assert kernel.changes == [
        (job_id, JobState.FAILED),
        (job_id, JobState.WAITING),
        (job_id, JobState.COMPLETED),
    ]


async def test_a_retry_by_an_operator_grants_all_attempts_again(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Retry("never")

    kernel.handle(run, Quick)
    job_id = await kernel.add(Quick())
    async with kernel.worker():
        await kernel.wait_for_state(job_id, JobState.FAILED)
        await kernel.call(job_actions.retry, kernel.registry, job_id)
        await kernel.wait_until_true(lambda: len(kernel.ran) == 8)
        assert (await kernel.wait_for_state(job_id, JobState.FAILED)).attempts == 8


async def test_a_handler_can_cancel_its_job(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Cancel()

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.FAILED)
    assert job.reason_code == JobReason.CANCELLED


async def test_a_handler_that_times_out_is_stopped_and_its_attempt_counted(kernel: Any) -> None:
    stopped = []

    async def run(ctx: Any, args: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(ctx.job.attempts)
            raise

    kernel.handle(run, Quick)
    job_id = await kernel.add(Quick())
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.FAILED)
    assert job.last_error == "timed out after 0.05 s"
    assert job.reason_code == JobReason.ATTEMPTS_EXHAUSTED
    assert stopped == [1, 2, 3, 4]


async def test_a_job_that_timed_out_waits_with_that_code(kernel: Any) -> None:
    class Slow(JobArgs, frozen=True, kw_only=True):
        kind = "contract.slow"
        queue = "contract"
        backoff = Backoff(base=timedelta(days=1_000), cap=timedelta(days=1_000))
        timeout = timedelta(milliseconds=50)

    async def run(ctx: Any, args: Any) -> Any:
        await asyncio.Event().wait()

    kernel.handle(run, Slow)
    job_id = await kernel.add(Slow())
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.DELAYED)
    assert job.reason_code == JobReason.TIMED_OUT


@pytest.mark.parametrize("returned", [None, {"error": "the partner refused"}, True])
async def test_a_value_that_is_no_outcome_is_a_failed_attempt(kernel: Any, returned: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return returned

    kernel.handle(run, Quick)
    job_id = await kernel.add(Quick())
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.FAILED)
    assert job.attempts == 4
    assert "not one of Done, Retry, Snooze, Hold, Fail, Cancel" in (job.last_error or "")


async def test_a_result_that_is_not_json_is_a_failed_attempt(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done(object())

    kernel.handle(run, Quick)
    job_id = await kernel.add(Quick())
    async with kernel.worker():
        assert "not JSON" in (
            (await kernel.wait_for_state(job_id, JobState.FAILED)).last_error or ""
        )


async def _rewrite(tx: Any, job_id: str, payload: str, version: int) -> None:
    await tx.execute(
        "UPDATE job SET payload = ?, version = ? WHERE id = ?", (payload, version, job_id)
    )


@pytest.mark.parametrize("payload", ['{"word": 7}', "[1]", "{", '"x"'])
async def test_a_payload_that_cannot_be_read_fails_without_a_retry(
    kernel: Any, payload: str
) -> None:
    class Strict(JobArgs, frozen=True, kw_only=True):
        kind = "contract.strict"
        queue = "contract"
        word: str

    kernel.handle(None, Strict)
    job_id = await kernel.add(Strict(word="fine"))
    await kernel.call(_rewrite, job_id, payload, 1)
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.FAILED)
    assert (job.attempts, job.reason_code) == (1, JobReason.UNDECODABLE)
    assert kernel.ran == []


async def test_a_payload_of_an_older_release_is_upgraded(kernel: Any) -> None:
    class Grown(JobArgs, frozen=True, kw_only=True):
        kind = "contract.grown"
        queue = "contract"
        version = 2
        word: str

        @classmethod
        def upgrade(cls, payload: dict[str, object], version: int) -> dict[str, object]:
            return {"word": payload["oldWord"]}

    kernel.handle(None, Grown)
    job_id = await kernel.add(Grown(word="x"))
    await kernel.call(_rewrite, job_id, '{"oldWord": "slate"}', 1)
    async with kernel.worker():
        await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert kernel.ran == ["slate"]


async def test_a_payload_of_a_newer_release_waits_for_one(kernel: Any, task: Any) -> None:
    kernel.handle()
    job_id = await kernel.add()
    await kernel.call(_rewrite, job_id, "{}", 99)
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.DELAYED)
    assert (job.attempts, job.reason_code) == (0, JobReason.NEWER_RELEASE)


async def test_a_job_of_an_unknown_kind_waits_for_a_worker_that_has_it(
    kernel: Any, task: Any
) -> None:
    kernel.handle()
    unknown = await kernel.add(Quick())
    known = await kernel.add()
    async with kernel.worker():
        await kernel.wait_for_state(known, JobState.COMPLETED)
        assert (await kernel.job(unknown)).state is JobState.WAITING
    kernel.handle(None, Quick)
    async with kernel.worker():
        await kernel.wait_for_state(unknown, JobState.COMPLETED)


async def test_a_handler_can_settle_in_the_transaction_of_its_effect(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        outcome = Done("stored")
        async with kernel.db.write() as tx:
            await store.add_log_line(tx, ctx.job.id, "the effect")
            await ctx.settle(tx, outcome)
        return outcome

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.result == "stored"
    assert kernel.changes == [(job_id, JobState.COMPLETED)]
    assert len(await kernel.attempts(job_id)) == 1


async def test_a_settlement_that_was_rolled_back_does_not_count(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        if ctx.job.attempts == 1:
            async with kernel.db.write() as tx:
                await ctx.settle(tx, Done("lost"))
                raise RuntimeError("the effect failed")
        return Done("second")

    kernel.handle(run, Quick)
    job_id = await kernel.add(Quick())
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert (job.result, job.attempts) == ("second", 2)


async def test_progress_and_log_are_kept_with_the_job(kernel: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        await ctx.progress({"percent": 40})
        await ctx.log("read the register")
        return Done()

    kernel.handle(run)
    job_id = await kernel.add()
    async with kernel.worker():
        job = await kernel.wait_for_state(job_id, JobState.COMPLETED)
    assert job.progress == {"percent": 40}
    async with kernel.db.read() as tx:
        assert [line for _, line in await store.logs(tx, job_id)] == ["read the register"]


async def test_an_error_of_a_callback_fails_its_job_and_no_other(kernel: Any, task: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return Done()

    refused: list[JobState] = []

    async def changed(tx: Any, job: Any, args: Any) -> None:
        if len(refused) < 2:
            refused.append(job.state)
            raise ValueError("the feature's row is missing")

    kernel.registry.add(Quick, run, changed)
    kernel.handle()
    broken, *fine = [await kernel.add(Quick()), *await kernel.add_words(["a", "b"])]
    async with kernel.worker():
        for job_id in fine:
            await kernel.wait_for_state(job_id, JobState.COMPLETED)
        job = await kernel.wait_for_state(broken, JobState.COMPLETED)
    assert job.attempts >= 2
    first = (await kernel.attempts(broken))[0]
    assert "the feature's row is missing" in (first.error or "")


async def test_every_run_is_observed_with_its_label(kernel: Any) -> None:
    observed: list[tuple[str, str]] = []
    outcomes: list[Any] = [Retry("again", timedelta()), Done(), Fail("no")]

    async def run(ctx: Any, args: Any) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Done):
            async with kernel.db.write() as tx:
                await ctx.settle(tx, outcome)
        return outcome

    def observe(job: Job, label: str, seconds: float) -> None:
        assert seconds > 0
        observed.append((job.kind, label))

    kernel.handle(run)
    async with kernel.worker(observe=observe):
        for state in (JobState.COMPLETED, JobState.FAILED):
            await kernel.wait_for_state(await kernel.add(), state)
    assert [label for _, label in observed] == ["retry", "done", "fail"]
    assert len({kind for kind, _ in observed}) == 1
    counted = {(name, labels[2:]): count for (name, labels), count in kernel.db.counts.items()}
    assert counted == {
        ("jobs_enqueued", ()): 2,
        ("jobs_retried", ()): 1,
        ("jobs_completed", ()): 1,
        ("jobs_failed", ("handler_failed",)): 1,
    }
