"""What an edit of a course means for its learners: their rows in the new version (rule B11)."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import AllItems, Course, EditPreview, Enrolment
from homeroom.completion.api import Completions
from homeroom.db.tx import Tx
from homeroom.errors import Unavailable
from homeroom.progress import store
from homeroom.progress.crossing import Touched, find_crossing, maybe_complete
from homeroom.progress.read import latest_enrolments
from homeroom.progress.rollup import fresh, moved_to, percent

PAGE = 200
"""Small enough that no page keeps the event loop for long."""
MAX_SECONDS = 4.0
"""A read may last 5 seconds in all."""


def _key(enrolment: Enrolment) -> store.CourseKey:
    return enrolment.user_id, enrolment.course_id, enrolment.attempt


async def rolled_up(tx: Tx, enrolments: Sequence[Enrolment], course: Course) -> list[Touched]:
    """Return what learners' chapters make of their course in a version; writes nothing.

    The enrolments name that version already. A learner without a row has done nothing.
    """
    keys = [_key(each) for each in enrolments]
    states = await store.attempts(tx, keys)
    touched = []
    for enrolment, key in zip(enrolments, keys, strict=True):
        old = states.get(key)
        state = fresh(course)
        if old is not None:
            state = moved_to(course, old)
        touched.append(Touched(enrolment, course, state, state.last_at))
    return touched


async def asked_again(
    tx: Tx, learners: Sequence[Enrolment], course: Course, completions: Completions
) -> list[Touched]:
    """Return who has completed an older version and not all that this one asks (``require_new``).

    They are asked in a new attempt that begins with what they have done. Who did it all already, or
    whose completion has expired, is left alone: what expired is renewed from nothing, by a reset.
    """
    if isinstance(course.criteria, AllItems) and not course.required:
        return []  # nobody can complete it
    behind = [
        each for each in learners if each.status == "completed" and each.version < course.version
    ]
    versions = await catalogue.courses_at(tx, {(course.id, each.version) for each in behind})
    valid = []
    for each in behind:
        ends = versions[course.id, each.version].valid_until(each.completed_at or 0)
        if ends is None or ends > tx.now:  # the job that notices runs once an hour
            valid.append(replace(each, version=course.version, completed_at=None))
    asked = []
    for touched in await rolled_up(tx, valid, course):
        if not maybe_complete(touched) or not await find_crossing(tx, touched, completions):
            asked.append(touched)
    return asked


async def preview(tx: Tx, course: Course, completions: Completions) -> EditPreview:
    """Count what publishing ``course``, which is not published yet, would change for learners.

    ``newly_complete`` are those who fulfil the new version as they stand, at once or at their next
    visit; ``dropping`` those whose percentage falls when they move; ``moved`` those who move at
    once; ``renewed`` those who have completed it and are asked for what is new (``require_new``).
    Who else has completed the course is unaffected.
    Raises ``Unavailable`` if there are more learners than can be counted in four seconds.
    """
    started = perf_counter()
    newly_complete = dropping = unaffected = moved = renewed = 0
    after: str | None = None
    while True:
        page = await latest_enrolments(tx, course.id, after, PAGE)
        stay = course.learner_policy == "never"
        movers = [each for each in page if each.completed_at is None and not stay]
        unaffected += len(page) - len(movers)
        moved += len(movers) if course.moves_at_once else 0
        if course.learner_policy == "require_new":
            again = len(await asked_again(tx, page, course, completions))
            renewed, unaffected = renewed + again, unaffected - again
        for finishes, drops in await _compare(tx, movers, course, completions):
            newly_complete += finishes
            dropping += drops and not finishes
            unaffected += not finishes and not drops
        if len(page) < PAGE:
            return EditPreview(newly_complete, dropping, unaffected, moved, renewed)
        if perf_counter() - started > MAX_SECONDS:
            raise Unavailable("The course has more learners than can be counted at once.")
        after = page[-1].user_id


async def _compare(
    tx: Tx, movers: Sequence[Enrolment], course: Course, completions: Completions
) -> list[tuple[bool, bool]]:
    """Say of each learner whether the new version finishes it, and whether it drops."""
    old_courses = await catalogue.courses_at(
        tx, {(each.course_id, each.version) for each in movers}
    )
    old_states = await store.totals(tx, [_key(each) for each in movers])
    moved = [replace(each, version=course.version) for each in movers]
    compared = []
    for before, touched in zip(movers, await rolled_up(tx, moved, course), strict=True):
        old_course = old_courses[before.course_id, before.version]
        old = percent(old_course, old_states.get(touched.key) or fresh(old_course))
        new = percent(course, touched.state)
        finishes = (
            maybe_complete(touched) and await find_crossing(tx, touched, completions) is not None
        )
        compared.append((finishes, (new or 0) < (old or 0)))
    return compared
