"""The faults of a rejected event, all of them, in words (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from homeroom.plain_text import ID_RULE
from homeroom.progress.event import (
    MANAGED_TYPES,
    MAX_TIME_SPENT_SECONDS,
    TYPES_WITHOUT_CHAPTER,
    EventSender,
    EventType,
    OutsideId,
    Percent,
    RejectedEvent,
    Seconds,
    SentEvent,
    Timestamp,
)
from homeroom.progress.event_validation import has_valid_ids

_ID = "text of 1 to 128 characters"
_POINTS = "a number from 0 to 1,000,000,000"
_FIELDS: Mapping[str, tuple[Any, str, bool]] = {
    "id": (OutsideId, _ID, True),
    "userId": (OutsideId, _ID, True),
    "courseId": (OutsideId, _ID, True),
    "eventType": (EventType, "a known type", True),
    "timestamp": (
        Timestamp,
        "RFC 3339 with a zone, such as 2026-11-22T09:00:00Z, or milliseconds since 1970",
        True,
    ),
    "chapterId": (OutsideId | None, _ID, False),
    "progress": (Percent | None, "a number from 0 to 100", False),
    "timeSpent": (
        Seconds | None,
        f"a number of seconds from 0 to {MAX_TIME_SPENT_SECONDS:,}",
        False,
    ),
    "quiz": (dict[str, Any] | None, "an object {attemptId, score, maxScore}", False),
    "metadata": (Any, "JSON", False),
}
"""The type of each field of an event, its words, and whether it is required."""
_QUIZ_FIELDS: Mapping[str, tuple[Any, str, bool]] = {
    "attemptId": (OutsideId, _ID, True),
    "score": (Annotated[float, Meta(ge=0, le=1e9)], _POINTS, True),
    "maxScore": (Annotated[float, Meta(gt=0, le=1e9)], "a number above 0", True),
}
_MAX_SHOWN = 64
_JSON_WORDS = {"None": "null", "True": "true", "False": "false"}
_QUIZ_NEEDED = "a quiz_attempt needs quiz: {attemptId, score, maxScore}"


def faults_in_words(decoded: Any, otherwise: str) -> str:
    """Return all faults of an event that does not have the types of ``SentEvent``.

    ``otherwise`` is the decoder's message, for a fault that is not found here.
    """
    if not isinstance(decoded, dict):
        return f"An event must be an object: {otherwise}."
    faults = [*_field_faults(decoded, _FIELDS, "")]
    if isinstance(decoded.get("quiz"), dict):
        faults += _field_faults(decoded["quiz"], _QUIZ_FIELDS, "quiz.")
    kind = decoded.get("eventType")
    if kind in list(EventType):
        if decoded.get("chapterId") is None and kind not in TYPES_WITHOUT_CHAPTER:
            faults.append(f"a {kind} event needs a chapterId")
        if kind == EventType.QUIZ_ATTEMPT and decoded.get("quiz") is None:
            faults.append(_QUIZ_NEEDED)
    return _sentence(faults or [otherwise])


def all_faults(sent: SentEvent, sender: EventSender, first: RejectedEvent) -> RejectedEvent:
    """Return the rejection of a well-typed event with its other faults in words too.

    The code and the first words stay those of ``first``.
    """
    if first.code == "forbidden":
        return first
    others = [text for code, text in _other_faults(sent, sender) if code != first.code]
    if not others:
        return first
    message = f"{first.message.rstrip('.')}; {'; '.join(others)}."
    return RejectedEvent(first.id, first.code, message)


def _other_faults(sent: SentEvent, sender: EventSender) -> Iterator[tuple[str, str]]:
    if not has_valid_ids(sent):
        yield "invalid_id", ID_RULE
    kind = sent.event_type
    if sent.chapter_id is None and kind not in TYPES_WITHOUT_CHAPTER:
        yield "chapter_required", f"a {kind} event needs a chapterId"
    if kind is EventType.QUIZ_ATTEMPT:
        if sent.quiz is None:
            yield "quiz_required", _QUIZ_NEEDED
        elif sent.quiz.score > sent.quiz.max_score:
            yield "invalid_score", "the score is above maxScore"
    if kind in MANAGED_TYPES and not sender.may_manage:
        yield "forbidden", f"a {kind} needs the role service or manager"


def _field_faults(
    decoded: Mapping[str, Any], fields: Mapping[str, tuple[Any, str, bool]], prefix: str
) -> Iterator[str]:
    unknown = [name for name in decoded if name not in fields]
    for name, (kind, words, is_required) in fields.items():
        value = decoded.get(name, UNSET)
        if value is UNSET:
            if is_required:
                yield f"{prefix}{name} is missing{_misspelt(name, unknown)}"
        elif name == "eventType" and isinstance(value, str):
            if value not in list(EventType):
                yield unknown_type(value)
        else:
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError:
                yield f"{prefix}{name} is {_shown(value)}; it must be {words}"


def unknown_type(word: str) -> str:
    """Return the fault of an unknown event type, with the nearest and all known ones."""
    known = [kind.value for kind in EventType]
    near = difflib.get_close_matches(word[:_MAX_SHOWN], known, n=1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return f"eventType {_shown(word)} is not known; {hint}known are {', '.join(known)}"


def _misspelt(name: str, unknown: Collection[str]) -> str:
    """Return a hint at the unknown field that may be meant for a missing one."""
    plain = {each.replace("_", "").lower(): each for each in unknown}
    near = plain.get(name.lower())
    if near is None:
        found = difflib.get_close_matches(name, [each[:_MAX_SHOWN] for each in unknown], n=1)
        near = found[0] if found else None
    return "" if near is None else f" ({_shown(near)} is not known; did you mean `{name}`?)"


def _shown(value: Any) -> str:
    """Return a short value for a message; long ones and objects by their kind."""
    if isinstance(value, str):
        is_short = len(value) <= _MAX_SHOWN and value.isprintable()
        return f"`{value}`" if is_short else "text"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = str(value)
    return _JSON_WORDS.get(text, text) if len(text) <= _MAX_SHOWN else "a number"


def _sentence(faults: Collection[str]) -> str:
    text = "; ".join(faults).rstrip(".")
    if text.startswith("a "):
        text = f"A{text[1:]}"
    return f"{text}."
