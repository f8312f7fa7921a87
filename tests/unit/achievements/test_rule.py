"""Rules of achievements: what counts, when a rule is fulfilled, what a file may hold."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.achievements.rule import Condition, describe, measure
from homeroom.achievements.rule_document import parse_rule, read_condition
from homeroom.completion.api import CourseResult
from homeroom.errors import Invalid


def result(course_id: str, at: int, score: int | None = None) -> CourseResult:
    return CourseResult(f"{course_id}-{at}", "ada", course_id, at, score)


# "a" was completed in two attempts; "b" without a score.
RESULTS = [result("a", 1, 7_000), result("b", 2), result("a", 3, 9_500), result("c", 4, 9_000)]


@pytest.mark.parametrize(
    ("condition", "done", "required", "missing", "met_by"),
    [
        (Condition(1), 1, 1, (), "a-1"),
        (Condition(3), 3, 3, (), "c-4"),
        (Condition(5), 3, 5, (), None),
        (Condition(1, minimum_score=9_000), 1, 1, (), "a-3"),
        (Condition(2, minimum_score=9_000), 2, 2, (), "c-4"),
        (Condition(1, minimum_score=9_501), 0, 1, (), None),
        (Condition(2, ("b", "c")), 2, 2, (), "c-4"),
        (Condition(3, ("b", "c", "d")), 2, 3, ("d",), None),
        (Condition(1, ("b",), 1), 0, 1, ("b",), None),
        (Condition(1, ("d", "b")), 1, 1, (), "b-2"),
    ],
)
def test_a_rule_is_fulfilled_by_the_completion_that_made_it_so(
    condition: Condition, done: int, required: int, missing: tuple[str, ...], met_by: str | None
) -> None:
    found = measure(condition, RESULTS)
    assert (found.done, found.required, found.missing_course_ids) == (done, required, missing)
    assert (found.met_by and found.met_by.id) == met_by


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"type": "courses"}, "Complete 1 course."),
        ({"type": "courses", "count": 5}, "Complete 5 courses."),
        (
            {"type": "courses", "count": 1, "courseIds": ["a", "b"]},
            "Complete 1 course of these: a, b.",
        ),
        ({"type": "score", "minimum": 0.925}, "Reach a score of at least 92.5 % in 1 course."),
        ({"type": "path", "courseIds": ["a", "b"]}, "Complete all of these courses: a, b."),
    ],
)
def test_a_condition_is_stored_as_it_was_given_and_described(
    document: dict[str, Any], text: str
) -> None:
    rule = parse_rule({"title": " First ", "condition": document}, "rules.yaml")
    assert rule.title == "First"
    stored = read_condition(rule.condition_json())
    assert stored == rule.condition
    assert describe(stored.to_condition()) == text


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ({"type": "colour"}, "condition"),
        ({"type": "courses", "count": 0}, "condition.courses.count"),
        ({"type": "courses", "count": 2.5}, "condition.courses.count"),
        ({"type": "courses", "count": True}, "condition.courses.count"),
        ({"type": "courses", "count": 3, "courseIds": ["a", "b"]}, "condition.courses"),
        ({"type": "courses", "courseIds": ["a", "a"]}, "condition.courses.courseIds"),
        ({"type": "score"}, "condition.score.minimum"),
        ({"type": "score", "minimum": 1.5}, "condition.score.minimum"),
        ({"type": "score", "minimum": float("nan")}, "condition.score.minimum"),
        ({"type": "path", "courseIds": []}, "condition.path.courseIds"),
        ({"type": "path", "courseIds": ["a\u202e"]}, "condition.path.courseIds.0"),
        ({"type": "path", "courseIds": ["a"], "sum": 1}, "condition.path.sum"),
    ],
)
def test_a_faulty_condition_is_refused_with_its_place(
    condition: dict[str, Any], place: str
) -> None:
    with pytest.raises(Invalid) as refused:
        parse_rule({"title": "T", "condition": condition}, "rules.yaml")
    assert f"rules.yaml: {place}: " in refused.value.message
