"""Detection of new completions; ``completion`` records them in the same commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import (
    AllItems,
    AttemptKey,
    CompletionFacts,
    Course,
    Enrolment,
    UnmetCriterion,
)
from homeroom.completion.api import ChapterRecord, Completions, NewCompletion
from homeroom.db.tx import Tx
from homeroom.progress import ingest_store, store
from homeroom.progress.rollup import (
    ChapterState,
    CourseState,
    QuizAttempt,
    course_grade,
    initial_state,
    is_satisfied,
    satisfied_at,
)


@dataclass(slots=True)
class ChangedAttempt:
    """A learner's attempt that this commit changed; its rows are written already."""

    enrolment: Enrolment
    course: Course
    """In the version of the attempt."""
    state: CourseState
    last_event_at: int
    """The latest time among this commit's events of the attempt."""

    @property
    def key(self) -> AttemptKey:
        """Return the key of its rows."""
        return self.enrolment.user_id, self.enrolment.course_id, self.enrolment.attempt


def may_be_complete(changed: ChangedAttempt) -> bool:
    """Return cheaply whether the criteria may hold: most events complete nothing."""
    if changed.enrolment.completed_at is not None:
        return False
    if isinstance(changed.course.criteria, AllItems):
        required = len(changed.course.required)
        return 0 < required <= changed.state.required_satisfied
    return True


async def find_new_completion(
    tx: Tx, changed: ChangedAttempt, completions: Completions
) -> NewCompletion | None:
    """Return the completion if all criteria of the course hold (rule B8), else None.

    ``completed_at`` is the latest time among the events that satisfied its items (rule B9).
    """
    course = changed.course
    states = changed.state.chapters
    attempts: list[QuizAttempt] = []
    if any(chapter.pass_threshold is not None for chapter in course.chapters.values()):
        attempts = await store.quiz_attempts_of(tx, changed.key)
    satisfied = {
        id: chapter
        for id, chapter in course.chapters.items()
        if is_satisfied(chapter, states.get(id, ChapterState()))
    }
    grade = course_grade(course, attempts)
    facts = CompletionFacts(
        satisfied=satisfied.keys(),
        required=course.required,
        grade=grade,
        time_spent=changed.state.time_spent,
        completed_courses=await _prerequisites_met(tx, changed, completions),
        approved=changed.enrolment.approved,
    )
    if not catalogue.evaluate_criteria(course.criteria, facts):
        return None
    times = [
        at
        for id, chapter in satisfied.items()
        if chapter.required and (at := satisfied_at(chapter, states.get(id, ChapterState())))
    ]
    if course.facts_needed != {"items"} or not times:
        times.append(changed.last_event_at or tx.now)  # an edit may follow upon waivers alone
    if changed.enrolment.carried_over:
        times.append(changed.enrolment.opened_at)  # complete at the earliest when it opened
    return NewCompletion(
        user_id=changed.enrolment.user_id,
        course=course,
        attempt=changed.enrolment.attempt,
        completed_at=max(times),
        score=grade,
        time_spent=changed.state.time_spent,
        chapters=tuple(
            ChapterRecord(
                id, state.progress, state.time_spent, is_satisfied(course.chapters[id], state)
            )
            for id, state in sorted(states.items())
            if id in course.chapters
        ),
    )


async def find_unmet_criteria(
    tx: Tx, changed: ChangedAttempt, attempts: Sequence[QuizAttempt], completions: Completions
) -> list[UnmetCriterion]:
    """Return why an attempt is not complete, in words; empty if it is."""
    if changed.enrolment.completed_at is not None:
        return []
    course, states = changed.course, changed.state.chapters
    facts = CompletionFacts(
        satisfied={
            id
            for id, chapter in course.chapters.items()
            if is_satisfied(chapter, states.get(id, ChapterState()))
        },
        required=course.required,
        grade=course_grade(course, attempts),
        time_spent=changed.state.time_spent,
        completed_courses=await _prerequisites_met(tx, changed, completions),
        approved=changed.enrolment.approved,
    )
    titles = {id: chapter.title for id, chapter in course.chapters.items()}
    return catalogue.unmet_criteria(course.criteria, facts, titles)


async def _prerequisites_met(
    tx: Tx, changed: ChangedAttempt, completions: Completions
) -> frozenset[str]:
    """Return the courses that the learner has completed, if one is a prerequisite."""
    if not changed.course.prerequisites:
        return frozenset()
    return await completions.completed_courses(tx, changed.enrolment.user_id)


async def record_new_completions(
    tx: Tx, changed: Sequence[ChangedAttempt], completions: Completions
) -> int:
    """Record all new completions among attempts; return their number.

    A completion may satisfy a prerequisite, so the learner's dependent courses are checked as well,
    until no further completion follows.
    """
    count, candidates = 0, list(changed)
    while candidates:
        new_completions = [
            completion
            for candidate in candidates
            if may_be_complete(candidate)
            and (completion := await find_new_completion(tx, candidate, completions)) is not None
        ]
        candidates = []
        if new_completions:
            await completions.record(tx, new_completions)
            count += len(new_completions)
            for completion in new_completions:
                candidates += await _dependent_attempts(tx, completion)
    return count


async def _dependent_attempts(tx: Tx, completion: NewCompletion) -> list[ChangedAttempt]:
    """Return the learner's open attempts at courses with this prerequisite."""
    course_id = completion.course.id
    dependent = (await catalogue.dependent_courses(tx, [course_id])).get(course_id)
    if not dependent:
        return []
    pairs = sorted({(completion.user_id, each) for each in dependent})
    states, _ = await ingest_store.course_states(tx, pairs)
    waiting = []
    for enrolments in (await catalogue.enrolments(tx, pairs)).values():
        enrolment = enrolments[-1]
        if enrolment.completed_at is None:
            course = await catalogue.course_at(tx, enrolment.course_id, enrolment.version)
            state = states.get((enrolment.user_id, enrolment.course_id, enrolment.attempt))
            # An enrolment by hand has no state before the first event.
            state = state or initial_state(course)
            waiting.append(ChangedAttempt(enrolment, course, state, completion.completed_at))
    return waiting
