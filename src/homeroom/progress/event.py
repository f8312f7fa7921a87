"""What players send, read and judged one event at a time (pure).

Rules B1 and B3 to B5 of ``docs/rules.md``: ids are 1-128 characters, progress is 0-100 percent,
``timeSpent`` is a delta of whole seconds since the player's last event, odd times are accepted and
flagged. A fault in one event never fails its neighbours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntFlag, StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

MAX_EVENTS = 1_000
MAX_METADATA_BYTES = 16_384
MAX_REASON = 500
"""Characters of the reason for which a chapter is waived."""
MAX_TIME_SPENT_SECONDS = 86_400
FUTURE_TOLERANCE = 300 * 1_000_000
"""A player's clock may run this many microseconds ahead before its events are flagged."""
OLDEST_PLAUSIBLE = 946_684_800 * 1_000_000
"""2000-01-01: an event before it comes from a device whose clock was never set."""

FULL = 10_000
"""100 percent in basis points; also a score of 1 in units of 1e-4."""

_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999
_AGES = 10**18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventType(StrEnum):
    """The kinds of progress events."""

    CHAPTER_PROGRESS = "chapter_progress"
    CHAPTER_COMPLETE = "chapter_complete"
    QUIZ_ATTEMPT = "quiz_attempt"
    HEARTBEAT = "heartbeat"
    PROGRESS_RESET = "progress_reset"
    CHAPTER_WAIVED = "chapter_waived"
    ATTEMPT_RENEWED = "attempt_renewed"


OPENS_ATTEMPT = frozenset({EventType.PROGRESS_RESET, EventType.ATTEMPT_RENEWED})
"""From nothing, and with what the attempt before has (rule B12). Their rows stay for good."""
_WITHOUT_CHAPTER = OPENS_ATTEMPT | {EventType.HEARTBEAT}


class Flag(IntFlag):
    """What is odd about an accepted event; shown in the history, never a reason to change it."""

    FUTURE = 1
    ANCIENT = 2
    IMPLAUSIBLE_TIME = 4
    TWO_COURSES = 8
    UNTRUSTED_SCORE = 16


# Looked up once: a member of an enumeration is dear where every event asks for it.
_RESET, _QUIZ_ATTEMPT = EventType.PROGRESS_RESET, EventType.QUIZ_ATTEMPT
_CHAPTER_COMPLETE, _WAIVED = EventType.CHAPTER_COMPLETE, EventType.CHAPTER_WAIVED
_RENEWED = EventType.ATTEMPT_RENEWED
_FUTURE, _ANCIENT = int(Flag.FUTURE), int(Flag.ANCIENT)


