"""HR's message waits for the credential, at most a day; replays say what is known now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.partner_school import Sandbox, School, running_sandbox, school

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.dispatch.cloud_event import TRAINING_RECORDED, TRAINING_UPDATED
from homeroom.dispatch.message import MessageKey

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as running:
        yield running


@pytest.fixture
async def here(db: Database, sandbox: Sandbox) -> AsyncIterator[School]:
    async with school(db, sandbox) as built:
        yield built


async def told(here: School) -> list[dict[str, Any]]:
    return [each["body"] for each in await here.sandbox.received("hr")]


async def clear_faults(sandbox: Sandbox) -> None:
    await sandbox.client.delete(f"{sandbox.url}/control/faults")


async def pass_time(here: School, **span: float) -> None:
    """Move the clock and run what is due then."""
    here.db.clock.advance(timedelta(**span))
    await here.kernel.maintenance.tick()
    await here.work(skip_waits=False)


async def test_hr_waits_until_the_credential_is_issued_and_analytics_does_not(
    here: School,
) -> None:
    await here.sandbox.fault("credly", "status", status=503)
    id = await here.complete(await here.publish())
    await here.work(skip_waits=False)
    assert await told(here) == []
    assert (await here.step(id, "hr")).status == "waiting"
    assert len(await here.sandbox.received("analytics")) == 1
    await clear_faults(here.sandbox)
    await pass_time(here, minutes=1)
    [message] = await told(here)
    [credential] = await here.credential_of("ada")
    assert message["data"]["credentialUrl"] == credential.url is not None
    assert (message["type"], "messageversion" in message) == (TRAINING_RECORDED, False)
    assert (await here.step(id, "hr")).attempts == 1


async def test_after_a_day_hr_is_told_without_it_and_then_what_followed(here: School) -> None:
    await here.sandbox.fault("credly", "status", status=503)
    id = await here.complete(await here.publish())
    await here.work(skip_waits=False)
    await pass_time(here, hours=23, minutes=50)
    assert await told(here) == []
    await pass_time(here, minutes=11)
    [first] = await told(here)
    assert first["data"]["credentialUrl"] is None
    await clear_faults(here.sandbox)
    await pass_time(here, hours=24)
    assert (await here.step(id, "credential")).status == "completed"
    [_, second] = await told(here)
    [credential] = await here.credential_of("ada")
    assert (second["type"], second["subject"]) == (TRAINING_UPDATED, id)
    assert second["data"] == {**first["data"], "credentialUrl": credential.url}
    assert second["id"] == MessageKey(id, "hr", TRAINING_UPDATED).id
    summary = await here.sandbox.summary("hr")
    assert (summary["subjects"], summary["updates"], summary["doubled"]) == (1, 1, {})
    async with here.db.read() as tx:
        dispatches = await here.dispatches.list_newest(tx, "hr", None, None, 10)
    assert {each.type: each.status for each in dispatches} == {
        TRAINING_RECORDED: "delivered",
        TRAINING_UPDATED: "delivered",
    }


@pytest.mark.parametrize("end", ["skipped", "failed finally"])
async def test_hr_waits_for_no_credential_that_will_not_come(here: School, end: str) -> None:
    if end == "skipped":
        course = await here.publish(badgeTemplateId=None)
    else:
        await here.sandbox.fault("credly", "status", status=400)
        course = await here.publish()
    id = await here.complete(course)
    await here.work(skip_waits=False)
    assert (await here.step(id, "credential")).status == end.partition(" ")[0]
    [message] = await told(here)
    assert message["data"]["credentialUrl"] is None


async def test_a_credential_that_comes_while_the_message_is_built_is_told_too(
    here: School,
) -> None:
    """The credential's commit finds no message yet, and the message does not have the URL."""
    url = "https://school.example/credentials/x"
    calls = 0

    async def find_url(tx: Tx, completion_id: str) -> str | None:
        nonlocal calls
        calls += 1
        if calls > 1:
            return url
        async with here.db.write() as writing:
            await writing.execute(
                "UPDATE completion_step SET status = 'completed' WHERE name = 'credential'"
            )
        return None  # as it was read before

    here.dispatches.credential_url = find_url
    await here.sandbox.fault("credly", "status", status=503)
    await here.complete(await here.publish())
    await here.work(skip_waits=False)
    async with here.db.write() as tx:  # its own next attempt would end after that commit
        await tx.execute(
            "UPDATE job SET run_at = run_at + ? WHERE kind = 'completion.credential'", (10**12,)
        )
    await pass_time(here, hours=25)
    assert [each["data"]["credentialUrl"] for each in await told(here)] == [None, url]


async def test_a_replay_says_what_is_known_now_under_a_version(here: School) -> None:
    await here.sandbox.control("people", {"people": [{"id": "ada", "givenName": "Ada"}]})
    id = await here.complete(await here.publish())
    await here.work()
    sent = await here.dispatch_of("hr")
    await here.dispatches.replay(sent.id, "olga")
    await here.work()
    assert {each["id"] for each in await told(here)} == {sent.id}  # nothing new is known
    await here.sandbox.control("people", {"people": [{"id": "ada", "givenName": "Augusta"}]})
    await here.dispatches.replay(sent.id, "olga")
    await here.work()
    await here.dispatches.replay(sent.id, "olga")  # of the first version, which is replaced
    await here.work()
    messages = (await told(here))[2:]
    assert {each["id"] for each in messages} == {MessageKey(id, "hr", TRAINING_RECORDED, 2).id}
    assert {each["messageversion"] for each in messages} == {2}
    assert {each["data"]["givenName"] for each in messages} == {"Augusta"}
    async with here.db.read() as tx:
        newest, first = await here.dispatches.list_newest(tx, "hr", None, None, 10)
    assert (newest.version, newest.status, newest.attempts) == (2, "delivered", 2)
    assert (first.version, first.status, first.attempts) == (1, "delivered", 2)
    assert newest.id in (first.last_error or "")
    assert (await here.sandbox.summary("hr"))["changedOnRepeat"] == 0
