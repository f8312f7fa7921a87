"""Replay of ledger rows and snapshots into attempts, as in rule B14 (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from homeroom.catalogue.api import Course, Enrolment
from homeroom.progress.event import (
    ATTEMPT_OPENING_TYPES,
    EventFlag,
    EventType,
    ProgressEvent,
    SentQuiz,
)
from homeroom.progress.rollup import (
    ChapterState,
    CourseState,
    QuizAttempt,
    carried_chapter,
    merge_event,
    merge_states,
    quiz_attempt_of,
    recompute,
)

_IMPLAUSIBLE_TIMES = EventFlag.FUTURE | EventFlag.ANCIENT

CourseByVersion = Callable[[int], Course]
"""Returns the course in a version."""


class LedgerRow(msgspec.Struct, gc=False):
    """A row of the ledger, by the names of its columns. Times are microseconds UTC."""

    seq: int
    id: str
    user_id: str
    course_id: str
    chapter_id: str | None
    type: EventType
    progress: int | None
    time_spent: int
    quiz: SentQuiz | None
    occurred_at: int
    received_at: int
    course_version: int
    """The version under which the event is recorded."""
    body_hash: bytes
    metadata: str | None
    flags: int
    corrected_at: int | None = None

    def event(self) -> ProgressEvent:
        """Return the event as it was when it was recorded."""
        at = self.corrected_at
        if at is None:
            is_odd = self.flags & _IMPLAUSIBLE_TIMES
            at = self.received_at if is_odd else min(self.occurred_at, self.received_at)
        return ProgressEvent(
            id=self.id,
            user_id=self.user_id,
            course_id=self.course_id,
            chapter_id=self.chapter_id,
            type=self.type,
            progress=self.progress,
            time_spent=self.time_spent,
            quiz=self.quiz,
            occurred_at=self.occurred_at,
            received_at=self.received_at,
            at=at,
            body_hash=self.body_hash,
            metadata=self.metadata,
            flags=self.flags,
            trusted=not self.flags & EventFlag.UNTRUSTED_SCORE,
        )


class AttemptSnapshot(msgspec.Struct):
    """Sum of the compacted events of one attempt (rule B14).

    It names its attempt by the opening time: a reset that arrives late changes the number.
    """

    opened_at: int
    """Microseconds UTC; 0 for the first attempt."""
    unattributed: int
    """Seconds of events without a chapter."""
    last_at: int
    """The latest time of an event without a chapter; 0 if there is none."""
    events: int
    """Number of compacted events."""
    time_spent: int
    """Seconds of all compacted events."""
    chapters: dict[str, ChapterState]
    quizzes: list[QuizAttempt]


@dataclass(slots=True)
class AttemptProjection:
    """State of one attempt as the ledger gives it."""

    chapters: dict[str, ChapterState] = field(default_factory=dict)
    quizzes: dict[tuple[str, str], QuizAttempt] = field(default_factory=dict)
    """The latest report of each quiz attempt, by its key."""
    unattributed: int = 0
    last_at: int = 0
    last_seq: int = 0
    events: int = 0

    def course_state(self, course: Course) -> CourseState:
        """Roll the chapters up for a course version."""
        return recompute(
            course,
            self.chapters,
            unattributed=self.unattributed,
            last_at=self.last_at,
            last_seq=self.last_seq,
        )


def replay(
    rows: Iterable[LedgerRow],
    enrolments: Sequence[Enrolment],
    course_at: CourseByVersion,
    snapshots: Collection[AttemptSnapshot] = (),
) -> dict[int, AttemptProjection]:
    """Return the state of each attempt from the ledger rows of a learner's course.

    ``enrolments`` are all attempts from 1 on, ``snapshots`` those of compacted rows.
    """
    projections = initial_projections(enrolments, snapshots)
    for row in rows:
        event = row.event()
        projection = projections[attempt_at(enrolments, event.at).attempt]
        projection.last_seq = row.seq
        if event.type not in ATTEMPT_OPENING_TYPES:
            apply_event(projection, event, course_at(row.course_version))
    return {
        attempt: effective_projection(projections, enrolments, attempt) for attempt in projections
    }


def compact_rows(
    rows: Iterable[LedgerRow],
    enrolments: Sequence[Enrolment],
    course_at: CourseByVersion,
    snapshots: Iterable[AttemptSnapshot],
) -> list[AttemptSnapshot]:
    """Return the snapshots with the events of some ledger rows added to them.

    None of the rows opens an attempt. ``enrolments`` are all attempts, as for ``replay``.
    """
    projections = initial_projections(enrolments, snapshots)
    for row in rows:
        event = row.event()
        projection = projections[attempt_at(enrolments, event.at).attempt]
        apply_event(projection, event, course_at(row.course_version))
    return [
        _snapshot_of(enrolment.opened_at, projections[enrolment.attempt])
        for enrolment in enrolments
        if projections[enrolment.attempt].events
    ]


def attempt_at(enrolments: Sequence[Enrolment], at: int) -> Enrolment:
    """Return the attempt that was open at a time; the first one for earlier times."""
    current = enrolments[0]
    for enrolment in enrolments:
        if enrolment.opened_at <= at and enrolment.opened_at >= current.opened_at:
            current = enrolment
    return current


def initial_projections(
    enrolments: Sequence[Enrolment], snapshots: Iterable[AttemptSnapshot]
) -> dict[int, AttemptProjection]:
    """Return the state of each attempt before its ledger rows: that of its snapshots.

    A snapshot moves as a whole when its opening time comes to lie in another attempt.
    """
    projections = {enrolment.attempt: AttemptProjection() for enrolment in enrolments}
    for snapshot in snapshots:
        projection = projections[attempt_at(enrolments, snapshot.opened_at).attempt]
        projection.events += snapshot.events
        projection.unattributed += snapshot.unattributed
        projection.last_at = max(projection.last_at, snapshot.last_at)
        for id, state in snapshot.chapters.items():
            before = projection.chapters.get(id, ChapterState())
            # Always a new state: events change it in place.
            projection.chapters[id] = merge_states(before, state)
        for quiz in snapshot.quizzes:
            _keep_latest(projection.quizzes, quiz)
    return projections


def apply_event(projection: AttemptProjection, event: ProgressEvent, course: Course) -> None:
    """Apply an event to a projection; ``course`` is the version it is recorded under."""
    projection.events += 1
    if event.chapter_id is None:
        projection.unattributed += event.time_spent
        projection.last_at = max(projection.last_at, event.at)
        return
    state = projection.chapters.setdefault(event.chapter_id, ChapterState())
    chapter = course.chapters.get(event.chapter_id)
    merge_event(state, event, chapter)
    if (quiz := quiz_attempt_of(event, chapter)) is not None:
        _keep_latest(projection.quizzes, quiz)


def effective_projection(
    projections: Mapping[int, AttemptProjection], enrolments: Sequence[Enrolment], attempt: int
) -> AttemptProjection:
    """Return the state of an attempt with all that it carried over (rule B12).

    ``enrolments`` are all attempts from 1 on. A late event of an attempt thereby counts for the
    attempts that carried over from it, too.
    """
    first = attempt
    while first > 1 and enrolments[first - 1].carried_over:
        first -= 1
    effective = projections[first]
    for number in range(first + 1, attempt + 1):
        own = projections[number]
        chapters = {id: carried_chapter(state) for id, state in effective.chapters.items()}
        for id, state in own.chapters.items():
            before = chapters.get(id)
            chapters[id] = state if before is None else merge_states(before, state)
        quizzes = dict(effective.quizzes)
        for quiz in own.quizzes.values():
            _keep_latest(quizzes, quiz)
        effective = replace(own, chapters=chapters, quizzes=quizzes)
    return effective


def _keep_latest(known: dict[tuple[str, str], QuizAttempt], quiz: QuizAttempt) -> None:
    before = known.get(quiz.key)
    if before is None or quiz.is_later_than(before):
        known[quiz.key] = quiz


def _snapshot_of(opened_at: int, projection: AttemptProjection) -> AttemptSnapshot:
    chapters = projection.chapters
    return AttemptSnapshot(
        opened_at=opened_at,
        unattributed=projection.unattributed,
        last_at=projection.last_at,
        events=projection.events,
        time_spent=projection.unattributed + sum(each.time_spent for each in chapters.values()),
        chapters=chapters,
        quizzes=list(projection.quizzes.values()),
    )
