"""Steps whose partner was away stay retryable, and their failures are in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from tests.support.partner_school import Sandbox, School, running_sandbox, school

from homeroom.db.database import Database
from homeroom.jobs import job_actions, job_search, queue_store
from homeroom.jobs.job import PARTNER_DELAYS, JobState

pytestmark = [pytest.mark.anyio, pytest.mark.service]
ATTEMPTS = 1 + len(PARTNER_DELAYS.delays)
LEARNERS = [f"learner-{number}" for number in range(12)]


@pytest.fixture
async def here(db: Database) -> AsyncIterator[School]:
    sandbox: Sandbox
    async with running_sandbox() as sandbox, school(db, sandbox, only=("analytics",)) as built:
        yield built


async def _prune(here: School) -> None:
    here.db.clock.advance(timedelta(days=40))
    await here.kernel.maintenance.tick()
    await here.kernel.maintenance.tick()


async def test_no_step_is_pruned_that_is_not_done(here: School) -> None:
    for queue in ("dispatch", "credentials"):
        await here.kernel.call(
            queue_store.set_queue_retention, queue, completed=0, failed=1, age=timedelta(days=7)
        )
    course = await here.publish()
    await here.sandbox.fault("analytics", "status", status=503)
    ids = [await here.complete(course, user_id) for user_id in LEARNERS]
    await here.work()
    assert {(await here.step(id, "analytics")).status for id in ids} == {"failed"}
    await _prune(here)
    async with here.db.read() as tx:
        failed = await job_search.search(tx, job_search.JobQuery(state=JobState.FAILED), limit=100)
    assert len(failed) == len(LEARNERS)

    await here.sandbox.client.delete(f"{here.sandbox.url}/control/faults")
    query = job_search.JobQuery(state=JobState.FAILED)
    registry = here.kernel.registry
    done = await here.kernel.call(job_actions.apply_bulk_action, registry, "retry", query)
    assert done.count == len(LEARNERS)
    await here.work()
    assert {(await here.step(id, "analytics")).status for id in ids} == {"completed"}
    assert len(await here.sandbox.received("analytics")) >= len(LEARNERS)
    await _prune(here)
    async with here.db.read() as tx:
        assert await job_search.search(tx, job_search.JobQuery(), limit=100) == []


async def test_a_step_that_was_cleaned_on_purpose_gets_a_new_job(here: School) -> None:
    course = await here.publish()
    await here.sandbox.fault("analytics", "status", status=503, times=ATTEMPTS)
    id = await here.complete(course, LEARNERS[0])
    await here.work()
    cleaned = await here.kernel.call(
        job_actions.clean, "dispatch", JobState.FAILED, outstanding=True
    )
    assert cleaned == 1
    await here.retry(id, "analytics")
    await here.work()
    step = await here.step(id, "analytics")
    assert (step.status, step.runs) == ("completed", 2)


async def test_a_replay_is_outstanding_until_another_one_delivers(here: School) -> None:
    course = await here.publish()
    id = await here.complete(course, LEARNERS[0])
    await here.work()
    dispatch = await here.dispatch_of("analytics")
    await here.kernel.call(queue_store.set_queue_retention, "dispatch", completed=0, failed=0)
    await here.sandbox.fault("analytics", "status", status=503, times=ATTEMPTS)
    await here.dispatches.replay(dispatch.id, "olga")
    await here.work()
    await _prune(here)
    async with here.db.read() as tx:
        kept = [job for _, job in await job_search.search(tx, job_search.JobQuery(), limit=100)]
    assert [(job.kind, job.state) for job in kept] == [("dispatch.replay", JobState.FAILED)]
    await here.dispatches.replay(dispatch.id, "olga")
    await here.work()
    assert (await here.dispatch_of("analytics")).status == "delivered"
    await _prune(here)
    async with here.db.read() as tx:
        assert await job_search.search(tx, job_search.JobQuery(), limit=100) == []
    assert (await here.step(id, "analytics")).status == "completed"


async def test_the_log_names_the_step_that_failed_and_not_the_learner(here: School) -> None:
    course = await here.publish()
    await here.sandbox.fault("analytics", "status", status=503)
    with capture_logs() as lines:
        id = await here.complete(course, LEARNERS[0])
        await here.work()
    said = [line for line in lines if line["event"] in ("job_attempt_failed", "job_failed")]
    assert [line["attempt"] for line in said] == list(range(1, ATTEMPTS + 1))
    assert [line["outcome"] for line in said] == ["retry"] * (ATTEMPTS - 1) + ["exhausted"]
    last = said[-1]
    assert last["completion_id"] == id
    assert (last["course_id"], last["partner"]) == ("data", "analytics")
    assert "503" in last["error"]
    assert LEARNERS[0] not in str(said)
