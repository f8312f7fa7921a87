"""One request as the sandbox's servers see it, and the answers that they may give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec

Server = Literal["directory", "assessment", "credly", "analytics", "hr"]
SERVERS: tuple[Server, ...] = ("directory", "assessment", "credly", "analytics", "hr")
PREFIXES: dict[Server, str] = {
    "directory": "/directory",
    "assessment": "/assessment",
    "credly": "/credly/v1",
    "analytics": "/analytics",
    "hr": "/hr",
}

Outcome = Literal["accepted", "refused", "repeated", "failed"]

# Longer than any id; essays stay in the body.
_MAX_FACT = 512

_NAMED_BY_PATH = {
    "users": "userId",
    "courses": "courseId",
    "organizations": "organization",
    "badges": "badgeId",
    "events": "eventId",
}
# Every partner has its own word for the learner; a fault should be aimed with one.
_ALIASES = {
    "employeeId": "userId",
    "issuer_earner_id": "userId",
    "badge_template_id": "templateId",
    "recipient_email": "email",
}


class Refused(Exception):
    """Carry why a request is not accepted, and the status that says so."""

    def __init__(
        self, status: int, *reasons: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("; ".join(reasons))
        self.status = status
        self.reasons = reasons
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a server answers: a status, a JSON-able body, and how the request is counted."""

    status: int
    body: Any
    outcome: Outcome = "accepted"
    reasons: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exchange:
    """Hold one request: method, path below the server's prefix, query, headers and body.

    `segments` are the path's parts, unescaped one by one, so that an id may hold a slash.
    Header names are in lower case. `base_url` is what the client called the server.
    """

    server: Server
    method: str
    raw_path: bytes
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str

    @property
    def path(self) -> str:
        """Return the path as it was sent, escapes and all."""
        return self.raw_path.decode("latin-1")

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """Split the path below the server's prefix; a trailing slash makes an empty segment."""
        rest = self.raw_path[len(PREFIXES[self.server]) :]
        return tuple(
            unquote_to_bytes(part).decode("utf-8", "replace") for part in rest.split(b"/")[1:]
        )

    @cached_property
    def facts(self) -> dict[str, str]:
        """Name what the request is about, as far as it says so itself.

        These are what a fault's `match` is compared with, and what `received` shows: parts of the
        path, query values, text and numbers of the body and of its `data`, under their own names;
        `userId`, `templateId` and `email` besides, whatever a partner calls them.
        """
        facts = {"method": self.method, "path": self.path, **self.query}
        for name, value in zip(self.segments, self.segments[1:], strict=False):
            if name in _NAMED_BY_PATH:
                facts[_NAMED_BY_PATH[name]] = value
        if "webhook-id" in self.headers:
            facts["webhookId"] = self.headers["webhook-id"]
        body = self._anything()
        for part in (body, body.get("data")):
            if isinstance(part, dict):
                facts |= {
                    name: str(value)
                    for name, value in part.items()
                    if isinstance(value, str | int | float)
                    and name not in facts
                    and len(str(value)) <= _MAX_FACT
                }
        for name, alias in _ALIASES.items():
            if name in facts:
                facts.setdefault(alias, facts[name])
        return facts

    def read_object(self, *media_types: str) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises Refused: 415 for another media type, 400 for what is no JSON object.
        """
        media_type = self.headers.get("content-type", "").split(";")[0].strip().lower()
        if media_type not in media_types:
            raise Refused(415, f"content-type is {media_type or 'missing'}, not {media_types[0]}")
        try:
            body = msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise Refused(400, f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refused(400, "the body is no JSON object")
        return body

    def _anything(self) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return {}
        return body if isinstance(body, dict) else {}
