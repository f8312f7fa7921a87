"""The HTTP client for all of Homeroom's outgoing calls."""

from __future__ import annotations

from typing import Any

import httpx

from homeroom.tracing import TRACE_HEADER, Tracer, current_trace


class _ConnectErrorTransport(httpx.AsyncHTTPTransport):
    """A transport that records spans and reports lost connections as never made.

    On uvloop such a connection has no socket any more when anyio reads its addresses, and the
    AttributeError passes all layers.
    """

    tracer: Tracer | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raise ``httpx.TransportError`` where no response came.

        Within a trace it is a span, until the head of the response, and carries the trace.
        """
        parent = current_trace.get()
        if self.tracer is None or parent is None:
            return await self._send(request)
        attributes = {
            "http.request.method": request.method,
            "server.address": request.url.host,
        }
        # Neither name nor attributes have the path, which may hold the id of a person.
        name = f"{request.method} {request.url.host}"
        with self.tracer.span(name, "client", attributes, parent) as span:
            request.headers[TRACE_HEADER] = current_trace.get() or parent
            try:
                response = await self._send(request)
            except httpx.TransportError as error:
                span.fail(type(error).__name__)
                raise
            span.set({"http.response.status_code": response.status_code})
            if response.is_error:
                span.fail(str(response.status_code))
            return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            raise httpx.ConnectError(
                "the connection was lost as soon as it was made", request=request
            ) from error


def open_http_client(
    *,
    limits: httpx.Limits | None = None,
    tracer: Tracer | None = None,
    **options: Any,  # httpx's own
) -> httpx.AsyncClient:
    """Return a client; ``options`` are those of ``httpx.AsyncClient``.

    It follows no redirect and uses no proxy or certificate of the environment: the settings decide
    where a request goes.
    """
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    transport = _ConnectErrorTransport(trust_env=False, limits=limits)
    transport.tracer = tracer
    return httpx.AsyncClient(transport=transport, trust_env=False, **options)
