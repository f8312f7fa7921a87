"""Faults of events in words, unknown fields, fractions and wrong clocks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.progress.event import EventFlag, EventSender, EventType, ProgressEvent, RejectedEvent
from homeroom.progress.event_body import CLOCK_TOLERANCE, MAX_UNKNOWN_FIELDS, read_body
from homeroom.progress.event_validation import MAX_CORRECTED_AGE

NOW = 1_795_000_000_000_000
PLATFORM = EventSender(person=None, trusted=True, may_manage=True)
LEARNER = EventSender(person="ada", trusted=False, may_manage=False)
EVENT = {
    "id": "1",
    "userId": "ada",
    "courseId": "fire",
    "chapterId": "a",
    "eventType": "chapter_progress",
    "timestamp": NOW // 1_000,
}


def rejected(body: Any, sender: EventSender = PLATFORM) -> RejectedEvent:
    [found] = read_body(json.dumps([body]).encode(), sender, NOW).events
    assert isinstance(found, RejectedEvent)
    return found


def accepted(sent_at: Any = None, **more: Any) -> ProgressEvent:
    batch = {"events": [{**EVENT, **more}]} | ({} if sent_at is None else {"sentAt": sent_at})
    [found] = read_body(json.dumps(batch).encode(), PLATFORM, NOW).events
    assert isinstance(found, ProgressEvent), found
    return found


def test_an_unknown_type_is_named_with_the_nearest_and_all_known_ones() -> None:
    found = rejected({**EVENT, "eventType": "chapter_progres"})
    assert found.code == "invalid_event"
    assert found.message == (
        "eventType `chapter_progres` is not known; did you mean `chapter_progress`? known are "
        + ", ".join(EventType)
        + "."
    )


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (
            {"progress": 140, "timeSpent": -1, "timestamp": "yesterday"},
            ["progress is 140", "timeSpent is -1", "timestamp is `yesterday`"],
        ),
        ({"eventType": "quiz_attempt", "progress": "x"}, ["progress is `x`", "needs quiz"]),
        (
            {"eventType": "quiz_attempt", "quiz": {"score": 1}},
            ["quiz.attemptId is missing", "quiz.maxScore is missing"],
        ),
        ({"userId": None, "chapterId": None}, ["userId is null", "needs a chapterId"]),
        ({"id": "x" * 129, "courseId": 7}, ["id is text", "courseId is 7"]),
        ({"metadata": {}, "quiz": []}, ["quiz is an array"]),
        ({"timestamp": [1], "progress": True}, ["timestamp is an array", "progress is true"]),
    ],
)
def test_all_faults_of_an_event_are_in_words(changed: dict[str, Any], parts: list[str]) -> None:
    found = rejected({**EVENT, **changed})
    for part in parts:
        assert part in found.message


def test_a_misspelt_field_is_linked_with_the_missing_one() -> None:
    sent = {name: value for name, value in EVENT.items() if name != "courseId"}
    for word in ("courseID", "course_id", "corseId"):
        assert (
            f"(`{word}` is not known; did you mean `courseId`?)"
            in rejected({**sent, word: "fire"}).message
        )


def test_a_well_typed_event_has_all_its_faults_too() -> None:
    sent = {**EVENT, "chapterId": None, "id": "a\tb", "eventType": "chapter_waived"}
    found = rejected(sent, EventSender(person=None, trusted=True, may_manage=False))
    assert found.code == "invalid_id"
    for part in ("control characters", "needs a chapterId", "role service"):
        assert part in found.message
    assert "chapterId" not in rejected({**sent, "userId": "bob"}, LEARNER).message


_TEXT = st.text("aé\n", max_size=3)
_SCALAR = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | _TEXT
_JSON = _SCALAR | st.lists(_SCALAR, max_size=2) | st.dictionaries(_TEXT, _SCALAR, max_size=2)


@given(st.dictionaries(st.sampled_from([*EVENT, "progress", "quiz", "timeSpent", "x"]), _JSON))
def test_any_event_gets_a_result_with_words(changed: dict[str, Any]) -> None:
    decoded = read_body(json.dumps([{**EVENT, **changed}]).encode(), PLATFORM, NOW)
    [found] = decoded.events
    assert ("x" in decoded.unknown_fields) is ("x" in changed)
    if isinstance(found, RejectedEvent):
        assert found.message.endswith(".")
        assert "Expected" not in found.message


def test_unknown_fields_are_left_out_and_named_once() -> None:
    quiz = {"attemptId": "t", "score": 1, "maxScore": 2, "attempt": 3}
    events = [
        {**EVENT, "sessionId": "s", "metadata": {"x": 1.5}},
        {**EVENT, "id": "2", "sessionId": "t", "eventType": "quiz_attempt", "quiz": quiz},
    ]
    body = {"events": events, "clientID": "c", "batchId": "b", "sentAt": None, "clientId": 7}
    found = read_body(json.dumps(body).encode(), PLATFORM, NOW)
    assert all(isinstance(each, ProgressEvent) for each in found.events)
    assert found.unknown_fields == ("clientID", "sessionId", "quiz.attempt")
    many = {f"{n}{'x' * 100}": 1 for n in range(100)}
    named = read_body(json.dumps([{**EVENT, **many}]).encode(), PLATFORM, NOW).unknown_fields
    assert len(named) == MAX_UNKNOWN_FIELDS
    assert max(map(len, named)) <= 64


@pytest.mark.parametrize(
    ("sent", "stored"), [(12.7, 13), (12.5, 13), (12.4, 12), (0.4, 0), (3.0, 3), (86_400, 86_400)]
)
def test_a_fraction_of_time_spent_is_rounded_half_up(sent: float, stored: int) -> None:
    assert accepted(timeSpent=sent).time_spent == stored


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("sent_at", "timestamp", "counts"),
    [
        (NOW // 1_000 + 2 * HOUR, NOW // 1_000 + HOUR, NOW - HOUR * 1_000),  # it is ahead
        (NOW // 1_000 - 2 * HOUR, NOW // 1_000 - 3 * HOUR, NOW - HOUR * 1_000),  # it is behind
        (HOUR, 0, NOW - HOUR * 1_000),  # it was never set
        (NOW // 1_000 - HOUR, NOW // 1_000, NOW),  # not in the future
        (NOW // 1_000 - HOUR, NOW // 1_000 - 1_000 * HOUR, NOW - MAX_CORRECTED_AGE),
    ],
)
def test_a_wrong_clock_is_corrected_by_sent_at(sent_at: int, timestamp: int, counts: int) -> None:
    found = accepted(sent_at, timestamp=timestamp)
    assert (found.occurred_at, found.at) == (timestamp * 1_000, counts)
    assert found.flags == EventFlag.CLOCK_CORRECTED


@pytest.mark.parametrize(
    "sent_at",
    [NOW // 1_000, (NOW - CLOCK_TOLERANCE) // 1_000, "yesterday", 10**30, {"at": 1}, "2026-11-22"],
)
def test_a_right_clock_and_no_time_correct_nothing(sent_at: Any) -> None:
    found = accepted(sent_at, timestamp=NOW // 1_000 - HOUR)
    assert (found.at, found.flags) == (NOW - HOUR * 1_000, 0)
