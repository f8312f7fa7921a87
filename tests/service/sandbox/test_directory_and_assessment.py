"""What the sandbox's directory and assessment service answer."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeroom.sandbox.directory_and_assessment import generated_person, generated_score
from homeroom.sandbox.state import SandboxConfig

pytestmark = pytest.mark.anyio


async def ask(partner: Any, path: str, token: str | None = None) -> Any:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return await partner.client.get(partner.url + path, headers=headers)


async def test_a_person_is_made_up_the_same_each_time(partner: Any) -> None:
    first = await ask(partner, "/directory/users/u1")
    again = await ask(partner, "/directory/users/u1")
    assert first.status_code == 200
    assert first.json() == again.json() == generated_person(0, "u1")
    assert set(first.json()) == {"id", "email", "givenName", "familyName", "locale", "timeZone"}
    assert first.json()["email"].endswith("@example.org")
    assert first.json()["email"].isascii()


def test_no_two_generated_people_share_an_address() -> None:
    addresses = {generated_person(0, f"user-{number}")["email"] for number in range(5_000)}
    assert len(addresses) == 5_000


async def test_an_id_with_a_slash_and_a_space_reaches_the_directory_whole(partner: Any) -> None:
    odd = "school/7 ä%2F"
    answer = await ask(partner, f"/directory/users/{quote(odd, safe='')}")
    assert answer.json()["id"] == odd


async def test_a_person_without_an_address_and_an_unknown_one_are_told_apart(partner: Any) -> None:
    await partner.control("people", {"people": [{"id": "u1", "email": None}], "unknown": ["u2"]})
    without = await ask(partner, "/directory/users/u1")
    assert without.status_code == 200
    assert without.json()["email"] is None
    assert without.json()["givenName"]
    unknown = await ask(partner, "/directory/users/u2")
    assert unknown.status_code == 404
    await partner.control("people", {"people": [{"id": "u2", "givenName": "Zoë"}]})
    assert (await ask(partner, "/directory/users/u2")).json()["givenName"] == "Zoë"


async def test_a_directory_that_makes_nobody_up_knows_only_whom_it_was_told(partner: Any) -> None:
    await partner.control("people", {"people": [{"id": "u1"}], "generate": False})
    assert (await ask(partner, "/directory/users/u1")).status_code == 200
    assert (await ask(partner, "/directory/users/u2")).status_code == 404


async def test_a_score_is_made_up_the_same_each_time_within_its_range(partner: Any) -> None:
    answer = await ask(partner, "/assessment/users/u1/courses/c1/score")
    assert answer.status_code == 200
    assert answer.json()["score"] == generated_score(0, "u1", "c1")
    scores = {generated_score(0, f"u{number}", "c1") for number in range(2_000)}
    assert min(scores) >= 0.5
    assert max(scores) <= 1
    assert len(scores) > 1_000


async def test_a_score_of_zero_and_no_score_and_no_record_are_three_things(partner: Any) -> None:
    told = [
        {"userId": "u1", "courseId": "c1", "score": 0, "assessedAt": "2026-11-22T09:00:00Z"},
        {"userId": "u2", "courseId": "c1", "score": None},
        {"userId": "u3", "courseId": "c1", "missing": True},
    ]
    await partner.control("scores", {"scores": told})
    zero = await ask(partner, "/assessment/users/u1/courses/c1/score")
    assert zero.json() == {"score": 0.0, "assessedAt": "2026-11-22T09:00:00.000000Z"}
    none = await ask(partner, "/assessment/users/u2/courses/c1/score")
    assert (none.status_code, none.json()) == (200, {"score": None})
    assert (await ask(partner, "/assessment/users/u3/courses/c1/score")).status_code == 404


@pytest.mark.parametrize("path", ["/directory/users/u1", "/assessment/users/u1/courses/c1/score"])
async def test_a_server_with_a_token_lets_nobody_else_in(start_partner: Any, path: str) -> None:
    config = SandboxConfig(directory_token="right", assessment_token="right")
    partner = await start_partner(config)
    assert (await ask(partner, path)).status_code == 401
    assert (await ask(partner, path, "wrong")).status_code == 401
    assert (await ask(partner, path, "right")).status_code == 200
    assert partner.settings["HOMEROOM_DIRECTORY_TOKEN"] == "right"
    refused = await partner.received(outcome="refused")
    assert [entry["reasons"] for entry in refused] == [
        ["the bearer token is missing or wrong"],
        ["the bearer token is missing or wrong"],
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/directory/people/u1", 404),
        ("GET", "/directory/users/", 404),
        ("DELETE", "/directory/users/u1", 405),
        ("POST", "/assessment/users/u1/courses/c1/score", 405),
        ("GET", "/assessment", 404),
    ],
)
async def test_a_request_sent_wrong_is_refused_and_seen(
    partner: Any, method: str, path: str, status: int
) -> None:
    answer = await partner.client.request(method, partner.url + path)
    assert answer.status_code == status
    assert [entry["status"] for entry in await partner.received(outcome="refused")] == [status]
