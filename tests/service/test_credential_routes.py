"""Credentials, achievements, revocation and Credly's webhook over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.support.api_client import AUTH, as_, client
from tests.support.partner_school import School, running_sandbox, school

from homeroom.achievements.api import Achievements
from homeroom.credentials import routes
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]
OPERATOR, ADA, BEN = as_("operator"), as_("learner:ada"), as_("learner:ben")


@pytest.fixture
async def here(db: Database) -> AsyncIterator[School]:
    async with running_sandbox() as running, school(db, running, only=["credential"]) as built:
        yield built


@pytest.fixture
async def api(here: School) -> AsyncIterator[httpx.AsyncClient]:
    achievements = Achievements(here.db, here.completions)
    router = routes.router(here.db, AUTH, here.credentials, here.completions, achievements)
    async with client(router) as opened:
        yield opened


async def items(api: httpx.AsyncClient, path: str, who: dict[str, str]) -> list[Any]:
    answer = await api.get(path, headers=who)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_a_learner_sees_its_own_credentials_and_nobody_elses(
    here: School, api: httpx.AsyncClient
) -> None:
    course = await here.publish()
    for user in ("ada", "ben"):
        await here.complete(course, user)
    await here.work()
    [own] = await items(api, "/api/v1/credentials", ADA)
    assert (own["userId"], own["state"], own["issuer"]) == ("ada", "issued", "credly")
    assert own["issuedAt"] == "2026-11-22T09:00:00.123456Z"
    assert own["expiresAt"] == "2027-11-22T09:00:00.123456Z"
    assert 0 <= own["score"] <= 1
    assert [own] == await items(api, "/api/v1/credentials?userId=ada", OPERATOR)
    assert len(await items(api, "/api/v1/credentials", OPERATOR)) == 2
    refused = await api.get("/api/v1/credentials?userId=ada", headers=BEN)
    assert refused.status_code == 403
    assert (await api.get("/api/v1/credentials")).status_code == 401
    assert (await api.get("/api/v1/credentials", headers=as_("author"))).status_code == 403


async def test_credentials_are_paged(here: School, api: httpx.AsyncClient) -> None:
    course = await here.publish()
    for number in range(3):
        await here.complete(course, f"user-{number}")
    await here.work()
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await api.get(f"/api/v1/credentials?limit=2{cursor}", headers=OPERATOR)
        seen += [item["userId"] for item in answer.json()["items"]]
        if answer.json()["nextCursor"] is None:
            break
        cursor = f"&cursor={answer.json()['nextCursor']}"
    assert sorted(seen) == ["user-0", "user-1", "user-2"]


async def test_an_achievement_shows_the_course_with_or_without_a_credential(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.complete(await here.publish())
    await here.complete(await here.publish("plain", badgeTemplateId=None), score=0)
    await here.work()
    plain, data = await items(api, "/api/v1/achievements", ADA)
    assert (plain["courseId"], plain["credential"], plain["score"]) == ("plain", None, 0)
    assert data["courseTitle"] == "Data for everyone"
    assert data["credential"]["state"] == "issued"
    assert data["timeSpent"] == 5400


async def test_a_revocation_reaches_credly_and_may_be_repeated(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.complete(await here.publish())
    await here.work()
    [credential] = await items(api, "/api/v1/credentials", ADA)
    url, reason = f"/api/v1/credentials/{credential['id']}/revoke", {"reason": "a mistake"}
    assert (await api.post(url, headers=ADA, json=reason)).status_code == 403
    assert (await api.post(url, headers=OPERATOR, json={"reason": ""})).status_code == 422
    for _ in range(2):
        answer = await api.post(url, headers=OPERATOR, json=reason)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["state"], answer.json()["revocationReason"]) == (
            "revoked",
            "a mistake",
        )
    [badge] = await here.sandbox.badges()
    assert (badge["state"], badge["revocation_reason"]) == ("revoked", "a mistake")
    unknown = await api.post("/api/v1/credentials/x/revoke", headers=OPERATOR, json=reason)
    assert unknown.status_code == 404
    async with here.db.read() as tx:
        audited = await tx.fetch("SELECT actor, action, subject FROM audit")
    assert audited == [("key operator", "credential.revoked", credential["id"])]


async def test_a_revocation_whose_answer_was_lost_is_found_to_be_done(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.complete(await here.publish())
    await here.work()
    [credential] = await items(api, "/api/v1/credentials", ADA)
    url, reason = f"/api/v1/credentials/{credential['id']}/revoke", {"reason": "a mistake"}
    match = {"method": "PUT"}
    await here.sandbox.fault("credly", "hang_after_work", times=1, match=match)
    await here.sandbox.fault("credly", "status", status=503, times=1, match={"method": "GET"})
    answer = await api.post(url, headers=OPERATOR, json=reason)
    assert answer.status_code == 502
    assert answer.json()["code"] == "partner_failed"
    [credential] = await items(api, "/api/v1/credentials", ADA)
    assert credential["state"] == "issued"
    assert (await api.post(url, headers=OPERATOR, json=reason)).json()["state"] == "revoked"


async def test_a_hook_is_believed_only_as_far_as_credly_confirms_it(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.complete(await here.publish())
    await here.work()
    [badge] = await here.sandbox.badges()
    config = here.sandbox.config
    url = f"{here.sandbox.url}/credly/v1/organizations/{config.organization}/badges/{badge['id']}"
    auth = (config.credly_token, "")
    await here.sandbox.client.put(f"{url}/revoke", json={"reason": "x"}, auth=auth)
    created, revoked = (await here.sandbox.get("badges"))["events"]
    # a lie about the badge changes nothing: only the id is read, and Credly says what happened
    lie = {"id": created["id"], "event_type": "badge.revoked", "badge": {"state": "revoked"}}
    assert (await api.post("/hooks/credly", json=lie)).status_code == 202
    [credential] = await items(api, "/api/v1/credentials", ADA)
    assert (credential["state"], credential["issuerState"]) == ("issued", "pending")
    for event in (revoked, created):  # an older event that comes late brings nothing back
        answer = await api.post("/hooks/credly", json={"id": event["id"]})
        assert answer.status_code == 202
        [credential] = await items(api, "/api/v1/credentials", ADA)
        assert (credential["state"], credential["issuerState"]) == ("revoked", "revoked")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"id": "unknown"}', 404),
        (b'{"id": "../badges/x"}', 404),
        (b'{"id": 7}', 400),
        (b"{}", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"id": "' + b"x" * 20_000 + b'"}', 413),
    ],
)
async def test_a_hook_that_says_nothing_is_answered_without_detail(
    api: httpx.AsyncClient, content: bytes, status: int
) -> None:
    answer = await api.post("/hooks/credly", content=content)
    assert answer.status_code == status


async def test_a_hook_is_to_be_sent_again_while_credly_is_away(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.sandbox.fault("credly", "status", status=503)
    assert (await api.post("/hooks/credly", json={"id": "e1"})).status_code == 502
