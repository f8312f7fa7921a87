"""Read progress: one learner's course, a course's learners, and which event made which percentage.

Nothing here writes. Percentages are basis points, rounded down; None where nothing can be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Chapter, Course, Enrolment, Status
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.progress import store
from homeroom.progress.event import OPENS_ATTEMPT, Event
from homeroom.progress.merge import ChapterState
from homeroom.progress.quiz import QuizAttempt, by_chapter, score
from homeroom.progress.replay import Projection, add, attempt_at, begun, event_of, whole
from homeroom.progress.rollup import CourseState, fresh, is_satisfied, moved_to, percent, share

LEDGER_PAGE = 1_000
_AFTER_ALL_ATTEMPTS = 2**31


@dataclass(frozen=True, slots=True)
class QuizLine:
    """A chapter's quiz: its score by the course's policy, in units of 1e-4 (0 is a score)."""

    score: int | None
    attempts: int
    passed: bool


@dataclass(frozen=True, slots=True)
class ChapterLine:
    """A chapter of the learner's version; one that is satisfied shows 100 %."""

    chapter_id: str
    progress: int
    completed: bool
    time_spent: int
    last_at: int | None
    quiz: QuizLine | None


@dataclass(frozen=True, slots=True)
class CourseLine:
    """One learner's latest attempt at a course."""

    user_id: str
    course_id: str
    version: int
    attempt: int
    status: Status | None
    """None: not enrolled yet; the first event enrols."""
    progress: int | None
    completed_chapters: int
    total_chapters: int
    time_spent: int
    last_at: int | None
    completed_at: int | None
    newer_version: bool


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """An event of the ledger, and the percentages that it led to."""

    seq: int
    event: Event
    version: int
    attempt: int
    chapter_progress: int | None
    course_progress: int | None


async def current_course(tx: Tx, course_id: str) -> Course:
    """Return a course in its current version; raise ``NotFound``."""
    course = (await catalogue.current_courses(tx, [course_id])).get(course_id)
    if course is None:
        raise NotFound(f"There is no course {course_id!r}.")
    return course


async def of_learner(tx: Tx, user_id: str, course_id: str) -> tuple[CourseLine, list[ChapterLine]]:
    """Return a learner's course and its chapters in the course's order.

    Raises ``NotFound`` for an unknown course, and for one that enrols nobody by itself and has not
    enrolled this learner.
    """
    current = await current_course(tx, course_id)
    windows = (await catalogue.enrolments(tx, [(user_id, course_id)])).get((user_id, course_id))
    if not windows:
        if not current.auto_enrol:
            raise NotFound(f"This learner is not enrolled in the course {course_id!r}.")
        line = _line(current, current, None, fresh(current), user_id, 1)
        return line, [_chapter(current, each, None, []) for each in current.chapters.values()]
    last = windows[-1]
    course = await catalogue.course_at(tx, course_id, last.version)
    key = (user_id, course_id, last.attempt)
    state = (await store.attempts(tx, [key])).get(key)
    if state is None:
        state = fresh(course)
    elif state.version != course.version:  # enrolled anew by hand in a version it was not kept for
        state = moved_to(course, state)
    quizzes = by_chapter(QuizAttempt(*row) for row in await store.quizzes_of(tx, key))
    return _line(current, course, last, state, user_id, last.attempt), [
        _chapter(course, each, state.chapters.get(each.id), quizzes.get(each.id, []))
        for each in course.chapters.values()
    ]


def _line(
    current: Course,
    course: Course,
    enrolment: Enrolment | None,
    state: CourseState,
    user_id: str,
    attempt: int,
) -> CourseLine:
    return CourseLine(
        user_id=user_id,
        course_id=course.id,
        version=course.version,
        attempt=attempt,
        status=None if enrolment is None else enrolment.status,
        progress=percent(course, state),
        completed_chapters=state.satisfied,
        total_chapters=len(course.chapters),
        time_spent=state.time_spent,
        last_at=state.last_at or None,
        completed_at=None if enrolment is None else enrolment.completed_at,
        newer_version=current.version > course.version,
    )


