"""Build what is rolled up again from the ledger (pure): it must equal what ingest kept (rule B14).

Used when an attempt opens between events that were counted already, by the tests that hold
the projection against the ledger, and to explain which event made which percentage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from homeroom.catalogue.api import Course, Enrolment
from homeroom.db.tx import Row
from homeroom.progress.event import OPENS_ATTEMPT, Event, EventType, Flag, SentQuiz
from homeroom.progress.merge import ChapterState, carried, join, merge, scaled_score
from homeroom.progress.quiz import QuizAttempt
from homeroom.progress.rollup import CourseState, recompute

CourseAt = Callable[[int], Course]
"""The course in a version."""
Quizzes = dict[tuple[str, str], tuple[QuizAttempt, str]]

_quiz = msgspec.json.Decoder(SentQuiz)


@dataclass(slots=True)
class Projection:
    """What the ledger says of one attempt."""

    chapters: dict[str, ChapterState] = field(default_factory=dict)
    quizzes: Quizzes = field(default_factory=dict)
    """By chapter and attempt id: the attempt and the event that reported it."""
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


def event_of(row: Row) -> tuple[Event, int]:
    """Return a ledger row (``seq`` first) as an event and the course version it was under."""
    flags = row[15]
    odd = flags & (Flag.FUTURE | Flag.ANCIENT)
    occurred_at, received_at = row[9], row[10]
    event = Event(
        id=row[1], user_id=row[2], course_id=row[3], chapter_id=row[4], type=EventType(row[5]),
        progress=row[6], time_spent=row[7], quiz=None if row[8] is None else _quiz.decode(row[8]),
        occurred_at=occurred_at, received_at=received_at,
        at=received_at if odd else min(occurred_at, received_at),
        body_hash=bytes(row[13]), metadata=row[14], flags=flags,
        trusted=not flags & Flag.UNTRUSTED_SCORE,
    )  # fmt: skip
    return event, row[11]


def attempt_at(windows: Sequence[Enrolment], at: int) -> Enrolment:
    """Return the attempt that was open at a time; the first one for times before all."""
    found = windows[0]
    for enrolment in windows:
        if enrolment.opened_at <= at and enrolment.opened_at >= found.opened_at:
            found = enrolment
    return found


def add(projection: Projection, event: Event, course: Course) -> None:
    """Let one event change a projection; ``course`` is the version that it was recorded under."""
    projection.events += 1
    if event.chapter_id is None:
        projection.unattributed += event.time_spent
        projection.last_at = max(projection.last_at, event.at)
        return
    state = projection.chapters.setdefault(event.chapter_id, ChapterState())
    chapter = course.chapters.get(event.chapter_id)
    merge(state, event, chapter)
    scaled = scaled_score(event)
    if scaled is None or event.quiz is None or not event.trusted:
        return
    threshold = None if chapter is None else chapter.pass_threshold
    key = (event.chapter_id, event.quiz.attempt_id)
    attempt = QuizAttempt(*key, scaled, threshold, event.at)
    _keep_later(projection.quizzes, key, (attempt, event.id))


def _keep_later(known: Quizzes, key: tuple[str, str], report: tuple[QuizAttempt, str]) -> None:
    """Keep the later of two reports of a quiz attempt, by time, then by the event's id."""
    before = known.get(key)
    if before is None or (report[0].at, report[1]) > (before[0].at, before[1]):
        known[key] = report


def whole(
    projections: Mapping[int, Projection], windows: Sequence[Enrolment], attempt: int
) -> Projection:
    """Return what an attempt amounts to: its own events, and what it began with (rule B12).

    ``windows`` are all attempts from 1 on. An event that comes late to an attempt thereby counts
    for those that began with it, too.
    """
    first = attempt
    while first > 1 and windows[first - 1].carried_over:
        first -= 1
    found = projections[first]
    for number in range(first + 1, attempt + 1):
        own = projections[number]
        chapters = {id: carried(state) for id, state in found.chapters.items()}
        for id, state in own.chapters.items():
            before = chapters.get(id)
            chapters[id] = state if before is None else join(before, state)
        quizzes = dict(found.quizzes)
        for key, report in own.quizzes.items():
            _keep_later(quizzes, key, report)
        found = replace(own, chapters=chapters, quizzes=quizzes)
    return found


def replay(
    rows: Iterable[Row], windows: Sequence[Enrolment], course_at: CourseAt
) -> dict[int, Projection]:
    """Return what the ledger rows of one learner's course say, by attempt.

    ``windows`` are all attempts from 1 on.
    """
    projections = {enrolment.attempt: Projection() for enrolment in windows}
    for row in rows:
        event, version = event_of(row)
        projection = projections[attempt_at(windows, event.at).attempt]
        projection.last_seq = row[0]
        if event.type not in OPENS_ATTEMPT:
            add(projection, event, course_at(version))
    return {attempt: whole(projections, windows, attempt) for attempt in projections}
