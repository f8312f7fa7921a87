"""Rules of merging, rolling up and scoring, one by one."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from homeroom.catalogue.api import Chapter, Course, Enrolment, MoveOn, QuizPolicy, Unit
from homeroom.progress.event import EventType, ProgressEvent, SentQuiz
from homeroom.progress.replay import attempt_at
from homeroom.progress.rollup import (
    ChapterState,
    QuizAttempt,
    course_grade,
    initial_state,
    is_satisfied,
    merge_event,
    passes_quiz,
    percent,
    quiz_score,
    recompute,
    satisfied_at,
    scaled_score,
)


def course(*chapters: Chapter, quiz_policy: QuizPolicy = "best") -> Course:
    return Course("c", 1, "C", (Unit("u", "U", chapters),), quiz_policy=quiz_policy)


def chapter(id: str = "a", **more: Any) -> Chapter:
    return Chapter(id, id, "u", **more)


def event(kind: EventType = EventType.CHAPTER_PROGRESS, at: int = 10, **more: Any) -> ProgressEvent:
    members: dict[str, Any] = {
        "id": "1", "user_id": "ada", "course_id": "c", "chapter_id": "a", "type": kind,
        "progress": None, "time_spent": 0, "quiz": None, "occurred_at": at, "received_at": at,
        "at": at, "body_hash": b"", "metadata": None, "flags": 0, "trusted": True, **more,
    }  # fmt: skip
    return ProgressEvent(**members)


def quiz_event(points: float, of: float = 10, at: int = 10, **more: Any) -> ProgressEvent:
    return event(EventType.QUIZ_ATTEMPT, at, quiz=SentQuiz("t", points, of), **more)


def merged(*events: ProgressEvent, into: Chapter | None = None) -> ChapterState:
    state = ChapterState()
    for each in events:
        merge_event(state, each, into or chapter(pass_threshold=8_000))
    return state


def test_progress_is_the_maximum_and_time_is_the_sum_in_any_order() -> None:
    events = [
        event(progress=5_000, time_spent=10, at=3),
        event(progress=0, time_spent=20, at=9),
        event(progress=7_000, time_spent=30, at=6),
    ]
    for order in permutations(events):
        state = merged(*order)
        assert (state.progress, state.time_spent, state.last_at) == (7_000, 60, 9)
        assert state.completed_at is None


def test_completed_is_sticky_and_dated_by_the_earliest_proof() -> None:
    events = [
        event(progress=10_000, at=8),
        event(progress=0, at=20),
        event(EventType.CHAPTER_COMPLETE, progress=10_000, at=5),
    ]
    for order in permutations(events):
        assert merged(*order).completed_at == 5


def test_9999_basis_points_complete_nothing() -> None:
    assert merged(event(progress=9_999)).completed is False


def test_a_heartbeat_moves_time_only() -> None:
    state = merged(event(EventType.HEARTBEAT, progress=10_000, time_spent=5))
    assert (state.progress, state.completed, state.time_spent) == (0, False, 5)


def test_a_fail_after_a_pass_changes_nothing() -> None:
    for order in permutations([quiz_event(9, at=4), quiz_event(0, at=7), quiz_event(8, at=6)]):
        assert merged(*order).passed_at == 4


def test_an_untrusted_attempt_passes_nothing_but_its_time_counts() -> None:
    state = merged(quiz_event(10, trusted=False, time_spent=60))
    assert (state.passed, state.time_spent) == (False, 60)


@pytest.mark.parametrize(
    ("points", "of", "scaled", "passed"),
    [
        (0, 10, 0, False),
        (7.999, 10, 7_999, False),
        (8, 10, 8_000, True),
        (10, 10, 10_000, True),
        (2, 3, 6_666, False),
        (0.29, 1, 2_900, False),
        (999_999.999, 1_000_000, 9_999, True),
        (1e-9, 1e9, 0, False),
    ],
)
def test_a_score_is_rounded_down_and_0_is_a_score(
    points: float, of: float, scaled: int, passed: bool
) -> None:
    assert scaled_score(quiz_event(points, of)) == scaled
    assert passes_quiz(quiz_event(points, of), chapter(pass_threshold=8_000)) is passed


def test_a_threshold_of_0_is_passed_by_0_and_no_threshold_by_nothing() -> None:
    assert passes_quiz(quiz_event(0), chapter(pass_threshold=0)) is True
    assert passes_quiz(quiz_event(10), chapter()) is False
    assert passes_quiz(quiz_event(10), None) is False
    assert scaled_score(event()) is None


@pytest.mark.parametrize(
    ("move_on", "completed", "passed", "expected"),
    [
        (MoveOn.COMPLETED, 3, None, 3),
        (MoveOn.COMPLETED, None, 5, None),
        (MoveOn.PASSED, 3, None, None),
        (MoveOn.PASSED, None, 5, 5),
        (MoveOn.COMPLETED_AND_PASSED, 3, None, None),
        (MoveOn.COMPLETED_AND_PASSED, 3, 5, 5),
        (MoveOn.COMPLETED_AND_PASSED, 7, 5, 7),
        (MoveOn.COMPLETED_OR_PASSED, None, 5, 5),
        (MoveOn.COMPLETED_OR_PASSED, 3, 5, 3),
        (MoveOn.COMPLETED_OR_PASSED, None, None, None),
    ],
)
def test_a_chapter_is_satisfied_by_its_move_on_from_the_time_of_the_deciding_event(
    move_on: MoveOn, completed: int | None, passed: int | None, expected: int | None
) -> None:
    state = ChapterState(completed_at=completed, passed_at=passed)
    assert satisfied_at(chapter(move_on=move_on), state) == expected
    assert is_satisfied(chapter(move_on=move_on), state) is (expected is not None)


def test_a_not_applicable_chapter_is_satisfied_at_no_time() -> None:
    free = chapter(move_on=MoveOn.NOT_APPLICABLE)
    assert is_satisfied(free, ChapterState()) is True
    assert satisfied_at(free, ChapterState()) is None


def test_percent_is_weighted_over_required_chapters_and_rounded_down() -> None:
    whole = course(
        chapter("a", weight=10_000),
        chapter("b", weight=20_000),
        chapter("c", required=False, weight=1_000_000),
        chapter("d", move_on=MoveOn.NOT_APPLICABLE),
    )
    states = {"a": ChapterState(5_000), "c": ChapterState(10_000, completed_at=1)}
    state = recompute(whole, states)
    assert percent(whole, state) == 1_666
    assert (state.satisfied, state.required_satisfied) == (2, 0)


def test_percent_reaches_100_only_when_everything_required_is_satisfied() -> None:
    # The second chapter weighs so little that rounding alone would hide it.
    whole = course(chapter("a", weight=10_000_000_000), chapter("b", weight=1))
    done = {"a": ChapterState(10_000, completed_at=1)}
    assert percent(whole, recompute(whole, done)) == 9_999
    nothing_weighs = course(chapter("a", weight=10_000), chapter("b", weight=0))
    assert percent(nothing_weighs, recompute(nothing_weighs, done)) == 9_999
    both = {**done, "b": ChapterState(10_000, completed_at=1)}
    assert percent(whole, recompute(whole, both)) == 10_000


def test_a_chapter_that_the_version_lacks_counts_its_time_and_nothing_else() -> None:
    whole = course(chapter("a"))
    states = {"gone": ChapterState(10_000, 30, 1, None, 40), "a": ChapterState(2_500, 5)}
    state = recompute(whole, states, unattributed=7, last_at=3)
    assert percent(whole, state) == 2_500
    assert (state.satisfied, state.time_spent, state.last_at) == (0, 42, 40)


def test_a_course_without_measured_chapters_has_no_percentage() -> None:
    for whole in (course(), course(chapter(required=False)), course(chapter(weight=0))):
        assert percent(whole, initial_state(whole)) is None


def attempts(*scores: int) -> list[QuizAttempt]:
    return [
        QuizAttempt("q", f"t{at}", scaled, None, at, f"e{at}") for at, scaled in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("policy", "expected"), [("best", 9_000), ("latest", 0), ("first", 5_000), ("average", 4_666)]
)
def test_the_policy_decides_which_attempts_score(policy: str, expected: int) -> None:
    for order in permutations(attempts(5_000, 9_000, 0)):
        assert quiz_score(order, policy) == expected
    assert quiz_score([], policy) is None
    assert quiz_score(attempts(0), policy) == 0


def test_a_grade_is_the_mean_of_attempted_quizzes_and_none_is_not_0() -> None:
    whole = course(chapter("q"), chapter("r"), chapter("s"))
    other = QuizAttempt("r", "t", 10_000, None, 1, "e")
    gone = QuizAttempt("removed", "t", 1, None, 1, "e")
    assert course_grade(whole, []) is None
    assert course_grade(whole, [gone]) is None
    assert course_grade(whole, attempts(0)) == 0
    assert course_grade(whole, [*attempts(0), other, gone]) == 5_000


def test_an_event_belongs_to_the_attempt_that_was_open_at_its_time() -> None:
    enrolments = [Enrolment("u", "c", n, 1, "in_progress", 0, opened) for n, opened in
               ((1, 0), (2, 100), (3, 200))]  # fmt: skip
    for at, attempt in ((-5, 1), (0, 1), (99, 1), (100, 2), (199, 2), (200, 3), (999, 3)):
        assert attempt_at(enrolments, at).attempt == attempt
