"""Bad input, as platforms really send it: a clear response and no change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from tests.support.api_client import as_
from tests.support.asgi_server import MAX_BODY_BYTES
from tests.support.progress_school import SERVICE, School, chapter, event, open_school, quiz

from homeroom.db.database import Database
from homeroom.http.app import INGEST_PATH

pytestmark = pytest.mark.anyio
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        await opened.publish("fire", chapter("a"), quiz("q"))
        await opened.send(event("before", progress=10, timeSpent=10))
        yield opened


BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "bad_request"),
    "half a body": (b'{"events": [{"id": "x"', 400, "bad_request"),
    "not JSON": (b"events=1", 400, "bad_request"),
    "NaN": (json.dumps({"events": [event("x", progress=float("nan"))]}).encode(), 400, ""),
    "infinity": (json.dumps([event("x", progress=float("inf"))]).encode(), 400, ""),
    "a number": (b"7", 422, "invalid"),
    "null": (b"null", 422, "invalid"),
    "no events": (b"{}", 422, "invalid"),
    "an empty list": (b'{"events": []}', 422, "invalid"),
    "an empty array": (b"[]", 422, "invalid"),
    "events that are an object": (b'{"events": {}}', 422, "invalid"),
    "1,001 events": (json.dumps([event(str(n)) for n in range(1_001)]).encode(), 413, ""),
    "10,000 events": (b"[" + b",".join([b"{}"] * 10_000) + b"]", 413, "too_large"),
    "5 MiB": (b'{"events": ["' + b"x" * (5 << 20) + b'"]}', 413, "too_large"),
    "deep nesting": (b"[" * 100_000, 422, "invalid"),
    "bytes that are no UTF-8": (b'{"events": [{"id": "\xff\xfe"}]}', 0, ""),
}


@pytest.mark.parametrize("name", BODIES)
async def test_an_unreadable_body_is_a_problem_and_changes_nothing(
    school: School, name: str
) -> None:
    body, status, code = BODIES[name]
    before = await school.tables()
    answer = await school.http.post(INGEST_PATH, content=body, headers={**SERVICE, **JSON})
    if status:
        assert (answer.status_code, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
        problem = answer.json()
        assert problem["detail"]
        assert problem["code"] == code or not code
        # A Content-Length above the limit is refused before the body is read.
        assert school.statuses.get("refused", 0) == (0 if name == "5 MiB" else 1)
    else:
        assert answer.status_code in {200, 400, 422}
    assert len(answer.content) < 3_000
    assert await school.tables() == before


EVENTS: dict[str, tuple[object, str]] = {
    "no event at all": (7, "invalid_event"),
    "progress 250": (event("x", progress=250), "invalid_event"),
    "negative progress": (event("x", progress=-1), "invalid_event"),
    "progress as text": (event("x", progress="50"), "invalid_event"),
    "negative time": (event("x", timeSpent=-5), "invalid_event"),
    "more than a day": (event("x", timeSpent=86_401), "invalid_event"),
    "an id of 10 KB": (event("x" * 10_240), "invalid_event"),
    "an empty id": (event(""), "invalid_event"),
    "a number as id": ({**event("x"), "id": 7}, "invalid_event"),
    "a user id of 10 KB": (event("x", userId="u" * 10_240), "invalid_event"),
    "a control character": (event("x\x00y"), "invalid_id"),
    "a line break in a chapter": (event("x", chapterId="a\n"), "invalid_id"),
    "an unknown type": (event("x", "dance"), "invalid_event"),
    "no chapter": (event("x", chapterId=None), "chapter_required"),
    "no timestamp": (event("x", timestamp=None), "invalid_event"),
    "a time without a zone": (event("x", timestamp="2026-11-22T09:00:00"), "invalid_event"),
    "the year 99999": (event("x", timestamp=3_093_527_980_800_000), "invalid_timestamp"),
    "a quiz without points": (event("x", "quiz_attempt", chapterId="q"), "quiz_required"),
    "points above the most": (
        event(
            "x",
            "quiz_attempt",
            chapterId="q",
            quiz={"attemptId": "t", "score": 11, "maxScore": 10},
        ),
        "invalid_score",
    ),
    "points of nothing": (
        event(
            "x", "quiz_attempt", chapterId="q", quiz={"attemptId": "t", "score": 0, "maxScore": 0}
        ),
        "invalid_event",
    ),
    "metadata of 17 KiB": (event("x", metadata={"m": "x" * 17_000}), "metadata_too_large"),
}


@pytest.mark.parametrize("name", EVENTS)
async def test_a_bad_event_is_rejected_with_its_code_and_its_neighbours_are_accepted(
    school: School, name: str
) -> None:
    bad, code = EVENTS[name]
    before = await school.tables()
    answer = await school.send(bad)
    (line,) = answer["results"]
    assert (answer["rejected"], line["status"], line["code"]) == (1, "rejected", code)
    assert line["message"]
    assert len(json.dumps(answer)) < 1_000
    assert await school.tables() == before
    mixed = await school.send(event("left", timeSpent=3), bad, event("right", timeSpent=4))
    assert (mixed["accepted"], mixed["rejected"]) == (2, 1)
    assert (await school.progress())["timeSpent"] == 17


async def test_implausible_times_are_accepted_and_flagged(school: School) -> None:
    answer = await school.send(
        event("1970", timestamp="1970-01-01T00:00:00Z", timeSpent=5),
        event("2099", timestamp="2099-01-01T00:00:00Z", timeSpent=5),
    )
    assert (answer["accepted"], answer["results"]) == (2, [])
    flags = await school.rows("SELECT id, flags & 3 FROM progress_event ORDER BY seq DESC LIMIT 2")
    assert flags == [("2099", 1), ("1970", 2)]


async def test_senders_without_rights_and_other_media_types_are_refused(school: School) -> None:
    before = await school.tables()
    body = json.dumps([event("x")])

    async def status(headers: dict[str, str]) -> int:
        answer: httpx.Response = await school.http.post(INGEST_PATH, content=body, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code

    assert await status(JSON) == 401
    assert await status({**JSON, "Authorization": "Bearer unknown"}) == 401
    for role in ("viewer", "operator", "author", "learner"):  # an API key has no learner
        assert await status({**JSON, **as_(role)}) == 403
    assert await status({**SERVICE, "Content-Type": "text/plain"}) == 415
    assert (await school.http.get(INGEST_PATH, headers=SERVICE)).status_code == 405
    assert await school.tables() == before


async def test_a_session_from_another_origin_is_refused(school: School) -> None:
    body = json.dumps([event("x")])
    headers = {**JSON, "Cookie": "homeroom_session=service"}

    async def status(**more: str) -> int:
        sent = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        answer: httpx.Response = await school.http.post(INGEST_PATH, content=body, headers=sent)
        return answer.status_code

    before = await school.tables()
    assert await status(Origin="https://evil.example") == 403
    assert await status(Sec_Fetch_Site="cross-site") == 403
    assert await status(Content_Type="application/jsonp") == 415
    assert await school.tables() == before
    assert await status(Content_Type="Application/JSON; charset=utf-8") == 200


async def test_a_body_without_a_length_is_cut_off_at_the_limit(school: School) -> None:
    before = await school.tables()

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"events": ["'
        for _ in range(MAX_BODY_BYTES // 65_536 + 1):
            yield b"x" * 65_536

    answer = await school.http.post(INGEST_PATH, content=endless(), headers={**SERVICE, **JSON})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert await school.tables() == before
