"""Roll-up of events into chapters, quiz scores and courses (pure).

Rules B3 to B8 and B13: progress is a maximum, time spent a sum of deltas that each have an id,
``completed``, ``passed`` and ``waived`` never become false. So the same events give the same state
in every order, however they are split and repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from homeroom.catalogue.api import Chapter, Course, MoveOn
from homeroom.progress.event import FULL, EventType, ProgressEvent

_HEARTBEAT, _WAIVED = EventType.HEARTBEAT, EventType.CHAPTER_WAIVED


class ChapterState(msgspec.Struct, array_like=True, gc=False):
    """State of a learner's chapter in one attempt. Times are microseconds UTC.

    Stored as a JSON array in this order: a new field comes last, with a default.
    """

    progress: int = 0
    """Basis points."""
    time_spent: int = 0
    """Seconds."""
    completed_at: int | None = None
    """The earliest time at which an event reported it complete, else None."""
    passed_at: int | None = None
    """The earliest time at which a quiz attempt that counts passed it, else None."""
    last_at: int = 0
    """The time of the latest event, waivers apart; 0 if there is none."""
    waived_at: int | None = None
    """The time of the earliest waiver, else None."""

    @property
    def completed(self) -> bool:
        """Return whether an event reported the chapter complete; that never changes back."""
        return self.completed_at is not None

    @property
    def passed(self) -> bool:
        """Return whether a quiz attempt passed it; a later fail changes nothing."""
        return self.passed_at is not None


def merge_states(left: ChapterState, right: ChapterState) -> ChapterState:
    """Return the state that two sets of events give together, from the state of each."""
    completed_at, passed_at, waived_at = left.completed_at, left.passed_at, left.waived_at
    # Most events set none of these, and one function call takes longer than the rest here.
    if right.completed_at is not None:
        completed_at = _earliest(completed_at, right.completed_at)
    if right.passed_at is not None:
        passed_at = _earliest(passed_at, right.passed_at)
    if right.waived_at is not None:
        waived_at = _earliest(waived_at, right.waived_at)
    return ChapterState(
        left.progress if left.progress > right.progress else right.progress,
        left.time_spent + right.time_spent,
        completed_at,
        passed_at,
        left.last_at if left.last_at > right.last_at else right.last_at,
        waived_at,
    )


def carried_chapter(state: ChapterState) -> ChapterState:
    """Return the state that a renewed attempt starts with: all but the time (B12)."""
    return replace(state, time_spent=0)


def _earliest(left: int | None, right: int) -> int:
    return right if left is None or right < left else left


def merge_event(state: ChapterState, event: ProgressEvent, chapter: Chapter | None) -> None:
    """Apply an event to a chapter's state, in place.

    ``chapter`` is the chapter in the course version under which the event is recorded: a quiz's
    threshold comes from there. None if that version lacks it.
    """
    at = event.at
    state.time_spent += event.time_spent
    if event.type is _WAIVED:  # no activity of the learner
        if state.waived_at is None or at < state.waived_at:
            state.waived_at = at
        return
    if at > state.last_at:
        state.last_at = at
    progress = event.progress
    if progress is not None and event.type is not _HEARTBEAT:
        if progress > state.progress:
            state.progress = progress
        if progress == FULL and (state.completed_at is None or at < state.completed_at):
            state.completed_at = at
    if event.quiz is None or not event.trusted or not passes_quiz(event, chapter):
        return
    if state.passed_at is None or at < state.passed_at:
        state.passed_at = at


def scaled_score(event: ProgressEvent) -> int | None:
    """Return a quiz score in units of 1e-4, rounded down; None without a quiz."""
    if event.quiz is None:
        return None
    score = int(event.quiz.score / event.quiz.max_score * FULL + 1e-6)
    return FULL - 1 if score >= FULL and event.quiz.score < event.quiz.max_score else score


def passes_quiz(event: ProgressEvent, chapter: Chapter | None) -> bool:
    """Return whether a quiz attempt reaches the threshold (``>=``, as in cmi5)."""
    score = scaled_score(event)
    if score is None or chapter is None or chapter.pass_threshold is None:
        return False
    return score >= chapter.pass_threshold


class QuizAttempt(msgspec.Struct, array_like=True, frozen=True):
    """The latest report of one quiz attempt that counts. Scores are in units of 1e-4.

    Snapshots store it as a JSON array in this order: a new field comes last, with a default.
    """

    chapter_id: str
    attempt_id: str
    scaled: int
    threshold: int | None
    """The chapter's threshold when the attempt was recorded; later edits do not change it."""
    at: int
    """Microseconds UTC."""
    event_id: str
    """The event that reported it."""

    @property
    def key(self) -> tuple[str, str]:
        """Return what identifies it within a learner's attempt."""
        return self.chapter_id, self.attempt_id

    def is_later_than(self, other: QuizAttempt) -> bool:
        """Return whether this report replaces another: by time, then by the event's id."""
        return (self.at, self.event_id) > (other.at, other.event_id)


