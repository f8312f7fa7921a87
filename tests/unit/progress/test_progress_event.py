"""How one event is read and judged: every boundary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeroom.progress.event import (
    FUTURE_TOLERANCE,
    MAX_METADATA_BYTES,
    OLDEST_PLAUSIBLE,
    BodyFault,
    Event,
    EventType,
    Flag,
    Rejected,
    Sender,
    identity_of,
    read_body,
)

NOW = 1_795_000_000_000_000
ANYBODY = Sender(person=None, trusted=True, may_manage=True)
ADA = Sender(person="ada", trusted=False, may_manage=False)


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


def judged(sender: Sender = ANYBODY, **more: Any) -> Event | Rejected:
    (found,) = read_body(json.dumps([sent(**more)]).encode(), sender, NOW)
    return found


def taken(sender: Sender = ANYBODY, **more: Any) -> Event:
    found = judged(sender, **more)
    assert isinstance(found, Event), found
    return found


def code(sender: Sender = ANYBODY, **more: Any) -> str:
    found = judged(sender, **more)
    assert isinstance(found, Rejected), found
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
        with pytest.raises(BodyFault) as fault:
            read_body(body.encode(), ANYBODY, NOW)
        assert fault.value.status == 400


@pytest.mark.parametrize(
    ("seconds", "fine"),
    [(0, True), (86_400, True), (86_401, False), (-1, False), (1.5, False), (10**30, False)],
)
def test_time_spent_is_whole_seconds_of_at_most_a_day(seconds: float, fine: bool) -> None:
    found = judged(timeSpent=seconds)
    if fine:
        assert isinstance(found, Event)
        assert found.time_spent == seconds
    else:
        assert isinstance(found, Rejected)


@pytest.mark.parametrize("name", ["id", "userId", "courseId", "chapterId"])
def test_ids_have_1_to_128_characters_without_control_characters(name: str) -> None:
    assert isinstance(judged(**{name: "ü" * 128}), Event)
    assert code(**{name: "x" * 129}) == "invalid_event"
    assert code(**{name: "x" * 10_240}) == "invalid_event"
    assert code(**{name: ""}) == "invalid_event"
    for bad in ("\x00", "\n", "\x7f", "\x85", "\u2028"):
        assert code(**{name: f"a{bad}b"}) == "invalid_id"
    found = judged(**{name: "x" * 10_240})
    assert isinstance(found, Rejected)
    assert len(found.id or "") <= 128
    assert len(found.message) < 500


@pytest.mark.parametrize(
    ("timestamp", "occurred_at", "at", "flags"),
    [
        ("1970-01-01T00:00:00Z", 0, NOW, Flag.ANCIENT),
        (0, 0, NOW, Flag.ANCIENT),
        (-1, -1_000, NOW, Flag.ANCIENT),
        ("2099-12-31T23:59:59Z", 4_102_444_799_000_000, NOW, Flag.FUTURE),
        (NOW // 1_000, NOW, NOW, 0),
        (NOW / 1_000 + 0.001, NOW + 1, NOW, 0),
        ((NOW + FUTURE_TOLERANCE) // 1_000, NOW + FUTURE_TOLERANCE, NOW, 0),
        ((NOW + FUTURE_TOLERANCE) // 1_000 + 1, NOW + FUTURE_TOLERANCE + 1_000, NOW, Flag.FUTURE),
        (OLDEST_PLAUSIBLE // 1_000, OLDEST_PLAUSIBLE, OLDEST_PLAUSIBLE, 0),
        (OLDEST_PLAUSIBLE // 1_000 - 1, OLDEST_PLAUSIBLE - 1_000, NOW, Flag.ANCIENT),
    ],
)  # fmt: skip
def test_odd_times_are_kept_flagged_and_clamped_for_ordering(
    timestamp: Any, occurred_at: int, at: int, flags: int
) -> None:
    found = taken(timestamp=timestamp)
    assert (found.occurred_at, found.at, found.flags) == (occurred_at, at, flags)


def test_a_time_with_an_offset_is_the_same_instant() -> None:
    assert taken(timestamp="2026-11-18T14:06:40+02:00") == taken(
        timestamp="2026-11-18T12:06:40.000Z"
    )


@pytest.mark.parametrize(
    "timestamp",
    [253_402_300_800_000, -62_135_596_800_001, 1e300, -1e300, 10**40, "0001-01-01T00:00:00+14:00"],
)
def test_times_that_no_calendar_has_are_rejected(timestamp: Any) -> None:
    assert code(timestamp=timestamp) in {"invalid_timestamp", "invalid_event"}


@pytest.mark.parametrize("timestamp", ["2026-11-22T09:00:00", "yesterday", "", None, True, []])
def test_times_without_a_zone_or_sense_are_rejected(timestamp: Any) -> None:
    assert code(timestamp=timestamp) == "invalid_event"


def test_a_chapter_is_needed_but_for_heartbeats_and_resets() -> None:
    for kind in ("chapter_progress", "chapter_complete", "quiz_attempt"):
        quiz = {"attemptId": "t", "score": 1, "maxScore": 1}
        assert code(eventType=kind, chapterId="absent", quiz=quiz) == "chapter_required"
    for kind in ("heartbeat", "progress_reset"):
        assert taken(eventType=kind, chapterId="absent").chapter_id is None


def test_a_chapter_complete_is_100_percent_whatever_it_says() -> None:
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
    assert (found.code if isinstance(found, Rejected) else None) == expected


def test_metadata_is_kept_in_one_form_and_has_16_kib_at_most() -> None:
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


def test_deep_metadata_is_kept() -> None:
    found, fine = read_body(deep(100), ANYBODY, NOW)
    assert isinstance(found, Event)
    assert isinstance(fine, Event)
    assert found.metadata == "[" * 100 + "]" * 100


@pytest.mark.parametrize("metadata", [b'{"n": 1e400}', b'"\xff"', b'{"\xff": 1}'])
def test_metadata_that_is_no_json_after_all_is_rejected_alone(metadata: bytes) -> None:
    bad = json.dumps(sent(id="bad"))[:-1].encode() + b', "metadata": ' + metadata + b"}"
    body = b"[" + bad + b"," + json.dumps(sent(id="fine")).encode() + b"]"
    found, fine = read_body(body, ANYBODY, NOW)
    assert isinstance(found, Rejected)
    assert (found.id, found.code) == ("bad", "invalid_event")
    assert isinstance(fine, Event)


def test_a_body_too_deep_to_be_read_is_a_fault_and_never_a_crash() -> None:
    with pytest.raises(BodyFault, match="nested too deeply") as fault:
        read_body(deep(100_000), ANYBODY, NOW)
    assert fault.value.status == 422
    outcomes = set()
    for depth in range(850, 1_010):  # where the interpreter's own limit lies
        try:
            outcomes.add(type(read_body(deep(depth), ANYBODY, NOW)[0]))
        except BodyFault as found:
            outcomes.add(type(found))
    assert outcomes <= {Event, Rejected, BodyFault}
    assert BodyFault in outcomes


def test_one_bad_event_does_not_fail_its_neighbours() -> None:
    body = json.dumps(
        {
            "batchId": "b",
            "sentAt": 7,
            "events": [sent(id="1"), 7, None, [], sent(id=3), sent(id="2")],
        }
    )
    found = read_body(body.encode(), ANYBODY, NOW)
    assert [isinstance(each, Event) for each in found] == [True, False, False, False, False, True]
    assert [each.id for each in found] == ["1", None, None, None, None, "2"]


def test_a_bare_array_and_an_object_are_the_same() -> None:
    bare = read_body(json.dumps([sent()]).encode(), ANYBODY, NOW)
    assert read_body(b"  " + json.dumps({"events": [sent()]}).encode(), ANYBODY, NOW) == bare
    assert read_body(b"\n[" + json.dumps(sent()).encode() + b"]", ANYBODY, NOW) == bare


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
    with pytest.raises(BodyFault) as fault:
        read_body(body, ANYBODY, NOW)
    assert fault.value.status == status


def test_1000_events_are_taken() -> None:
    body = json.dumps([sent(id=str(number)) for number in range(1_000)]).encode()
    assert len(read_body(body, ANYBODY, NOW)) == 1_000


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
    assert identity_of(taken(**base)) == identity_of(taken(progress=40.0))
    assert identity_of(taken(**{**base, **change})) != identity_of(taken(**base))


def test_every_type_of_event_is_known() -> None:
    assert {kind.value for kind in EventType} == {
        "chapter_progress", "chapter_complete", "quiz_attempt", "heartbeat", "progress_reset",
        "chapter_waived", "attempt_renewed",
    }  # fmt: skip
    assert code(eventType="chapter_started") == "invalid_event"
