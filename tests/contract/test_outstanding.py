"""Failed jobs that something waits for are kept, and failures are said in the log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.support.kernel import Kernel, Task

from homeroom.errors import Conflict
from homeroom.jobs import job_actions, queue_store
from homeroom.jobs.handler import LogSubject
from homeroom.jobs.job import Job, JobArgs, JobState
from homeroom.jobs.outcome import Cancel, Fail, Retry

pytestmark = pytest.mark.anyio


class Owed(Task, frozen=True, kw_only=True):
    """A task that a record waits for while its word is in ``waiting``."""

    kind = "contract.owed"
    max_retries = 1

    def log_fields(self) -> dict[str, str | int]:
        return {"word": self.word}


class Newer(JobArgs, frozen=True, kw_only=True):
    """A kind that another program has, and this one has not."""

    kind = "contract.newer"
    queue = "contract"


def _handle(kernel: Kernel, waiting: set[str], outcome: Any) -> None:
    async def run(ctx: Any, args: Any) -> Any:
        return outcome

    async def is_outstanding(tx: Any, job: Job, args: Owed) -> bool:
        return args.word in waiting

    async def subject(tx: Any, args: Owed) -> LogSubject:
        return LogSubject("u-1042", "algebra", "credly")

    kernel.registry.add(Owed, run, is_outstanding=is_outstanding, subject=subject)


async def _fail_all(kernel: Kernel, words: list[str]) -> list[str]:
    ids = [await kernel.add(Owed(word=word), id=f"step.{word}") for word in words]
    async with kernel.worker(concurrency=8):
        for job_id in ids:
            await kernel.wait_for_state(job_id, JobState.FAILED)
    return ids


async def test_a_failed_job_is_kept_while_something_waits_for_it(kernel: Kernel) -> None:
    waiting = {str(number) for number in range(20)}
    _handle(kernel, waiting, Fail("no"))
    kernel.handle()
    await kernel.call(
        queue_store.set_queue_retention, "contract", completed=0, failed=3, age=timedelta(days=1)
    )
    ids = await _fail_all(kernel, [str(number) for number in range(30)])
    done = await kernel.add()
    async with kernel.worker():
        await kernel.wait_for_state(done, JobState.COMPLETED)
    assert await kernel.maintenance.release_outstanding() == 10
    assert await kernel.maintenance.prune() == 8  # the completed one, and 7 beyond the last 3
    kernel.clock.advance(timedelta(days=2))
    assert await kernel.maintenance.prune() == 3  # by age
    for job_id in ids[:20]:
        assert (await kernel.job(job_id)).payload["word"] in waiting
        await kernel.call(job_actions.retry, kernel.registry, job_id)
    async with kernel.worker(concurrency=8):
        for job_id in ids[:20]:
            await kernel.wait_for_state(job_id, JobState.FAILED)
    waiting.clear()  # done in another way
    assert await kernel.maintenance.release_outstanding() == 20
    assert await kernel.maintenance.prune() == 17


async def test_jobs_that_something_waits_for_are_cleaned_only_if_said(kernel: Kernel) -> None:
    _handle(kernel, {"a"}, Fail("no"))
    await _fail_all(kernel, ["a", "b"])
    await kernel.maintenance.release_outstanding()
    with pytest.raises(Conflict):
        await kernel.call(job_actions.remove, "step.a")
    assert await kernel.call(job_actions.clean, "contract", JobState.FAILED) == 1
    assert (await kernel.job("step.a")).payload == {"word": "a"}
    cleaned = await kernel.call(
        job_actions.clean, "contract", JobState.FAILED, outstanding=True, before=kernel.clock.now()
    )
    assert cleaned == 1
    with pytest.raises(Conflict):
        await kernel.call(job_actions.retry, kernel.registry, "step.a")


async def test_a_failed_job_of_an_unknown_kind_is_kept_until_its_program_says(
    kernel: Kernel,
) -> None:
    await kernel.call(queue_store.set_queue_retention, "contract", completed=0, failed=0)
    kernel.handle()
    job_id = await kernel.add(Newer())
    await kernel.call(job_actions.cancel, kernel.registry, job_id)
    await kernel.maintenance.release_outstanding()
    assert await kernel.maintenance.prune() == 0
    kernel.handle(None, Newer)
    await kernel.maintenance.announce_pending()
    assert await kernel.maintenance.release_outstanding() == 1
    assert await kernel.maintenance.prune() == 1


async def test_every_failed_attempt_and_every_failed_job_is_one_line(kernel: Kernel) -> None:
    _handle(kernel, set(), Retry("answered 503 for u-1042", timedelta()))
    with capture_logs() as lines:
        await _fail_all(kernel, ["x"])
    said = [line for line in lines if line["event"] in ("job_attempt_failed", "job_failed")]
    first, last = said
    assert (first["event"], first["log_level"]) == ("job_attempt_failed", "warning")
    assert (last["event"], last["log_level"]) == ("job_failed", "error")
    assert (first["attempt"], first["outcome"], first["reason_code"]) == (
        1,
        "retry",
        "handler_error",
    )
    assert (last["attempt"], last["outcome"]) == (2, "exhausted")
    assert last["reason_code"] == "attempts_exhausted"
    assert last["max_attempts"] == 2
    assert (last["job_id"], last["kind"], last["queue"]) == ("step.x", "contract.owed", "contract")
    assert (last["word"], last["course_id"], last["partner"]) == ("x", "algebra", "credly")
    assert len(last["user_id_hash"]) == 16
    assert first["user_id_hash"] == last["user_id_hash"]
    assert last["error"] == f"answered 503 for {last['user_id_hash']}"
    assert "u-1042" not in str(said)
    outcomes = [attempt.outcome for attempt in await kernel.attempts("step.x")]
    assert outcomes == ["retry", "exhausted"]


@pytest.mark.parametrize(
    ("outcome", "level", "code"),
    [(Fail("no"), "error", "handler_failed"), (Cancel(), "warning", "cancelled")],
    ids=["failed", "cancelled"],
)
async def test_the_level_says_how_a_job_failed(
    kernel: Kernel, outcome: Any, level: str, code: str
) -> None:
    _handle(kernel, set(), outcome)
    with capture_logs() as lines:
        await _fail_all(kernel, ["x"])
    (said,) = [line for line in lines if line["event"] == "job_failed"]
    assert (said["log_level"], said["reason_code"]) == (level, code)


async def test_jobs_that_fail_unrun_are_said_too(kernel: Kernel) -> None:
    _handle(kernel, set(), Fail("no"))
    first = await kernel.add(Owed(word="first"))
    second = await kernel.add(Owed(word="second"), after=[first])
    with capture_logs() as lines:
        await kernel.call(job_actions.cancel, kernel.registry, first)
    said = {line["job_id"]: line["reason_code"] for line in lines if line["event"] == "job_failed"}
    assert said == {first: "cancelled", second: "dependency_failed"}


async def test_pruning_reads_no_job_that_something_waits_for(kernel: Kernel) -> None:
    if kernel.db.__class__.__name__ != "SqliteDatabase":
        pytest.skip("PostgreSQL chooses by its statistics")
    async with kernel.db.read() as tx:
        plan = await tx.fetch(
            f"EXPLAIN QUERY PLAN {job_actions.PRUNABLE_STATEMENTS[JobState.FAILED]}",
            ("contract", 200, 0, 500),
        )
    assert "ix_job_prunable" in str(plan)
