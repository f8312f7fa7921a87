"""What every request gets: an id, security headers, one line in the log, and a last resort."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homeroom.db.id import new_id
from homeroom.errors import Unavailable
from homeroom.web.identity import IDENTITY
from homeroom.web.problem import problem_response
from homeroom.web.request_id import request_id, sane

log = structlog.get_logger("homeroom.access_log")

ROUTE = "homeroom.route"
"""Scope key: the route's path template, set by whoever answers without FastAPI."""
QUIET = "homeroom.quiet"
"""Scope key: true where a success is counted but not logged (ingest, probes): a line for each of
ten thousand requests a second would cost more than the requests.
"""
CLIENT_GONE = 499

Observe = Callable[[str, str, int, float], None]
"""Told of every request: method, route template, status, seconds."""

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_DEFAULTS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Sent unless the answer says something else: records are private, and JSON runs nothing."""


class RequestContext:
    """Pure ASGI, outermost: an exception that gets here becomes a problem document."""

    def __init__(self, app: ASGIApp, observe: Observe | None = None) -> None:
        """Take the application and who wants to know of every request."""
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own_id = _incoming_id(scope) or new_id()
        request_id.set(own_id)
        status = 0
        started = time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_headers(message.get("headers", ()), own_id)
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = CLIENT_GONE
        except asyncio.CancelledError:
            if status != 0:
                raise
            # The server stops and has waited long enough: the caller is to ask again, elsewhere.
            stopping = Unavailable("The server is stopping; ask again.", retry_after_seconds=5)
            await (await problem_response(stopping))(scope, receive, answer)
        except Exception as error:
            if status == 0:  # nothing was sent yet
                await (await problem_response(error))(scope, receive, answer)
            elif status < 500:  # FastAPI raises once more what it has answered with 500
                log.exception("answer_broken_off", method=scope["method"], route=_route(scope))
        self._finish(scope, status, time.perf_counter() - started)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], _route(scope)
        if self._observe is not None:
            self._observe(method, route, status, seconds)
        if status < 400 and scope.get(QUIET):
            return
        log.info(
            "request",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1_000, 2),
            identity=scope.get(IDENTITY),
        )


def _route(scope: Scope) -> str:
    """Return the path template, never the path itself: that may hold ids of people."""
    if ROUTE in scope:
        return str(scope[ROUTE])
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "unmatched"


def _incoming_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return sane(value)
    return None


def _with_headers(given: Any, own_id: str) -> list[tuple[bytes, bytes]]:
    headers = [*given, *_HEADERS, (b"x-request-id", own_id.encode())]
    names = [name.lower() for name, _ in given]
    for default in _DEFAULTS:
        if default[0] not in names:
            headers.append(default)
    return headers
