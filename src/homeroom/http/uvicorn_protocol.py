"""uvicorn with strict heads, time limits, bounded connections, coalesced writes.

The only file of ``http`` that touches private parts of uvicorn; ``tests/unit/web/test_uvicorn.py``
fails when they change. Decision 0034 gives the reasons of the limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, cast

import msgspec
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from homeroom.errors import BadRequest, HomeroomError, TooBusy
from homeroom.http.surplus_connections import PROBE_PATHS, DescriptorReserve, SurplusApp
from homeroom.web.problem import PROBLEM_MEDIA_TYPE, problem_document, problem_headers

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""Limit of a request's head, and of the trailers after its body; uvicorn itself has none. A larger
head that arrives in one read may pass: a read returns at most 256 KiB."""
_descriptors = DescriptorReserve()
_STATUS_LINE_PREFIX = b"HTTP/1."
_SINGLE_FIELDS = frozenset(
    {b"host", b"authorization", b"content-type", b"cookie", b"idempotency-key", b"origin"}
)
"""Fields that a request may hold once: of two, one route would read the first, one the last."""
_HOST = re.compile(rb"[A-Za-z0-9._~:%!$&'()*+,;=\[\]-]*")
_TICKS_BETWEEN_CHECKS = 10
"""uvicorn ticks ten times a second; deadlines are checked once a second."""
_REPORT_SECONDS = 60.0


class RequestTimeout(HomeroomError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class UnsupportedTransferCoding(HomeroomError):
    """The server reads no transfer coding but chunked."""

    status = 501
    code = "unsupported_transfer_coding"


class TooManyClients(TooBusy):
    """The server has no connection left for this request; send it again later."""

    status = 503
    code = "too_many_clients"


@dataclass(slots=True)
class ConnectionLimits:
    """Limits of a server's connections, and when their bound was last reported."""

    head_seconds: float = 30.0
    """From a request's first byte, or from the connection's begin, to the end of its head."""
    body_seconds: float = 120.0
    """From the end of the head to the end of the body: 1 MiB at 70 kbit/s."""
    drain_seconds: float = 30.0
    drain_bytes: int = 64 * 1024 * 1024
    """What is read and dropped of a request that is answered before its end."""
    max_connections: int = 10_000
    """Each costs about 20 KB; ``DescriptorReserve`` sees to the file descriptors."""
    reported_at: float = -math.inf

    def report_full(self, now: float) -> None:
        """Log that the bound is reached, once a minute."""
        if now - self.reported_at >= _REPORT_SECONDS:
            self.reported_at = now
            log.warning("connections_exhausted", max_connections=self.max_connections)


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration with ``ConnectionLimits``."""

    limits = ConnectionLimits()


class UvicornServer(uvicorn.Server):
    """uvicorn without signal handlers: worker and database have to stop too."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Close the connections whose time is over, once a second."""
        if counter % _TICKS_BETWEEN_CHECKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedHttpProtocol):
                    connection.enforce_deadline(now)
        return await super().on_tick(counter)


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, strict and bounded, on a ``CoalescingTransport``."""

    transport: CoalescingTransport  # type: ignore[assignment]
    _bytes_since_head = 0
    """Bytes since the last complete head or piece of a body."""
    _dropped_bytes = 0
    """Bytes that were read after the response to their request."""
    _deadline = math.inf
    """Time of the loop at which what is being received must be complete."""
    _in_message = False
    _head_complete = False
    _rejection: HomeroomError | None = None
    _received_at = 0.0
    """Time of the last received bytes, by the loop's clock."""

    @property
    def _limits(self) -> ConnectionLimits:
        return getattr(self.config, "limits", ServerConfig.limits)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wrap the transport of a new connection."""
        coalescing = CoalescingTransport(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(cast(asyncio.Transport, coalescing))
        self._received_at = self.loop.time()
        self._deadline = self._received_at + self._limits.head_seconds
        coalescing.on_close = self._close_or_drain
        if _descriptors.are_short(len(self.connections), self._received_at):
            self.app = SurplusApp(self.app, refuses=not self._close_idle_connections())

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; reject a request that is malformed or too large."""
        if self.transport.is_closing():  # the response is sent; see _close_or_drain
            self._drop(len(data))
            return
        self._received_at = self.loop.time()
        self._bytes_since_head += len(data)
        if self._deadline == math.inf and not self._in_message:
            self._deadline = self._received_at + self._limits.head_seconds
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._bytes_since_head > MAX_HEAD_BYTES:
            self._reject(BadRequest(f"The request's head has more than {MAX_HEAD_BYTES:,} bytes."))
        elif self._in_message and self._head_complete and self.cycle.response_complete:
            self._drop(len(data))

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_message, self._head_complete, self._dropped_bytes = True, False, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; drop a trailer, which must not change what the head said."""
        if not self._head_complete:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request whose head is complete, if it is unambiguous."""
        self._bytes_since_head = 0
        fault = _head_fault(self.headers, self.parser.get_http_version())
        if fault is None and len(self.connections) > self._limits.max_connections:
            fault = self._full()
        if fault is not None:
            self._rejection = fault
            raise ValueError(fault.message)  # ends the parsing; see send_400_response
        self._head_complete = True
        self._deadline = self.loop.time() + self._limits.body_seconds
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body."""
        self._bytes_since_head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._bytes_since_head, self._in_message, self._deadline = 0, False, math.inf
        super().on_message_complete()
        if self.cycle.response_complete:  # the rest of its body was dropped
            self._deadline = self.loop.time() + self.timeout_keep_alive

    def send_400_response(self, msg: str) -> None:
        """Reject what uvicorn or ``on_headers_complete`` could not accept."""
        self._reject(self._rejection or BadRequest(msg))

    def enforce_deadline(self, now: float) -> None:
        """Answer 408 to a request that takes too long to arrive; end a drain."""
        if now < self._deadline:
            return
        self._deadline = math.inf
        is_answered = self._head_complete and self.cycle.response_complete
        if self.transport.is_closing() or not self._in_message or is_answered:
            self.transport.finish()
        else:
            part = "body" if self._head_complete else "head"
            self._reject(RequestTimeout(f"The request's {part} did not arrive in time."))

    def shutdown(self) -> None:
        """Close an idle connection, and one that only drains."""
        super().shutdown()
        if self.transport.is_closing():
            self.transport.finish()

    @property
    def is_idle(self) -> bool:
        """Return whether the connection is open and no request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's type leaves None out
        if cycle is not None and not cycle.response_complete:
            return False
        return not self.transport.is_closing()

    def _close_idle_connections(self) -> bool:
        """Close those that are idle for the longest time; return whether there was one.

        A share of them at once, since finding them looks at every connection.
        """
        idle = [
            each
            for each in self.connections
            if isinstance(each, BoundedHttpProtocol) and each.is_idle and each is not self
        ]
        count = 1 + len(idle) // 16
        for each in nsmallest(count, idle, key=lambda protocol: protocol._received_at):
            each.transport.finish()
        return bool(idle)

    def _full(self) -> HomeroomError | None:
        """Return the error of a request above the bound of connections."""
        if self.url.partition(b"?")[0].decode("latin-1") in PROBE_PATHS:
            return None  # a probe that fails would restart a busy server
        self._limits.report_full(self.loop.time())
        return TooManyClients(retry_after_seconds=5)

    def _reject(self, error: HomeroomError) -> None:
        """Answer a request that no application gets, or gets no more of; close."""
        log.info("request_rejected", status=error.status, code=error.code, reason=error.message)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or not self._in_message or not self._head_complete:
                # An earlier request of this connection is still being answered: this one is not.
                self.pipeline.clear()
                cycle.keep_alive = False
                self._deadline = math.inf
                self.flow.pause_reading()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(_encode_response(error))
        self.transport.close()

    def _close_or_drain(self) -> bool:
        """Return whether to close at once; else send the end, and read what still comes.

        Closing a socket with unread data resets the connection, and the client may lose the
        response: it would see a broken connection in place of the 413 and send the body again.
        """
        if not self._in_message:
            return True
        self._deadline = self.loop.time() + self._limits.drain_seconds
        self.flow.resume_reading()
        return False

    def _drop(self, count: int) -> None:
        """Count dropped bytes; end the connection above the limit."""
        self._dropped_bytes += count
        if self._dropped_bytes > self._limits.drain_bytes:
            self.transport.finish()


