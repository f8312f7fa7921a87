"""Requests to the servers of the sandbox, and their responses."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec

ServerName = Literal["directory", "assessment", "credly", "analytics", "hr", "llm"]
SERVER_NAMES: tuple[ServerName, ...] = (
    *("directory", "assessment", "credly", "analytics", "hr", "llm"),
)
PATH_PREFIXES: dict[ServerName, str] = {
    "directory": "/directory",
    "assessment": "/assessment",
    "credly": "/credly/v1",
    "analytics": "/analytics",
    "hr": "/hr",
    "llm": "/llm/v1",
}

RequestOutcome = Literal["accepted", "refused", "repeated", "failed"]

# Longer than any id; longer texts stay in the body.
_MAX_FACT_LENGTH = 512

_PATH_FACTS = {
    "users": "userId",
    "courses": "courseId",
    "organizations": "organization",
    "badges": "badgeId",
    "events": "eventId",
}
# Each partner has another name for the learner; a fault matches by one.
_FACT_ALIASES = {
    "employeeId": "userId",
    "issuer_earner_id": "userId",
    "badge_template_id": "templateId",
    "recipient_email": "email",
}


class RequestRefused(Exception):
    """A refused request: the reasons, and the status of the response."""

    def __init__(
        self, status: int, *reasons: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("; ".join(reasons))
        self.status = status
        self.reasons = reasons
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class SandboxResponse:
    """The response of a server, and the outcome under which it is counted."""

    status: int
    body: Any
    outcome: RequestOutcome = "accepted"
    reasons: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SandboxRequest:
    """One request: method, path below the prefix of the server, headers, body.

    `segments` are the path's parts, unescaped one by one, so that an id may hold a slash.
    Header names are in lower case. `base_url` is the address that the client used.
    """

    server: ServerName
    method: str
    raw_path: bytes
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str

    @property
    def path(self) -> str:
        """Return the path as it was sent, with its escapes."""
        return self.raw_path.decode("latin-1")

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """Split the path below the prefix; a trailing slash makes an empty segment."""
        rest = self.raw_path[len(PATH_PREFIXES[self.server]) :]
        return tuple(
            unquote_to_bytes(part).decode("utf-8", "replace") for part in rest.split(b"/")[1:]
        )

    @cached_property
    def facts(self) -> dict[str, str]:
        """Return the facts of the request, by name.

        The `match` of a fault is compared with them, and `received` shows them: parts of the path,
        query values, text and numbers of the body and of its `data`, under their own names; also
        `userId`, `templateId` and `email`, whatever names a partner has for them.
        """
        facts = {"method": self.method, "path": self.path, **self.query}
        for name, value in zip(self.segments, self.segments[1:], strict=False):
            if name in _PATH_FACTS:
                facts[_PATH_FACTS[name]] = value
        if "webhook-id" in self.headers:
            facts["webhookId"] = self.headers["webhook-id"]
        body = self._json_or_empty()
        for part in (body, body.get("data")):
            if isinstance(part, dict):
                facts |= {
                    name: str(value)
                    for name, value in part.items()
                    if isinstance(value, str | int | float)
                    and name not in facts
                    and len(str(value)) <= _MAX_FACT_LENGTH
                }
        for name, alias in _FACT_ALIASES.items():
            if name in facts:
                facts.setdefault(alias, facts[name])
        return facts

    def read_object(self, *media_types: str) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises RequestRefused: 415 for another media type, 400 for what is no JSON object.
        """
        media_type = self.headers.get("content-type", "").split(";")[0].strip().lower()
        if media_type not in media_types:
            raise RequestRefused(
                415, f"content-type is {media_type or 'missing'}, not {media_types[0]}"
            )
        try:
            body = msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise RequestRefused(400, f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise RequestRefused(400, "the body is no JSON object")
        return body

    def _json_or_empty(self) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return {}
        return body if isinstance(body, dict) else {}


def require_bearer(request: SandboxRequest, token: str | None) -> None:
    """Check `Authorization: Bearer <token>`; a token of None permits all requests.

    Raises RequestRefused 401.
    """
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _equals_constant_time(given, token):
        raise RequestRefused(
            401,
            "the bearer token is missing or wrong",
            headers={"www-authenticate": "Bearer"},
        )


def require_basic(request: SandboxRequest, token: str) -> None:
    """Check Basic authentication as Credly does: token as user, no password.

    Raises RequestRefused 401.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        pair = base64.b64decode(given, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pair = ""
    if scheme.lower() != "basic" or not _equals_constant_time(pair, f"{token}:"):
        raise RequestRefused(
            401,
            "Basic authentication needs the token as user and a blank password",
            headers={"www-authenticate": 'Basic realm="sandbox"'},
        )


def _equals_constant_time(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def utc_now() -> datetime:
    """Return the machine's time in UTC.

    A partner doesn't share Homeroom's clock, so a test that moves that one must not move this.
    """
    return datetime.now(UTC)  # noqa: TID251 - see above


def format_rfc3339(moment: datetime) -> str:
    """Write an instant as RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
