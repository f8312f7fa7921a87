"""The raw ingest route: ``POST /api/progress/enhanced-update`` without FastAPI.

On two cores, a bare ASGI handler read 270k-410k events/s, a Starlette route 257k, FastAPI with
pydantic models 83k; storing needs the time that is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from homeroom.db.database import Database
from homeroom.errors import (
    BadRequest,
    Forbidden,
    HomeroomError,
    Invalid,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
)
from homeroom.progress.api import Ingest, IngestResult, InvalidBody, ingest_events, read_body
from homeroom.progress.managed_event import has_managed_event, reject_foreign_events
from homeroom.progress.routes import event_sender_of
from homeroom.web.identity import IDENTITY_SCOPE_KEY, SESSION_COOKIE, Auth, check_same_origin
from homeroom.web.problem import problem_response
from homeroom.web.query_parameters import check_query

INGEST_PATH = "/api/progress/enhanced-update"
EVENT_STATUSES = ("accepted", "duplicate", "conflict", "quarantined", "rejected")
_ERRORS_BY_STATUS: Mapping[int, type[HomeroomError]] = {
    400: BadRequest,
    413: TooLarge,
    422: Invalid,
}
ObserveIngestStatus = Callable[[str, int], None]
"""Called with a status and its number of events: an ``EVENT_STATUSES``, or ``refused``."""
_Count = Annotated[int, Meta(ge=0)]
_encode = msgspec.json.Encoder().encode
_JSON_MEDIA_TYPE = b"application/json"
_BEACON_MEDIA_TYPE = b"text/plain"
MAX_BEACON_BYTES = 64 * 1024
"""Most that browsers send in one ``navigator.sendBeacon``."""
REJECTED_HEADER = "homeroom-rejected"
"""Response header: the number of rejected events, for clients that read no body."""


class EventAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of one event."""

    id: Annotated[str | None, Meta(description="Null where it cannot be read.")]
    status: Annotated[str, Meta(extra_json_schema={"enum": list(EVENT_STATUSES)})]
    code: Annotated[str, Meta(description="Stable; for programs.")] | UnsetType = UNSET
    message: str | UnsetType = UNSET


class IngestAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The number of events by status, and the results that need attention."""

    accepted: _Count
    duplicate: _Count
    conflict: _Count
    quarantined: _Count
    rejected: _Count
    results: Annotated[
        list[EventAnswer],
        Meta(description="Events that were not plainly accepted; all others were."),
    ]
    unknown_fields: (
        Annotated[
            tuple[str, ...],
            Meta(description="Fields of the request that are not known and were ignored."),
        ]
        | UnsetType
    ) = UNSET


def _ignore_status(status: str, count: int) -> None:
    """Count nothing."""


class BeaconEnvelope(msgspec.Struct, frozen=True):
    """The body of ``navigator.sendBeacon``: a batch with its token."""

    token: Annotated[str, Meta(min_length=1, max_length=8_192)]


def ingest_app(
    ingest: Ingest,
    auth: Auth,
    db: Database,
    observe_status: ObserveIngestStatus = _ignore_status,
    *,
    beacon_origins: Sequence[str] = (),
) -> ASGIApp:
    """Return the ASGI application of the ingest route (only POST requests reach it).

    Pages of ``beacon_origins`` (``*`` for all) may send ``text/plain`` with the token in the body.
    ``observe_status`` gets the number of events by status. A request that is answered with a
    problem document counts as one ``refused``, because its events may not have been read.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body, rejected = await _ingest_request(scope, receive)
        except Exception as error:
            observe_status("refused", 1)
            await (await problem_response(error))(scope, receive, send)
            return
        headers = [(b"content-type", _JSON_MEDIA_TYPE), (b"content-length", b"%d" % len(body))]
        if rejected:
            headers.append((REJECTED_HEADER.encode(), b"%d" % rejected))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _ingest_request(scope: Scope, receive: Receive) -> tuple[bytes, int]:
        authorization, cookie, is_beacon = _read_credentials(scope["headers"])
        if is_beacon:  # its token is in the body; a cookie never counts
            _check_beacon_origin(scope["headers"], beacon_origins)
            body = await _receive_body(receive)
            identity = await auth.identify(f"Bearer {_beacon_token(body)}", None)
        else:
            body = b""
            identity = await auth.identify(authorization, cookie)
        scope[IDENTITY_SCOPE_KEY] = identity.subject
        if identity.is_session:
            check_same_origin(Request(scope))
        sender = event_sender_of(identity)
        if scope["query_string"]:
            check_query(scope["query_string"], ())
        body = body or await _receive_body(receive)
        try:
            decoded = read_body(body, sender, db.clock.now())
        except InvalidBody as fault:
            raise _ERRORS_BY_STATUS[fault.status](fault.message) from fault
        actor = None
        if sender.may_manage and has_managed_event(decoded.events):
            actor = identity.subject
            if sender.person is not None:
                await reject_foreign_events(db, auth.people(identity).related, decoded.events)
        counts, results = await ingest_events(ingest, decoded.events, decoded.priority, actor)
        for status, count in counts.items():
            if count:
                observe_status(status, count)
        if not results and not decoded.unknown_fields:  # the usual case
            return _encode_counts(tuple(counts.items())), 0
        by_status: dict[str, Any] = dict(counts)
        answer = IngestAnswer(
            **by_status,
            results=[_event_answer(each) for each in results],
            unknown_fields=decoded.unknown_fields or UNSET,
        )
        return _encode(answer), counts["rejected"]

    return app


