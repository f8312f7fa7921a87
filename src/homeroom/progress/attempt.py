"""One learner's attempt at a course, and what the events of one commit add to it (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from homeroom.catalogue.api import Course, Enrolment
from homeroom.progress.event import OPENS_ATTEMPT, Event, EventType, Flag
from homeroom.progress.merge import ChapterState, carried, join, merge, scaled_score
from homeroom.progress.rollup import CourseState, add_merged, satisfied_at

SECOND = 1_000_000
TIME_TOLERANCE = 5 * SECOND
"""How much longer than the wall clock a reported time may be before it is flagged."""
_IMPLAUSIBLE, _TWO_COURSES = int(Flag.IMPLAUSIBLE_TIME), int(Flag.TWO_COURSES)
_WAIVED = EventType.CHAPTER_WAIVED
_UNTOUCHED = ChapterState()


@dataclass(slots=True)
class Attempt:
    """One learner's attempt at a course, as far as one commit reads and changes it."""

    enrolment: Enrolment
    course: Course
    """In the version of the attempt."""
    state: CourseState | None
    """The course row; None where the learner has none yet."""
    last_at: int
    """The latest event known, for judging reported times."""
    is_new: bool = False
    moved: bool = False
    last_event_at: int = 0
    last_seq: int = 0
    """The latest ledger row of this commit; 0: it has no event of this attempt."""
    changes: dict[str, ChapterState] = field(default_factory=dict)
    """What this commit's events alone make of each chapter."""
    quizzes: list[tuple[Event, Course]] = field(default_factory=list)
    """Quiz attempts that count, each with the course in the version that it is recorded under."""
    inherited: list[tuple[object, ...]] = field(default_factory=list)
    """Rows of quiz attempts that came late for an attempt with which this one began."""
    unattributed: int = 0

    def odd_time(self, event: Event, others: Sequence[int]) -> int:
        """Return the flags of an event whose time spent is implausible; nothing is trimmed (B4).

        ``others`` are the times at which the learner was last active in other courses.
        """
        flags, at = 0, event.at
        began = at - event.time_spent * SECOND + TIME_TOLERANCE
        if began < self.last_at <= at:
            flags = _IMPLAUSIBLE
        for other_at in others:
            if began < other_at <= at:
                flags |= _TWO_COURSES
        return flags

    def take(self, event: Event, seq: int, course: Course) -> None:
        """Let an event change what this commit adds; ``seq`` is its place in the ledger.

        ``course`` is the version under which it is recorded.
        """
        at = event.at
        if at > self.last_event_at:
            self.last_event_at = at
        if at > self.last_at and event.type is not _WAIVED:  # which is not the learner's doing
            self.last_at = at
        self.last_seq = seq
        chapter_id = event.chapter_id
        if event.type in OPENS_ATTEMPT:
            return
        if chapter_id is None:
            self.unattributed += event.time_spent
            return
        change = self.changes.get(chapter_id)
        if change is None:
            change = self.changes[chapter_id] = ChapterState()
        merge(change, event, course.chapters.get(chapter_id))
        if event.quiz is not None and event.trusted:
            self.quizzes.append((event, course))

    def pass_on(self, following: Attempt) -> None:
        """Let the attempt that began with this one have what comes late for this one (B12)."""
        for id, change in self.changes.items():
            inherited = carried(change)
            own = following.changes.get(id)
            following.changes[id] = inherited if own is None else join(own, inherited)
            following.last_at = max(following.last_at, change.last_at)
        following.last_event_at = max(following.last_event_at, self.last_event_at)
        number = following.enrolment.attempt
        following.inherited += [(*row[:2], number, *row[3:]) for row in self.quiz_rows()]

    def add_to(self, state: CourseState) -> list[str]:
        """Add this commit's changes to the course's state.

        Return the chapters of a completed course that turn out to have been done at another time.
        A chapter that the course no longer has is kept, and adds nothing (rule B11).
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
                before = _UNTOUCHED
            else:
                after = join(before, change)
            state.chapters[id] = after
            state.time_spent += change.time_spent
            chapter = chapters.get(id)
            if chapter is not None and add_merged(state, chapter, before, after) and completed:
                was, now = before, after
                if satisfied_at(chapter, was) != satisfied_at(chapter, now):
                    earlier.append(id)
        return earlier

    def quiz_rows(self) -> list[tuple[object, ...]]:
        """Return the rows of quiz attempts that count, the latest report of each attempt only."""
        latest: dict[tuple[object, ...], tuple[object, ...]] = {}
        own = [self._quiz_row(event, course) for event, course in self.quizzes]
        for row in sorted((*own, *self.inherited), key=itemgetter(-2, -1)):  # time, event id
            latest[row[:5]] = row
        return list(latest.values())

    def _quiz_row(self, event: Event, course: Course) -> tuple[object, ...]:
        assert event.quiz is not None
        chapter = course.chapters.get(event.chapter_id or "")
        threshold = None if chapter is None else chapter.pass_threshold
        enrolment = self.enrolment
        return (
            enrolment.user_id, enrolment.course_id, enrolment.attempt, event.chapter_id,
            event.quiz.attempt_id, scaled_score(event), threshold, event.at, event.id,
        )  # fmt: skip
