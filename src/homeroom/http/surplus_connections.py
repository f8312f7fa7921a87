"""Connections that are accepted when few file descriptors are left.

The last descriptors are a reserve: a connection for which one of them is needed is answered once
and closed, in place of connections that are idle, and is refused with 503 where none is idle.
``/readyz``, ``/healthz`` and ``/metrics`` are answered in any case. Without a descriptor uvloop
closes new connections unanswered; it still does so in a burst that is larger than the reserve.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homeroom import machine
from homeroom.errors import HomeroomError, TooManyOpenFiles
from homeroom.web.problem import problem_response

RESERVED_SHARE = 0.08
"""Share of the descriptors that is the reserve: by then readiness is degraded (0.9 in use)."""
MIN_RESERVED = 16
MEASURE_SECONDS = 1.0
PROBE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class DescriptorReserve:
    """The last file descriptors of the process, and whether they are needed."""

    def __init__(self) -> None:
        """Measure with the first connection."""
        self._measured_at = -MEASURE_SECONDS
        self._limit: int | None = None

    def are_short(self, connections: int, now: float) -> bool:
        """Return whether a process with so many connections uses the reserve.

        ``now`` is seconds of any clock. What other parts of the process use is measured once a
        second, because that lists all descriptors.
        """
        if now - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = now
            usage = machine.descriptor_usage()
            if usage is not None:
                reserved = max(MIN_RESERVED, round(usage.limit * RESERVED_SHARE))
                self._limit = usage.limit - reserved - max(usage.used - connections, 0)
        return self._limit is not None and connections > self._limit


class SurplusApp:
    """An application for one connection, of which it answers one request."""

    def __init__(self, app: ASGIApp, *, refuses: bool) -> None:
        """Wrap the application; with ``refuses`` it answers probes alone, else 503."""
        self._app, self._refuses = app, refuses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and let the connection be closed after it."""

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = [*message.get("headers", []), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        if self._refuses and scope["path"] not in PROBE_PATHS:
            refusal: HomeroomError = TooManyOpenFiles(
                "The server has no file descriptor left for this connection.",
                retry_after_seconds=1,
            )
            await (await problem_response(refusal))(scope, receive, send_last)
        else:
            await self._app(scope, receive, send_last)
