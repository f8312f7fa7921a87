"""An answer's head waits for its body, but for no longer than the loop's next turn."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from starlette.types import Receive, Scope, Send
from tests.unit.web.serving import serving

from homeroom.http.protocol import WholeAnswers

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
