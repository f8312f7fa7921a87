"""The way in to the five servers: read a request, let a fault meet it, answer, and note it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from homeroom.sandbox.exchange import Answer, Exchange, Refused, Server
from homeroom.sandbox.fault import Fault
from homeroom.sandbox.ledger import Entry
from homeroom.sandbox.world import World

_MAX_BODY = 1 << 20
_SLOW_MS = 1_000
_GARBAGE = b'<html><body>{"data": {"id": '

Endpoint = Callable[[Request], Awaitable[Response]]


class Cut(Response):
    """Answer nothing: close the connection under the request.

    The server that runs the app puts the means into `app.state.cut`; without one, the answer
    begins and never ends, which a client takes for a lost connection as well.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cut the connection that the request came by."""
        cut = getattr(scope["app"].state, "cut", None)
        if cut is not None and cut(scope.get("client")):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        headers = [(b"content-length", b"1000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def gate(world: World, server: Server) -> Endpoint:
    """Make the endpoint of one server."""

    async def endpoint(request: Request) -> Response:
        try:
            exchange = await _read(request, server)
        except ClientDisconnect:
            return Cut()
        if len(exchange.body) > _MAX_BODY:
            refusal = Refused(413, f"the body is longer than {_MAX_BODY} bytes")
            world.ledger.record(exchange, "refused", 413, reasons=refusal.reasons)
            return _respond(server, _refusal(server, refusal))
        fault = world.faults.draw(server, exchange.facts)
        if fault is None:
            answer, _ = _work(world, exchange)
            return _respond(server, answer)
        return await _go_wrong(world, exchange, fault, request)

    return endpoint


async def _go_wrong(world: World, exchange: Exchange, fault: Fault, request: Request) -> Response:
    server = exchange.server
    ledger = world.ledger  # a reset meanwhile begins another one, which must not hear of this
    if fault.mode == "slow":
        await _pause(world, _SLOW_MS if fault.delay_ms is None else fault.delay_ms)
        if world.stopping.is_set() or world.ledger is not ledger:
            return Cut()
        answer, entry = _work(world, exchange, fault)
        if await request.is_disconnected():
            ledger.unanswered(entry)
        return _respond(server, answer)
    if fault.works_first:
        answer, entry = _work(world, exchange, fault)
    else:
        status = {"status": fault.status, "garbage": 200}.get(fault.mode)
        entry = ledger.record(
            exchange, "failed", status, reasons=(f"fault: {fault.mode}",), fault=fault.mode
        )
    if fault.mode == "hang_after_work":
        if await _hang(world, request, fault.delay_ms):
            return _respond(server, answer)
        ledger.unanswered(entry)
        return Cut()
    if fault.mode == "drop":
        ledger.unanswered(entry)
        return Cut()
    if fault.mode == "garbage":
        return Response(_GARBAGE, 200, media_type="application/json")
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    failure = Refused(fault.status, "the sandbox was told to fail", headers=headers)
    return _respond(server, _refusal(server, failure))


def _work(world: World, exchange: Exchange, fault: Fault | None = None) -> tuple[Answer, Entry]:
    try:
        answer = world.work(exchange)
    except Refused as refused:
        answer = _refusal(exchange.server, refused)
    entry = world.ledger.record(
        exchange,
        answer.outcome,
        answer.status,
        reasons=answer.reasons,
        fault=None if fault is None else fault.mode,
    )
    return answer, entry


async def _pause(world: World, delay_ms: int) -> None:
    try:
        async with asyncio.timeout(delay_ms / 1_000):
            await world.stopping.wait()
    except TimeoutError:
        pass


async def _hang(world: World, request: Request, delay_ms: int | None) -> bool:
    """Wait until the client has gone or the sandbox stops; True once the delay is over."""
    gone = asyncio.ensure_future(_disconnected(request))
    stopping = asyncio.ensure_future(world.stopping.wait())
    timeout = None if delay_ms is None else delay_ms / 1_000
    try:
        done, _ = await asyncio.wait(
            {gone, stopping}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        gone.cancel()
        stopping.cancel()
    return not done


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request, server: Server) -> Exchange:
    """Read a request, but not much more of a body than is allowed. Raises ClientDisconnect."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            break
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return Exchange(
        server=server,
        method=request.method,
        raw_path=raw_path.partition(b"?")[0],
        query=dict(request.query_params),
        headers=dict(request.headers),
        body=bytes(body),
        base_url=str(request.base_url).rstrip("/"),
    )


def _refusal(server: Server, refused: Refused) -> Answer:
    message = "; ".join(refused.reasons)
    body: dict[str, Any] = {"error": message}
    if server == "credly":
        body = {"data": {"message": message}}
    return Answer(refused.status, body, "refused", refused.reasons, refused.headers)


def _respond(server: Server, answer: Answer) -> Response:
    return Response(
        msgspec.json.encode(answer.body),
        answer.status,
        dict(answer.headers),
        media_type="application/json",
    )
