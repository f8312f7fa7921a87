"""Changes that one commit makes to a learner's attempt at a course (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from homeroom.catalogue.api import AttemptKey, Course, Enrolment, LearnerCourse
from homeroom.progress.event import ATTEMPT_OPENING_TYPES, EventFlag, EventType, ProgressEvent
from homeroom.progress.rollup import (
    ChapterState,
    CourseState,
    QuizAttempt,
    add_merged_change,
    carried_chapter,
    merge_event,
    merge_states,
    quiz_attempt_of,
    satisfied_at,
)

MICROSECONDS_PER_SECOND = 1_000_000
TIME_TOLERANCE = 5 * MICROSECONDS_PER_SECOND
"""Microseconds by which a reported time may exceed the wall clock before it is flagged."""
_IMPLAUSIBLE, _TWO_COURSES = int(EventFlag.IMPLAUSIBLE_TIME), int(EventFlag.TWO_COURSES)
_WAIVED = EventType.CHAPTER_WAIVED
_EMPTY_CHAPTER = ChapterState()


@dataclass(slots=True)
class CourseAttempt:
    """A learner's attempt at a course, as far as one commit reads and changes it."""

    enrolment: Enrolment
    course: Course
    """In the version of the attempt."""
    state: CourseState | None
    """The stored state; None if the attempt has none yet."""
    last_at: int
    """The time of the latest known event, against which reported times are checked."""
    is_new: bool = False
    moved: bool = False
    last_event_at: int = 0
    last_seq: int = 0
    """``seq`` of the latest ledger row of this commit; 0 if it has no event of this attempt."""
    changes: dict[str, ChapterState] = field(default_factory=dict)
    """State of each chapter from this commit's events alone."""
    quizzes: list[QuizAttempt] = field(default_factory=list)
    """Reports of quiz attempts that count; late ones of attempts that carried over included."""
    unattributed: int = 0

    @property
    def learner_course(self) -> LearnerCourse:
        """Return the user id and the course id."""
        return self.enrolment.user_id, self.enrolment.course_id

    @property
    def key(self) -> AttemptKey:
        """Return the key of its rows."""
        return self.enrolment.user_id, self.enrolment.course_id, self.enrolment.attempt

    def suspicious_time(self, event: ProgressEvent, other_activity: Sequence[int]) -> int:
        """Return the flags of an event with implausible time; no time is cut (B4).

        ``other_activity`` are the times of the learner's last activity in other courses.
        """
        flags, at = 0, event.at
        began = at - event.time_spent * MICROSECONDS_PER_SECOND + TIME_TOLERANCE
        if began < self.last_at <= at:
            flags = _IMPLAUSIBLE
        for other_at in other_activity:
            if began < other_at <= at:
                flags |= _TWO_COURSES
        return flags

    def add_event(self, event: ProgressEvent, seq: int, course: Course) -> None:
        """Add an event with its ``seq`` in the ledger to the changes of this commit.

        ``course`` is the version under which it is recorded.
        """
        at = event.at
        if at > self.last_event_at:
            self.last_event_at = at
        if at > self.last_at and event.type is not _WAIVED:  # a waiver is no activity
            self.last_at = at
        self.last_seq = seq
        chapter_id = event.chapter_id
        if event.type in ATTEMPT_OPENING_TYPES:
            return
        if chapter_id is None:
            self.unattributed += event.time_spent
            return
        change = self.changes.get(chapter_id)
        if change is None:
            change = self.changes[chapter_id] = ChapterState()
        chapter = course.chapters.get(chapter_id)
        merge_event(change, event, chapter)
        if event.quiz is not None and (quiz := quiz_attempt_of(event, chapter)) is not None:
            self.quizzes.append(quiz)

    def carry_over_to(self, following: CourseAttempt) -> None:
        """Add late events of this attempt to the one that carried over from it (B12)."""
        for id, change in self.changes.items():
            inherited = carried_chapter(change)
            own = following.changes.get(id)
            following.changes[id] = inherited if own is None else merge_states(own, inherited)
            following.last_at = max(following.last_at, change.last_at)
        following.last_event_at = max(following.last_event_at, self.last_event_at)
        following.quizzes += self.latest_quizzes()

    def apply_to_state(self, state: CourseState) -> list[str]:
        """Add this commit's changes to the course's state.

        Return the chapters of a completed course whose date of satisfaction changed. A chapter that
        the course no longer has is stored, and adds nothing (rule B11).
        """
        state.unattributed += self.unattributed
        state.time_spent += self.unattributed
        state.last_at = max(state.last_at, self.last_at)
        state.last_seq = self.last_seq or state.last_seq
        completed, earlier = self.enrolment.completed_at is not None, []
        chapters = self.course.chapters
        for id, change in self.changes.items():
            after = change
            before = state.chapters.get(id)
            if before is None:
                before = _EMPTY_CHAPTER
            else:
                after = merge_states(before, change)
            state.chapters[id] = after
            state.time_spent += change.time_spent
            chapter = chapters.get(id)
            if (
                chapter is not None
                and add_merged_change(state, chapter, before, after)
                and completed
                and satisfied_at(chapter, before) != satisfied_at(chapter, after)
            ):
                earlier.append(id)
        return earlier

    def latest_quizzes(self) -> list[QuizAttempt]:
        """Return the latest report of each quiz attempt."""
        latest: dict[tuple[str, str], QuizAttempt] = {}
        for quiz in self.quizzes:
            known = latest.get(quiz.key)
            if known is None or quiz.is_later_than(known):
                latest[quiz.key] = quiz
        return list(latest.values())
