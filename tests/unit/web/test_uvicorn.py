"""Coalesced writes, bounded heads, and the private parts of uvicorn that they need."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from tests.support.asgi_server import serving
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from homeroom import machine
from homeroom.http.surplus_connections import DescriptorReserve, SurplusApp
from homeroom.http.uvicorn_protocol import (
    MAX_HEAD_BYTES,
    BoundedHttpProtocol,
    CoalescingTransport,
    UvicornServer,
)

pytestmark = pytest.mark.anyio
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire(asyncio.Transport):
    """Record writes and the close."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5)})
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.written.append(b"closed")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.written.append(b"end")

    def is_closing(self) -> bool:
        return b"closed" in self.written


@pytest.fixture
def wire() -> Wire:
    return Wire()


def coalescing(wire: Wire) -> CoalescingTransport:
    return CoalescingTransport(wire, asyncio.get_running_loop())


async def test_head_and_body_are_written_at_once(wire: Wire) -> None:
    transport = coalescing(wire)
    transport.write(HEAD)
    assert wire.written == []
    transport.write(cast(bytes, memoryview(b"body")))
    transport.write(b"more")
    transport.write(HEAD)
    transport.write(b"")  # such as the response to HEAD
    await asyncio.sleep(0)
    assert wire.written == [HEAD + b"body", b"more", HEAD]


async def test_a_head_alone_is_written_in_the_next_iteration(wire: Wire) -> None:
    transport = coalescing(wire)
    transport.write(HEAD)
    await asyncio.sleep(0)
    assert wire.written == [HEAD]
    transport.write(cast(bytes, memoryview(b"body")))
    assert wire.written == [HEAD, b"body"]


async def test_a_close_writes_a_pending_head_first(wire: Wire) -> None:
    transport = coalescing(wire)
    transport.write(HEAD)
    assert not transport.is_closing()
    transport.close()
    await asyncio.sleep(0)
    assert wire.written == [HEAD, b"closed"]
    assert transport.is_closing()
    assert transport.get_extra_info("peername") == ("127.0.0.1", 5)


async def test_a_stream_starts_before_its_first_piece() -> None:
    ready = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await ready.wait()
        await send({"type": "http.response.body", "body": b"late"})

    async with (
        serving(app) as client,
        asyncio.timeout(10),
        client.stream("GET", "/") as answer,
    ):
        assert answer.status_code == 200
        ready.set()
        assert await answer.aread() == b"late"


async def _send_endless_head(client: httpx.AsyncClient, begin: bytes) -> bytes:
    """Send lines of a head without an end, and return the response."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(begin)
    for _ in range(1_000):
        writer.write(b"A: b\r\n" * 1_000)
        try:
            await writer.drain()
        except ConnectionError:
            break
    try:
        return await reader.read()
    except ConnectionError:
        return b"cut"
    finally:
        writer.close()


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nlong: ",
        b"GET /",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
    ],
    ids=["headers", "header", "path", "trailers"],
)
async def test_an_endless_head_is_rejected(begin: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await receive()

    async with serving(app) as client, asyncio.timeout(60):
        if b"long" in begin or begin == b"GET /":
            begin += b"x" * MAX_HEAD_BYTES
        answer = await _send_endless_head(client, begin)
    assert answer == b"cut" or answer.startswith(b"HTTP/1.1 400 ")


async def test_a_large_head_and_a_larger_body_are_accepted() -> None:
    sizes: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        sizes.append(size)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 3_000

    async with serving(app) as client:
        for _ in range(2):  # on one connection
            answer = await client.post("/", content=pieces(), headers={"long": "y" * 60_000})
            assert answer.status_code == 200
    assert sizes == [300_000, 300_000]


PACKAGE = Path(__file__).parents[3] / "src" / "homeroom"
MAY_TOUCH_UVICORN = {
    "http/uvicorn_protocol.py",
    "sandbox/server.py",  # the sandbox must not import http, and serves with h11
}


def test_one_file_touches_the_private_parts_of_uvicorn() -> None:
    private = re.compile(r"uvicorn\.(?!Config\b)\w+|from uvicorn\b")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if private.search(re.sub(r"#.*|\"\"\".*?\"\"\"", "", path.read_text(), flags=re.DOTALL))
    }
    assert found <= MAY_TOUCH_UVICORN


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("connection_made", ["self", "transport"]),
        ("data_received", ["self", "data"]),
        ("on_headers_complete", ["self"]),
        ("on_body", ["self", "body"]),
        ("on_message_begin", ["self"]),
        ("on_header", ["self", "name", "value"]),
        ("on_message_complete", ["self"]),
        ("shutdown", ["self"]),
        ("send_400_response", ["self", "msg"]),
    ],
)
def test_the_protocol_still_has_the_methods_that_are_overridden_or_called(
    method: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(HttpToolsProtocol, method)).parameters) == parameters


async def test_the_protocol_still_has_its_loop_and_transport(wire: Wire) -> None:
    config = uvicorn.Config(_unused, log_config=None)
    config.load()
    state = UvicornServer(config).server_state
    protocol = BoundedHttpProtocol(config, state, {})
    protocol.connection_made(wire)
    assert protocol.loop is asyncio.get_running_loop()
    assert isinstance(protocol.transport, CoalescingTransport)
    protocol.data_received(b"GET / HTTP/1.1\r\n" + b"x" * MAX_HEAD_BYTES)
    await asyncio.sleep(0)
    assert b"".join(wire.written).startswith(b"HTTP/1.1 400 ")


async def _unused(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(scope)


def test_uvicorn_still_writes_a_status_line_first() -> None:
    assert all(line.startswith(b"HTTP/1.") for line in STATUS_LINE.values())


def test_uvicorn_still_captures_signals_in_the_overridden_method() -> None:
    assert "capture_signals" in inspect.getsource(uvicorn.Server.serve)
    assert "signal.signal" in inspect.getsource(uvicorn.Server.capture_signals)
    server = UvicornServer(uvicorn.Config(_unused))
    assert (server.started, server.should_exit) == (False, False)


@pytest.mark.parametrize(
    ("path", "refuses", "status"),
    [("/x", False, 200), ("/x", True, 503), ("/readyz", True, 200)],
)
async def test_a_surplus_connection_is_answered_once(path: str, refuses: bool, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(SurplusApp(app, refuses=refuses))
    async with httpx.AsyncClient(transport=transport, base_url="http://homeroom") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["connection"]) == (status, "close")
    assert status == 200 or answer.json()["code"] == "too_many_open_files"


def test_descriptors_are_short_where_the_reserve_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    used = 130  # 100 connections, and 30 of the database
    monkeypatch.setattr(machine, "descriptor_usage", lambda: machine.Usage(used, 200))
    reserve = DescriptorReserve()
    assert not reserve.are_short(100, now=5.0)
    assert not reserve.are_short(154, now=5.5)  # 200 - 16 - 30
    assert reserve.are_short(155, now=5.9)
    used = 200
    assert reserve.are_short(100, now=6.0)  # measured again: other parts use 100
