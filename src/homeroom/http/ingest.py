"""The raw route of the hot path: ``POST /api/progress/enhanced-update`` without FastAPI.

Measured on two cores: a bare handler reads 270k-410k events/s, a Starlette route 257k, FastAPI with
pydantic models 83k (architecture page). What is saved is spent on storing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from homeroom.clock import Clock
from homeroom.errors import (
    BadRequest,
    HomeroomError,
    Invalid,
    TooLarge,
    UnsupportedMediaType,
)
from homeroom.progress.api import BodyFault, Ingest, Result, read_body, take
from homeroom.progress.routes import sender_of
from homeroom.web.identity import IDENTITY, SESSION_COOKIE, Auth, check_same_origin
from homeroom.web.problem import problem_response

_FAULTS: Mapping[int, type[HomeroomError]] = {400: BadRequest, 413: TooLarge, 422: Invalid}
ObserveStatus = Callable[[str, int], None]
"""Told a status and how many events got it: ``accepted`` ... ``rejected``, or ``refused``."""
_encode = msgspec.json.Encoder().encode
_JSON = b"application/json"


def _unobserved(status: str, count: int) -> None:
    """Count nothing."""


def ingest_app(
    ingest: Ingest, auth: Auth, clock: Clock, observe_status: ObserveStatus = _unobserved
) -> ASGIApp:
    """Return the ASGI application of the ingest route (only POST requests reach it).

    ``observe_status`` is told how many events got each status. A request that is answered with a
    problem document counts as one ``refused``: nobody may have read how many events it held.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await _answer(scope, receive)
        except Exception as error:
            observe_status("refused", 1)
            await (await problem_response(error))(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(answer)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    async def _answer(scope: Scope, receive: Receive) -> bytes:
        authorization, cookie = _credentials(scope["headers"])
        identity = await auth.identify(authorization, cookie)
        scope[IDENTITY] = identity.subject
        if identity.via == "session":
            check_same_origin(Request(scope))
        sender = sender_of(identity)
        body = await _body(receive)
        try:
            judged = read_body(body, sender, clock.now())
        except BodyFault as fault:
            raise _FAULTS[fault.status](fault.message) from fault
        counts, results = await take(ingest, judged)
        for status, count in counts.items():
            if count:
                observe_status(status, count)
        if not results:  # the usual case
            return _only_counts(tuple(counts.items()))
        return _encode({**counts, "results": [_line(result) for result in results]})

    return app


@lru_cache(maxsize=1_024)
def _only_counts(counts: tuple[tuple[str, int], ...]) -> bytes:
    return _encode({**dict(counts), "results": []})


def _line(result: Result) -> dict[str, str | None]:
    line: dict[str, str | None] = {"id": result.id, "status": result.status}
    if result.code is not None:
        line["code"] = result.code
        line["message"] = result.message
    return line


def _credentials(headers: Sequence[tuple[bytes, bytes]]) -> tuple[str | None, str | None]:
    """Return the Authorization header and the session cookie; raise for a body that is not JSON."""
    authorization = cookie = content_type = None
    for name, value in headers:
        if name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"content-type":
            content_type = value
        elif name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                if key == SESSION_COOKIE:
                    cookie = text
    if content_type != _JSON and (content_type or b"").partition(b";")[0].strip().lower() != _JSON:
        raise UnsupportedMediaType("Send the events with Content-Type: application/json.")
    return authorization, cookie


async def _body(receive: Receive) -> bytes:
    """Read the whole body; ``web.limits`` has bounded it already."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body
    parts = bytearray(message.get("body", b""))
    while message.get("more_body"):
        message = await receive()
        parts += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise BadRequest("The connection ended before the body did.")
    return bytes(parts)
