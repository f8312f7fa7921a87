"""Checks of lessons and plans, and the rules of status, progress and remaining time."""

from __future__ import annotations

import pytest
from tests.support.lesson_plan import PLAIN, plan_of

from homeroom.lessonplans.lesson import (
    LessonAssessment,
    LessonBody,
    check_lesson,
    check_plan,
    find_links,
)
from homeroom.lessonplans.plan import LessonProgress, plan_progress, plan_status

PLAN = plan_of(PLAIN)
SLOT, BODY = PLAN.lessons[0].slot, PLAN.lessons[0].body
assert BODY is not None


def codes(**changes: object) -> list[str]:
    assert BODY is not None
    body = LessonBody.model_validate(BODY.model_copy(update=changes).model_dump())
    findings = check_lesson(SLOT, body, titles=["Taken"], allowed_links={"example.org/flour"})
    return [finding.code for finding in findings]


def assessment(outcome_id: str, level: str = "remember") -> LessonAssessment:
    return LessonAssessment(
        outcome_id=outcome_id, kind="formative", bloom_level=level, method="m", text="t"
    )


def test_a_good_lesson_has_no_findings() -> None:
    assert codes() == []
    assert codes(notes="Read https://example.org/flour.") == []


def test_each_fault_of_a_lesson_is_found() -> None:
    assert BODY is not None
    assert codes(activities=BODY.activities[:2]) == ["minutes"]
    assert codes(title="TAKEN") == ["title_taken"]
    assert codes(notes="See www.example.com/x") == ["invented_link"]
    assert codes(references=["example.net"]) == ["invented_link"]
    assert codes(assessments=[]) == ["not_assessed"]
    assert codes(assessments=[assessment("f1"), assessment("f9")]) == ["invented_outcome"]
    assert codes(assessments=[assessment("f1", "create")]) == ["bloom_level"]


def test_each_fault_of_a_plan_is_found() -> None:
    whole = [(each.slot, each.body) for each in PLAN.lessons if each.body is not None]
    assert check_plan(PLAN.curriculum, whole) == []
    codes = {finding.code for finding in check_plan(PLAN.curriculum, whole[1:])}
    assert codes == {"contact_time", "not_taught", "not_assessed"}
    twice = [*whole, whole[-1]]
    assert "title_taken" in {each.code for each in check_plan(PLAN.curriculum, twice)}


def test_links_are_found_in_sentences() -> None:
    text = 'See (http://Example.org/a?b=c), "www.example.com" and example.edu/x. Not 3.5.'
    assert find_links([text]) == {"example.org/a?b=c", "www.example.com", "example.edu/x"}


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["pending", "pending"], "pending"),
        (["queued", "pending"], "in_progress"),
        (["complete", "queued"], "in_progress"),
        (["complete", "failed"], "failed"),
        (["complete", "cancelled"], "cancelled"),
        (["complete", "complete"], "complete"),
        (["complete", "pending"], "pending"),
    ],
)
def test_the_status_of_a_plan_follows_from_its_modules(states: list[str], status: str) -> None:
    assert plan_status(states) == status


def lesson(last_round: int, minutes: int = 60, took_ms: int | None = None) -> LessonProgress:
    return LessonProgress(
        module_idx=0, minutes=minutes, round=last_round, took_ms=took_ms, has_gaps=False
    )


def test_the_remaining_time_is_unknown_before_the_first_lesson_and_then_follows_the_mean() -> None:
    lessons = [lesson(last_round=0) for _ in range(4)]
    assert plan_progress({0: 1}, lessons).seconds_left is None
    lessons[0] = lesson(last_round=1, took_ms=2_500)
    progress = plan_progress({0: 1}, lessons)
    assert (progress.percent, progress.lessons_left, progress.seconds_left) == (25.0, 3, 8)
    lessons = [lesson(last_round=1, took_ms=2_500) for _ in range(4)]
    assert plan_progress({0: 1}, lessons).seconds_left == 0


def test_progress_counts_only_the_lessons_of_the_given_modules() -> None:
    other = LessonProgress(module_idx=1, minutes=60, round=0, took_ms=None, has_gaps=False)
    assert plan_progress({0: 1}, [lesson(last_round=1), other]).percent == 100.0
    assert plan_progress({0: 1, 1: 1}, [lesson(last_round=1), other]).percent == 50.0


def test_progress_is_never_rounded_up_to_all_of_it() -> None:
    lessons = [lesson(last_round=1, minutes=9_999), lesson(last_round=0, minutes=1)]
    assert plan_progress({0: 1}, lessons).percent == 99.9