OutsideId = Annotated[str, Meta(min_length=1, max_length=128)]
Seconds = Annotated[int, Meta(ge=0, le=MAX_TIME_SPENT_SECONDS)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Time = Annotated[datetime, Meta(tz=True)] | int | float


class SentQuiz(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A quiz attempt as sent: raw points, of which ``max_score`` may be had."""

    attempt_id: OutsideId
    score: Annotated[float, Meta(ge=0, le=1e9)]
    max_score: Annotated[float, Meta(gt=0, le=1e9)]


class SentEvent(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An event as sent, types and bounds checked by msgspec."""

    id: OutsideId
    user_id: OutsideId
    course_id: OutsideId
    event_type: EventType
    timestamp: Time
    chapter_id: OutsideId | None = None
    progress: Percent | None = None
    time_spent: Seconds | None = None
    quiz: SentQuiz | None = None
    metadata: Raw | UnsetType = UNSET


class SentBatch(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a batch whose events are all well typed (the usual case)."""

    events: Annotated[list[SentEvent], Meta(min_length=1, max_length=MAX_EVENTS)]


class RawBatch(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a batch whose events must be read one by one, to find the faulty ones."""

    events: list[Raw]


class Event(msgspec.Struct, gc=False):
    """An event that was read: what the ledger keeps, without its place in an attempt.

    ``at`` orders events: when it happened, or, where that is odd, when it was received.
    """

    id: str
    user_id: str
    course_id: str
    chapter_id: str | None
    type: EventType
    progress: int | None
    time_spent: int
    quiz: SentQuiz | None
    occurred_at: int
    received_at: int
    at: int
    body_hash: bytes
    """What tells a repeat where the fields do not; empty where they do: see ``identity_of``."""
    metadata: str | None
    flags: int
    trusted: bool
    """Whether a score in it counts: it came from ``service``, or the course trusts clients."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that will never be taken, and why."""

    id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: a learner may send for itself only, and its scores do not count by themselves."""

    person: str | None
    """The user id that events must carry, or None where anybody's may be sent."""
    trusted: bool
    may_manage: bool
    """Whether resets, renewals and waivers may be sent, for anybody."""


class BodyFault(Exception):
    """The body is not an event list at all; ``status`` is 400 (not JSON), 413 or 422."""

    def __init__(self, status: int, message: str) -> None:
        """Take the HTTP status and what is wrong."""
        super().__init__(message)
        self.status, self.message = status, message


_batch = msgspec.json.Decoder(SentBatch)
_list = msgspec.json.Decoder(Annotated[list[SentEvent], Meta(min_length=1, max_length=MAX_EVENTS)])
_raw_batch = msgspec.json.Decoder(RawBatch)
_raw_list = msgspec.json.Decoder(list[Raw])
_one = msgspec.json.Decoder(SentEvent)
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def read_body(body: bytes, sender: Sender, now: int) -> list[Event | Rejected]:
    """Read a batch body: an object with ``events``, or a bare array of events.

    Raises ``BodyFault`` where there is no event list to speak of.
    """
    try:
        if body.lstrip()[:1] == b"[":
            sent = _list.decode(body)
        else:
            sent = _batch.decode(body).events
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return [
            each if isinstance(each, Rejected) else judge(each, sender, now)
            for each in _read_one_by_one(body)
        ]
    except msgspec.DecodeError as error:
        raise BodyFault(400, f"The body is not JSON: {error}.") from error
    # But for DEL, JSON holds control characters as escapes only: one look at the body will do.
    clean = body.isascii() and b"\\" not in body and b"\x7f" not in body
    return [judge(event, sender, now, printable=clean) for event in sent]


def _read_one_by_one(body: bytes) -> list[SentEvent | Rejected]:
    try:
        if body.lstrip()[:1] == b"[":
            raw = _raw_list.decode(body)
        else:
            raw = _raw_batch.decode(body).events
    except RecursionError as error:
        raise BodyFault(422, "The body is nested too deeply to be read.") from error
    except msgspec.ValidationError as error:
        raise BodyFault(
            422, f'The body must be {{"events": [event, ...]}} or an array of events: {error}.'
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyFault(400, f"The body is not JSON: {error}.") from error
    if not raw:
        raise BodyFault(422, "The event list is empty; send 1 to 1,000 events.")
    if len(raw) > MAX_EVENTS:
        raise BodyFault(
            413, f"{len(raw):,} events are too many; send at most 1,000 in one request."
        )
    return [_read_one(part) for part in raw]


def _read_one(raw: Raw) -> SentEvent | Rejected:
    try:
        return _one.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(_id_of(raw), "invalid_event", str(error))


def _id_of(raw: Raw) -> str | None:
    """Return the id of an event that cannot be read, as far as it can be told."""
    try:
        found: Any = _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = found.get("id") if isinstance(found, dict) else None
    return text[:128] if isinstance(text, str) else None


def judge(
    sent: SentEvent, sender: Sender, now: int, *, printable: bool = False
) -> Event | Rejected:
    """Judge one event by everything that needs no database; ``now`` is when it was received.

    ``printable`` says that its ids are known to hold no control characters.
    """
    kind, user_id, chapter_id = sent.event_type, sent.user_id, sent.chapter_id
    is_managed = kind is _RESET or kind is _WAIVED or kind is _RENEWED
    person = sender.person
    if person is not None and person != user_id and not (is_managed and sender.may_manage):
        return Rejected(sent.id, "forbidden", "This event belongs to another person.")
    if (
        not printable
        and not (sent.id + user_id + sent.course_id + (chapter_id or "")).isprintable()
    ):
        return Rejected(sent.id, "invalid_id", "An id must not hold control characters.")
    if chapter_id is None and kind not in _WITHOUT_CHAPTER:
        return Rejected(sent.id, "chapter_required", f"A {kind} event needs a chapterId.")
    if kind is _QUIZ_ATTEMPT and (fault := _quiz_fault(sent)) is not None:
        return fault
    if is_managed and not sender.may_manage:
        return Rejected(sent.id, "forbidden", f"A {kind} needs the role service or manager.")
    stamp = sent.timestamp
    if isinstance(stamp, datetime):
        since = stamp - _EPOCH
        occurred_at = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    elif (instant := _from_milliseconds(stamp)) is not None:
        occurred_at = instant
    else:
        return Rejected(sent.id, "invalid_timestamp", "The timestamp is out of range.")
    metadata = None
    if sent.metadata is not UNSET:
        try:
            metadata = _canonical(sent.metadata)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Rejected(sent.id, "invalid_event", f"The metadata cannot be read: {error}.")
        if metadata is not None and len(metadata) > MAX_METADATA_BYTES:
            return Rejected(sent.id, "metadata_too_large", "The metadata has more than 16 KiB.")
    if kind is _WAIVED and waiver_reason(metadata) is None:
        return Rejected(
            sent.id,
            "reason_required",
            'A chapter_waived event needs metadata: {"reason": "..."}, of 1 to'
            f" {MAX_REASON} characters.",
        )
    flags, at = 0, occurred_at
    if occurred_at > now:
        at = now
        if occurred_at > now + FUTURE_TOLERANCE:
            flags = _FUTURE
            if occurred_at > _YEAR_9999:
                return Rejected(sent.id, "invalid_timestamp", "The timestamp is out of range.")
    elif occurred_at < OLDEST_PLAUSIBLE:
        flags, at = _ANCIENT, now
        if occurred_at < _YEAR_1:  # by an offset from the first day of the calendar
            return Rejected(sent.id, "invalid_timestamp", "The timestamp is out of range.")
    progress = FULL if kind is _CHAPTER_COMPLETE else _basis_points(sent.progress)
    quiz = sent.quiz
    if is_managed:
        progress = quiz = None  # nothing was learnt
    return Event(
        sent.id, user_id, sent.course_id, chapter_id, kind, progress, sent.time_spent or 0,
        quiz, occurred_at, now, at, b"", metadata, flags, sender.trusted,
    )  # fmt: skip


def renewal(id: str, user_id: str, course_id: str, at: int) -> Event:
    """Return the event that opens an attempt which begins with what the one before it has."""
    return Event(
        id, user_id, course_id, None, _RENEWED, None, 0, None, at, at, at, b"", None, 0, True
    )  # fmt: skip


def waiver_reason(metadata: str | None) -> str | None:
    """Return why a chapter was waived, from its event's metadata; None where that does not say."""
    found = None if metadata is None else _any.decode(metadata)
    reason = found.get("reason") if isinstance(found, dict) else None
    if not isinstance(reason, str) or not 0 < len(reason) <= MAX_REASON or not reason.strip():
        return None
    return reason


def _quiz_fault(sent: SentEvent) -> Rejected | None:
    if sent.quiz is None:
        return Rejected(
            sent.id, "quiz_required", "A quiz_attempt needs quiz: {attemptId, score, maxScore}."
        )
    if sent.quiz.score > sent.quiz.max_score:
        return Rejected(sent.id, "invalid_score", "The score is above maxScore.")
    if not sent.quiz.attempt_id.isprintable():
        return Rejected(sent.id, "invalid_id", "An id must not hold control characters.")
    return None


def _from_milliseconds(sent: float) -> int | None:
    """Return epoch milliseconds as microseconds; None outside the years 1 to 9999."""
    if not -_AGES <= sent * 1_000 <= _AGES:
        return None
    at = sent * 1_000 if isinstance(sent, int) else round(sent * 1_000)
    return at if _YEAR_1 <= at <= _YEAR_9999 else None


def _basis_points(percent: float | None) -> int | None:
    """Return percent as basis points, rounded down: 99.999 is 9,999 and never 100 % (rule B3)."""
    if percent is None:
        return None
    points = int(percent * 100 + 1e-6)
    return FULL - 1 if points >= FULL and percent < 100 else points


def _canonical(metadata: Raw) -> str | None:
    """Return metadata with sorted keys and no spaces: a re-serialised repeat is a repeat."""
    if bytes(metadata) in (b"null", b"{}"):
        return None
    return msgspec.json.encode(_any.decode(metadata), order="sorted").decode()


def identity_of(event: Event) -> bytes:
    """Return 16 bytes that tell a repeat of an event from a conflict with it (rule B1).

    Worked out when an id comes twice, and not for every event: that is 1 us of each.
    """
    return event.body_hash or body_hash(event)


def body_hash(event: Event) -> bytes:
    """Return 16 bytes that are the same for two events whose fields are."""
    quiz = event.quiz
    if quiz is not None:  # 9 and 9.0 are one score
        quiz = SentQuiz(quiz.attempt_id, float(quiz.score), float(quiz.max_score))
    return hashlib.blake2b(
        _encode(
            (event.user_id, event.course_id, event.chapter_id, event.type, event.progress,
             event.time_spent, event.occurred_at, event.metadata, quiz)
        ),
        digest_size=16,
    ).digest()  # fmt: skip
