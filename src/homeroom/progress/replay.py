"""Build what is rolled up again from the ledger (pure): it must equal what ingest kept (rule B14).

Where old rows of the ledger are gone, it starts from what was folded of them (decision 0008).
Used when an attempt opens between events that were counted already, by the tests that hold
the projection against the ledger, and to explain which event made which percentage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from homeroom.catalogue.api import Course, Enrolment
from homeroom.db.tx import Row
from homeroom.progress.event import OPENS_ATTEMPT, Event, EventType, Flag, SentQuiz
from homeroom.progress.fold import Fold, FoldedQuiz
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


def begun(windows: Sequence[Enrolment], folds: Iterable[Fold]) -> dict[int, Projection]:
    """Return by attempt what its events in the ledger are added to: what was folded before them.

    A fold moves as a whole with the opening of the attempt that its events were in.
    """
    projections = {enrolment.attempt: Projection() for enrolment in windows}
    for fold in folds:
        projection = projections[attempt_at(windows, fold.opened_at).attempt]
        projection.events += fold.events
        projection.unattributed += fold.unattributed
        projection.last_at = max(projection.last_at, fold.last_at)
        for id, state in fold.chapters.items():
            before = projection.chapters.get(id, ChapterState())
            projection.chapters[id] = join(before, state)  # a new one: events change it in place
        for each in fold.quizzes:
            key = (each.chapter_id, each.attempt_id)
            attempt = QuizAttempt(*key, each.scaled, each.threshold, each.at)
            _keep_later(projection.quizzes, key, (attempt, each.event_id))
    return projections


def folded(
    rows: Iterable[Row], windows: Sequence[Enrolment], course_at: CourseAt, folds: Iterable[Fold]
) -> list[Fold]:
    """Return what folds become when the events of some ledger rows are added to them.

    None of the rows opens an attempt. ``windows`` are all attempts, as for ``replay``.
    """
    projections = begun(windows, folds)
    for row in rows:
        event, version = event_of(row)
        add(projections[attempt_at(windows, event.at).attempt], event, course_at(version))
    return [
        _fold(enrolment.opened_at, projections[enrolment.attempt])
        for enrolment in windows
        if projections[enrolment.attempt].events
    ]


def _fold(opened_at: int, projection: Projection) -> Fold:
    chapters = projection.chapters
    return Fold(
        opened_at=opened_at,
        unattributed=projection.unattributed,
        last_at=projection.last_at,
        events=projection.events,
        time_spent=projection.unattributed + sum(each.time_spent for each in chapters.values()),
        chapters=chapters,
        quizzes=[
            FoldedQuiz(
                quiz.chapter_id, quiz.attempt_id, quiz.scaled, quiz.threshold, quiz.at, event_id
            )
            for quiz, event_id in projection.quizzes.values()
        ],
    )


def replay(
    rows: Iterable[Row],
    windows: Sequence[Enrolment],
    course_at: CourseAt,
    folds: Collection[Fold] = (),
) -> dict[int, Projection]:
    """Return what the ledger rows of one learner's course say, by attempt.

    ``windows`` are all attempts from 1 on; ``folds`` what is kept of rows that are gone.
    """
    projections = begun(windows, folds)
    for row in rows:
        event, version = event_of(row)
        projection = projections[attempt_at(windows, event.at).attempt]
        projection.last_seq = row[0]
        if event.type not in OPENS_ATTEMPT:
            add(projection, event, course_at(version))
    return {attempt: whole(projections, windows, attempt) for attempt in projections}
