"""The id of the request that is being answered: in its headers, its log lines and its problems."""

from __future__ import annotations

import re
from contextvars import ContextVar

from structlog.typing import EventDict

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def sane(value: bytes) -> str | None:
    """Return a caller's own request id if it may go into logs and headers, else None."""
    return value.decode() if _SANE.fullmatch(value) else None


def add_request_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Add the current request's id to a log line (a structlog processor)."""
    current = request_id.get()
    if current is not None:
        event["request_id"] = current
    return event
