"""Decoding and validation of one event, at every boundary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeroom.progress.event import (
    FUTURE_TOLERANCE,
    MAX_METADATA_BYTES,
    OLDEST_PLAUSIBLE_TIME,
    EventFlag,
    EventSender,
    EventType,
    ProgressEvent,
    RejectedEvent,
    event_identity,
)
from homeroom.progress.event_body import InvalidBody, decode_body, read_body

NOW = 1_795_000_000_000_000
ANYBODY = EventSender(person=None, trusted=True, may_manage=True)
ADA = EventSender(person="ada", trusted=False, may_manage=False)


def sent(**more: Any) -> dict[str, Any]:
    members = {
        "id": "1",
        "userId": "ada",
        "courseId": "fire",
        "chapterId": "a",
        "eventType": "chapter_progress",
        "timestamp": NOW // 1_000,
        **more,
    }
    return {name: value for name, value in members.items() if value != "absent"}


def judged(sender: EventSender = ANYBODY, **more: Any) -> ProgressEvent | RejectedEvent:
    (found,) = decode_body(json.dumps([sent(**more)]).encode(), sender, NOW)
    return found


def taken(sender: EventSender = ANYBODY, **more: Any) -> ProgressEvent:
    found = judged(sender, **more)
    assert isinstance(found, ProgressEvent), found
    return found


def code(sender: EventSender = ANYBODY, **more: Any) -> str:
    found = judged(sender, **more)
    assert isinstance(found, RejectedEvent), found
    return found.code


@pytest.mark.parametrize(
    ("percent", "points"),
    [
        (0, 0),
        (0.004, 0),
        (0.01, 1),
        (33.333, 3_333),
        (0.29, 29),
        (57.57, 5_757),
        (99.99, 9_999),
        (99.999, 9_999),
        (99.9999999999, 9_999),
        (100, 10_000),
        (100.0, 10_000),
        (None, None),
    ],
)
def test_percent_is_rounded_down_and_never_up_to_100(
    percent: float | None, points: int | None
) -> None:
    assert taken(progress=percent).progress == points


@pytest.mark.parametrize("percent", [-0.001, -1, 100.001, 250, 1e308, "50", True, [], {}])
def test_progress_outside_0_to_100_is_rejected(percent: Any) -> None:
    assert code(progress=percent) == "invalid_event"


def test_no_number_at_all_makes_the_body_unreadable() -> None:
    for text in ("NaN", "Infinity", "-Infinity"):
        body = json.dumps([sent(progress=0)]).replace('"progress": 0', f'"progress": {text}')
        with pytest.raises(InvalidBody) as fault:
            decode_body(body.encode(), ANYBODY, NOW)
        assert fault.value.status == 400


@pytest.mark.parametrize(
    ("seconds", "fine"),
    [(0, True), (86_400, True), (86_401, False), (-1, False), (10**30, False)],
)
def test_time_spent_is_seconds_of_at_most_a_day(seconds: float, fine: bool) -> None:
    found = judged(timeSpent=seconds)
    if fine:
        assert isinstance(found, ProgressEvent)
        assert found.time_spent == seconds
    else:
        assert isinstance(found, RejectedEvent)


@pytest.mark.parametrize("name", ["id", "userId", "courseId", "chapterId"])
def test_ids_have_1_to_128_characters_without_control_characters(name: str) -> None:
    assert isinstance(judged(**{name: "ü" * 128}), ProgressEvent)
    assert code(**{name: "x" * 129}) == "invalid_event"
    assert code(**{name: "x" * 10_240}) == "invalid_event"
    assert code(**{name: ""}) == "invalid_event"
    for bad in ("\x00", "\n", "\x7f", "\x85", "\u2028"):
        assert code(**{name: f"a{bad}b"}) == "invalid_id"
    for unaddressable in (".", "..", " ", "\u200b", "a\u202eb"):
        assert code(**{name: unaddressable}) == "invalid_id"
    for fine in ("...", ".a", "a/b", "http://a.example/b#c"):
        assert isinstance(judged(**{name: fine}), ProgressEvent)
    found = judged(**{name: "x" * 10_240})
    assert isinstance(found, RejectedEvent)
    assert len(found.id or "") <= 128
    assert len(found.message) < 500


@pytest.mark.parametrize(
    ("timestamp", "occurred_at", "at", "flags"),
    [
        ("1970-01-01T00:00:00Z", 0, NOW, EventFlag.ANCIENT),
        (0, 0, NOW, EventFlag.ANCIENT),
        (-1, -1_000, NOW, EventFlag.ANCIENT),
        ("2099-12-31T23:59:59Z", 4_102_444_799_000_000, NOW, EventFlag.FUTURE),
        (NOW // 1_000, NOW, NOW, 0),
        (NOW / 1_000 + 0.001, NOW + 1, NOW, 0),
        ((NOW + FUTURE_TOLERANCE) // 1_000, NOW + FUTURE_TOLERANCE, NOW, 0),
        (
            (NOW + FUTURE_TOLERANCE) // 1_000 + 1,
            NOW + FUTURE_TOLERANCE + 1_000,
            NOW,
            EventFlag.FUTURE,
        ),
        (OLDEST_PLAUSIBLE_TIME // 1_000, OLDEST_PLAUSIBLE_TIME, OLDEST_PLAUSIBLE_TIME, 0),
        (OLDEST_PLAUSIBLE_TIME // 1_000 - 1, OLDEST_PLAUSIBLE_TIME - 1_000, NOW, EventFlag.ANCIENT),
    ],
)  # fmt: skip
def test_implausible_times_are_stored_flagged_and_clamped_for_ordering(
    timestamp: Any, occurred_at: int, at: int, flags: int
) -> None:
    found = taken(timestamp=timestamp)
    assert (found.occurred_at, found.at, found.flags) == (occurred_at, at, flags)


def test_a_time_with_an_offset_is_the_same_instant() -> None:
    assert taken(timestamp="2026-11-18T14:06:40+02:00") == taken(
        timestamp="2026-11-18T12:06:40.000000Z"
    )


@pytest.mark.parametrize(
    "timestamp",
    [253_402_300_800_000, -62_135_596_800_001, 1e300, -1e300, 10**40, "0001-01-01T00:00:00+14:00"],
)
def test_times_outside_the_calendar_are_rejected(timestamp: Any) -> None:
    assert code(timestamp=timestamp) in {"invalid_timestamp", "invalid_event"}


@pytest.mark.parametrize("timestamp", ["2026-11-22T09:00:00", "yesterday", "", None, True, []])
def test_times_without_a_zone_or_sense_are_rejected(timestamp: Any) -> None:
    assert code(timestamp=timestamp) == "invalid_event"


def test_all_types_but_heartbeats_and_resets_need_a_chapter() -> None:
    for kind in ("chapter_progress", "chapter_complete", "quiz_attempt"):
        quiz = {"attemptId": "t", "score": 1, "maxScore": 1}
        assert code(eventType=kind, chapterId="absent", quiz=quiz) == "chapter_required"
    for kind in ("heartbeat", "progress_reset"):
        assert taken(eventType=kind, chapterId="absent").chapter_id is None


def test_a_chapter_complete_is_100_percent_whatever_progress_it_has() -> None:
    assert taken(eventType="chapter_complete", progress=3).progress == 10_000


@pytest.mark.parametrize(
    ("quiz", "expected"),
    [
        (None, "quiz_required"),
        ({"attemptId": "t", "score": 0, "maxScore": 10}, None),
        ({"attemptId": "t", "score": 10, "maxScore": 10}, None),
        ({"attemptId": "t", "score": 10.01, "maxScore": 10}, "invalid_score"),
        ({"attemptId": "t", "score": -1, "maxScore": 10}, "invalid_event"),
        ({"attemptId": "t", "score": 0, "maxScore": 0}, "invalid_event"),
        ({"attemptId": "", "score": 1, "maxScore": 10}, "invalid_event"),
        ({"attemptId": "t\n", "score": 1, "maxScore": 10}, "invalid_id"),
        ({"score": 1, "maxScore": 10}, "invalid_event"),
    ],
)
def test_a_quiz_has_points_of_a_maximum(quiz: Any, expected: str | None) -> None:
    found = judged(eventType="quiz_attempt", quiz=quiz)
    assert (found.code if isinstance(found, RejectedEvent) else None) == expected


def test_metadata_is_stored_in_one_form_and_has_16_kib_at_most() -> None:
    first = taken(metadata={"b": 1, "a": [1, {"z": None}]})
    again = taken(metadata={"a": [1, {"z": None}], "b": 1})
    assert first.metadata == '{"a":[1,{"z":null}],"b":1}'
    assert first == again
    fits = MAX_METADATA_BYTES - len('{"m":""}')
    assert taken(metadata={"m": "x" * fits}).metadata is not None
    assert code(metadata={"m": "x" * (fits + 1)}) == "metadata_too_large"
    assert taken(metadata=None).metadata is None


def deep(depth: int) -> bytes:
    nested = json.dumps(sent(id="deep"))[:-1] + ', "metadata": ' + "[" * depth + "]" * depth + "}"
    return f'{{"events": [{nested}, {json.dumps(sent(id="fine"))}]}}'.encode()


def test_deep_metadata_is_stored() -> None:
    found, fine = decode_body(deep(100), ANYBODY, NOW)
    assert isinstance(found, ProgressEvent)
    assert isinstance(fine, ProgressEvent)
    assert found.metadata == "[" * 100 + "]" * 100


@pytest.mark.parametrize("metadata", [b'{"n": 1e400}', b'"\xff"', b'{"\xff": 1}'])
def test_metadata_that_is_no_json_rejects_its_event_only(metadata: bytes) -> None:
    bad = json.dumps(sent(id="bad"))[:-1].encode() + b', "metadata": ' + metadata + b"}"
    body = b"[" + bad + b"," + json.dumps(sent(id="fine")).encode() + b"]"
    found, fine = decode_body(body, ANYBODY, NOW)
    assert isinstance(found, RejectedEvent)
    assert (found.id, found.code) == ("bad", "invalid_event")
    assert isinstance(fine, ProgressEvent)


def test_a_body_nested_too_deeply_is_a_fault_and_never_a_crash() -> None:
    with pytest.raises(InvalidBody, match="nested too deeply") as fault:
        decode_body(deep(100_000), ANYBODY, NOW)
    assert fault.value.status == 422
    outcomes = set()
    for depth in range(850, 1_010):  # the interpreter's own recursion limit
        try:
            outcomes.add(type(decode_body(deep(depth), ANYBODY, NOW)[0]))
        except InvalidBody as found:
            outcomes.add(type(found))
    assert outcomes <= {ProgressEvent, RejectedEvent, InvalidBody}
    assert InvalidBody in outcomes


def test_one_bad_event_does_not_fail_its_neighbours() -> None:
    body = json.dumps(
        {
            "batchId": "b",
            "sentAt": 7,
            "events": [sent(id="1"), 7, None, [], sent(id=3), sent(id="2")],
        }
    )
    found = decode_body(body.encode(), ANYBODY, NOW)
    assert [isinstance(each, ProgressEvent) for each in found] == [
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    assert [each.id for each in found] == ["1", None, None, None, None, "2"]


def test_a_bare_array_and_an_object_are_the_same() -> None:
    bare = decode_body(json.dumps([sent()]).encode(), ANYBODY, NOW)
    assert decode_body(b"  " + json.dumps({"events": [sent()]}).encode(), ANYBODY, NOW) == bare
    assert decode_body(b"\n[" + json.dumps(sent()).encode() + b"]", ANYBODY, NOW) == bare


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1,", 400),
        (b"\xff\xfe", 400),
        (b"{}", 422),
        (b"7", 422),
        (b'"text"', 422),
        (b"[]", 422),
        (b'{"events": []}', 422),
        (b'{"events": {}}', 422),
        (b'{"events": null}', 422),
        (b"[" + b",".join([b"{}"] * 1_001) + b"]", 413),
    ],
)
def test_a_body_without_a_list_of_events_is_a_fault_of_its_own(body: bytes, status: int) -> None:
    with pytest.raises(InvalidBody) as fault:
        decode_body(body, ANYBODY, NOW)
    assert fault.value.status == status


def test_1000_events_are_accepted() -> None:
    body = json.dumps([sent(id=str(number)) for number in range(1_000)]).encode()
    assert len(decode_body(body, ANYBODY, NOW)) == 1_000


def test_a_learner_sends_for_itself_and_resets_nothing() -> None:
    assert code(ADA, userId="bob") == "forbidden"
    assert code(ADA, eventType="progress_reset") == "forbidden"
    assert taken(ADA).trusted is False
    assert taken(ANYBODY, userId="bob").trusted is True


@pytest.mark.parametrize(
    "change",
    [
        {"progress": 41},
        {"timeSpent": 1},
        {"timestamp": NOW // 1_000 - 1},
        {"chapterId": "b"},
        {"courseId": "other"},
        {"userId": "bob"},
        {"eventType": "heartbeat"},
        {"metadata": {"x": 1}},
    ],
)
def test_a_repeat_has_the_same_identity_and_any_change_another(change: dict[str, Any]) -> None:
    base = {"progress": 40, "timeSpent": 0}
    assert event_identity(taken(**base)) == event_identity(taken(progress=40.0))
    assert event_identity(taken(**{**base, **change})) != event_identity(taken(**base))


def test_every_type_of_event_is_known() -> None:
    assert {kind.value for kind in EventType} == {
        "chapter_progress", "chapter_complete", "quiz_attempt", "heartbeat", "progress_reset",
        "chapter_waived", "attempt_renewed",
    }  # fmt: skip
    assert code(eventType="chapter_started") == "invalid_event"


@pytest.mark.parametrize(
    ("types", "asked", "sender", "priority"),
    [
        (["chapter_progress"], None, ANYBODY, "NORMAL"),
        (["heartbeat", "heartbeat"], None, ANYBODY, "LOW"),
        (["heartbeat", "chapter_progress"], None, ANYBODY, "NORMAL"),
        (["chapter_progress", "chapter_complete"], None, ANYBODY, "HIGH"),
        (["heartbeat", "quiz_attempt"], None, ADA, "HIGH"),
        (["chapter_progress"], "high", ANYBODY, "HIGH"),
        (["chapter_complete"], "low", ANYBODY, "LOW"),
        (["chapter_complete"], "low", ADA, "LOW"),
        (["chapter_progress"], "high", ADA, "NORMAL"),
        (["heartbeat"], "high", ADA, "LOW"),
        (["quiz_attempt"], "high", ADA, "HIGH"),
    ],
)
@pytest.mark.parametrize("unknown", [False, True], ids=["plain", "unknown field"])
def test_a_batch_has_the_priority_of_its_highest_event_or_the_one_asked_for(
    types: list[str], asked: str | None, sender: EventSender, priority: str, unknown: bool
) -> None:
    quiz = {"attemptId": "q", "score": 1, "maxScore": 1}
    events = [
        sent(
            id=f"e{n}", userId="ada", eventType=each, quiz=quiz if each == "quiz_attempt" else None
        )
        for n, each in enumerate(types)
    ]
    body = {"events": events, **({"priority": asked} if asked else {})}
    if unknown:  # such a body is decoded event by event
        body["surprise"] = 1
    found = read_body(json.dumps(body).encode(), sender, NOW)
    assert found.priority.name == priority
    assert found.unknown_fields == (("surprise",) if unknown else ())


def test_a_rejected_event_raises_no_priority_and_an_unknown_one_is_refused() -> None:
    foreign = sent(userId="bob", eventType="chapter_complete")
    body = {"events": [foreign, sent(id="e2", userId="ada")], "priority": "high"}
    assert read_body(json.dumps(body).encode(), ADA, NOW).priority.name == "NORMAL"
    with pytest.raises(InvalidBody, match="priority") as refused:
        read_body(json.dumps({**body, "priority": "urgent"}).encode(), ADA, NOW)
    assert refused.value.status == 422
