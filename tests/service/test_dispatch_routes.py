"""Dispatches over HTTP: the list, its filters, and replays."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.support.api_client import AUTH, as_, client
from tests.support.partner_school import School, running_sandbox, school

from homeroom.access.store import list_audit
from homeroom.db.database import Database
from homeroom.dispatch import bulk_replay, routes

pytestmark = [pytest.mark.anyio, pytest.mark.service]
OPERATOR, VIEWER = as_("operator"), as_("viewer")
LIST = "/api/v1/dispatches"


@pytest.fixture
async def here(db: Database) -> AsyncIterator[School]:
    async with running_sandbox() as running, school(db, running, only=["analytics", "hr"]) as built:
        yield built


@pytest.fixture
async def api(here: School) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(here.db, AUTH, here.dispatches, here.completions)) as opened:
        yield opened


async def test_dispatches_are_listed_by_destination_and_status(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.sandbox.fault("hr", "status", status=400)
    await here.complete(await here.publish())
    await here.work()
    everything = (await api.get(LIST, headers=VIEWER)).json()["items"]
    assert {(one["destination"], one["status"]) for one in everything} == {
        ("analytics", "delivered"),
        ("hr", "failed"),
    }
    [failed] = (await api.get(f"{LIST}?status=failed", headers=VIEWER)).json()["items"]
    assert (failed["destination"], failed["lastStatus"], failed["attempts"]) == ("hr", 400, 1)
    assert "the HR system answered 400" in failed["lastError"]
    assert (await api.get(f"{LIST}?destination=analytics&status=failed", headers=VIEWER)).json()[
        "items"
    ] == []
    assert (await api.get(f"{LIST}?destination=mars", headers=VIEWER)).status_code == 422
    assert (await api.get(LIST, headers=as_("learner:ada"))).status_code == 403
    assert (await api.get(LIST)).status_code == 401


async def test_a_failed_dispatch_is_replayed_and_its_step_is_done(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.sandbox.fault("hr", "status", status=400, times=1)
    id = await here.complete(await here.publish())
    await here.work()
    [failed] = (await api.get(f"{LIST}?status=failed", headers=VIEWER)).json()["items"]
    url = f"{LIST}/{failed['id']}/replay"
    assert (await api.post(url, headers=VIEWER)).status_code == 403
    answer = await api.post(url, headers=OPERATOR)
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    await here.work()
    assert (await here.step(id, "hr")).status == "completed"
    assert (await here.sandbox.summary("hr"))["deliveries"] == 1
    assert (await api.post(f"{LIST}/none/replay", headers=OPERATOR)).status_code == 404


async def test_a_replay_since_a_time_says_how_many(here: School, api: httpx.AsyncClient) -> None:
    course = await here.publish()
    for user in ("ada", "ben"):
        await here.complete(course, user)
    await here.work()
    body = {"destination": "hr", "since": "2026-01-01T00:00:00Z"}
    assert (await api.post(f"{LIST}/replay", headers=VIEWER, json=body)).status_code == 403
    answer = await api.post(f"{LIST}/replay", headers=OPERATOR, json=body)
    assert (answer.status_code, answer.json()) == (202, {"count": 0})  # all were delivered
    everything = {**body, "scope": "all"}
    dry = await api.post(f"{LIST}/replay", headers=OPERATOR, json={**everything, "dryRun": True})
    assert dry.json() == {"count": 2}
    answer = await api.post(f"{LIST}/replay", headers=OPERATOR, json=everything)
    assert (answer.status_code, answer.json()) == (202, {"count": 2})
    await here.work()
    assert (await here.sandbox.summary("hr"))["repeats"] == 2
    async with here.db.read() as tx:
        [entry] = await list_audit(tx, 10, action="dispatch.replayed")
    assert entry.details == {"since": "2026-01-01T00:00:00.000000Z", "scope": "all", "count": 2}
    for wrong in ("2026-01-01T00:00:00", 0.5, "0.5", True):  # no zone, and no times
        sent = {**body, "since": wrong}
        assert (await api.post(f"{LIST}/replay", headers=OPERATOR, json=sent)).status_code == 422


async def test_a_dispatch_shows_message_answer_and_next_attempt(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.sandbox.fault("hr", "status", status=503)
    await here.complete(await here.publish())
    await here.work(skip_waits=False)
    [waiting] = (await api.get(f"{LIST}?status=waiting", headers=VIEWER)).json()["items"]
    assert (waiting["destination"], waiting["reasonCode"]) == ("hr", "handler_error")
    assert waiting["lastAttemptAt"] < waiting["nextAttemptAt"]
    assert waiting["jobId"].endswith(".hr")
    url = f"{LIST}/{waiting['id']}"
    assert (await api.get(url, headers=VIEWER)).status_code == 403  # it may hold a name
    shown = (await api.get(url, headers=OPERATOR)).json()
    assert shown["message"]["data"]["employeeId"] == "ada"
    assert shown["message"]["id"] == waiting["id"]
    await here.sandbox.client.delete(f"{here.sandbox.url}/control/faults")
    await here.work()
    delivered = (await api.get(url, headers=OPERATOR)).json()
    assert (delivered["status"], delivered["lastStatus"]) == ("delivered", 202)
    assert (delivered["nextAttemptAt"], delivered["reasonCode"]) == (None, None)
    assert "accepted" in delivered["lastAnswer"]
    assert (await api.get(f"{LIST}/none", headers=OPERATOR)).status_code == 404
    found = await api.get(f"{LIST}?userId=ben", headers=VIEWER)
    assert found.json()["items"] == []
    found = await api.get(
        f"{LIST}?completionId={delivered['completionId']}&since=2026-01-01T00:00:00Z",
        headers=VIEWER,
    )
    assert len(found.json()["items"]) == 2


async def test_a_replay_sends_exactly_what_was_not_delivered(
    here: School, api: httpx.AsyncClient
) -> None:
    course = await here.publish()
    for number in range(5):
        await here.complete(course, f"u{number}")
    await here.work()
    await here.sandbox.fault("hr", "status", status=400)
    failed = [await here.complete(course, f"late{number}") for number in range(2)]
    await here.work()
    # A third one failed before there was a message: the directory refused the learner's name.
    await here.sandbox.client.delete(f"{here.sandbox.url}/control/faults")
    await here.sandbox.fault("directory", "status", status=400, times=1)
    failed.append(await here.complete(course, "nameless"))
    await here.work()
    assert {(await here.step(id, "hr")).status for id in failed} == {"failed"}
    before = len(await here.sandbox.received("hr"))
    body = {"destination": "hr", "since": "2026-01-01T00:00:00Z"}
    dry = await api.post(f"{LIST}/replay", headers=OPERATOR, json={**body, "dryRun": True})
    assert dry.json() == {"count": 3}
    assert (await api.post(f"{LIST}/replay", headers=OPERATOR, json=body)).json() == {"count": 3}
    await here.work()
    sent = (await here.sandbox.received("hr"))[before:]
    told = sorted(one["body"]["data"]["employeeId"] for one in sent)
    assert told == ["late0", "late1", "nameless"]
    assert (await here.sandbox.summary("hr"))["repeats"] == 0
    assert {(await here.step(id, "hr")).status for id in failed} == {"completed"}
    assert (await api.post(f"{LIST}/replay", headers=OPERATOR, json=body)).json() == {"count": 0}


async def test_many_dispatches_are_replayed_in_batches_each_once(
    here: School, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_replay, "BATCH", 2)
    course = await here.publish()
    for number in range(5):
        await here.complete(course, f"u{number}")
    await here.work()
    body = {"destination": "hr", "since": "2026-01-01T00:00:00Z", "scope": "all"}
    assert (await api.post(f"{LIST}/replay", headers=OPERATOR, json=body)).json() == {"count": 5}
    await here.work()
    summary = await here.sandbox.summary("hr")
    assert (summary["deliveries"], summary["repeats"]) == (5, 5)
