"""The built-in directory over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest
from fastapi.responses import Response
from tests.support.api_client import AUTH, as_, client
from tests.support.asgi_server import MAX_BODY_BYTES, serving

from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.db.database import Database
from homeroom.http.app import create_app
from homeroom.people import api, routes

pytestmark = pytest.mark.anyio
ADA = {"email": "ada@example.org", "givenName": "Ada", "familyName": "Lovelace"}
URL = "/api/v1/people/ada"
SERVICE = as_("service")


@pytest.fixture
async def http(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(db, AUTH, PERSONAL_DATA)) as opened:
        yield opened


async def test_a_person_is_stored_whole_and_replaced_whole(
    http: httpx.AsyncClient, db: Database
) -> None:
    whole = ADA | {
        "locale": "en-GB",
        "timeZone": "Europe/London",
        "managerId": "m1",
        "roles": ["learner", "facilitator"],
        "groupIds": ["ward-3"],
    }
    first = await http.put(URL, json=whole, headers=SERVICE)
    assert (first.status_code, first.json()) == (
        201,
        {"userId": "ada", **whole, "suspendedAt": None},
    )
    assert (await http.get(URL, headers=SERVICE)).json() == first.json()
    second = await http.put(URL, json=ADA | {"email": None}, headers=SERVICE)
    assert second.status_code == 200
    assert second.json()["email"] is None
    assert second.json()["timeZone"] is None
    async with db.read() as tx:
        found = await api.find(tx, ["ada", "stranger", "ada"])
    assert found == {"ada": api.Person("ada", None, "Ada", "Lovelace")}


@pytest.mark.parametrize("user_id", ["https://moodle.example/user/5", "5/export", "50%2F5 /"])
async def test_an_id_with_slashes_is_read_exported_and_erased_like_any_other(
    db: Database, user_id: str
) -> None:
    url, admin = f"/api/v1/people/{quote(user_id, safe='')}", as_("admin")
    router = routes.router(db, AUTH, PERSONAL_DATA)
    app = create_app([router], ingest=Response(), max_body_bytes=MAX_BODY_BYTES)
    async with serving(app) as http:
        assert (await http.put(url, json=ADA, headers=SERVICE)).status_code == 201
        assert (await http.get(url, headers=SERVICE)).json()["userId"] == user_id
        exported = await http.get(f"{url}/export", headers=admin)
        assert exported.json()["userId"] == user_id
        assert (await http.delete(url, headers=admin)).status_code == 200
        assert (await http.get(url, headers=SERVICE)).status_code == 404
        assert (await http.put("/api/v1/people/a/b", json=ADA, headers=SERVICE)).status_code == 404


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"email": "ada"}, "#/email"),
        ({"givenName": " "}, "#/givenName"),
        ({"familyName": None}, "#/familyName"),
        ({"timeZone": "Mars"}, "#/timeZone"),
        ({"locale": "english please"}, "#/locale"),
        ({"managerId": "\x00"}, "#/managerId"),
        ({"roles": ["king"]}, "#/roles/0"),
        ({"shoeSize": 41}, "#/shoeSize"),
    ],
)
async def test_faulty_data_is_reported_and_not_stored(
    http: httpx.AsyncClient, wrong: dict[str, object], pointer: str
) -> None:
    answer = await http.put(URL, json=ADA | wrong, headers=SERVICE)
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
    assert (await http.get(URL, headers=SERVICE)).status_code == 404


async def test_self_management_is_refused_and_only_an_admin_makes_admins(
    http: httpx.AsyncClient,
) -> None:
    assert (
        await http.put(URL, json=ADA | {"managerId": "ada"}, headers=SERVICE)
    ).status_code == 422
    crown = ADA | {"roles": ["admin"]}
    assert (await http.put(URL, json=crown, headers=SERVICE)).status_code == 403
    assert (await http.put(URL, json=crown, headers=as_("admin"))).status_code == 201


async def test_rights_to_see_a_person_and_the_whole_address(
    http: httpx.AsyncClient,
) -> None:
    await http.put(URL, json=ADA, headers=SERVICE)
    bob = ADA | {"givenName": "Bob", "managerId": "mira"}
    await http.put("/api/v1/people/bob", json=bob, headers=SERVICE)
    for who in ("service", "admin", "learner:bob", "manager:mira"):
        answer = await http.get("/api/v1/people/bob", headers=as_(who))
        assert answer.json()["email"] == "ada@example.org", who
    for who in ("service", "admin", "learner:ada"):
        answer = await http.get(URL, headers=as_(who))
        assert answer.json()["email"] == "ada@example.org", who
    for who in ("operator", "viewer"):
        assert (await http.get(URL, headers=as_(who))).json()["email"] == "a***@example.org", who
    for who in ("learner:bob", "manager:mira", "manager", "facilitator:ada2", "learner", "author"):
        for url in (URL, "/api/v1/people/stranger"):
            assert (await http.get(url, headers=as_(who))).status_code == 403, who
    assert (await http.get(URL)).status_code == 401
    for who, status in (("learner:ada", 403), ("operator", 403), ("", 401)):
        assert (await http.put(URL, json=ADA, headers=as_(who))).status_code == status


async def test_of_two_editors_the_second_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.put(URL, json=ADA, headers={**SERVICE, "If-Match": "*"})).status_code == 412
    made = await http.put(URL, json=ADA, headers=SERVICE)
    tag = (await http.get(URL, headers=as_("viewer"))).headers["etag"]
    assert tag == made.headers["etag"]
    first = await http.put(
        URL, json={**ADA, "givenName": "A."}, headers={**SERVICE, "If-Match": tag}
    )
    assert first.status_code == 200
    late = await http.put(
        URL, json={**ADA, "givenName": "B."}, headers={**SERVICE, "If-Match": tag}
    )
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert (await http.get(URL, headers=SERVICE)).json()["givenName"] == "A."


async def test_people_are_found_by_name_id_address_manager_and_group(
    http: httpx.AsyncClient,
) -> None:
    known: dict[str, dict[str, object]] = {
        "ada": ADA | {"managerId": "m1", "groupIds": ["ward-3"]},
        "l-2": {"givenName": "Özlem", "familyName": "Kaya", "groupIds": ["Ward-3", "x"]},
        "l-3": {"givenName": "Ben", "familyName": "Adams", "managerId": "m1", "email": "b@x.org"},
        "50%": {"givenName": "Per", "familyName": "Cent"},
    }
    for id, body in known.items():
        url = f"/api/v1/people/{quote(id, safe='')}"
        assert (await http.put(url, json=body, headers=SERVICE)).status_code == 201

    async def found(caller: str = "viewer", **query: str) -> list[str]:
        answer = await http.get("/api/v1/people", params=query, headers=as_(caller))
        assert answer.status_code == 200, answer.text
        return [each["userId"] for each in answer.json()["items"]]

    assert await found() == ["50%", "ada", "l-2", "l-3"]
    assert await found(q="ADA") == ["ada", "l-3"]
    assert await found(q="ben adams") == ["l-3"]
    assert await found(q="özl") == await found(q="ÖZL") == ["l-2"]
    assert await found(q="l-") == ["l-2", "l-3"]
    assert await found(q="%") == []
    assert await found(q="50%") == ["50%"]
    assert await found(q="ada@example.org") == ["ada"]
    assert await found(q="@example") == []  # no guessing of masked addresses
    assert await found(managerId="m1") == ["ada", "l-3"]
    assert await found(groupId="ward-3") == ["ada"]
    assert await found(groupId="Ward-3", q="kaya") == ["l-2"]
    first = await http.get("/api/v1/people", params={"limit": 3}, headers=SERVICE)
    second = {"limit": 3, "cursor": first.json()["nextCursor"]}
    rest = (await http.get("/api/v1/people", params=second, headers=SERVICE)).json()
    assert [each["userId"] for each in rest["items"]] == ["l-3"]
    assert rest["items"][0]["email"] == "b@x.org"
    masked = await http.get("/api/v1/people", params={"q": "ben"}, headers=as_("operator"))
    assert masked.json()["items"][0]["email"] == "b***@x.org"
    for caller in ("manager:m1", "learner:ada", "author", "facilitator:ada"):
        assert (await http.get("/api/v1/people", headers=as_(caller))).status_code == 403


async def test_a_suspension_outlasts_a_put_and_is_audited(
    http: httpx.AsyncClient, db: Database
) -> None:
    await http.put(URL, json=ADA, headers=SERVICE)
    assert (await http.post(f"{URL}/suspend", headers=as_("viewer"))).status_code == 403
    for _ in range(2):
        assert (await http.post(f"{URL}/suspend", headers=SERVICE)).status_code == 204
    replaced = await http.put(URL, json=ADA, headers=SERVICE)
    read = await http.get(URL, headers=SERVICE)
    assert read.json()["suspendedAt"] is not None
    assert read.headers["ETag"] == replaced.headers["ETag"]
    assert (await http.post(f"{URL}/resume", headers=SERVICE)).status_code == 204
    assert (await http.get(URL, headers=SERVICE)).json()["suspendedAt"] is None
    async with db.read() as tx:
        actions = await tx.fetch("SELECT action FROM audit ORDER BY id")
    assert actions == [("person.suspended",), ("person.resumed",)]
    unknown = await http.post("/api/v1/people/none/suspend", headers=SERVICE)
    assert unknown.status_code == 404
    assert (await http.delete(URL, headers=as_("admin"))).status_code == 200
    async with db.read() as tx:
        left = await tx.fetch("SELECT subject FROM audit WHERE subject = 'ada'")
    assert left == []
