"""The built-in directory over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.service.rooms_client import AUTH, as_, client

from homeroom.db.database import Database
from homeroom.people import api, routes
from homeroom.wiring import RECORDS

pytestmark = pytest.mark.anyio
ADA = {"email": "ada@example.org", "givenName": "Ada", "familyName": "Lovelace"}
URL = "/api/v1/people/ada"
SERVICE = as_("service")


@pytest.fixture
async def http(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(db, AUTH, RECORDS)) as opened:
        yield opened


async def test_a_person_is_stored_whole_and_replaced_whole(
    http: httpx.AsyncClient, db: Database
) -> None:
    whole = ADA | {
        "locale": "en-GB",
        "timeZone": "Europe/London",
        "managerId": "m1",
        "roles": ["learner", "facilitator"],
    }
    first = await http.put(URL, json=whole, headers=SERVICE)
    assert (first.status_code, first.json()) == (201, {"userId": "ada", **whole})
    assert (await http.get(URL, headers=SERVICE)).json() == first.json()
    second = await http.put(URL, json=ADA | {"email": None}, headers=SERVICE)
    assert second.status_code == 200
    assert second.json()["email"] is None
    assert second.json()["timeZone"] is None
    async with db.read() as tx:
        found = await api.find(tx, ["ada", "nobody", "ada"])
    assert found == {"ada": api.Person("ada", None, "Ada", "Lovelace")}


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
async def test_wrong_data_is_named_and_nothing_is_stored(
    http: httpx.AsyncClient, wrong: dict[str, object], pointer: str
) -> None:
    answer = await http.put(URL, json=ADA | wrong, headers=SERVICE)
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
    assert (await http.get(URL, headers=SERVICE)).status_code == 404


async def test_nobody_manages_themselves_and_only_an_admin_makes_admins(
    http: httpx.AsyncClient,
) -> None:
    assert (
        await http.put(URL, json=ADA | {"managerId": "ada"}, headers=SERVICE)
    ).status_code == 422
    crown = ADA | {"roles": ["admin"]}
    assert (await http.put(URL, json=crown, headers=SERVICE)).status_code == 403
    assert (await http.put(URL, json=crown, headers=as_("admin"))).status_code == 201


async def test_who_may_see_a_person_and_who_sees_only_part_of_the_address(
    http: httpx.AsyncClient,
) -> None:
    await http.put(URL, json=ADA, headers=SERVICE)
    for who in ("service", "manager", "admin", "learner:ada"):
        answer = await http.get(URL, headers=as_(who))
        assert answer.json()["email"] == "ada@example.org", who
    for who in ("operator", "viewer"):
        assert (await http.get(URL, headers=as_(who))).json()["email"] == "a***@example.org", who
    for who in ("learner:bob", "facilitator:ada2", "learner", "author"):
        for url in (URL, "/api/v1/people/nobody"):
            assert (await http.get(url, headers=as_(who))).status_code == 403, who
    assert (await http.get(URL)).status_code == 401
    for who, status in (("learner:ada", 403), ("operator", 403), ("", 401)):
        assert (await http.put(URL, json=ADA, headers=as_(who))).status_code == status
