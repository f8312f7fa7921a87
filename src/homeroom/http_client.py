"""The HTTP client for all of Homeroom's outgoing calls."""

from __future__ import annotations

from typing import Any

import httpx


class _ConnectErrorTransport(httpx.AsyncHTTPTransport):
    """A transport that reports a connection lost at once as one that was never made.

    On uvloop such a connection has no socket any more when anyio reads its addresses, and the
    AttributeError passes all layers.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raise ``httpx.TransportError`` where no response came."""
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            raise httpx.ConnectError(
                "the connection was lost as soon as it was made", request=request
            ) from error


def open_http_client(
    *,
    limits: httpx.Limits | None = None,
    **options: Any,  # httpx's own
) -> httpx.AsyncClient:
    """Return a client; ``options`` are those of ``httpx.AsyncClient``.

    It follows no redirect and uses no proxy or certificate of the environment: the settings decide
    where a request goes.
    """
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    transport = _ConnectErrorTransport(trust_env=False, limits=limits)
    return httpx.AsyncClient(transport=transport, trust_env=False, **options)
