"""Endpoints of the six servers: read, apply a fault, handle, log, respond."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from homeroom.sandbox.fault import InjectedFault
from homeroom.sandbox.sandbox_request import (
    RequestRefused,
    SandboxRequest,
    SandboxResponse,
    ServerName,
)
from homeroom.sandbox.state import LoggedRequest, SandboxState

_MAX_BODY = 1 << 20
_DEFAULT_SLOW_MS = 1_000
_GARBAGE = b'<html><body>{"data": {"id": '

Endpoint = Callable[[Request], Awaitable[Response]]


class DroppedConnection(Response):
    """No response: the connection is closed.

    The server that runs the app sets `app.state.cut` for this; without it, the response starts
    and never ends, which a client treats as a lost connection as well.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close the connection of the request."""
        cut = getattr(scope["app"].state, "cut", None)
        if cut is not None and cut(scope.get("client")):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        headers = [(b"content-length", b"1000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def partner_endpoint(state: SandboxState, server: ServerName) -> Endpoint:
    """Return the endpoint of one server."""

    async def endpoint(request: Request) -> Response:
        try:
            incoming = await _read_request(request, server)
        except ClientDisconnect:
            return DroppedConnection()
        if len(incoming.body) > _MAX_BODY:
            refusal = RequestRefused(413, f"the body is longer than {_MAX_BODY} bytes")
            state.ledger.record(incoming, "refused", 413, reasons=refusal.reasons)
            return _http_response(server, _refusal_response(server, refusal))
        fault = state.faults.next_fault(server, incoming.facts)
        if fault is None:
            answer, _ = _handle(state, incoming)
            return _http_response(server, answer)
        return await _apply_fault(state, incoming, fault, request)

    return endpoint


async def _apply_fault(
    state: SandboxState, incoming: SandboxRequest, fault: InjectedFault, request: Request
) -> Response:
    server = incoming.server
    ledger = state.ledger  # a reset meanwhile creates a new log, without this request
    if fault.mode == "slow":
        await _pause(state, _DEFAULT_SLOW_MS if fault.delay_ms is None else fault.delay_ms)
        if state.stopping.is_set() or state.ledger is not ledger:
            return DroppedConnection()
        answer, entry = _handle(state, incoming, fault)
        if await request.is_disconnected():
            ledger.mark_unanswered(entry)
        return _http_response(server, answer)
    if fault.answers_after_work:
        answer, entry = _handle(state, incoming, fault)
    else:
        status = {"status": fault.status, "garbage": 200}.get(fault.mode)
        entry = ledger.record(
            incoming, "failed", status, reasons=(f"fault: {fault.mode}",), fault=fault.mode
        )
    if fault.mode == "hang_after_work":
        if await _hang(state, request, fault.delay_ms):
            return _http_response(server, answer)
        ledger.mark_unanswered(entry)
        return DroppedConnection()
    if fault.mode == "drop":
        ledger.mark_unanswered(entry)
        return DroppedConnection()
    if fault.mode == "garbage":
        return Response(_GARBAGE, 200, media_type="application/json")
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    failure = RequestRefused(fault.status, "the sandbox was told to fail", headers=headers)
    return _http_response(server, _refusal_response(server, failure))


def _handle(
    state: SandboxState, incoming: SandboxRequest, fault: InjectedFault | None = None
) -> tuple[SandboxResponse, LoggedRequest]:
    try:
        answer = state.handle(incoming)
    except RequestRefused as refused:
        answer = _refusal_response(incoming.server, refused)
    entry = state.ledger.record(
        incoming,
        answer.outcome,
        answer.status,
        reasons=answer.reasons,
        fault=None if fault is None else fault.mode,
    )
    return answer, entry


async def _pause(state: SandboxState, delay_ms: int) -> None:
    try:
        async with asyncio.timeout(delay_ms / 1_000):
            await state.stopping.wait()
    except TimeoutError:
        pass


async def _hang(state: SandboxState, request: Request, delay_ms: int | None) -> bool:
    """Wait until the client disconnects or the sandbox stops; True after the delay."""
    gone = asyncio.ensure_future(_wait_for_disconnect(request))
    stopping = asyncio.ensure_future(state.stopping.wait())
    timeout = None if delay_ms is None else delay_ms / 1_000
    try:
        done, _ = await asyncio.wait(
            {gone, stopping}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        gone.cancel()
        stopping.cancel()
    return not done


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read_request(request: Request, server: ServerName) -> SandboxRequest:
    """Read a request, and little more of a body than is allowed.

    Raises ClientDisconnect.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            break
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return SandboxRequest(
        server=server,
        method=request.method,
        raw_path=raw_path.partition(b"?")[0],
        query=dict(request.query_params),
        headers=dict(request.headers),
        body=bytes(body),
        base_url=str(request.base_url).rstrip("/"),
    )


def _refusal_response(server: ServerName, refused: RequestRefused) -> SandboxResponse:
    message = "; ".join(refused.reasons)
    body: dict[str, Any] = {"error": message}
    if server == "credly":
        body = {"data": {"message": message}}
    elif server == "llm":
        body = {"error": {"message": message, "type": "invalid_request_error", "code": None}}
    return SandboxResponse(refused.status, body, "refused", refused.reasons, refused.headers)


def _http_response(server: ServerName, answer: SandboxResponse) -> Response:
    return Response(
        msgspec.json.encode(answer.body),
        answer.status,
        dict(answer.headers),
        media_type="application/json",
    )