_decode_beacon = msgspec.json.Decoder(BeaconEnvelope).decode


@lru_cache(maxsize=1_024)
def _encode_counts(counts: tuple[tuple[str, int], ...]) -> bytes:
    by_status: dict[str, Any] = dict(counts)
    return _encode(IngestAnswer(**by_status, results=[]))


def _event_answer(result: IngestResult) -> EventAnswer:
    if result.code is None:
        return EventAnswer(result.id, result.status)
    return EventAnswer(result.id, result.status, result.code, result.message or UNSET)


def _read_credentials(
    headers: Sequence[tuple[bytes, bytes]],
) -> tuple[str | None, str | None, bool]:
    """Return Authorization header, session cookie, and whether it is a beacon.

    Raises ``UnsupportedMediaType`` for a body that is neither JSON nor ``text/plain``.
    """
    authorization = cookie = content_type = None
    for name, value in headers:
        if name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"content-type":
            content_type = value
        elif name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                if key == SESSION_COOKIE:
                    cookie = text
    if content_type == _JSON_MEDIA_TYPE:
        return authorization, cookie, False
    media_type = (content_type or b"").partition(b";")[0].strip().lower()
    if media_type == _BEACON_MEDIA_TYPE:
        return None, None, True
    if media_type != _JSON_MEDIA_TYPE:
        raise UnsupportedMediaType("Send the events with Content-Type: application/json.")
    return authorization, cookie, False


def _check_beacon_origin(headers: Sequence[tuple[bytes, bytes]], allowed: Sequence[str]) -> None:
    """Raise ``Forbidden`` unless a page of the settings sent a beacon."""
    if not allowed:
        raise UnsupportedMediaType(
            "Send the events with Content-Type: application/json.",
            hint="text/plain is for beacons of the pages in HOMEROOM_CORS_ORIGINS, which is unset.",
        )
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if len(origins) != 1 or not (origins[0] in allowed or "*" in allowed):
        raise Forbidden(
            "A text/plain body is accepted only from the pages of HOMEROOM_CORS_ORIGINS.",
            hint="Send the events with Content-Type: application/json and an Authorization header.",
        )


def _beacon_token(body: bytes) -> str:
    """Return the token of a beacon's body. No error holds a part of the body."""
    if len(body) > MAX_BEACON_BYTES:
        raise TooLarge(
            f"A text/plain body has at most {MAX_BEACON_BYTES:,} bytes, as browsers send them."
        )
    try:
        return _decode_beacon(body).token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unauthenticated(
            "A text/plain body needs the token in itself.",
            hint='Send {"token": "<JWT>", "events": [...]} as JSON text.',
        ) from error


async def _receive_body(receive: Receive) -> bytes:
    """Return the whole body; ``BodyLimitMiddleware`` bounds it."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body
    parts = bytearray(message.get("body", b""))
    while message.get("more_body"):
        message = await receive()
        parts += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise BadRequest("The connection was closed before the end of the body.")
    return bytes(parts)