def _head_fault(headers: Sequence[tuple[bytes, bytes]], version: str) -> HomeroomError | None:
    """Return the fault of a request's head, or None (RFC 9112, sections 3.2 and 6.1)."""
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SINGLE_FIELDS and name in seen:
            return BadRequest(f"The request has more than one {name.decode()} header.")
        if name == b"transfer-encoding" and (name in seen or value.lower() != b"chunked"):
            return UnsupportedTransferCoding()
        seen[name] = value
    host = seen.get(b"host")
    if host is None:
        return None if version == "1.0" else BadRequest("The request has no Host header.")
    return None if _HOST.fullmatch(host) else BadRequest("The Host header is malformed.")


def _encode_response(error: HomeroomError) -> bytes:
    """Return the bytes of a problem document as the last response of a connection."""
    body = msgspec.json.encode(problem_document(error), enc_hook=str)
    fields: Mapping[str, str] = {
        "content-type": PROBLEM_MEDIA_TYPE,
        "content-length": str(len(body)),
        "connection": "close",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **problem_headers(error),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return b"".join((STATUS_LINE[error.status], head.encode("latin-1"), b"\r\n", body))


class CoalescingTransport:
    """A transport that delays a response's head to send it together with the body.

    uvicorn writes head and body separately, which costs two system calls of uvloop and wakes the
    client twice. A head without a body yet, such as a stream's, is sent in the loop's next
    iteration.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Wrap ``transport``; it does everything but ``write`` and ``close``."""
        self._transport, self._loop = transport, loop
        self._head: bytes | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._is_draining = False
        self.on_close: Callable[[], bool] = lambda: True
        """Returns whether ``close`` closes at once, or sends the end and lets reading go on."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write ``data``, but delay it if it begins like a head.

        A body that begins so is only sent one iteration later.
        """
        if self._is_draining:
            return
        # ``data`` may be any buffer, such as a memoryview, so no method of bytes is called on it.
        if self._head is not None:
            data = b"".join((self._head, data))
            self._clear_head()
        elif data[: len(_STATUS_LINE_PREFIX)] == _STATUS_LINE_PREFIX:
            self._head = data
            self._flush_handle = self._loop.call_soon(self._write_head)
            return
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether no more can be written."""
        return self._is_draining or self._transport.is_closing()

    def close(self) -> None:
        """Close the connection after everything is written; see ``on_close``."""
        if self._head is not None:
            self._write_head()
        if self.is_closing() or self.on_close() or not self._transport.can_write_eof():
            self.finish()
            return
        self._is_draining = True
        self._transport.write_eof()

    def finish(self) -> None:
        """Close the connection, also one that is read after its end was sent."""
        self._transport.close()

    def _write_head(self) -> None:
        head = self._head
        self._clear_head()
        if head is not None:
            self._transport.write(head)

    def _clear_head(self) -> None:
        self._head = None
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
