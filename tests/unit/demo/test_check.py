"""Every line of the check can fail: what was found is changed a little, and the line says so."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from homeroom.demo.comparison import ActualResults, all_agree, compare_results
from homeroom.demo.expected import ExpectedResults, compute_expected
from homeroom.demo.player import AnswerTally
from homeroom.demo.workload import PlannedLearner, PlannedRequest, Workload, parse_outline

COURSE = parse_outline(
    {
        "courseId": "c",
        "badgeTemplateId": "t",
        "units": [{"id": "u", "chapters": [{"id": "one"}]}],
    }
)
DONE = {
    "id": "e1",
    "userId": "u1",
    "courseId": "c",
    "chapterId": "one",
    "eventType": "chapter_complete",
    "timeSpent": 30,
    "timestamp": "2026-11-02T10:00:00Z",
}
WRONG = {**DONE, "id": "e2", "timeSpent": -1}


def played() -> tuple[ExpectedResults, AnswerTally, dict[str, Any]]:
    """Return one learner who finished one course, with everything as it should be."""
    delivery = PlannedRequest("u1", "player", 0.0, (DONE, WRONG))
    plan = Workload((PlannedLearner("u1", {"c": "finishes"}, [delivery]),), "c")
    answers = AnswerTally()
    answers.record_answer(delivery, {"results": [{"id": "e2", "status": "rejected"}]})
    line = {"status": "completed", "progress": 100.0, "timeSpent": 30, "completedChapters": 1}
    chapter = {"chapterId": "one", "progress": 100.0, "timeSpent": 30, "quiz": None}
    steps = [
        {"name": name, "status": "completed", "lastError": None}
        for name in ("credential", "analytics", "hr")
    ]
    inbox = {"subjects": 1, "doubled": {}, "changedOnRepeat": 0, "refused": 0}
    counts = {"waiting": 0, "delayed": 0, "active": 0, "completed": 0, "failed": 0}
    found = {
        "learners": {("u1", "c"): line},
        "progress": {("u1", "c"): {**line, "chapters": [chapter]}},
        "completions": [
            {
                "id": "k",
                "userId": "u1",
                "courseId": "c",
                "completedAt": datetime(2026, 11, 2, 10, tzinfo=UTC).isoformat(),
                "steps": steps,
            }
        ],
        "dispatches": [
            {"destination": "analytics", "status": "delivered"},
            {"destination": "hr", "status": "delivered"},
        ],
        "queues": {
            "credentials": {"counts": {**counts, "completed": 1}},
            "dispatch": {"counts": {**counts, "completed": 2}},
        },
        "quarantined": [],
        "partners": {
            "credly": {"badges": 1, "doubled": 0, "refused": 0},
            "analytics": dict(inbox),
            "hr": dict(inbox),
            "mail": {"accepted": 1},
        },
        "credentials": [],
        "verified": set(),
    }
    return compute_expected(plan, [COURSE]), answers, found


def off(answers: AnswerTally, found: dict[str, Any]) -> set[str]:
    expected, _, _ = played()
    return {
        line.what
        for line in compare_results(expected, answers, ActualResults(**found))
        if not line.ok
    }


def test_everything_agrees_where_nothing_was_changed() -> None:
    expected, answers, found = played()
    assert all_agree(compare_results(expected, answers, ActualResults(**found)))


def test_no_comparison_is_no_agreement() -> None:
    assert not all_agree([])


@pytest.mark.parametrize(
    ("path", "value", "noticed"),
    [
        (("learners", ("u1", "c"), "timeSpent"), 60, "seconds acknowledged, in the list"),
        (("progress", ("u1", "c"), "timeSpent"), 0, "seconds acknowledged, one by one"),
        (("learners", ("u1", "c"), "progress"), 99.99, "progress, in the list"),
        (("completions", 0, "completedAt"), "2026-11-02T10:00:01Z", "date of every completion"),
        (("completions", 0, "steps", 2, "status"), "failed", "steps done: hr"),
        (("completions", 0, "userId"), "u2", "one completion a finished course"),
        (("dispatches", 0, "status"), "failed", "analytics: dispatches delivered"),
        (("queues", "dispatch", "counts", "active"), 1, "jobs active"),
        (("queues", "dispatch", "counts", "failed"), 1, "jobs failed"),
        (("queues", "credentials", "counts", "completed"), 2, "jobs completed: credentials"),
        (("partners", "credly", "doubled"), 1, "badges issued twice"),
        (("partners", "credly", "badges"), 2, "badges at Credly"),
        (("partners", "mail", "accepted"), 0, "mails to learners who finished a course"),
        (
            ("credentials",),
            [{"issuer": "homeroom", "userId": "u1", "courseId": "c"}],
            "one credential signed here a finished course",
        ),
        (("verified",), {"k"}, "of these verified with the keys"),
        (("partners", "hr", "doubled"), {"u1|c|1": 2}, "hr: courses received twice"),
        (("partners", "analytics", "changedOnRepeat"), 1, "analytics: repeats that changed"),
        (("partners", "hr", "refused"), 1, "requests a partner refused"),
        (("quarantined",), [{"reason": "unknown_chapter"}], "of these not counted yet"),
        (("quarantined",), [{"reason": "conflict"}], "conflicting events kept aside"),
    ],
)
def test_a_number_that_is_off_is_noticed(
    path: tuple[Any, ...], value: object, noticed: str
) -> None:
    _, answers, found = played()
    changed = deepcopy(found)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert noticed in off(answers, changed)


def test_a_second_completion_of_a_course_is_noticed() -> None:
    _, answers, found = played()
    found["completions"] *= 2
    assert "one completion a finished course" in off(answers, found)


def test_an_event_that_was_accepted_twice_or_never_is_noticed() -> None:
    _, answers, found = played()
    answers.by_id["e1"]["accepted"] += 1
    assert "events accepted twice" in off(answers, found)
    del answers.by_id["e1"]
    assert {"events acknowledged", "seconds acknowledged, in the list"} <= off(answers, found)


def test_an_event_that_should_have_been_rejected_is_noticed() -> None:
    _, answers, found = played()
    del answers.by_id["e2"]["rejected"]
    answers.by_id["e2"]["duplicate"] += 1
    found_off = off(answers, found)
    assert {"faulty events rejected", "events acknowledged"} <= found_off
