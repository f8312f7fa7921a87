"""Refuse bodies that are too large, whether or not they say so beforehand."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homeroom.errors import TooLarge
from homeroom.web.problem import problem_response

MAX_BODY_BYTES = 1024 * 1024


class BodyLimit:
    """Pure ASGI: answers 413, on the declared length or as soon as more has come in."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        """Take the application and how many bytes a body may have."""
        self._app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _declared(scope)
        if declared is not None:
            if declared > self.max_bytes:
                await (await problem_response(self._error()))(scope, receive, send)
                return
            await self._app(scope, receive, send)  # the server reads no further than that
            return
        seen = 0
        answering = False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self.max_bytes:
                    raise self._error()
            return message

        async def watched(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except TooLarge as error:
            if answering:
                raise
            await (await problem_response(error))(scope, receive, send)

    def _error(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self.max_bytes} bytes.")


def _declared(scope: Scope) -> int | None:
    """Return how long a body is said to be, None where only its end will tell."""
    declared: int | None = None
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            declared = int(value)
        elif name == b"transfer-encoding":
            return None
    return declared
