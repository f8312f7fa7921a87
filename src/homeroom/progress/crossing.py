"""Find the courses that a commit finished, and hand them to ``completion`` in the same commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import AllItems, Course, Enrolment, Facts
from homeroom.completion.api import ChapterRecord, Completions, Crossing
from homeroom.db.tx import Tx
from homeroom.progress import store
from homeroom.progress.merge import ChapterState
from homeroom.progress.quiz import QuizAttempt, grade
from homeroom.progress.rollup import CourseState, fresh, is_satisfied, satisfied_at


@dataclass(slots=True)
class Touched:
    """One learner's attempt that this commit changed; its rows are written already."""

    enrolment: Enrolment
    course: Course
    """In the learner's version."""
    state: CourseState
    last_event_at: int
    """The latest time among this commit's events for it."""

    @property
    def key(self) -> store.CourseKey:
        """Return the key of its rows."""
        return self.enrolment.user_id, self.enrolment.course_id, self.enrolment.attempt


def maybe_complete(touched: Touched) -> bool:
    """Say cheaply whether it is worth reading more: most events finish nothing."""
    if touched.enrolment.completed_at is not None:
        return False
    if isinstance(touched.course.criteria, AllItems):
        required = len(touched.course.required)
        return 0 < required <= touched.state.required_satisfied
    return True


async def find_crossing(tx: Tx, touched: Touched, completions: Completions) -> Crossing | None:
    """Return the crossing if all criteria of the course are true now (rule B8), else None.

    ``completedAt`` is the latest time among the events that satisfied its items (rule B9).
    """
    course = touched.course
    states = touched.state.chapters
    attempts = []
    if any(chapter.pass_threshold is not None for chapter in course.chapters.values()):
        attempts = [QuizAttempt(*row) for row in await store.quizzes_of(tx, touched.key)]
    satisfied = {
        id: chapter
        for id, chapter in course.chapters.items()
        if is_satisfied(chapter, states.get(id, ChapterState()))
    }
    score = grade(course, attempts)
    done: frozenset[str] = frozenset()
    if course.prerequisites:
        done = await completions.completed_courses(tx, touched.enrolment.user_id)
    facts = Facts(
        satisfied=satisfied.keys(),
        required=course.required,
        grade=score,
        time_spent=touched.state.time_spent,
        completed_courses=done,
        approved=touched.enrolment.approved,
    )
    if not catalogue.evaluate(course.criteria, facts):
        return None
    times = [
        at
        for id, chapter in satisfied.items()
        if chapter.required and (at := satisfied_at(chapter, states.get(id, ChapterState())))
    ]
    if course.needs != {"items"} or not times:
        times.append(touched.last_event_at or tx.now)  # an edit may follow upon waivers alone
    if touched.enrolment.carried_over:
        times.append(touched.enrolment.opened_at)  # it was not finished before it began
    return Crossing(
        user_id=touched.enrolment.user_id,
        course=course,
        attempt=touched.enrolment.attempt,
        completed_at=max(times),
        score=score,
        time_spent=touched.state.time_spent,
        chapters=tuple(
            ChapterRecord(
                id, state.progress, state.time_spent, is_satisfied(course.chapters[id], state)
            )
            for id, state in sorted(states.items())
            if id in course.chapters
        ),
    )


async def complete(tx: Tx, touched: Sequence[Touched], completions: Completions) -> int:
    """Record every course that is finished now and was not before; return how many.

    A finished course may be what another one waits for, so its learner's other courses are looked
    at too, until nothing follows any more.
    """
    found, queue = 0, list(touched)
    while queue:
        crossings = [
            crossing
            for candidate in queue
            if maybe_complete(candidate)
            and (crossing := await find_crossing(tx, candidate, completions)) is not None
        ]
        queue = []
        if crossings:
            await completions.record(tx, crossings)
            found += len(crossings)
            for crossing in crossings:
                queue += await _waiting_for(tx, crossing)
    return found


async def _waiting_for(tx: Tx, crossing: Crossing) -> list[Touched]:
    """Return the learner's open courses that name the finished one as a prerequisite."""
    asking = (await catalogue.dependents(tx, [crossing.course.id])).get(crossing.course.id)
    if not asking:
        return []
    pairs = sorted({(crossing.user_id, course_id) for course_id in asking})
    states, _ = await store.courses(tx, pairs)
    waiting = []
    for windows in (await catalogue.enrolments(tx, pairs)).values():
        enrolment = windows[-1]
        if enrolment.completed_at is None:
            course = await catalogue.course_at(tx, enrolment.course_id, enrolment.version)
            state = states.get((enrolment.user_id, enrolment.course_id, enrolment.attempt))
            # Who was enrolled by hand may have done nothing in it yet.
            waiting.append(
                Touched(enrolment, course, state or fresh(course), crossing.completed_at)
            )
    return waiting
