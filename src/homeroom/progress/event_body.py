"""The body of an ingest request, and its unknown fields and clock (pure).

Usual bodies are decoded in one step. A body with a fault or an unknown field is decoded event by
event, so that a fault in one never fails its neighbours.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from homeroom.commit_priority import CommitPriority
from homeroom.progress.event import (
    MAX_EVENTS,
    EventSender,
    EventType,
    PriorityName,
    ProgressEvent,
    RejectedEvent,
    SentBatch,
    SentEvent,
    SentQuiz,
    Timestamp,
)
from homeroom.progress.event_faults import all_faults, faults_in_words
from homeroom.progress.event_validation import instant_of, validate_event

CLOCK_TOLERANCE = 30 * 1_000_000
"""Microseconds between ``sentAt`` and receipt that the network may take: no clock is corrected."""
MAX_UNKNOWN_FIELDS = 20
"""Unknown fields that one answer names at most."""
_MAX_FIELD_CHARACTERS = 64
EVENT_FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(SentEvent))
QUIZ_FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(SentQuiz))
BATCH_FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(SentBatch))


class UntypedBatch(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a batch with a faulty event: each is decoded on its own."""

    events: list[Raw]
    sent_at: Raw | UnsetType = UNSET
    priority: PriorityName | UnsetType = UNSET


class InvalidBody(Exception):
    """The body is no event list; ``status`` is 400 (not JSON), 413 or 422."""

    def __init__(self, status: int, message: str) -> None:
        """Set the HTTP status and the message of the problem document."""
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class DecodedBody:
    """The events of a body, and the unknown fields that were left out of them."""

    events: list[ProgressEvent | RejectedEvent]
    priority: CommitPriority
    unknown_fields: tuple[str, ...] = ()


_batch_decoder = msgspec.json.Decoder(SentBatch)
_list_decoder = msgspec.json.Decoder(
    Annotated[list[SentEvent], Meta(min_length=1, max_length=MAX_EVENTS)]
)
_untyped_batch_decoder = msgspec.json.Decoder(UntypedBatch)
_untyped_list_decoder = msgspec.json.Decoder(list[Raw])
_members_decoder = msgspec.json.Decoder(dict[str, Raw])
_event_decoder = msgspec.json.Decoder(SentEvent)
_timestamp_decoder = msgspec.json.Decoder(Timestamp)
_json_decoder = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode
# Bound once: the hash of an Enum and the look-up of its member are Python code, which took 0.3 us
# an event.
_COMPLETE, _QUIZ, _HEARTBEAT = (
    EventType.CHAPTER_COMPLETE,
    EventType.QUIZ_ATTEMPT,
    EventType.HEARTBEAT,
)
_HIGH, _NORMAL, _LOW = CommitPriority
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_body(body: bytes, sender: EventSender, now: int) -> list[ProgressEvent | RejectedEvent]:
    """Decode and validate a batch; see ``read_body``."""
    return read_body(body, sender, now).events


def read_body(body: bytes, sender: EventSender, now: int) -> DecodedBody:
    """Decode and validate a batch: an object with ``events``, or an array of events.

    Raises ``InvalidBody`` if there is no event list.
    """
    skew = 0
    priority: PriorityName | UnsetType = UNSET
    try:
        if body.lstrip()[:1] == b"[":
            sent = _list_decoder.decode(body)
        else:
            batch = _batch_decoder.decode(body)
            sent, priority = batch.events, batch.priority
            if batch.sent_at is not UNSET:
                skew = clock_skew(batch.sent_at, now)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return _read_one_by_one(body, sender, now)
    except msgspec.DecodeError as error:
        raise InvalidBody(400, f"The body is not JSON: {error}.") from error
    # JSON holds control characters as escapes only, DEL apart: one check of the body is enough.
    clean = body.isascii() and b"\\" not in body and b"\x7f" not in body
    validated = [validate_event(event, sender, now, printable=clean, skew=skew) for event in sent]
    for index, each in enumerate(validated):
        if each.__class__ is RejectedEvent:
            validated[index] = all_faults(sent[index], sender, each)
    return DecodedBody(validated, batch_priority(validated, priority, sender))


def batch_priority(
    events: Collection[ProgressEvent | RejectedEvent],
    asked: PriorityName | UnsetType,
    sender: EventSender,
) -> CommitPriority:
    """Return the priority asked for, or that of the highest event of a batch.

    Completions and quiz attempts are high; a batch of nothing but heartbeats is low. A learner may
    lower the priority of a batch and never raise it.
    """
    of_events = _highest_priority(events)
    if asked is UNSET:
        return of_events
    wanted = CommitPriority[asked.upper()]
    return wanted if sender.person is None else max(wanted, of_events)


