"""Requests at the edge of HTTP: what clients see of what is too large, ambiguous or too slow."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.support.asgi_server import serving
from tests.support.homeroom_process import clean_environment, homeroom_command

from homeroom.http.uvicorn_protocol import ConnectionLimits
from homeroom.web.middleware import BodyLimitMiddleware, RequestContextMiddleware

pytestmark = [pytest.mark.anyio, pytest.mark.service]
LIMIT = 1_000
ASK = b"GET / HTTP/1.1\r\nHost: here\r\n"
Wire = Callable[[bytes], "asyncio.Future[bytes]"]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the headers of the request, and with the size of its body."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message.get("more_body", False)
    names = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"size": size, **names}).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


APP = RequestContextMiddleware(BodyLimitMiddleware(echo, LIMIT))


@asynccontextmanager
async def edge(
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[tuple[httpx.AsyncClient, Callable[..., asyncio.Future[bytes]]]]:
    """Serve; yield a client, and a function that sends bytes and reads to the end."""
    async with serving(APP, limits=limits) as client, asyncio.timeout(60):

        async def raw(*pieces: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(
                client.base_url.host, client.base_url.port
            )
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                return await reader.read()
            finally:
                writer.close()

        yield client, lambda *pieces: asyncio.ensure_future(raw(*pieces))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    code = json.loads(body)["code"]
    assert isinstance(code, str)
    return code


def post_by_urllib(url: str, size: int) -> int:
    """Return the status; urllib closes after each answer and reads it once all is sent."""
    try:
        with urlopen(Request(url, data=b"x" * size), timeout=30) as answer:
            return int(answer.status)
    except HTTPError as refused:
        return refused.code if json.loads(refused.read())["code"] == "too_large" else 0


async def test_a_client_can_read_the_413_of_a_body_that_is_far_too_large() -> None:
    async with edge() as (client, _):
        for size in (LIMIT, LIMIT + 1, 5_000_000, 20_000_000):
            expected = 200 if size <= LIMIT else 413
            for _ in range(5):
                seen = await asyncio.to_thread(post_by_urllib, str(client.base_url), size)
                assert seen == expected, size


async def test_the_connection_of_a_413_serves_the_next_request() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000

    async with edge() as (client, _):
        for content in (b"x" * 2_000_000, pieces()):
            assert (await client.post("/", content=content)).status_code == 413
            assert (await client.post("/", content=b"small")).status_code == 200


async def test_a_body_without_end_is_cut_off() -> None:
    async with edge(ConnectionLimits(drain_bytes=1_000_000)) as (_, raw):
        head = b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        head += b"Content-Length: 99999999\r\n\r\n"
        with pytest.raises(ConnectionError):
            await raw(head, *([b"x" * 100_000] * 1_000))


async def test_a_trailer_does_not_change_the_head() -> None:
    async with edge() as (_, raw):
        answer = await raw(
            b"POST / HTTP/1.1\r\nHost: here\r\nAuthorization: mine\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
            b"1\r\na\r\n0\r\nAuthorization: other\r\nX-Late: 1\r\n\r\n"
        )
        assert status(answer) == 200
        seen = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (seen["authorization"], "x-late" in seen) == ("mine", False)


@pytest.mark.parametrize(
    ("request_bytes", "expected", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (ASK + b"Host: there\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n", 400, "bad_request"),
        (ASK + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400, "bad_request"),
        (ASK + b"Content-Type: text/plain\r\ncontent-type: a/b\r\n\r\n", 400, "bad_request"),
        (
            ASK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "unsupported_transfer_coding",
        ),
        (ASK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad_request"),
        (ASK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400, "bad_request"),
        (ASK + b"no colon\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01 TLS on a plain port\r\n\r\n", 400, "bad_request"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, bytes) else str(value),
)
async def test_an_ambiguous_or_broken_request_is_refused_by_a_problem_document_and_logged(
    request_bytes: bytes, expected: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with edge() as (_, raw):
        answer = await raw(request_bytes)
        assert (status(answer), problem(answer)) == (expected, code)
    assert "request_rejected" in capsys.readouterr().out


async def test_a_request_of_http_1_0_needs_no_host() -> None:
    async with edge() as (_, raw):
        assert status(await raw(b"GET / HTTP/1.0\r\n\r\n")) == 200


async def test_a_broken_request_does_not_disturb_the_answer_to_the_one_before() -> None:
    async with edge() as (_, raw):
        answer = await raw(ASK + b"\r\n" + b"GET / HTTP/1.1\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") in {1, 2}
        assert status(answer) == 200
        assert json.loads(answer.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1 ")[0])["size"] == 0


@pytest.mark.parametrize(
    "begin",
    [ASK, b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nabc"],
    ids=["head", "body"],
)
async def test_a_request_that_does_not_arrive_is_answered_408(begin: bytes) -> None:
    limits = ConnectionLimits(head_seconds=0.1, body_seconds=0.1, drain_seconds=0.1)
    async with edge(limits) as (client, raw):
        answer = await raw(begin)
        assert (status(answer), problem(answer)) == (408, "request_timeout")
        assert await raw(b"") == b""  # a connection without a request ends too
        assert (await client.get("/")).status_code == 200


async def test_above_the_bound_of_connections_requests_are_answered_503_and_probes_served(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with edge(ConnectionLimits(max_connections=2)) as (client, raw):
        waiting = [
            await asyncio.open_connection(client.base_url.host, client.base_url.port)
            for _ in range(2)
        ]
        for _ in range(3):
            answer = await raw(ASK + b"\r\n")
            assert (status(answer), problem(answer)) == (503, "too_many_clients")
            assert b"retry-after: " in answer.lower()
        probe = b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        assert status(await raw(probe)) == 200
        for _, writer in waiting:
            writer.close()
            await writer.wait_closed()
        assert (await client.get("/")).status_code == 200
    assert capsys.readouterr().out.count("connections_exhausted") == 1


def test_a_second_server_on_a_taken_port_does_not_touch_the_database(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = clean_environment(
            HOMEROOM_DATA_DIR=str(tmp_path), HOMEROOM_PORT=str(taken.getsockname()[1])
        )
        ended = subprocess.run(
            homeroom_command("serve"), env=settings, capture_output=True, timeout=60, check=False
        )
    assert ended.returncode == 78
    assert not list(tmp_path.glob("*.db"))
