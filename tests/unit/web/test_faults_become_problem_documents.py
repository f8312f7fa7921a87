"""Every error is a problem document, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import date
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError
from starlette.requests import Request as RawRequest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs
from tests.support.asgi_server import MAX_BODY_BYTES, serving

from homeroom.errors import Conflict, TooBusy, Unauthenticated
from homeroom.http.app import create_app
from homeroom.http.ingest import INGEST_PATH
from homeroom.web import etag
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Time

pytestmark = pytest.mark.anyio


class Chapter(RequestModel):
    id: ExternalId
    weight: float = 1


class Course(RequestModel):
    chapters: list[Chapter]


class Exam(RequestModel):
    minutes: int
    is_open: bool = False
    weight: float | None = None
    held_on: date | None = None
    since: Rfc3339Time | None = None
    name: str | None = None


class Answer(ResponseModel):
    total_weight: float


routes = APIRouter()


@routes.put("/courses/{course}")
async def put_course(course: str, body: Course, limit: Annotated[int, Query(ge=1)] = 1) -> Answer:
    return Answer(total_weight=sum(chapter.weight for chapter in body.chapters))


@routes.get("/courses/{course}/stream")
async def stream(course: str) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.Event().wait()

    return StreamingResponse(parts())


@routes.delete("/courses/{course}")
async def delete_course(course: str) -> None: ...


@routes.get("/cached")
async def cached(request: Request) -> Response:
    return etag.json_response_with_etag(request, Answer(total_weight=2))


@routes.get("/fails/{how}")
async def fails(how: str) -> None:
    match how:
        case "conflict":
            raise Conflict(
                "It is over.", hint="Start a new attempt.", details={"state": "completed"}
            )
        case "busy":
            raise TooBusy(retry_after_seconds=1.2)
        case "anonymous":
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
        max_body_bytes=MAX_BODY_BYTES,
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


async def test_a_homeroom_error_has_its_detail_and_its_fix(
    client: httpx.AsyncClient,
) -> None:
    found = problem(await client.get("/fails/conflict"), 409, "conflict")
    assert found["detail"] == "It is over."
    assert found["hint"] == "Start a new attempt."
    assert found["state"] == "completed"
    busy = await client.get("/fails/busy")
    problem(busy, 429, "too_busy")
    assert busy.headers["retry-after"] == "2"
    anonymous = await client.get("/fails/anonymous")
    problem(anonymous, 401, "unauthenticated")
    assert anonymous.headers["www-authenticate"].startswith("Bearer")


async def test_an_unexpected_error_is_logged_once_and_not_shown(
    client: httpx.AsyncClient,
) -> None:
    for send in (client.get("/fails/badly"), client.post(INGEST_PATH, content=b"boom")):
        with capture_logs() as lines:
            answer = await send
        problem(answer, 500, "internal_error")
        assert "swordfish" not in answer.text
        assert "boom" not in answer.text
        assert [line["event"] for line in lines] == ["request_failed", "request"]


async def test_an_aborted_response_is_seen_as_broken(client: httpx.AsyncClient) -> None:
    with capture_logs() as lines, pytest.raises(httpx.RemoteProtocolError):
        await client.get("/breaks-off")
    assert "response_aborted" in [line["event"] for line in lines]


async def test_invalid_values_are_named_by_pointers_and_not_repeated(
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
    assert found["detail"].startswith("4 of the values are not allowed; the first: limit: ")
    alone = problem(await client.put("/courses/c?limit=0", json={"chapters": []}), 422, "invalid")
    assert alone["detail"] == "A value is not allowed: limit: must be 1 or more."
    assert all("Input" not in part["detail"] for part in found["errors"])
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"nul", b'{"chapters": [}', b"\xff\xfe", b"[" * 100_000],
    ids=["open", "empty", "nul", "comma", "no utf-8", "deep"],
)
async def test_a_body_that_is_not_json_is_a_bad_request(
    client: httpx.AsyncClient, body: bytes
) -> None:
    answer = await client.put(
        "/courses/c", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == (422 if body == b"" else 400)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "wrong",
    [
        {"minutes": "5"}, {"minutes": False}, {"weight": False}, {"weight": "1.5"}, {"isOpen": 1},
        {"isOpen": "yes"}, {"heldOn": 0}, {"heldOn": "0"}, {"since": 0.5}, {"since": "0.5"},
        {"since": False}, {"name": 5},
    ],
)  # fmt: skip
def test_a_value_of_another_json_type_is_refused_and_not_converted(wrong: dict[str, Any]) -> None:
    right = {
        "minutes": 5, "isOpen": True, "weight": 1, "heldOn": "2026-11-22",
        "since": "2026-11-22T09:00:00Z", "name": "1",
    }  # fmt: skip
    assert Exam.model_validate(right).weight == 1
    assert Exam.model_validate({"minutes": 5.0, "weight": None}).minutes == 5
    with pytest.raises(ValidationError):
        Exam.model_validate(right | wrong)


async def test_nan_is_not_allowed(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/courses/c",
        content=b'{"chapters": [{"id": "a", "weight": NaN}]}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in {400, 422}


async def test_a_body_of_another_media_type_is_unsupported(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/courses/c", content=b'{"chapters": []}', headers={"content-type": "text/plain"}
    )
    problem(answer, 415, "unsupported_media_type")


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nowhere"), 404, "not_found")
    problem(await client.get("/cached/"), 404, "not_found")
    wrong = await client.post("/cached")
    problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, HEAD"
    wrong = await client.get(INGEST_PATH)
    problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    wrong = await client.get("/courses/c")
    assert "PUT, DELETE" in problem(wrong, 405, "method_not_allowed")["detail"]
    assert wrong.headers["allow"] == "PUT, DELETE"
    wrong = await client.post("/docs/files/swagger-ui.css")
    problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, HEAD"


async def test_head_on_every_page_has_the_headers_of_get(client: httpx.AsyncClient) -> None:
    for path in ("/cached", "/docs", "/openapi.json", "/docs/files/swagger-ui.css"):
        head, full = await client.head(path), await client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(full.content))
        assert head.headers.get("etag") == full.headers.get("etag")
    assert (await client.head("/courses/c")).headers["allow"] == "PUT, DELETE"
    assert (await client.head("/nowhere")).status_code == 404
    async with asyncio.timeout(10):
        assert (await client.head("/courses/c/stream")).status_code == 200
        assert (await client.get("/cached")).status_code == 200


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


async def test_a_caller_with_the_current_etag_gets_304(client: httpx.AsyncClient) -> None:
    first = await client.get("/cached")
    assert first.json() == {"totalWeight": 2.0}
    tag = first.headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        again = await client.get("/cached", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert (await client.get("/cached", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_a_safe_request_id_is_kept_and_an_unsafe_one_replaced(
    client: httpx.AsyncClient,
) -> None:
    async def echoed(id: str) -> str:
        answer = await client.get("/cached", headers={"X-Request-ID": id})
        return answer.headers["x-request-id"]

    assert await echoed("from-the-proxy.1") == "from-the-proxy.1"
    for unsafe in ("x" * 65, "a b", '"><script>', "a@b.example"):
        assert await echoed(unsafe) != unsafe


async def test_the_access_log_has_the_route_but_neither_path_nor_query(
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


async def test_responses_have_security_headers(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/cached", "/nowhere", "/docs"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (await client.get("/nowhere")).headers["cache-control"] == "no-store"
    assert "no-cache" in (await client.get("/cached")).headers["cache-control"]


async def test_the_api_page_loads_nothing_from_other_servers(client: httpx.AsyncClient) -> None:
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


async def test_only_pages_of_a_configured_origin_may_call(client: httpx.AsyncClient) -> None:
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


async def test_the_openapi_document_has_the_ingest_route_and_problems(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert "post" in document["paths"][INGEST_PATH]
    operation = document["paths"]["/courses/{course}"]["put"]
    assert {"200", "401", "422"} <= set(operation["responses"])
    assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert {"Problem", "ProgressEvent", "Course"} <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document == (await client.get("/openapi.json")).json()


async def test_concurrent_requests_have_their_own_ids(client: httpx.AsyncClient) -> None:
    async def ask(index: int) -> bool:
        answer = await client.get("/fails/conflict", headers={"X-Request-ID": f"r{index}"})
        return answer.json()["instance"] == f"r{index}"

    assert all(await asyncio.gather(*(ask(index) for index in range(50))))
    structlog.contextvars.clear_contextvars()