def _highest_priority(events: Collection[ProgressEvent | RejectedEvent]) -> CommitPriority:
    priority = _LOW
    for event in events:
        if isinstance(event, RejectedEvent):
            continue
        type = event.type
        if type is _COMPLETE or type is _QUIZ:
            return _HIGH
        if type is not _HEARTBEAT:
            priority = _NORMAL
    return priority


def clock_skew(sent_at: Raw, now: int) -> int:
    """Return the microseconds that a device's clock is behind, by ``sentAt``.

    Returns 0 within ``CLOCK_TOLERANCE`` and for a ``sentAt`` that is no time.
    """
    try:
        instant = instant_of(_timestamp_decoder.decode(sent_at))
    except _UNREADABLE:
        return 0
    if instant is None or abs(now - instant) <= CLOCK_TOLERANCE:
        return 0
    return now - instant


def _read_one_by_one(body: bytes, sender: EventSender, now: int) -> DecodedBody:
    raw_events, skew, priority, unknown = _read_untyped(body, now)
    events: list[ProgressEvent | RejectedEvent] = []
    for raw in raw_events:
        sent = _decode_event(raw, unknown)
        if isinstance(sent, SentEvent):
            valid = validate_event(sent, sender, now, skew=skew)
            events.append(
                all_faults(sent, sender, valid) if isinstance(valid, RejectedEvent) else valid
            )
        else:
            events.append(sent)
    return DecodedBody(events, batch_priority(events, priority, sender), tuple(unknown))


def _read_untyped(
    body: bytes, now: int
) -> tuple[list[Raw], int, PriorityName | UnsetType, dict[str, None]]:
    """Return raw events, the clock's skew, the priority asked for, unknown fields."""
    skew, unknown = 0, dict[str, None]()
    priority: PriorityName | UnsetType = UNSET
    try:
        if body.lstrip()[:1] == b"[":
            raw = _untyped_list_decoder.decode(body)
        else:
            batch = _untyped_batch_decoder.decode(body)
            raw, priority = batch.events, batch.priority
            skew = 0 if batch.sent_at is UNSET else clock_skew(batch.sent_at, now)
            _add_unknown(unknown, _members_decoder.decode(body), BATCH_FIELDS)
    except RecursionError as error:
        raise InvalidBody(422, "The body is nested too deeply to be decoded.") from error
    except msgspec.ValidationError as error:
        raise InvalidBody(
            422, f'The body must be {{"events": [event, ...]}} or an array of events: {error}.'
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidBody(400, f"The body is not JSON: {error}.") from error
    if not raw:
        raise InvalidBody(422, "The event list is empty; send 1 to 1,000 events.")
    if len(raw) > MAX_EVENTS:
        raise InvalidBody(
            413, f"{len(raw):,} events are too many; send at most 1,000 in one request."
        )
    return raw, skew, priority, unknown


def _decode_event(raw: Raw, unknown: dict[str, None]) -> SentEvent | RejectedEvent:
    """Decode an event without its unknown fields, and add their names to ``unknown``."""
    try:
        return _event_decoder.decode(raw)
    except _UNREADABLE:
        pass  # a fault, or an unknown field
    try:
        return _event_decoder.decode(_without_unknown(raw, unknown))
    except _UNREADABLE as error:
        return RejectedEvent(
            _read_event_id(raw), "invalid_event", faults_in_words(_decoded(raw), str(error))
        )


def _without_unknown(raw: Raw, unknown: dict[str, None]) -> bytes:
    members = _members_decoder.decode(raw)
    _add_unknown(unknown, members, EVENT_FIELDS)
    known = {name: members[name] for name in EVENT_FIELDS if name in members}
    quiz = known.get("quiz")
    if quiz is not None and bytes(quiz)[:1] == b"{":
        parts = _members_decoder.decode(quiz)
        _add_unknown(unknown, parts, QUIZ_FIELDS, prefix="quiz.")
        known["quiz"] = Raw(_encode({name: parts[name] for name in QUIZ_FIELDS if name in parts}))
    return _encode(known)


def _add_unknown(
    unknown: dict[str, None], names: Collection[str], known: Collection[str], prefix: str = ""
) -> None:
    for name in names:
        if name not in known and len(unknown) < MAX_UNKNOWN_FIELDS:
            unknown[f"{prefix}{name}"[:_MAX_FIELD_CHARACTERS]] = None


def _decoded(raw: Raw) -> Any:
    """Return the JSON value of an event; None where it cannot be decoded."""
    try:
        return _json_decoder.decode(raw)
    except _UNREADABLE:
        return None


def _read_event_id(raw: Raw) -> str | None:
    """Return the id of an event that cannot be decoded, or None if it has none."""
    decoded = _decoded(raw)
    text = decoded.get("id") if isinstance(decoded, dict) else None
    return text[:128] if isinstance(text, str) else None
