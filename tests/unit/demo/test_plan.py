"""The plan of a class: the same for the same seed, and with everything in it that players do."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest

from homeroom.demo.environment import example_courses
from homeroom.demo.expected import compute_expected
from homeroom.demo.workload import (
    LATER_CHAPTER,
    MAX_BATCH_EVENTS,
    Workload,
    generate_workload,
    parse_outline,
)

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def plan() -> Workload:
    return generate_workload(example_courses(), learners=200, seed=1, now=NOW)


def test_the_same_seed_gives_the_same_requests_and_another_gives_others(plan: Workload) -> None:
    courses = example_courses()
    assert generate_workload(courses, learners=200, seed=1, now=NOW) == plan
    assert generate_workload(courses, learners=200, seed=2, now=NOW) != plan


def test_a_track_is_in_order_and_within_the_play(plan: Workload) -> None:
    for learner in plan.learners:
        moments = [delivery.at for delivery in learner.track]
        assert moments == sorted(moments)
        assert all(0 <= at <= 1 for at in moments)


def test_ids_are_uuid7_and_each_belongs_to_one_learner(plan: Workload) -> None:
    owner: dict[str, str] = {}
    for learner in plan.learners:
        for delivery in learner.track:
            for event in delivery.events:
                assert UUID(event["id"]).version == 7
                assert owner.setdefault(event["id"], learner.user_id) == learner.user_id


def test_about_two_thirds_finish_some_drop_out_and_some_never_begin(plan: Workload) -> None:
    found = Counter(
        each.status for each in compute_expected(plan, example_courses()).courses.values()
    )
    assert 0.6 <= found["completed"] / found.total() <= 0.75
    assert found["in_progress"] > 10
    assert found["registered"] > 5
    assert any(len(learner.courses) == 2 for learner in plan.learners)


def test_what_goes_wrong_between_player_and_server_is_in_it(plan: Workload) -> None:
    expected = compute_expected(plan, example_courses())
    deliveries = [each for learner in plan.learners for each in learner.track]
    sent = Counter(event["id"] for each in deliveries for event in each.events)
    assert sum(count - 1 for count in sent.values()) > 500, "repeats"
    assert sum(each.cut for each in deliveries) > 20, "dropped connections"
    assert expected.conflicts > 5
    assert len(expected.ids("rejected")) > 10
    assert len(expected.ids("held")) > 10
    assert {each.sender for each in deliveries} == {"player", "grader"}
    stamps = {type(event["timestamp"]) for each in deliveries for event in each.events}
    assert stamps == {int, str}
    # a batch may grow by what is repeated or wrong in it
    assert min(len(each.events) for each in deliveries) >= 1
    assert max(len(each.events) for each in deliveries) <= MAX_BATCH_EVENTS + 4


def test_events_come_late_and_out_of_order(plan: Workload) -> None:
    late = 0
    for learner in plan.learners:
        seen = ""
        for delivery in learner.track:
            first = min(event["id"] for event in delivery.events)  # v7 ids sort by time
            late += first < seen
            seen = max(seen, first)
    assert late > 100


def test_a_quiz_is_failed_at_first_by_some(plan: Workload) -> None:
    attempts = Counter(
        (learner.user_id, event["chapterId"])
        for learner in plan.learners
        for delivery in learner.track
        if delivery.sender == "grader"
        for event in {event["id"]: event for event in delivery.events}.values()
    )
    assert any(count > 1 for count in attempts.values())


def test_the_later_chapter_is_in_no_course_that_is_published_at_first(plan: Workload) -> None:
    late = next(each for each in example_courses() if each.id == plan.late_course)
    assert LATER_CHAPTER not in {lesson.id for lesson in late.lessons}
    later = parse_outline(late.with_chapter(LATER_CHAPTER, "Later"))
    assert later.lessons[:-1] == late.lessons
    assert later.lessons[-1].id == LATER_CHAPTER
    assert not later.lessons[-1].required


def test_a_class_needs_a_course_and_a_learner() -> None:
    with pytest.raises(ValueError, match="needs a course"):
        generate_workload([], learners=1, seed=1, now=NOW)
    with pytest.raises(ValueError, match="needs a course"):
        generate_workload(example_courses(), learners=0, seed=1, now=NOW)
