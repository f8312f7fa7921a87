"""Progress events: their fields, their limits and their JSON (pure)."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from uuid import UUID

from homeroom_client.errors import InvalidEvent

EventType = Literal[
    "chapter_progress",
    "chapter_complete",
    "quiz_attempt",
    "heartbeat",
    "progress_reset",
    "attempt_renewed",
    "chapter_waived",
]
"""The last three need the role service, manager or admin."""
EVENT_TYPES: tuple[str, ...] = get_args(EventType)
Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[str, ...] = get_args(Priority)
MANAGED_TYPES = frozenset({"progress_reset", "attempt_renewed", "chapter_waived"})
WITHOUT_CHAPTER = frozenset({"heartbeat", "progress_reset", "attempt_renewed"})
MAX_METADATA_BYTES = 16_384
MAX_TIME_SPENT_SECONDS = 86_400
MAX_POINTS = 1e9
MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 1_000_000
"""The server reads 1 MiB; the rest is for the envelope."""
_ID_RULE = "a text of 1 to 128 printable characters"


def new_id() -> str:
    """Return a UUIDv7: ids that follow each other in time are stored fastest."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    return str(UUID(int=value & ~(3 << 62) | 2 << 62))


@dataclass(frozen=True, slots=True)
class Quiz:
    """An attempt at a quiz: raw points out of ``max_score``."""

    attempt_id: str
    score: float
    max_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """What a learner did. It counts once, however often it is sent: keep it until it is confirmed.

    Raises ``InvalidEvent`` for one that the server would reject. ``progress`` is in percent and
    clamped to 0 to 100; ``time_spent`` is in seconds since the player's last event, a delta and no
    total; ``timestamp`` has a time zone and is now by default, ``id`` a new UUIDv7.
    """

    user_id: str
    course_id: str
    event_type: EventType
    chapter_id: str | None = None
    progress: float | None = None
    time_spent: float | None = None
    quiz: Quiz | None = None
    metadata: Mapping[str, Any] | None = None
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=new_id)
    encoded: bytes = field(init=False, repr=False, compare=False)
    """Its JSON, made once: each request that repeats the event has the same bytes."""

    def __post_init__(self) -> None:
        """Check and encode it."""
        _check(self.event_type in EVENT_TYPES, "event_type", "one of " + ", ".join(EVENT_TYPES))
        for name in ("id", "user_id", "course_id"):
            _check(_is_id(getattr(self, name)), name, _ID_RULE)
        if self.chapter_id is None:
            is_given = self.event_type in WITHOUT_CHAPTER
            _check(is_given, "chapter_id", f"given for {self.event_type}")
        else:
            _check(_is_id(self.chapter_id), "chapter_id", _ID_RULE)
        _check(_is_aware(self.timestamp), "timestamp", "a datetime with a time zone")
        if self.progress is not None:
            _check(_is_number(self.progress), "progress", "a number")
            object.__setattr__(self, "progress", min(100, max(0, self.progress)))
        if self.time_spent is not None:
            is_right = _is_number(self.time_spent, 0, MAX_TIME_SPENT_SECONDS)
            _check(is_right, "time_spent", f"a number from 0 to {MAX_TIME_SPENT_SECONDS}")
        self._check_quiz()
        try:
            metadata = b"{}" if self.metadata is None else _to_json(dict(self.metadata))
        except (TypeError, ValueError) as error:
            raise InvalidEvent("metadata", f"a mapping that JSON can express ({error})") from error
        _check(len(metadata) <= MAX_METADATA_BYTES, "metadata", "at most 16 KiB as JSON")
        if self.metadata is not None:  # a copy: later changes by the caller change no event
            object.__setattr__(self, "metadata", json.loads(metadata))
        object.__setattr__(self, "encoded", _to_json(self.to_dict()))

    def _check_quiz(self) -> None:
        quiz = self.quiz
        if quiz is None:
            _check(self.event_type != "quiz_attempt", "quiz", "given for quiz_attempt")
            return
        _check(_is_id(quiz.attempt_id), "quiz.attempt_id", _ID_RULE)
        is_right = _is_number(quiz.max_score, 0, MAX_POINTS) and quiz.max_score > 0
        _check(is_right, "quiz.max_score", "a number above 0")
        _check(_is_number(quiz.score, 0, quiz.max_score), "quiz.score", "0 to quiz.max_score")

    def to_dict(self) -> dict[str, Any]:
        """Return the event as the API has it, for a table of events that wait to be sent."""
        quiz = self.quiz and {
            "attemptId": self.quiz.attempt_id,
            "score": self.quiz.score,
            "maxScore": self.quiz.max_score,
        }
        fields = {
            "id": self.id,
            "userId": self.user_id,
            "courseId": self.course_id,
            "chapterId": self.chapter_id,
            "eventType": self.event_type,
            "progress": self.progress,
            "timeSpent": self.time_spent,
            "timestamp": format_time(self.timestamp),
            "quiz": quiz,
            "metadata": None if self.metadata is None else dict(self.metadata),
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProgressEvent:
        """Return the event of ``to_dict``; raises ``InvalidEvent`` for anything else."""
        try:
            quiz = data.get("quiz")
            return cls(
                id=data["id"],
                user_id=data["userId"],
                course_id=data["courseId"],
                chapter_id=data.get("chapterId"),
                event_type=data["eventType"],
                progress=data.get("progress"),
                time_spent=data.get("timeSpent"),
                timestamp=_parse_time(data["timestamp"]),
                quiz=quiz and Quiz(quiz["attemptId"], quiz["score"], quiz["maxScore"]),
                metadata=data.get("metadata"),
            )
        except KeyError as error:
            raise InvalidEvent(str(error.args[0]), "given") from error
        except (AttributeError, TypeError) as error:
            raise InvalidEvent("event", "a mapping as to_dict returns it") from error


def format_time(time: datetime) -> str:
    """Return a time with a zone as RFC 3339 in UTC, with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidEvent("timestamp", "a time as to_dict returns it") from error


def check_events(events: Iterable[ProgressEvent]) -> list[ProgressEvent]:
    """Return the events; raises ``InvalidEvent`` for other objects and an id with two bodies."""
    found: dict[str, ProgressEvent] = {}
    for event in events:
        is_event = isinstance(event, ProgressEvent)
        _check(is_event, "events", "of the type ProgressEvent")
        other = found.setdefault(event.id, event)
        _check(other.encoded == event.encoded, "id", f"of one event; {event.id} has two")
    return list(found.values())


def first_batch(events: Iterable[ProgressEvent], limit: int) -> list[ProgressEvent]:
    """Return the first events that fit into one request, or the first one alone."""
    batch: list[ProgressEvent] = []
    room = MAX_BATCH_BYTES
    for event in events:
        room -= len(event.encoded) + 1
        if batch and (room < 0 or len(batch) >= limit):
            break
        batch.append(event)
    return batch


def batch_body(events: Iterable[ProgressEvent], priority: Priority | None = None) -> bytes:
    """Return the body of a request; ``sentAt`` is the time of this very request."""
    sent_at = format_time(datetime.now(UTC)).encode()
    joined = b",".join(event.encoded for event in events)
    order = b"" if priority is None else b',"priority":"' + priority.encode() + b'"'
    return b'{"sentAt":"' + sent_at + b'"' + order + b',"events":[' + joined + b"]}"


def _check(is_right: bool, name: str, rule: str) -> None:
    if not is_right:
        raise InvalidEvent(name, rule)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 128 and value.isprintable()


def _is_aware(value: object) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and least <= value <= most  # type: ignore[arg-type,operator]


def _to_json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()
