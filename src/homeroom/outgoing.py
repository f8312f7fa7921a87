"""The HTTP client with which Homeroom calls others."""

from __future__ import annotations

from typing import Any

import httpx


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's, in which a connection that is lost as soon as it is made is one that failed.

    On uvloop it has no socket any more by then, which anyio asks for its addresses, and that error
    goes through all layers.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raise ``httpx.TransportError`` where it got no answer."""
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            raise httpx.ConnectError("lost as soon as it was made", request=request) from error


def open_client(
    *,
    limits: httpx.Limits | None = None,
    **options: Any,  # httpx's own
) -> httpx.AsyncClient:
    """Return a client; ``options`` are those of ``httpx.AsyncClient``.

    No redirect is followed and no proxy or certificate of the environment used: where a request
    goes is decided by the settings.
    """
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    transport = _Transport(trust_env=False, limits=limits)
    return httpx.AsyncClient(transport=transport, trust_env=False, **options)
