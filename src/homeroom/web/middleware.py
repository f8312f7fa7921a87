"""ASGI middleware: request id, security headers, access log, body limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homeroom.db.ids import new_id
from homeroom.errors import TooLarge, Unavailable
from homeroom.tracing import TRACE_HEADER, Tracer
from homeroom.web.identity import IDENTITY_SCOPE_KEY
from homeroom.web.problem import problem_response
from homeroom.web.request_id import current_request_id, parse_request_id

log = structlog.get_logger("homeroom.access_log")

ROUTE_SCOPE_KEY = "homeroom.route"
"""Scope key: the path template of a route that is served without FastAPI."""
QUIET_SCOPE_KEY = "homeroom.quiet"
"""Scope key: true where a success is counted but not logged (ingest, probes): at ten thousand
requests a second, logging would cost more than the requests.
"""
CLIENT_CLOSED_REQUEST = 499
_TRACE_HEADER = TRACE_HEADER.encode()

ObserveRequest = Callable[[str, str, int, float], None]
"""Called after every request with method, route template, status and seconds."""

_SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_DEFAULT_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Sent unless the response has its own: records are private, and JSON needs no resources."""


class RequestContextMiddleware:
    """The outermost ASGI layer: turns unhandled exceptions into problem documents."""

    def __init__(
        self,
        app: ASGIApp,
        observe: ObserveRequest | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Wrap ``app``; call ``observe`` after every request, record it with ``tracer``."""
        self._app, self._observe, self._tracer = app, observe, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._tracer is None:
            await self._serve(scope, receive, send)
            return
        method, parent = scope["method"], _caller_trace(scope)
        attributes = {"http.request.method": method}
        with self._tracer.span(method, "server", attributes, parent) as span:
            status = await self._serve(scope, receive, send)
            route = _route_template(scope)
            span.rename(f"{method} {route}")
            span.set({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.fail(str(status))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Serve one request; return the status of the response."""
        request_id = _caller_request_id(scope) or new_id()
        current_request_id.set(request_id)
        status = 0
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _add_response_headers(message.get("headers", ()), request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:
            if status != 0:
                raise
            # The grace period of a stopping server is over: another process serves the retry.
            stopping = Unavailable(
                "The server is stopping; send the request again.", retry_after_seconds=5
            )
            await (await problem_response(stopping))(scope, receive, send_with_headers)
        except Exception as error:
            if status == 0:  # the response has not started
                await (await problem_response(error))(scope, receive, send_with_headers)
            elif status < 500:  # FastAPI raises an exception again after its 500 response
                log.exception(
                    "response_aborted", method=scope["method"], route=_route_template(scope)
                )
        self._finish(scope, status, time.perf_counter() - started)
        return status

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], _route_template(scope)
        if self._observe is not None:
            self._observe(method, route, status, seconds)
        if status < 400 and scope.get(QUIET_SCOPE_KEY):
            return
        log.info(
            "request",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1_000, 2),
            identity=scope.get(IDENTITY_SCOPE_KEY),
        )


def _route_template(scope: Scope) -> str:
    """Return the path template, never the path itself, which may hold user ids."""
    if ROUTE_SCOPE_KEY in scope:
        return str(scope[ROUTE_SCOPE_KEY])
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "unmatched"


def _caller_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return parse_request_id(value)
    return None


def _caller_trace(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _TRACE_HEADER:
            return str(value.decode("latin-1"))
    return None


def _add_response_headers(response_headers: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    headers = [*response_headers, *_SECURITY_HEADERS, (b"x-request-id", request_id.encode())]
    names = [name.lower() for name, _ in response_headers]
    for default in _DEFAULT_HEADERS:
        if default[0] not in names:
            headers.append(default)
    return headers


class BodyLimitMiddleware:
    """Answer 413 for a body over the limit, by its declared or its received length."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wrap ``app``; accept bodies of at most ``max_bytes``."""
        self._app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _content_length(scope)
        if declared is not None:
            if declared > self.max_bytes:
                await (await problem_response(self._error()))(scope, receive, send)
                return
            await self._app(scope, receive, send)  # the server reads no further
            return
        received = 0
        has_started = False

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.max_bytes:
                    raise self._error()
            return message

        async def send_marked(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive_counted, send_marked)
        except TooLarge as error:
            if has_started:
                raise
            await (await problem_response(error))(scope, receive, send)

    def _error(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self.max_bytes} bytes.")


def _content_length(scope: Scope) -> int | None:
    """Return the declared length of the body, None for a chunked one."""
    declared: int | None = None
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            declared = int(value)
        elif name == b"transfer-encoding":
            return None
    return declared
