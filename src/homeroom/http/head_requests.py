"""HEAD on every path that has GET, as RFC 9110 (section 9.1) asks of servers.

Link checkers, uptime monitors and mail programs send HEAD before they show a page.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Serve HEAD by the route of GET, without its body."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application that knows GET."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; all but HEAD pass unchanged."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # The server reads the method of its own scope to know that no body follows. Below version
        # 2.4 of ASGI's HTTP, a stream ends when ``receive`` reports a disconnect.
        asgi: dict[str, Any] = {**scope.get("asgi", {}), "spec_version": "2.3"}
        get_scope = {**scope, "method": "GET", "asgi": asgi}
        has_headers = asyncio.Event()
        body_is_read = False

        async def receive_until_headers() -> Message:
            nonlocal body_is_read
            if body_is_read:
                await has_headers.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            body_is_read = not message.get("more_body", False)
            return message

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                has_headers.set()

        try:
            await self._app(get_scope, receive_until_headers, send_headers)
        finally:  # the access log and the metrics read what the routes have noted
            scope.update({**get_scope, "method": "HEAD", "asgi": scope.get("asgi", {})})