def quiz_attempt_of(event: ProgressEvent, chapter: Chapter | None) -> QuizAttempt | None:
    """Return the quiz attempt that an event reports; None if no score counts."""
    scaled = scaled_score(event)
    if scaled is None or event.quiz is None or event.chapter_id is None or not event.trusted:
        return None
    threshold = None if chapter is None else chapter.pass_threshold
    return QuizAttempt(
        event.chapter_id, event.quiz.attempt_id, scaled, threshold, event.at, event.id
    )


def quiz_score(attempts: Sequence[QuizAttempt], policy: str) -> int | None:
    """Return a quiz's score by the course's policy; None if there is no attempt."""
    if not attempts:
        return None
    in_time = sorted(attempts, key=lambda attempt: (attempt.at, attempt.attempt_id))
    match policy:
        case "latest":
            return in_time[-1].scaled
        case "first":
            return in_time[0].scaled
        case "average":
            return sum(attempt.scaled for attempt in attempts) // len(attempts)
        case _:
            return max(attempt.scaled for attempt in attempts)


def attempts_by_chapter(attempts: Iterable[QuizAttempt]) -> dict[str, list[QuizAttempt]]:
    """Group quiz attempts by chapter."""
    grouped: dict[str, list[QuizAttempt]] = {}
    for attempt in attempts:
        grouped.setdefault(attempt.chapter_id, []).append(attempt)
    return grouped


def course_grade(course: Course, attempts: Iterable[QuizAttempt]) -> int | None:
    """Return the mean score of the course's attempted quizzes; None if there is none."""
    grouped = attempts_by_chapter(attempts)
    scores = [
        score
        for id in course.chapters
        if (score := quiz_score(grouped.get(id, []), course.quiz_policy)) is not None
    ]
    return sum(scores) // len(scores) if scores else None


class CourseState(msgspec.Struct):
    """State of a learner's course in one attempt; each commit adds its changes."""

    version: int
    weighted_sum: int = 0
    """Sum of weight x progress (1e-4 units x basis points) over the measured chapters."""
    required_satisfied: int = 0
    """Number of measured chapters that are satisfied."""
    satisfied: int = 0
    """Number of chapters that are satisfied, optional ones included."""
    time_spent: int = 0
    """Seconds of all chapters, and of events without a chapter."""
    unattributed: int = 0
    """Seconds of events without a chapter."""
    last_at: int = 0
    last_seq: int = 0
    """``seq`` of the attempt's latest ledger row, where the chain of its rows starts."""
    chapters: dict[str, ChapterState] = {}
    """By chapter id: chapters with events, also those that the version no longer has."""


class ChapterShare(NamedTuple):
    """A chapter's contribution to its course."""

    weighted: int
    satisfied: bool


def is_satisfied(chapter: Chapter, state: ChapterState) -> bool:
    """Return whether a chapter is satisfied, by its ``moveOn`` or a waiver (B6)."""
    return chapter.satisfied(
        state.completed_at is not None, state.passed_at is not None, state.waived_at is not None
    )


def share(chapter: Chapter, state: ChapterState) -> ChapterShare:
    """Return a chapter's share of the course; satisfied ones count in full (B7)."""
    satisfied = is_satisfied(chapter, state)
    if not chapter.measured:
        return ChapterShare(0, satisfied)
    return ChapterShare(chapter.weight * (FULL if satisfied else state.progress), satisfied)


