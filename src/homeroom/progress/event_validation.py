"""Validation of a decoded event, as far as it needs no database (pure)."""

from __future__ import annotations

from datetime import UTC, datetime
from math import floor

import msgspec
from msgspec import UNSET, Raw

from homeroom.plain_text import ID_RULE, is_external_id
from homeroom.progress.event import (
    FULL,
    FUTURE_TOLERANCE,
    MAX_METADATA_BYTES,
    MAX_REASON_CHARACTERS,
    OLDEST_PLAUSIBLE_TIME,
    TYPES_WITHOUT_CHAPTER,
    EventFlag,
    EventSender,
    EventType,
    ProgressEvent,
    RejectedEvent,
    SentEvent,
    waiver_reason,
)

MAX_CORRECTED_AGE = 30 * 86_400 * 1_000_000
"""A corrected time is at most so old: clients discard events after 30 days."""
_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999
_MAX_MICROSECONDS = 10**18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Bound once: access to an enum member is slow, and every event needs several.
_RESET, _QUIZ_ATTEMPT = EventType.PROGRESS_RESET, EventType.QUIZ_ATTEMPT
_CHAPTER_COMPLETE, _WAIVED = EventType.CHAPTER_COMPLETE, EventType.CHAPTER_WAIVED
_RENEWED = EventType.ATTEMPT_RENEWED
_FUTURE, _ANCIENT = int(EventFlag.FUTURE), int(EventFlag.ANCIENT)
_CORRECTED = int(EventFlag.CLOCK_CORRECTED)
_SUSPECT_BEGINNINGS = frozenset(". \u2800")
_json_decoder = msgspec.json.Decoder()


def has_valid_ids(sent: SentEvent) -> bool:
    """Return whether all ids of an event keep to ``ID_RULE``."""
    return all(
        each is None or is_external_id(each)
        for each in (sent.id, sent.user_id, sent.course_id, sent.chapter_id)
    )


def validate_event(
    sent: SentEvent, sender: EventSender, now: int, *, printable: bool = False, skew: int = 0
) -> ProgressEvent | RejectedEvent:
    """Check an event as far as no database is needed; ``now`` is the time of receipt.

    ``printable`` skips the check of its ids for control characters. ``skew`` is what the device's
    clock is behind, in microseconds; 0 where it is right or not known.
    """
    kind, user_id, chapter_id = sent.event_type, sent.user_id, sent.chapter_id
    is_managed = kind is _RESET or kind is _WAIVED or kind is _RENEWED
    person = sender.person
    if person is not None and person != user_id and not (is_managed and sender.may_manage):
        return RejectedEvent(sent.id, "forbidden", "The event's userId is not the sender's own.")
    course_id = sent.course_id
    # Ids that are plainly valid cost little: printable, and no first character of ``.``, ``..``
    # and blank ones. All others get the whole check.
    if (
        (not printable and not (sent.id + user_id + course_id + (chapter_id or "")).isprintable())
        or user_id[0] in _SUSPECT_BEGINNINGS
        or course_id[0] in _SUSPECT_BEGINNINGS
        or (chapter_id is not None and chapter_id[0] in _SUSPECT_BEGINNINGS)
        or sent.id[0] in _SUSPECT_BEGINNINGS
    ) and not has_valid_ids(sent):
        return RejectedEvent(sent.id, "invalid_id", f"{ID_RULE.capitalize()}.")
    if chapter_id is None and kind not in TYPES_WITHOUT_CHAPTER:
        return RejectedEvent(sent.id, "chapter_required", f"A {kind} event needs a chapterId.")
    if kind is _QUIZ_ATTEMPT and (fault := _check_quiz(sent)) is not None:
        return fault
    if is_managed and not sender.may_manage:
        return RejectedEvent(sent.id, "forbidden", f"A {kind} needs the role service or manager.")
    occurred_at = instant_of(sent.timestamp)
    if occurred_at is None:
        return RejectedEvent(sent.id, "invalid_timestamp", "The timestamp is out of range.")
    metadata = None
    if sent.metadata is not UNSET:
        try:
            metadata = _canonical_metadata(sent.metadata)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return RejectedEvent(
                sent.id, "invalid_event", f"The metadata cannot be decoded: {error}."
            )
        if metadata is not None and len(metadata) > MAX_METADATA_BYTES:
            return RejectedEvent(
                sent.id, "metadata_too_large", "The metadata has more than 16 KiB."
            )
    if kind is _WAIVED and waiver_reason(metadata) is None:
        text = f"of 1 to {MAX_REASON_CHARACTERS} characters"
        message = f'A chapter_waived event needs metadata: {{"reason": "..."}}, {text}.'
        return RejectedEvent(sent.id, "reason_required", message)
    flags, at = 0, occurred_at
    if skew:
        flags = _CORRECTED
        at = min(max(occurred_at + skew, now - MAX_CORRECTED_AGE), now)
    elif occurred_at > now:
        at = now
        if occurred_at > now + FUTURE_TOLERANCE:
            flags = _FUTURE
    elif occurred_at < OLDEST_PLAUSIBLE_TIME:
        flags, at = _ANCIENT, now
    time_spent = sent.time_spent or 0
    if isinstance(time_spent, float):
        time_spent = floor(time_spent + 0.5)
    progress = FULL if kind is _CHAPTER_COMPLETE else _basis_points(sent.progress)
    quiz = sent.quiz
    if is_managed:
        progress = quiz = None  # not the learner's own activity
    return ProgressEvent(
        sent.id, user_id, sent.course_id, chapter_id, kind, progress, time_spent,
        quiz, occurred_at, now, at, b"", metadata, flags, sender.trusted,
    )  # fmt: skip


def _check_quiz(sent: SentEvent) -> RejectedEvent | None:
    if sent.quiz is None:
        return RejectedEvent(
            sent.id, "quiz_required", "A quiz_attempt needs quiz: {attemptId, score, maxScore}."
        )
    if sent.quiz.score > sent.quiz.max_score:
        return RejectedEvent(sent.id, "invalid_score", "The score is above maxScore.")
    if not sent.quiz.attempt_id.isprintable():
        return RejectedEvent(sent.id, "invalid_id", "An id must not hold control characters.")
    return None


def instant_of(sent: datetime | float) -> int | None:
    """Convert a timestamp to microseconds UTC; None outside the years 1 to 9999."""
    if isinstance(sent, datetime):
        since = sent - _EPOCH
        at = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    elif -_MAX_MICROSECONDS <= sent * 1_000 <= _MAX_MICROSECONDS:
        at = sent * 1_000 if isinstance(sent, int) else round(sent * 1_000)
    else:
        return None
    return at if _YEAR_1 <= at <= _YEAR_9999 else None


def _basis_points(percent: float | None) -> int | None:
    """Convert percent to basis points, rounded down: 99.999 gives 9,999 (rule B3)."""
    if percent is None:
        return None
    points = int(percent * 100 + 1e-6)
    return FULL - 1 if points >= FULL and percent < 100 else points


def _canonical_metadata(metadata: Raw) -> str | None:
    """Return metadata with sorted keys and no spaces, so that repeats compare equal."""
    if bytes(metadata) in (b"null", b"{}"):
        return None
    return msgspec.json.encode(_json_decoder.decode(metadata), order="sorted").decode()
