"""HTTP as uvicorn speaks it, but heads are bounded, and answers leave in one piece."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's head, or of what follows its body; uvicorn keeps any number of them. A larger one
that arrives at once may pass: no read is of more than 256 KiB."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol on a transport that writes less often, for requests of bounded heads."""

    _unread = 0
    """Bytes since a head was complete, or a piece of a body came."""

    def data_received(self, data: bytes) -> None:
        """Read a piece of requests."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request's head has more than {MAX_HEAD_BYTES:,} bytes.")

    def on_headers_complete(self) -> None:
        """Begin with a request whose head is complete."""
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of a body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._unread = 0
        super().on_message_complete()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        whole = WholeAnswers(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(cast(asyncio.Transport, whole))


class WholeAnswers:
    """A transport that keeps an answer's head until the body comes, right after it as a rule.

    uvicorn writes both, and uvloop makes a system call of each and wakes the client twice. A head
    whose body is long in coming (a stream's) leaves at the loop's next turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Take the connection's transport, which does everything but ``write`` and ``close``."""
        self._transport, self._loop = transport, loop
        self._head: bytes | None = None
        self._turn: asyncio.Handle | None = None
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or keep what begins like a head; a body that does so is only late by a turn."""
        # A body may be any buffer: what is done with it here must not ask for bytes.
        if self._head is not None:
            data = b"".join((self._head, data))
            self._forget()
        elif data[:7] == b"HTTP/1.":
            self._head = data
            self._turn = self._loop.call_soon(self._write_head)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Close once everything is written."""
        if self._head is not None:
            self._write_head()
        self._transport.close()

    def _write_head(self) -> None:
        head = self._head
        self._forget()
        if head is not None:
            self._transport.write(head)

    def _forget(self) -> None:
        self._head = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
