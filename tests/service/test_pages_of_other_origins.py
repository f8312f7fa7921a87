"""What a page of another origin may send and read: CORS, and beacons as it closes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.progress_school import ADA, School, chapter, event, open_school

from homeroom.db.database import Database
from homeroom.http.ingest import INGEST_PATH, MAX_BEACON_BYTES

pytestmark = [pytest.mark.anyio, pytest.mark.service]
PAGE = "https://learn.school.example"
TOKEN = ADA["Authorization"].removeprefix("Bearer ")


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db, cors_origins=[PAGE]) as school:
        await school.publish("fire", chapter("a"))
        yield school


async def beacon(
    school: School, body: Any, origin: str | None = PAGE, **more: str
) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "text/plain;charset=UTF-8", **more}
    if origin is not None:
        headers["Origin"] = origin
    content = body if isinstance(body, str) else json.dumps(body)
    answer = await school.http.post(INGEST_PATH, content=content, headers=headers)
    assert TOKEN not in answer.text
    return answer.status_code, answer.json()


async def test_a_beacon_counts_with_the_token_in_its_body(school: School) -> None:
    status, found = await beacon(school, {"token": TOKEN, "events": [event("1", progress=40)]})
    assert (status, found["accepted"]) == (200, 1)
    assert (await school.progress())["progress"] == 40
    status, found = await beacon(school, {"token": TOKEN, "events": [event("2", userId="bob")]})
    assert (status, found["rejected"]) == (200, 1)
    rows = [
        await school.rows(f"SELECT * FROM {t}") for t in ("progress_event", "progress_quarantine")
    ]
    assert TOKEN not in repr(rows)


@pytest.mark.parametrize(
    ("body", "origin", "more", "status"),
    [
        ({"token": TOKEN, "events": [event("1")]}, "https://evil.example", {}, 403),
        ({"token": TOKEN, "events": [event("1")]}, None, {}, 403),
        ({"events": [event("1")]}, PAGE, {"Cookie": "homeroom_session=service"}, 401),
        ({"events": [event("1")]}, PAGE, ADA, 401),
        ({"token": "emperor", "events": [event("1")]}, PAGE, {}, 401),
        ([event("1")], PAGE, {}, 401),
        ("{", PAGE, {}, 401),
        ({"token": TOKEN}, PAGE, {}, 422),
        ({"token": TOKEN, "events": [event("1")], "pad": "x" * MAX_BEACON_BYTES}, PAGE, {}, 413),
    ],
)
async def test_other_beacons_are_refused(
    school: School, body: Any, origin: str | None, more: dict[str, str], status: int
) -> None:
    assert (await beacon(school, body, origin, **more))[0] == status
    assert await school.rows("SELECT id FROM progress_event") == []


async def test_without_origins_text_is_no_media_type_of_events(db: Database) -> None:
    async with open_school(db) as school:
        status, _ = await beacon(school, {"token": TOKEN, "events": [event("1")]})
        assert status == 415


async def test_a_page_may_send_and_read_what_the_api_answers_to(school: School) -> None:
    for header in ("If-None-Match", "If-Match", "Last-Event-ID", "Idempotency-Key"):
        asked = await school.http.options(
            "/api/v1/courses/fire/progress",
            headers={
                "Origin": PAGE,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": header,
            },
        )
        assert asked.status_code == 200, header
    answer = await school.http.get("/api/v1/courses/fire/progress", headers={"Origin": PAGE, **ADA})
    exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
    assert {"etag", "retry-after", "link", "homeroom-rejected"} <= set(exposed)
    again = await school.http.get(
        "/api/v1/courses/fire/progress",
        headers={"Origin": PAGE, "If-None-Match": answer.headers["etag"], **ADA},
    )
    assert again.status_code == 304
    assert again.headers["access-control-allow-origin"] == PAGE
