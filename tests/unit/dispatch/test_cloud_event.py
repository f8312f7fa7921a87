"""The messages to analytics and HR."""

from __future__ import annotations

from typing import Any

from homeroom.catalogue.api import Chapter, Course, Unit
from homeroom.completion.api import ChapterRecord, Completion
from homeroom.dispatch.cloud_event import build_course_completed, build_training_record
from homeroom.dispatch.message import MessageKey

KEY = MessageKey("id-1", "hr", "org.homeroom.training.recorded")
COURSE = Course("data", 3, "Data", (Unit("u", "U", (Chapter("c1", "One", "u"),)),))


def completion(score: int | None = None, time_spent: int = 0) -> Completion:
    chapters = (ChapterRecord("c1", 9_999, time_spent, True),)
    at = 1_795_338_000_000_000
    return Completion("id-1", "ada", "data", 1, 3, "Data", at, at + 5, score, time_spent, chapters)


def hr(done: Completion) -> dict[str, Any]:
    names = {"given_name": None, "family_name": None, "credential_url": None}
    found: dict[str, Any] = build_training_record(KEY, "https://h", done, COURSE, **names)["data"]
    return found


def test_zero_is_a_score_and_none_is_null() -> None:
    for score, told in ((0, 0.0), (None, None), (10_000, 1.0), (3_333, 0.3333)):
        done = completion(score)
        assert build_course_completed(KEY, "https://h", done)["data"]["score"] == told
        assert hr(done)["score"] == told
    assert hr(completion(0))["score"] is not None


def test_progress_is_never_rounded_up_to_100() -> None:
    [chapter] = build_course_completed(KEY, "https://h", completion())["data"]["chapters"]
    assert chapter["progress"] == 99.99


def test_hours_are_the_time_that_was_spent() -> None:
    assert hr(completion(time_spent=5_400))["hours"] == 1.5
    assert hr(completion(time_spent=0))["hours"] == 0


def test_a_course_without_validity_never_expires() -> None:
    assert hr(completion())["validUntil"] is None


def test_the_envelope_is_a_cloudevent_with_the_dispatchs_id() -> None:
    event = build_course_completed(KEY, "https://h", completion())
    assert {name: event[name] for name in ("specversion", "id", "source", "subject", "time")} == {
        "specversion": "1.0",
        "id": KEY.id,
        "source": "https://h",
        "subject": "id-1",
        "time": "2026-11-22T09:00:00.000000Z",
    }