def _chapter(
    course: Course, chapter: Chapter, state: ChapterState | None, attempts: Sequence[QuizAttempt]
) -> ChapterLine:
    known = state or ChapterState()
    satisfied = is_satisfied(chapter, known)
    quiz = None
    if chapter.pass_threshold is not None or attempts:
        quiz = QuizLine(score(attempts, course.quiz_policy), len(attempts), known.passed)
    return ChapterLine(
        chapter_id=chapter.id,
        progress=10_000 if satisfied else known.progress,
        completed=satisfied,
        time_spent=known.time_spent,
        last_at=known.last_at or None,
        quiz=quiz,
    )


async def latest_enrolments(
    tx: Tx, course_id: str, after: str | None, count: int
) -> list[Enrolment]:
    """Return up to ``count`` learners' latest attempts at a course, by user id after ``after``."""
    found: dict[str, Enrolment] = {}
    key = None if after is None else (after, _AFTER_ALL_ATTEMPTS)
    while len(found) <= count:  # the last one may have a further attempt on the next page
        rows = await catalogue.enrolments_in(tx, course_id, key, count + 1)
        found |= {each.user_id: each for each in rows}
        if len(rows) <= count:
            break
        key = (rows[-1].user_id, rows[-1].attempt)
    return list(found.values())[:count]


async def learners(tx: Tx, course_id: str, after: str | None, count: int) -> list[CourseLine]:
    """Return up to ``count`` learners of a course by user id; raise ``NotFound``."""
    current = await current_course(tx, course_id)
    enrolled = await latest_enrolments(tx, course_id, after, count)
    versions = await catalogue.courses_at(tx, {(course_id, each.version) for each in enrolled})
    keys = [(each.user_id, course_id, each.attempt) for each in enrolled]
    states = await store.totals(tx, keys)
    lines = []
    for enrolment, key in zip(enrolled, keys, strict=True):
        course = versions[course_id, enrolment.version]
        state = states.get(key) or fresh(course)
        lines.append(_line(current, course, enrolment, state, enrolment.user_id, key[2]))
    return lines


async def history(
    tx: Tx, user_id: str, course_id: str, after: int, count: int
) -> list[HistoryLine]:
    """Return up to ``count`` events after a ledger ``seq``, in recorded order, with their effect.

    What came before is replayed, but rolled up for the wanted events only. Events whose rows are
    gone have no line; the percentages begin with what they made.
    """
    await current_course(tx, course_id)
    pair = (user_id, course_id)
    windows = (await catalogue.enrolments(tx, [pair])).get(pair)
    if not windows:
        return []
    projections = begun(windows, await store.folds_of(tx, pair))
    lines: list[HistoryLine] = []
    seqs = await store.ledger_seqs(tx, await store.last_seq(tx, pair))
    for start in range(0, len(seqs), LEDGER_PAGE):
        rows = await store.ledger_rows(tx, seqs[start : start + LEDGER_PAGE])
        courses = await catalogue.courses_at(tx, {(course_id, event_of(row)[1]) for row in rows})
        for row in rows:
            event, version = event_of(row)
            course = courses[course_id, version]
            attempt = attempt_at(windows, event.at).attempt
            projection = projections[attempt]
            if event.type not in OPENS_ATTEMPT:
                add(projection, event, course)
            if row[0] > after:
                projection = whole(projections, windows, attempt)
                lines.append(_history_line(row[0], event, course, attempt, projection))
                if len(lines) == count:
                    return lines
    return lines


def _history_line(
    seq: int, event: Event, course: Course, attempt: int, projection: Projection
) -> HistoryLine:
    state = projection.chapters.get(event.chapter_id or "")
    chapter = course.chapters.get(event.chapter_id or "")
    shown = None if state is None else state.progress
    if state is not None and chapter is not None and share(chapter, state).satisfied:
        shown = 10_000
    total = percent(course, projection.course_state(course))
    return HistoryLine(seq, event, course.version, attempt, shown, total)
