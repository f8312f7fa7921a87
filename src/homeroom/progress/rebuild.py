"""Open attempts, and build one learner's course again from the ledger in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course, Enrolment
from homeroom.db.tx import Tx
from homeroom.progress import store
from homeroom.progress.crossing import Touched
from homeroom.progress.event import OPENS_ATTEMPT, EventType
from homeroom.progress.replay import Projection, event_of, replay
from homeroom.progress.rollup import CourseState, carried_over


async def open_attempts(
    tx: Tx, windows: Sequence[Enrolment], course: Course, last_seq: int
) -> list[Enrolment]:
    """Open what attempts are missing and return all, each from the time of its event on.

    Resets and renewals may arrive in any order: attempt n + 1 opens at the n-th of them by time, so
    that every order of arrival gives the same windows. The ledger, of which ``last_seq`` is the
    learner's latest row, holds them already.
    """
    first = windows[0]
    rows = await store.ledger_of(tx, last_seq)
    openings = sorted(
        (event.at, event.id, event.type is EventType.ATTEMPT_RENEWED)
        for event, _ in map(event_of, rows)
        if event.type in OPENS_ATTEMPT
    )
    newest = windows[-1].attempt
    new = [
        Enrolment(
            first.user_id, first.course_id, newest + more, course.version, "registered", tx.now, 0
        )
        for more in range(1, len(openings) + 2 - len(windows))
    ]
    await catalogue.add_enrolments(tx, new)
    opened = [
        replace(enrolment, opened_at=at, carried_over=carried_over)
        for enrolment, (at, _, carried_over) in zip((*windows[1:], *new), openings, strict=True)
    ]
    await catalogue.update_enrolments(tx, opened)
    return [first, *opened]


def known_until(enrolment: Enrolment, state: CourseState) -> int:
    """Return the latest time that an attempt's rows know of; only of waivers may one be later."""
    waived = [each.waived_at for each in state.chapters.values() if each.waived_at is not None]
    return max(enrolment.opened_at, state.last_at, *waived)


def is_all_before(at: int, enrolment: Enrolment, state: CourseState) -> bool:
    """Say whether all of an attempt happened before an instant, as far as its rows can tell.

    Of the waivers of a chapter they keep the earliest, so where there is one the ledger has to be
    asked.
    """
    waived = any(each.waived_at is not None for each in state.chapters.values())
    return not waived and at > max(enrolment.opened_at, state.last_at)


async def renew(
    tx: Tx, last: Enrolment, course: Course, old: CourseState, at: int, last_seq: int
) -> None:
    """Open an attempt that begins with what the latest one has, without a look at the ledger.

    It must be that ``is_all_before(at)``; ``last_seq`` is the ledger row of the renewal. The
    same as ``open_attempts`` and ``rebuild``, which read the learner's whole ledger: an edit may
    ask thousands of learners at once.
    """
    status: catalogue.Status = "in_progress" if old.chapters else "registered"
    number = last.attempt + 1
    opened = Enrolment(
        last.user_id, last.course_id, number, course.version, status, tx.now, at, carried_over=True
    )
    await catalogue.add_enrolments(tx, [opened])
    state = carried_over(course, old)
    state.last_seq = last_seq
    await store.save_courses(tx, [((last.user_id, last.course_id, number), state)])
    await store.carry_quizzes(tx, (last.user_id, last.course_id, last.attempt))


async def project(
    tx: Tx, windows: Sequence[Enrolment], last_seq: int
) -> tuple[dict[int, Projection], dict[int, Course]]:
    """Return what the ledger says of a learner's course by attempt, and the course by version.

    What was folded of rows that are gone counts like the rows.
    """
    rows = await store.ledger_of(tx, last_seq)
    versions = {event_of(row)[1] for row in rows} | {each.version for each in windows}
    course_id = windows[0].course_id
    found = await catalogue.courses_at(tx, {(course_id, version) for version in versions})
    courses = {version: course for (_, version), course in found.items()}
    folds = await store.folds_of(tx, (windows[0].user_id, course_id))
    return replay(rows, windows, courses.__getitem__, folds), courses


async def rebuild(tx: Tx, windows: Sequence[Enrolment], last_seq: int) -> list[Touched]:
    """Replace a learner's rolled-up rows by what the ledger says; return what may be finished.

    To open an attempt with what is done finishes it as little as an edit does: it takes an event.
    """
    projections, courses = await project(tx, windows, last_seq)
    pair = windows[0].user_id, windows[0].course_id
    await store.forget_projection(tx, pair)
    touched, changed = [], []
    for enrolment in windows:
        projection = projections[enrolment.attempt]
        course = courses[enrolment.version]
        state = projection.course_state(course)
        key = (*pair, enrolment.attempt)
        await store.save_quizzes(
            tx,
            [
                (
                    *key,
                    quiz.chapter_id,
                    quiz.attempt_id,
                    quiz.scaled,
                    quiz.threshold,
                    quiz.at,
                    event_id,
                )
                for quiz, event_id in projection.quizzes.values()
            ],
        )
        await store.save_courses(tx, [(key, state)])
        if (projection.events or projection.chapters) and enrolment.status == "registered":
            enrolment = replace(enrolment, status="in_progress")
            changed.append(enrolment)
        if projection.events or not enrolment.carried_over:
            touched.append(Touched(enrolment, course, state, state.last_at))
    await catalogue.update_enrolments(tx, changed)
    return touched