def add_change(
    course: CourseState, chapter: Chapter, before: ChapterShare, after: ChapterShare
) -> None:
    """Add the difference between two shares of a chapter to the course."""
    course.weighted_sum += after.weighted - before.weighted
    if after.satisfied and not before.satisfied:
        course.satisfied += 1
        course.required_satisfied += chapter.measured


def add_merged_change(
    course: CourseState, chapter: Chapter, before: ChapterState, after: ChapterState
) -> bool:
    """Add the change of merged events; return if the chapter was satisfied before.

    Equal to ``add_change`` of both shares. Most events only raise the progress of a chapter without
    completion, pass and waiver; those take an eighth of the time here.
    """
    if (
        chapter.measured  # so it is not satisfied without completion, pass or waiver
        and after.completed_at is None
        and after.passed_at is None
        and after.waived_at is None
    ):
        course.weighted_sum += chapter.weight * (after.progress - before.progress)
        return False
    old_share = share(chapter, before)
    add_change(course, chapter, old_share, share(chapter, after))
    return old_share.satisfied


def recompute(
    course: Course,
    chapters: Mapping[str, ChapterState],
    *,
    unattributed: int = 0,
    last_at: int = 0,
    last_seq: int = 0,
) -> CourseState:
    """Compute a course state from its chapters; ``add_change`` must sum up to it.

    ``last_at`` is the latest time of events without a chapter.
    """
    state = CourseState(
        version=course.version,
        unattributed=unattributed,
        last_at=last_at,
        last_seq=last_seq,
        chapters=dict(chapters),
    )
    state.time_spent = unattributed + sum(chapter.time_spent for chapter in chapters.values())
    nothing, untouched = ChapterShare(0, satisfied=False), ChapterState()
    for id, chapter in course.chapters.items():
        add_change(state, chapter, nothing, share(chapter, chapters.get(id, untouched)))
    for chapter_state in chapters.values():
        state.last_at = max(state.last_at, chapter_state.last_at)
    return state


def initial_state(course: Course) -> CourseState:
    """Return the state of a course without any event."""
    return recompute(course, {})


def state_in_version(course: Course, old: CourseState) -> CourseState:
    """Return the state of an attempt in another version of its course."""
    return recompute(
        course,
        old.chapters,
        unattributed=old.unattributed,
        last_at=old.last_at,
        last_seq=old.last_seq,
    )


def carried_over_state(course: Course, old: CourseState) -> CourseState:
    """Return the state that a renewed attempt starts with (B12)."""
    return recompute(course, {id: carried_chapter(each) for id, each in old.chapters.items()})


def satisfied_at(chapter: Chapter, state: ChapterState) -> int | None:
    """Return the time from which a chapter was satisfied; None if it is not."""
    earned, waived = _earned_at(chapter, state), state.waived_at
    if earned is None or waived is None:
        return waived if earned is None else earned
    return min(earned, waived)


def _earned_at(chapter: Chapter, state: ChapterState) -> int | None:
    """Return the time from which the learner's own events satisfied a chapter."""
    completed, passed = state.completed_at, state.passed_at
    if not chapter.satisfied(completed is not None, passed is not None):
        return None
    times = [time for time in (completed, passed) if time is not None]
    match chapter.move_on:
        case MoveOn.COMPLETED:
            return completed
        case MoveOn.PASSED:
            return passed
        case MoveOn.COMPLETED_AND_PASSED:
            return max(times)
        case MoveOn.COMPLETED_OR_PASSED:
            return min(times)
        case MoveOn.NOT_APPLICABLE:
            return None


def percent(course: Course, state: CourseState) -> int | None:
    """Return course progress in basis points, rounded down; None if unmeasured.

    10,000 is returned only if every required chapter is satisfied (B7).
    """
    if course.total_weight == 0:
        return None
    points = state.weighted_sum // course.total_weight
    if state.required_satisfied < len(course.required):
        return min(points, FULL - 1)
    return min(points, FULL)
