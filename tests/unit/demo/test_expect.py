"""What must be found is worked out from the events alone, here on cases done by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from homeroom.demo.expected import ExpectedCourse, ExpectedResults, compute_expected
from homeroom.demo.workload import (
    EventSender,
    Outline,
    PlannedLearner,
    PlannedRequest,
    Workload,
    parse_outline,
)

COURSE = parse_outline(
    {
        "courseId": "c",
        "title": "Course",
        "units": [
            {
                "id": "u",
                "title": "Unit",
                "chapters": [
                    {"id": "read", "title": "Read", "weight": 1},
                    {
                        "id": "test",
                        "title": "Test",
                        "weight": 2,
                        "moveOn": "Passed",
                        "quiz": {"passThreshold": 0.7},
                    },
                    {"id": "extra", "title": "Extra", "required": False},
                ],
            }
        ],
    }
)


def event(id: str, kind: str = "chapter_progress", **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "userId": "u1",
        "courseId": "c",
        "chapterId": "read",
        "eventType": kind,
        "timestamp": "2026-11-01T10:00:00Z",
        **more,
    }


def quiz(id: str, score: int, minute: int = 0) -> dict[str, Any]:
    return event(
        id,
        "quiz_attempt",
        chapterId="test",
        timestamp=f"2026-11-02T10:{minute:02d}:00Z",
        quiz={"attemptId": id, "score": score, "maxScore": 10},
    )


def work_out(
    *sent: tuple[EventSender, dict[str, Any]], course: Outline = COURSE
) -> ExpectedResults:
    track = [PlannedRequest("u1", sender, 0.0, (each,)) for sender, each in sent]
    return compute_expected(
        Workload((PlannedLearner("u1", {"c": "finishes"}, track),), "c"), [course]
    )


def outcome(*sent: tuple[EventSender, dict[str, Any]]) -> ExpectedCourse:
    return work_out(*sent).courses["u1", "c"]


def test_time_is_summed_once_an_id_and_progress_is_the_maximum() -> None:
    first = event("a", progress=60, timeSpent=10)
    found = outcome(
        ("player", first),
        ("player", first),
        ("player", event("b", progress=40, timeSpent=5)),
        ("player", event("h", "heartbeat", chapterId=None, timeSpent=3)),
    )
    assert (found.time_spent, found.chapters["read"].progress) == (18, 60)
    assert found.progress == 20.0  # 60 % of a third
    assert found.status == "in_progress"


def test_percent_is_rounded_down() -> None:
    assert outcome(("player", event("a", progress=100))).progress == 33.33


def test_a_course_ends_with_the_last_thing_that_it_asks_for() -> None:
    found = outcome(
        ("player", event("a", "chapter_complete")),
        ("grader", quiz("q1", 6, minute=1)),
        ("grader", quiz("q2", 7, minute=2)),
    )
    assert found.status == "completed"
    assert found.progress == 100
    assert found.completed_at == datetime(2026, 11, 2, 10, 2, tzinfo=UTC)
    assert found.chapters["test"].best_score == 0.7
    assert found.done == {"read", "test"}


def test_a_score_of_zero_is_a_score_and_a_learners_own_is_none() -> None:
    assert outcome(("grader", quiz("q1", 0))).chapters["test"].best_score == 0
    forged = outcome(("player", quiz("q1", 10)))
    assert forged.chapters["test"].best_score is None
    assert forged.done == set()


def test_who_only_enrolled_is_registered() -> None:
    assert outcome().status == "registered"


def test_a_second_body_under_an_id_is_a_conflict_and_counts_nothing() -> None:
    first, other = event("a", timeSpent=5), event("a", timeSpent=6)
    found = work_out(("player", first), ("player", other), ("player", other))
    assert (found.conflict_answers, found.conflicts) == (2, 1)
    assert found.seconds == 5


def test_faulty_events_are_rejected_and_those_of_a_later_chapter_are_held() -> None:
    found = work_out(
        ("player", event("n", timeSpent=-1)),
        ("player", event("p", progress=250)),
        ("player", event("f", userId="u2")),
        ("player", event("l", chapterId="added-later", timeSpent=7)),
    )
    assert found.ids("rejected") == {"n", "p", "f"}
    assert found.ids("held") == {"l"}
    assert found.seconds == 7
