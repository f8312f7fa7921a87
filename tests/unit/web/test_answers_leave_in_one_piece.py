"""Heads: an answer's waits for its body, at most a turn of the loop; a request's is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.unit.web.serving import serving

from homeroom.http.protocol import MAX_HEAD_BYTES, WholeAnswers

pytestmark = pytest.mark.anyio
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire(asyncio.Transport):
    """Remember what was written and when it was closed."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5)})
        self.said: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said.append(bytes(data))

    def close(self) -> None:
        self.said.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.said


@pytest.fixture
def wire() -> Wire:
    return Wire()


def whole(wire: Wire) -> WholeAnswers:
    return WholeAnswers(wire, asyncio.get_running_loop())


async def test_head_and_body_are_written_at_once(wire: Wire) -> None:
    answers = whole(wire)
    answers.write(HEAD)
    assert wire.said == []
    answers.write(cast(bytes, memoryview(b"body")))
    answers.write(b"more")
    answers.write(HEAD)
    answers.write(b"")  # such as the answer to HEAD
    await asyncio.sleep(0)
    assert wire.said == [HEAD + b"body", b"more", HEAD]


async def test_a_head_alone_leaves_at_the_next_turn(wire: Wire) -> None:
    answers = whole(wire)
    answers.write(HEAD)
    await asyncio.sleep(0)
    assert wire.said == [HEAD]
    answers.write(cast(bytes, memoryview(b"body")))
    assert wire.said == [HEAD, b"body"]


async def test_a_head_is_not_lost_where_the_connection_is_closed(wire: Wire) -> None:
    answers = whole(wire)
    answers.write(HEAD)
    assert not answers.is_closing()
    answers.close()
    await asyncio.sleep(0)
    assert wire.said == [HEAD, b"closed"]
    assert answers.is_closing()
    assert answers.get_extra_info("peername") == ("127.0.0.1", 5)


async def test_a_stream_begins_before_there_is_anything_in_it() -> None:
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


async def _endless(client: httpx.AsyncClient, begin: bytes) -> bytes:
    """Send lines of a head without an end, and return the answer."""
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
async def test_a_head_without_an_end_is_refused(begin: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await receive()

    async with serving(app) as client, asyncio.timeout(60):
        if b"long" in begin or begin == b"GET /":
            begin += b"x" * MAX_HEAD_BYTES
        answer = await _endless(client, begin)
    assert answer == b"cut" or answer.startswith(b"HTTP/1.1 400 ")


async def test_a_large_head_and_a_larger_body_are_taken() -> None:
    got: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        got.append(size)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 3_000

    async with serving(app) as client:
        for _ in range(2):  # on one connection
            answer = await client.post("/", content=pieces(), headers={"long": "y" * 60_000})
            assert answer.status_code == 200
    assert got == [300_000, 300_000]
