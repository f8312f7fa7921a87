"""Every fault is a problem document, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import Request as RawRequest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs
from tests.unit.web.serving import serving

from homeroom.errors import Conflict, TooBusy, Unauthenticated
from homeroom.http.app import INGEST_PATH, create_app
from homeroom.web import etag
from homeroom.web.model import Body, OutsideId, View

pytestmark = pytest.mark.anyio


class Chapter(Body):
    id: OutsideId
    weight: float = 1


class Course(Body):
    chapters: list[Chapter]


class Answer(View):
    total_weight: float


routes = APIRouter()


@routes.put("/courses/{course}")
async def put_course(course: str, body: Course, limit: Annotated[int, Query(ge=1)] = 1) -> Answer:
    return Answer(total_weight=sum(chapter.weight for chapter in body.chapters))


@routes.get("/cached")
async def cached(request: Request) -> Response:
    return etag.answer(request, Answer(total_weight=2))


@routes.get("/fails/{how}")
async def fails(how: str) -> None:
    match how:
        case "conflict":
            raise Conflict("It is over.", hint="Begin again.", details={"state": "completed"})
        case "busy":
            raise TooBusy(retry_after_seconds=1.2)
        case "nobody":
            raise Unauthenticated()
        case _:
            raise RuntimeError("the password is swordfish")


@routes.get("/breaks-off")
async def breaks_off() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError("the rest is silence")

    return StreamingResponse(parts())


async def ingest(scope: Scope, receive: Receive, send: Send) -> None:
    body = await RawRequest(scope, receive).body()
    if body == b"boom":
        raise RuntimeError("boom")
    await Response(str(len(body)))(scope, receive, send)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        [routes],
        ingest=ingest,
        ingest_paths={INGEST_PATH: {"post": {"responses": {"200": {"description": "Counts."}}}}},
        ingest_schemas={"ProgressEvent": {"type": "object"}},
        cors_origins=["https://player.example"],
    )
    async with serving(app) as client:
        yield client


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert (found["status"], found["code"]) == (status, code)
    assert found["type"] == f"urn:homeroom:problem:{code}"
    assert found["instance"] == answer.headers["x-request-id"]
    assert found["title"]
    assert found["detail"]
    return found


async def test_an_error_of_ours_says_what_is_wrong_and_how_to_mend_it(
    client: httpx.AsyncClient,
) -> None:
    found = problem(await client.get("/fails/conflict"), 409, "conflict")
    assert found["detail"] == "It is over."
    assert found["hint"] == "Begin again."
    assert found["state"] == "completed"
    busy = await client.get("/fails/busy")
    problem(busy, 429, "too_busy")
    assert busy.headers["retry-after"] == "2"
    nobody = await client.get("/fails/nobody")
    problem(nobody, 401, "unauthenticated")
    assert nobody.headers["www-authenticate"].startswith("Bearer")


async def test_an_unexpected_error_is_logged_once_and_says_nothing_of_itself(
    client: httpx.AsyncClient,
) -> None:
    for send in (client.get("/fails/badly"), client.post(INGEST_PATH, content=b"boom")):
        with capture_logs() as lines:
            answer = await send
        problem(answer, 500, "internal_error")
        assert "swordfish" not in answer.text
        assert "boom" not in answer.text
        assert [line["event"] for line in lines] == ["request_failed", "request"]


async def test_what_breaks_off_midway_is_seen_as_broken(client: httpx.AsyncClient) -> None:
    with capture_logs() as lines, pytest.raises(httpx.RemoteProtocolError):
        await client.get("/breaks-off")
    assert "answer_broken_off" in [line["event"] for line in lines]


async def test_wrong_values_are_pointed_at_without_being_repeated(
    client: httpx.AsyncClient,
) -> None:
    body = {"chapters": [{"id": "a"}, {"id": "x" * 10_000, "weight": "heavy", "a/b": 1}]}
    answer = await client.put("/courses/c?limit=0", json=body)
    found = problem(answer, 422, "invalid")
    places = {part.get("pointer") or (part["in"], part["parameter"]) for part in found["errors"]}
    assert places == {
        ("query", "limit"),
        "#/chapters/1/id",
        "#/chapters/1/weight",
        "#/chapters/1/a~1b",
    }
    assert "heavy" not in answer.text
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"nul", b'{"chapters": [}', b"\xff\xfe", b"[" * 100_000],
    ids=["open", "empty", "nul", "comma", "no utf-8", "deep"],
)
async def test_what_is_not_json_is_a_bad_request(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.put(
        "/courses/c", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == (422 if body == b"" else 400)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_not_a_number_is_not_allowed(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/courses/c",
        content=b'{"chapters": [{"id": "a", "weight": NaN}]}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in {400, 422}


async def test_a_body_of_another_kind_is_unsupported(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/courses/c", content=b'{"chapters": []}', headers={"content-type": "text/plain"}
    )
    problem(answer, 415, "unsupported_media_type")


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nowhere"), 404, "not_found")
    problem(await client.get("/cached/"), 404, "not_found")
    wrong = await client.post("/cached")
    problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    wrong = await client.get(INGEST_PATH)
    problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/courses/c", INGEST_PATH])
@pytest.mark.parametrize("streamed", [False, True])
async def test_five_mebibytes_are_too_large_whether_declared_or_not(
    client: httpx.AsyncClient, path: str, streamed: bool
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 65_536

    method = "POST" if path == INGEST_PATH else "PUT"
    answer = await client.request(
        method,
        path,
        content=parts() if streamed else b" " * 5 * 1024 * 1024,
        headers={"content-type": "application/json"},
    )
    problem(answer, 413, "too_large")
    assert (await client.post(INGEST_PATH, content=b"x" * 1_048_576)).text == "1048576"


async def test_a_read_is_answered_by_304_to_who_has_it(client: httpx.AsyncClient) -> None:
    first = await client.get("/cached")
    assert first.json() == {"totalWeight": 2.0}
    tag = first.headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        again = await client.get("/cached", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert (await client.get("/cached", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_a_sane_request_id_is_kept_and_another_replaced(client: httpx.AsyncClient) -> None:
    async def echoed(id: str) -> str:
        answer = await client.get("/cached", headers={"X-Request-ID": id})
        return answer.headers["x-request-id"]

    assert await echoed("from-the-proxy.1") == "from-the-proxy.1"
    for insane in ("x" * 65, "a b", '"><script>', "a@b.example"):
        assert await echoed(insane) != insane


async def test_a_line_of_the_log_has_the_route_but_neither_path_nor_query(
    client: httpx.AsyncClient,
) -> None:
    with capture_logs() as lines:
        await client.put("/courses/of-ada?limit=7&token=abc", json={"chapters": []})
        await client.get("/nowhere/ada")
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/courses/{course}", 200),
        ("unmatched", 404),
    ]
    assert "ada" not in json.dumps(lines)
    assert "abc" not in json.dumps(lines)


async def test_answers_carry_headers_that_keep_browsers_from_harm(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/cached", "/nowhere", "/docs"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (await client.get("/nowhere")).headers["cache-control"] == "no-store"
    assert "no-cache" in (await client.get("/cached")).headers["cache-control"]


async def test_the_page_of_the_api_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    linked = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(linked) == 3
    for each in linked:
        assert each.startswith("/docs/files/")
        assert (await client.get(each)).status_code == 200
    policy = page.headers["content-security-policy"]
    assert "//" not in policy + page.text.replace("<!--", "")
    [script] = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{hashed}';" in policy


async def test_pages_of_a_named_origin_may_call_and_no_others(client: httpx.AsyncClient) -> None:
    async def preflight(origin: str) -> httpx.Response:
        return await client.options(
            INGEST_PATH,
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )

    allowed = await preflight("https://player.example")
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://player.example"
    assert "access-control-allow-origin" not in (await preflight("https://evil.example")).headers


async def test_the_document_has_the_ingest_route_and_problems_in_it(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert "post" in document["paths"][INGEST_PATH]
    operation = document["paths"]["/courses/{course}"]["put"]
    assert set(operation["responses"]) == {"200", "4XX", "5XX"}
    assert "application/problem+json" in operation["responses"]["4XX"]["content"]
    assert {"Problem", "ProgressEvent", "Course"} <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document == (await client.get("/openapi.json")).json()


async def test_requests_at_once_keep_their_ids_apart(client: httpx.AsyncClient) -> None:
    async def ask(index: int) -> bool:
        answer = await client.get("/fails/conflict", headers={"X-Request-ID": f"r{index}"})
        return answer.json()["instance"] == f"r{index}"

    assert all(await asyncio.gather(*(ask(index) for index in range(50))))
    structlog.contextvars.clear_contextvars()
