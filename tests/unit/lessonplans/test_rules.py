"""The checks find what they are for, and the rules behind status and time left."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.unit.lessonplans.plans import PLAIN, plan_of

from homeroom.lessonplans.check import check_lesson, check_plan, links
from homeroom.lessonplans.lesson import Assessment, LessonBody
from homeroom.lessonplans.status import plan_status, progress

PLAN = plan_of(PLAIN)
SLOT, BODY = PLAN.lessons[0].slot, PLAN.lessons[0].body
assert BODY is not None


def codes(**changes: object) -> list[str]:
    assert BODY is not None
    body = LessonBody.model_validate(BODY.model_copy(update=changes).model_dump())
    found = check_lesson(SLOT, body, titles=["Taken"], allowed_links={"example.org/flour"})
    return [each.code for each in found]


def assessment(outcome_id: str, level: str = "remember") -> Assessment:
    return Assessment(
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
    found = {each.code for each in check_plan(PLAN.curriculum, whole[1:])}
    assert found == {"contact_time", "not_taught", "not_assessed"}
    twice = [*whole, whole[-1]]
    assert "title_taken" in {each.code for each in check_plan(PLAN.curriculum, twice)}


def test_links_are_found_in_sentences() -> None:
    text = 'See (http://Example.org/a?b=c), "www.example.com" and example.edu/x. Not 3.5.'
    assert links([text]) == {"example.org/a?b=c", "www.example.com", "example.edu/x"}


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


@dataclass
class Row:
    idx: int = 0
    state: str = "queued"
    round: int = 1
    module_idx: int = 0
    minutes: int = 60
    took_ms: int | None = None


def test_the_time_left_is_unknown_before_the_first_lesson_and_honest_afterwards() -> None:
    lessons = [Row(round=0) for _ in range(4)]
    assert progress([Row()], lessons).seconds_left is None
    lessons[0] = Row(round=1, took_ms=2_500)
    found = progress([Row()], lessons)
    assert (found.percent, found.lessons_left, found.seconds_left) == (25.0, 3, 8)
    lessons = [Row(round=1, took_ms=2_500) for _ in range(4)]
    assert progress([Row()], lessons).seconds_left == 0


def test_progress_is_never_rounded_up_to_all_of_it() -> None:
    lessons = [Row(round=1, minutes=9_999), Row(round=0, minutes=1)]
    assert progress([Row()], lessons).percent == 99.9
