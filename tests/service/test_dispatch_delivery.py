"""Dispatches reach analytics and HR once, retried, replayed or skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.partner_school import Sandbox, School, running_sandbox, school

from homeroom.db.database import Database
from homeroom.dispatch.bulk_replay import DispatchReplays, Replay
from homeroom.dispatch.destinations import DestinationProfile, Destinations
from homeroom.dispatch.jobs import replay_job_id
from homeroom.dispatch.webhook import Destination
from homeroom.instant import SECOND
from homeroom.jobs.api import count_held
from homeroom.jobs.job import FixedDelays, JobReason
from homeroom.partner.failure import PartnerError
from homeroom.sandbox.state import SandboxConfig

pytestmark = [pytest.mark.anyio, pytest.mark.service]
BOTH = ("analytics", "hr")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as running:
        yield running


@pytest.fixture
async def here(db: Database, sandbox: Sandbox) -> AsyncIterator[School]:
    async with school(db, sandbox, only=BOTH) as built:
        yield built


async def test_analytics_gets_what_the_contract_says(here: School) -> None:
    id = await here.complete(await here.publish())
    await here.work()
    [told] = await here.sandbox.received("analytics")
    dispatch = await here.dispatch_of("analytics")
    assert told["outcome"] == "accepted"
    assert (
        told["facts"]["webhookId"] == dispatch.id == (await here.step(id, "analytics")).external_id
    )
    body = told["body"]
    assert (body["specversion"], body["id"]) == ("1.0", dispatch.id)
    assert body["type"] == "org.homeroom.course.completed"
    assert body["source"] == "https://homeroom.example.org"
    assert body["data"] == {
        "userId": "ada",
        "courseId": "data",
        "courseVersion": 1,
        "attempt": 1,
        "completedAt": "2026-11-22T09:00:00.123456Z",
        "score": 0.875,
        "timeSpent": 5400,
        "chapters": [{"chapterId": "c1", "progress": 100.0, "timeSpent": 5400, "completed": True}],
    }
    assert (dispatch.status, dispatch.attempts, dispatch.last_status) == ("delivered", 1, 202)
    assert dispatch.delivered_at is not None


async def test_hr_gets_what_the_contract_says(here: School) -> None:
    person = {"id": "ada", "givenName": "Ada", "familyName": "Okafor"}
    await here.sandbox.control("people", {"people": [person]})
    await here.complete(await here.publish())
    await here.work()
    [told] = await here.sandbox.received("hr")
    assert told["outcome"] == "accepted"
    assert told["body"]["type"] == "org.homeroom.training.recorded"
    assert told["body"]["data"] == {
        "employeeId": "ada",
        "givenName": "Ada",
        "familyName": "Okafor",
        "courseId": "data",
        "courseTitle": "Data for everyone",
        "completedAt": "2026-11-22T09:00:00.123456Z",
        "score": 0.875,
        "hours": 1.5,
        "validUntil": "2027-11-22T09:00:00.123456Z",
        "credentialUrl": None,
    }


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "fault",
    [
        {"mode": "hang_after_work"},
        {"mode": "status", "status": 500, "afterWork": True},
        {"mode": "status", "status": 429},
        {"mode": "status", "status": 408},
        {"mode": "drop", "afterWork": True},
        {"mode": "drop"},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
async def test_a_retry_sends_the_same_id_and_the_same_body(
    here: School, name: str, fault: dict[str, Any]
) -> None:
    await here.sandbox.fault(name, times=2, **fault)
    id = await here.complete(await here.publish())
    await here.work()
    received = await here.sandbox.received(name)
    assert len(received) == 3
    assert len({one["facts"]["webhookId"] for one in received}) == 1
    assert all(one["body"] == received[0]["body"] for one in received)
    summary = await here.sandbox.summary(name)
    assert (summary["deliveries"], summary["changedOnRepeat"], summary["doubled"]) == (1, 0, {})
    assert (await here.step(id, name)).status == "completed"
    dispatch = await here.dispatch_of(name)
    assert (dispatch.status, dispatch.attempts, dispatch.last_error) == ("delivered", 3, None)


async def test_a_name_that_changes_between_attempts_changes_no_body(here: School) -> None:
    await here.sandbox.control("people", {"people": [{"id": "ada", "givenName": "Ada"}]})
    await here.sandbox.fault("hr", "status", status=500, afterWork=True, times=1)
    await here.complete(await here.publish())
    await here.work(skip_waits=False)
    await here.sandbox.control("people", {"people": [{"id": "ada", "givenName": "Augusta"}]})
    await here.work()
    assert (await here.sandbox.summary("hr"))["changedOnRepeat"] == 0


async def test_a_lasting_error_fails_the_step_and_a_refusal_does_so_at_once(here: School) -> None:
    await here.sandbox.fault("analytics", "status", status=503)
    await here.sandbox.fault("hr", "status", status=400)
    id = await here.complete(await here.publish())
    await here.work()
    for name, attempts, status in (("analytics", 10, 503), ("hr", 1, 400)):
        step, dispatch = await here.step(id, name), await here.dispatch_of(name)
        assert (step.status, step.attempts) == ("failed", attempts)
        assert (dispatch.status, dispatch.attempts) == ("failed", attempts)
        assert dispatch.last_status == status
        assert dispatch.last_error == step.last_error
    await here.sandbox.client.delete(f"{here.sandbox.url}/control/faults")
    await here.retry(id, "analytics")
    await here.work()
    assert (await here.step(id, "analytics")).status == "completed"
    assert (await here.dispatch_of("analytics")).status == "delivered"


async def test_hr_waits_for_a_directory_that_is_down_and_sends_no_nulls_for_it(
    here: School,
) -> None:
    await here.sandbox.fault("directory", "status", status=500, times=2)
    await here.complete(await here.publish())
    await here.work()
    [told] = await here.sandbox.received("hr")
    assert told["body"]["data"]["givenName"]


@pytest.mark.parametrize("way", ["switched on", "replayed"])
async def test_steps_wait_while_a_destination_is_disabled_by_410(
    db: Database, sandbox: Sandbox, way: str
) -> None:
    async with school(db, sandbox, only=BOTH, gated=True) as here:
        await check_steps_wait_for_a_disabled_destination(here, way)


async def test_a_replay_has_the_retries_of_its_destination(db: Database, sandbox: Sandbox) -> None:
    retries = {"hr": FixedDelays((timedelta(seconds=7), timedelta(seconds=70)), jitter=0)}
    async with school(db, sandbox, only=BOTH, retries=retries) as here:
        await here.complete(await here.publish())
        await here.work()
        await here.sandbox.fault("hr", "status", status=503)
        replayed = await here.dispatches.replay((await here.dispatch_of("hr")).id, "olga")
        job_id = replay_job_id(replayed.id, 1)
        waits = []
        for _ in range(3):
            await here.work(skip_waits=False)
            job = await here.kernel.job(job_id)
            waits.append((job.state.value, (job.run_at - here.db.clock.now()) // SECOND))
            here.db.clock.advance(timedelta(seconds=70))
            await here.kernel.maintenance.tick()
    assert [state for state, _ in waits] == ["delayed", "delayed", "failed"]
    assert [round(seconds, -1) for _, seconds in waits[:2]] == [10, 70]


async def check_steps_wait_for_a_disabled_destination(here: School, way: str) -> None:
    course = await here.publish()
    await here.sandbox.fault("analytics", "status", status=410, times=1)
    first = await here.complete(course)
    await here.work(skip_waits=False)
    assert (await here.dispatch_of("analytics")).last_status == 410
    second = await here.complete(course, "ben")
    await here.work(skip_waits=False)
    for id in (first, second):
        step = await here.step(id, "analytics")
        assert (step.status, step.attempts) == ("waiting", 0)
        job = await here.kernel.job(step.job_id or "")
        assert job.reason_code == JobReason.DESTINATION_DISABLED
        assert "homeroom destinations switch-on analytics" in (job.last_error or "")
    assert len(await here.sandbox.received("analytics")) == 1
    assert (await here.step(second, "hr")).status == "completed"
    async with here.db.read() as tx:
        assert list(await here.dispatches.list_disabled(tx)) == ["analytics"]
        waiting = await here.dispatches.list_newest(tx, "analytics", "waiting", None, 10)
        assert await count_held(tx) == {"analytics": 2}
    await here.kernel.maintenance.tick()
    await here.work(skip_waits=False)
    assert len(await here.sandbox.received("analytics")) == 1  # a tick releases none
    if way == "replayed":
        await here.dispatches.replay(waiting[0].id, "olga")
        await here.work(skip_waits=False)
    else:
        profile = DestinationProfile("analytics", "webhook", True, 10)
        await Destinations(here.db, [profile], here.completions).switch_on("analytics", "olga")
    await here.kernel.maintenance.tick()
    await here.work(skip_waits=False)
    for id in (first, second):
        assert (await here.step(id, "analytics")).status == "completed"
    summary = await here.sandbox.summary("analytics")
    assert (summary["deliveries"], summary["repeats"], summary["doubled"]) == (2, 0, {})
    async with here.db.read() as tx:
        assert await here.dispatches.list_disabled(tx) == {}


async def test_a_replay_sends_what_was_sent_with_the_same_id(here: School) -> None:
    id = await here.complete(await here.publish())
    await here.work()
    dispatch = await here.dispatch_of("hr")
    after = await here.dispatches.replay(dispatch.id, "olga")
    assert (after.status, after.replays) == ("waiting", 1)
    await here.work()
    summary = await here.sandbox.summary("hr")
    assert (summary["deliveries"], summary["repeats"], summary["changedOnRepeat"]) == (1, 1, 0)
    after = await here.dispatch_of("hr")
    assert (after.status, after.attempts, after.delivered_at) == (
        "delivered",
        2,
        dispatch.delivered_at,
    )
    assert (await here.step(id, "hr")).status == "completed"


async def test_a_replay_since_a_time_is_of_one_destination_and_counted(here: School) -> None:
    course = await here.publish()
    for user in ("ada", "ben", "eve"):
        await here.complete(course, user)
    await here.work()
    middle = here.db.clock.now()
    await here.complete(course, "max")
    replays = DispatchReplays(here.db, here.dispatches, here.completions)
    later = Replay("hr", middle, "all")
    assert await replays.run(later, "olga") == 0  # on its way
    await here.work()
    assert await replays.run(later, "olga") == 1
    assert await replays.run(Replay("hr", 0, "all"), "olga") == 3
    await here.work()
    assert (await here.sandbox.summary("hr"))["repeats"] == 4
    assert (await here.sandbox.summary("analytics"))["repeats"] == 0


async def test_a_wrong_secret_is_a_failed_step_and_no_success(
    db: Database, sandbox: Sandbox
) -> None:
    other = SandboxConfig(webhook_secret="whsec_b3RoZXIgc2VjcmV0IHRoYW4gdGhlIHNhbmRib3ggaGFz")
    wrong = Sandbox(sandbox.url, other, sandbox.client)
    async with school(db, wrong, only=["analytics"]) as here:
        id = await here.complete(await here.publish())
        await here.work()
        step = await here.step(id, "analytics")
    assert step.status == "failed"
    assert "analytics answered 401" in (step.last_error or "")
    assert (await sandbox.summary("analytics"))["deliveries"] == 0


async def test_a_receiver_with_either_of_two_secrets_takes_the_message(sandbox: Sandbox) -> None:
    other = "whsec_b3RoZXIgc2VjcmV0IHRoYW4gdGhlIHNhbmRib3ggaGFz"
    url, known = (sandbox.settings[f"HOMEROOM_{name}"] for name in ("HR_URL", "WEBHOOK_SECRET"))
    for secrets in ([known, other], [other, known], [known]):
        destination = Destination(sandbox.client, "hr", "HR", url, secrets)
        assert await destination.send_test("https://homeroom.example.org") == 200
    with pytest.raises(PartnerError, match="HR answered 401"):
        await Destination(sandbox.client, "hr", "HR", url, [other]).send_test("https://h.example")
    assert (await sandbox.summary("hr"))["tests"] == 3


async def test_two_runs_of_one_job_send_one_id(db: Database, here: School) -> None:
    """As in a copy of the database, which has the job and not yet the message."""
    id = await here.complete(await here.publish())
    await here.work()
    ids = {name: (await here.dispatch_of(name)).id for name in BOTH}
    assert ids["analytics"] != ids["hr"]
    async with db.write() as tx:
        await tx.execute("DELETE FROM dispatch")
        await tx.execute("UPDATE job SET state = 'waiting'")
    await here.work()
    for name in BOTH:
        assert (await here.dispatch_of(name)).id == ids[name]
        assert (await here.step(id, name)).external_id == ids[name]
        summary = await here.sandbox.summary(name)
        assert (summary["deliveries"], summary["repeats"], summary["doubled"]) == (1, 1, {})


async def test_a_step_of_the_release_before_gets_the_attempts_of_this_one(
    db: Database, here: School
) -> None:
    await here.sandbox.fault("analytics", "status", status=503, times=9)
    id = await here.complete(await here.publish())
    async with db.write() as tx:  # three of its four attempts are spent
        await tx.execute("UPDATE job SET attempts = 3, max_attempts = 4, allowance = 4")
    await here.work()
    step = await here.step(id, "analytics")
    assert (step.status, step.attempts) == ("failed", 10)
    await here.retry(id, "analytics")
    await here.work()
    step = await here.step(id, "analytics")
    assert (step.status, step.attempts) == ("completed", 13)
    async with db.read() as tx:
        rows = await tx.fetch("SELECT max_attempts FROM job WHERE id = ?", (step.job_id,))
    assert rows == [(20,)]


async def test_a_destination_without_a_url_is_skipped_with_its_reason(
    db: Database, sandbox: Sandbox
) -> None:
    async with school(db, sandbox, with_dispatch=False) as here:
        id = await here.complete(await here.publish())
        await here.work()
        for name in BOTH:
            step = await here.step(id, name)
            reason = f"HOMEROOM_{name.upper()}_URL is not set"
            assert (step.status, step.skip_code) == ("skipped", "destination_not_configured")
            assert step.skip_reason == reason
        assert (await here.step(id, "credential")).status == "completed"
        assert await sandbox.received("analytics") == []


async def test_a_replay_of_what_was_skipped_does_its_step(db: Database, sandbox: Sandbox) -> None:
    await sandbox.fault("analytics", "status", status=503, times=1)
    async with school(db, sandbox, only=["analytics"]) as here:
        id = await here.complete(await here.publish())
        await here.work(skip_waits=False)
    async with school(db, sandbox, only=["analytics"], with_dispatch=False) as here:
        await here.work()
        step = await here.step(id, "analytics")
        assert (step.status, step.skip_code) == ("skipped", "destination_not_configured")
        dispatch = await here.dispatch_of("analytics")
        assert dispatch.status == "skipped"
    async with school(db, sandbox, only=["analytics"]) as here:
        await here.dispatches.replay(dispatch.id, "olga")
        await here.work()
        step = await here.step(id, "analytics")
        assert (step.status, step.external_id) == ("completed", dispatch.id)
    assert (await sandbox.summary("analytics"))["deliveries"] == 1


async def test_the_signature_is_of_real_time_though_the_clock_is_moved(here: School) -> None:
    here.db.clock.advance(timedelta(days=365))
    id = await here.complete(await here.publish())
    await here.work()
    assert (await here.step(id, "analytics")).status == "completed"


async def test_a_job_that_dies_before_the_commit_sends_the_same_message_again(
    here: School,
) -> None:
    id = await here.complete(await here.publish())
    await here.work()
    async with here.db.write() as tx:  # as a kill between the answer and the commit leaves it
        await tx.execute(
            "UPDATE dispatch SET status = 'waiting', attempts = 0, delivered_at = NULL"
        )
        await tx.execute("UPDATE job SET state = 'waiting'")
    await here.work()
    for name in BOTH:
        summary = await here.sandbox.summary(name)
        assert (summary["deliveries"], summary["repeats"], summary["doubled"]) == (1, 1, {})
        assert (await here.step(id, name)).status == "completed"
