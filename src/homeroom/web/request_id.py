"""The id of the current request, for headers, log lines and problems."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def parse_request_id(value: bytes) -> str | None:
    """Return a caller's own request id if it may go into logs and headers, else None."""
    return value.decode() if _REQUEST_ID.fullmatch(value) else None


def add_request_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the current request's id to a log line (a structlog processor)."""
    current = current_request_id.get()
    if current is not None:
        event["request_id"] = current
    return event
