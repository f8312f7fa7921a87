"""Progress events: their types, identity and results (pure).

Rules B1 and B3 to B5 of ``docs/rules.md``: ids have 1 to 128 characters, progress is 0 to 100
percent, ``timeSpent`` is a delta of whole seconds since the player's last event. Implausible times
are accepted and flagged. A fault in one event never fails its neighbours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag, StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

MAX_EVENTS = 1_000
MAX_METADATA_BYTES = 16_384
MAX_REASON_CHARACTERS = 500
"""Length of the reason for which a chapter is waived."""
MAX_TIME_SPENT_SECONDS = 86_400
FUTURE_TOLERANCE = 300 * 1_000_000
"""Microseconds that a player's clock may run ahead before its events are flagged."""
OLDEST_PLAUSIBLE_TIME = 946_684_800 * 1_000_000
"""2000-01-01: an earlier event comes from a device whose clock was never set."""

FULL = 10_000
"""100 percent in basis points, and a score of 1 in units of 1e-4."""


class EventType(StrEnum):
    """The types of progress events."""

    CHAPTER_PROGRESS = "chapter_progress"
    CHAPTER_COMPLETE = "chapter_complete"
    QUIZ_ATTEMPT = "quiz_attempt"
    HEARTBEAT = "heartbeat"
    PROGRESS_RESET = "progress_reset"
    CHAPTER_WAIVED = "chapter_waived"
    ATTEMPT_RENEWED = "attempt_renewed"


ATTEMPT_OPENING_TYPES = frozenset({EventType.PROGRESS_RESET, EventType.ATTEMPT_RENEWED})
"""Resets and renewals (rule B12); compaction never deletes their ledger rows."""
MANAGED_TYPES = ATTEMPT_OPENING_TYPES | {EventType.CHAPTER_WAIVED}
"""Types that need ``EventSender.may_manage``: they are not the learner's own activity."""
TYPES_WITHOUT_CHAPTER = ATTEMPT_OPENING_TYPES | {EventType.HEARTBEAT}


class EventFlag(IntFlag):
    """Anomalies of an accepted event; the history shows them, nothing else."""

    FUTURE = 1
    ANCIENT = 2
    IMPLAUSIBLE_TIME = 4
    TWO_COURSES = 8
    UNTRUSTED_SCORE = 16
    CLOCK_CORRECTED = 32


OutsideId = Annotated[str, Meta(min_length=1, max_length=128)]
_IN_A_DAY = Meta(ge=0, le=MAX_TIME_SPENT_SECONDS)
Seconds = Annotated[int, _IN_A_DAY] | Annotated[float, _IN_A_DAY]
"""A fraction is rounded half up to whole seconds."""
Percent = Annotated[float, Meta(ge=0, le=100)]
Timestamp = Annotated[datetime, Meta(tz=True)] | int | float


PriorityName = Literal["high", "normal", "low"]


class SentQuiz(msgspec.Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True):
    """A quiz attempt as sent: raw points out of ``max_score``."""

    attempt_id: OutsideId
    score: Annotated[float, Meta(ge=0, le=1e9)]
    max_score: Annotated[float, Meta(gt=0, le=1e9)]


class SentEvent(msgspec.Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True):
    """An event as sent; msgspec checks types and bounds.

    Unknown fields are left out of it before: ``event_body`` names them in the answer.
    """

    id: OutsideId
    user_id: OutsideId
    course_id: OutsideId
    event_type: EventType
    timestamp: Timestamp
    chapter_id: OutsideId | None = None
    progress: Percent | None = None
    time_spent: Seconds | None = None
    quiz: SentQuiz | None = None
    metadata: Raw | UnsetType = UNSET


