"""The ceiling: a bare ASGI handler that decodes the events with msgspec, counts them and answers.

It checks no key, keeps nothing, and does no work but what no server on this stack can avoid.
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import uvicorn

Message = MutableMapping[str, Any]


class Event(msgspec.Struct, rename="camel"):
    """The fields of the wire, typed as the real handler types them."""

    id: str
    user_id: str
    course_id: str
    event_type: str
    timestamp: str | int
    chapter_id: str | None = None
    progress: float | None = None
    time_spent: int | None = None
    metadata: msgspec.Raw = msgspec.Raw()


class Body(msgspec.Struct):
    """A request's body."""

    events: list[Event]


class Counts(msgspec.Struct):
    """The answer in the form of the real one."""

    accepted: int
    duplicate: int = 0
    conflict: int = 0
    quarantined: int = 0
    rejected: int = 0
    results: tuple[()] = ()


DECODE = msgspec.json.Decoder(Body).decode
ENCODE = msgspec.json.Encoder().encode


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Read a body, decode it, answer how many events it holds."""
    if scope["type"] != "http":
        raise RuntimeError(f"no {scope['type']} here")
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    answer = ENCODE(Counts(accepted=len(DECODE(body).events)))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def main() -> None:
    """Serve on loopback until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8430)
    port = parser.parse_args().port
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