class SentBatch(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of a batch whose events are all well typed, which is the usual case."""

    events: Annotated[list[SentEvent], Meta(min_length=1, max_length=MAX_EVENTS)]
    batch_id: Raw | UnsetType = UNSET
    client_id: Raw | UnsetType = UNSET
    sent_at: Raw | UnsetType = UNSET
    priority: PriorityName | UnsetType = UNSET
    token: Raw | UnsetType = UNSET


class ProgressEvent(msgspec.Struct, gc=False):
    """A valid event, as the ledger stores it.

    ``at`` orders events: the time at which it happened, corrected where the device's clock is known
    to be wrong, or the time of receipt if it is implausible.
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
    """Its identity if the fields alone do not give it, else empty: see ``event_identity``."""
    metadata: str | None
    flags: int
    trusted: bool
    """A score in it counts: the platform sent it, or the course trusts clients."""


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that is rejected, with the code and message of the result."""

    id: str | None
    code: str
    message: str


NO_PERSON = ""
"""The ``EventSender.person`` of a manager's session: no event carries this user id."""


@dataclass(frozen=True, slots=True)
class EventSender:
    """Sender of events and its rights: a learner may send its own events only."""

    person: str | None
    """The user id that events must carry; None allows every user id, ``NO_PERSON`` none."""
    trusted: bool
    """Scores count, whatever the course says."""
    may_manage: bool
    """Resets, renewals and waivers are allowed; ``managed_event`` decides for whom."""


_json_decoder = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def renewal_event(id: str, user_id: str, course_id: str, at: int) -> ProgressEvent:
    """Return the event that opens an attempt with the state of the one before (B12)."""
    return ProgressEvent(
        id, user_id, course_id, None, EventType.ATTEMPT_RENEWED, None, 0, None, at, at, at,
        b"", None, 0, True,
    )  # fmt: skip


def waiver_reason(metadata: str | None) -> str | None:
    """Return the reason of a waiver from its event's metadata; None if it has none."""
    decoded = None if metadata is None else _json_decoder.decode(metadata)
    reason = decoded.get("reason") if isinstance(decoded, dict) else None
    if (
        not isinstance(reason, str)
        or not 0 < len(reason) <= MAX_REASON_CHARACTERS
        or not reason.strip()
    ):
        return None
    return reason


def event_identity(event: ProgressEvent) -> bytes:
    """Return 16 bytes that differ between a repeat of an event and a conflict (B1).

    Computed when an id comes twice, not for every event: hashing takes 1 us.
    """
    return event.body_hash or hash_event_body(event)


def hash_event_body(event: ProgressEvent) -> bytes:
    """Hash an event's fields to 16 bytes; equal fields give equal bytes."""
    quiz = event.quiz
    if quiz is not None:  # 9 and 9.0 are the same score
        quiz = SentQuiz(quiz.attempt_id, float(quiz.score), float(quiz.max_score))
    return hashlib.blake2b(
        _encode(
            (event.user_id, event.course_id, event.chapter_id, event.type, event.progress,
             event.time_spent, event.occurred_at, event.metadata, quiz)
        ),
        digest_size=16,
    ).digest()  # fmt: skip


class EventStatus(StrEnum):
    """The outcome of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class EventResult:
    """The result of one event; ``code`` and ``message`` explain unusual ones."""

    status: EventStatus
    code: str | None = None
    message: str | None = None


ACCEPTED = EventResult(EventStatus.ACCEPTED)
UNTRUSTED = EventResult(
    EventStatus.ACCEPTED,
    "untrusted_score",
    "The quiz attempt is stored, but its score does not count: a learner's own token sent it.",
)
DUPLICATE = EventResult(EventStatus.DUPLICATE)
CONFLICT = EventResult(
    EventStatus.CONFLICT, "conflict", "Another event with this id is stored. Fix: send a new id."
)
NOT_ENROLLED = EventResult(
    EventStatus.REJECTED,
    "not_enrolled",
    "The learner is not enrolled: the enrolment was ended, or the course is archived or does not"
    " enrol by itself. Fix: enrol first.",
)
QUARANTINE_FULL = EventResult(
    EventStatus.REJECTED,
    "quarantine_full",
    "The quarantine is full for this learner. Fix: publish the courses of the events in it.",
)
UNKNOWN_COURSE = EventResult(
    EventStatus.QUARANTINED, "unknown_course", "Quarantined until the course is published."
)
UNKNOWN_CHAPTER = EventResult(
    EventStatus.QUARANTINED, "unknown_chapter", "Quarantined until the chapter is published."
)
