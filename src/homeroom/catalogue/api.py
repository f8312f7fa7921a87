"""What other rooms may ask of the catalogue: courses in their versions, and enrolments."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from homeroom.catalogue import body as document
from homeroom.catalogue import store
from homeroom.catalogue.body import MAX_CHAPTERS
from homeroom.catalogue.course import Chapter, Course, LearnerPolicy, MoveOn, QuizPolicy, Unit
from homeroom.catalogue.criteria import (
    AllItems,
    AllOf,
    AnyOf,
    Criteria,
    Facts,
    Manual,
    MinCourseGrade,
    MinTime,
    NOfM,
    Prerequisite,
    evaluate,
    needs,
    prerequisites,
)
from homeroom.catalogue.enrolment import Enrolment, Status
from homeroom.catalogue.fault import Faults, Place
from homeroom.catalogue.personal import PERSONAL
from homeroom.catalogue.validity import Validity
from homeroom.db.tx import Question, Row, Tx
from homeroom.errors import NotFound

__all__ = [
    "MAX_CHAPTERS",
    "PERSONAL",
    "AllItems",
    "AllOf",
    "AnyOf",
    "Catalogue",
    "Chapter",
    "Course",
    "Criteria",
    "Draft",
    "EditPreview",
    "Enrolment",
    "Facts",
    "Faults",
    "LearnerPolicy",
    "Manual",
    "MinCourseGrade",
    "MinTime",
    "MoveOn",
    "NOfM",
    "Place",
    "Prerequisite",
    "Preview",
    "QuizPolicy",
    "Status",
    "Unit",
    "Validity",
    "add_enrolments",
    "ask_current",
    "ask_enrolments",
    "course_at",
    "courses_at",
    "courses_that_expire",
    "current_courses",
    "dependents",
    "enrolments",
    "enrolments_in",
    "enrolments_of",
    "evaluate",
    "expire",
    "known_chapters",
    "lock_learners",
    "mark_completed",
    "needs",
    "parsed",
    "prerequisites",
    "published_at",
    "update_enrolments",
]

Pair = tuple[str, str]
"""(user id, course id)."""
CourseKey = tuple[str, str, int]
"""(user id, course id, attempt)."""
CompletedAt = tuple[int, str, int]
"""(date, user id, attempt): a place among a course's completed enrolments."""
_FIRST: CompletedAt = (-(1 << 62), "", 0)

_LEARNER = "learner"
CACHED = 4_096
_evicting = threading.Lock()
"""Ingest parses in the writer's thread, requests in the loop's."""
_parsed: dict[tuple[str, int, str], Course] = {}
"""Parsed versions by (id, version, hash of the body).

The hash is read from the database each time, so that the cache decides nothing: a version that was
rolled back, or one of another database in the same process, has another key.
"""


async def _parse(tx: Tx, course_id: str, version: int, body_hash: str) -> Course:
    key = (course_id, version, body_hash)
    course = _parsed.get(key)
    if course is None:
        text = await store.body(tx, course_id, version)
        course = document.parse(course_id, version, msgspec.json.decode(text))
        with _evicting:
            while len(_parsed) >= CACHED:
                del _parsed[next(iter(_parsed))]
            _parsed[key] = course
    return course


def ask_current(course_ids: Collection[str]) -> Question[list[Row]]:
    """Ask for the current versions of some courses; ``parsed`` makes courses of the answer."""
    return store.current(course_ids)


async def parsed(tx: Tx, current: Sequence[Row]) -> dict[str, Course]:
    """Return, by id, the courses that the answer to ``ask_current`` names."""
    return {
        course_id: await _parse(tx, course_id, version, body_hash)
        for course_id, version, body_hash in current
    }


async def current_courses(tx: Tx, course_ids: Collection[str]) -> dict[str, Course]:
    """Return the current version of those courses that exist, by id."""
    rows = await tx.ask(ask_current(course_ids))
    return await parsed(tx, rows)


async def course_at(tx: Tx, course_id: str, version: int) -> Course:
    """Return one version of a course; raise ``NotFound``."""
    body_hash = await store.hash_at(tx, course_id, version)
    if body_hash is None:
        raise NotFound(f"There is no version {version} of the course {course_id!r}.")
    return await _parse(tx, course_id, version, body_hash)


async def courses_at(tx: Tx, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], Course]:
    """Return those of some (course id, version) that exist, in one statement when cached."""
    if not wanted:
        return {}
    return {
        (course_id, version): await _parse(tx, course_id, version, body_hash)
        for course_id, version, body_hash in await store.hashes(tx, set(wanted))
    }


async def known_chapters(tx: Tx, course_id: str) -> frozenset[str]:
    """Return the ids of all chapters that any version of a course ever had."""
    found: set[str] = set()
    for version, body_hash in await store.versions_of(tx, course_id):
        found.update((await _parse(tx, course_id, version, body_hash)).chapters)
    return frozenset(found)


async def published_at(tx: Tx, course: Course) -> int:
    """Return the instant at which a version was published."""
    return await store.published_at(tx, course.id, course.version)


async def listed(tx: Tx, after: str | None, count: int) -> list[tuple[Course, int]]:
    """Return up to ``count`` current courses and when each was published, by id."""
    return [
        (await _parse(tx, course_id, version, body_hash), at)
        for course_id, version, body_hash, at in await store.listed(tx, after, count)
    ]


async def dependents(tx: Tx, course_ids: Collection[str]) -> dict[str, frozenset[str]]:
    """Return, by course, the courses that have it (in some version) as a prerequisite.

    Who completes a course may thereby complete one of its dependents.
    """
    found: dict[str, set[str]] = {}
    if course_ids:
        for requires_id, course_id in await store.dependents(tx, course_ids):
            found.setdefault(requires_id, set()).add(course_id)
    return {course_id: frozenset(asking) for course_id, asking in found.items()}


def _enrolment(row: Sequence[Any]) -> Enrolment:
    return Enrolment(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8] == 1, row[9] == 1
    )


async def lock_learners(tx: Tx, user_ids: Collection[str]) -> None:
    """Keep others from changing anything of these learners' courses until this transaction ends.

    Whoever reads enrolments or progress and writes what follows from them has to call this first:
    two commits for one learner would otherwise each add to what both have read. Publishing a course
    locks everybody, so that no commit sees half of it.
    """
    await tx.lock(_LEARNER, user_ids)


def ask_enrolments(pairs: Collection[Pair]) -> Question[dict[Pair, list[Enrolment]]]:
    """Ask for all attempts of some (user, course) pairs, in order.

    A pair without an enrolment is absent in the answer.
    """
    return store.enrolments(pairs, _by_pair)


def _by_pair(rows: Sequence[Row]) -> dict[Pair, list[Enrolment]]:
    found: dict[Pair, list[Enrolment]] = {}
    for row in rows:
        found.setdefault((row[0], row[1]), []).append(_enrolment(row))
    for attempts in found.values():
        if len(attempts) > 1:
            attempts.sort(key=lambda each: each.attempt)
    return found


async def enrolments(tx: Tx, pairs: Collection[Pair]) -> dict[Pair, list[Enrolment]]:
    """Return the answer to ``ask_enrolments``."""
    return await tx.ask(ask_enrolments(pairs))


async def enrolments_in(
    tx: Tx, course_id: str, after: tuple[str, int] | None, count: int
) -> list[Enrolment]:
    """Return up to ``count`` enrolments of a course after a (user, attempt), in that order."""
    return [_enrolment(row) for row in await store.enrolments_in(tx, course_id, after, count)]


async def enrolments_of(tx: Tx, user_id: str) -> list[Enrolment]:
    """Return a learner's enrolments by course and attempt."""
    return [_enrolment(row) for row in await store.enrolments_of(tx, user_id)]


async def add_enrolments(tx: Tx, new: Sequence[Enrolment]) -> int:
    """Insert enrolments and return how many were new; one that is there stays as it is."""
    rows = [
        (
            each.user_id,
            each.course_id,
            each.attempt,
            each.version,
            each.status,
            each.enrolled_at,
            each.opened_at,
            each.completed_at,
            int(each.approved),
            int(each.carried_over),
        )
        for each in new
    ]
    return await store.add_enrolments(tx, rows)


async def update_enrolments(tx: Tx, changed: Sequence[Enrolment]) -> int:
    """Write all but when it was enrolled; ``completed_at`` only where none is set (B9)."""
    rows = [
        (
            each.version,
            each.status,
            each.opened_at,
            each.completed_at,
            int(each.approved),
            int(each.carried_over),
            each.user_id,
            each.course_id,
            each.attempt,
        )
        for each in changed
    ]
    return await store.update_enrolments(tx, rows)


async def courses_that_expire(tx: Tx) -> dict[str, list[Course]]:
    """Return the versions of courses whose completions end to be valid, by course id."""
    found: dict[str, list[Course]] = {}
    for course_id, version, body_hash in await store.versions_with_validity(tx):
        course = await _parse(tx, course_id, version, body_hash)
        if course.validity is not None:
            found.setdefault(course_id, []).append(course)
    return found


async def expire(
    tx: Tx, versions: Sequence[Course], after: CompletedAt | None, count: int
) -> tuple[list[CourseKey], CompletedAt | None]:
    """Let enrolments of one course expire whose completion is not valid any more (rule B12).

    ``versions`` are those of ``courses_that_expire``. Looks at ``count`` completed enrolments after
    a place; returns those that expired now and the place to go on from, None at the end.
    """
    by_version = {course.version: course for course in versions}
    course_id = versions[0].id
    until = max(
        course.validity.latest_start(tx.now) for course in versions if course.validity is not None
    )
    page = await store.completed_in(tx, course_id, until, after or _FIRST, count)
    over: list[CourseKey] = []
    for completed_at, user_id, attempt, version in page:
        course = by_version.get(version)
        ends = None if course is None else course.valid_until(completed_at)
        if ends is not None and ends <= tx.now:
            over.append((user_id, course_id, attempt))
    if over:
        await lock_learners(tx, {user_id for user_id, _, _ in over})
        await store.mark_expired(tx, sorted(over))
    if len(page) < count:
        return over, None
    completed_at, user_id, attempt, _ = page[-1]
    return over, (completed_at, user_id, attempt)


async def mark_completed(tx: Tx, done: Sequence[tuple[str, str, int, int]]) -> int:
    """Complete enrolments given as (user, course, attempt, completed_at).

    Each at most once: a date that is set never moves (B9). Returns how many changed.
    """
    rows = [(at, user_id, course_id, attempt) for user_id, course_id, attempt, at in done]
    return await store.mark_completed(tx, rows)


@dataclass(frozen=True, slots=True)
class EditPreview:
    """What publishing an edit would change for the learners of a course (B11): counts of them."""

    newly_complete: int
    dropping: int
    """Learners whose percentage would fall."""
    unaffected: int
    moved: int
    """Learners who would move to the new version at once."""
    renewed: int
    """Learners who have completed the course and would be asked for what is new."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A body read against what is published."""

    course: Course
    """The course as it is, or would be, published."""
    previous: Course | None
    """The version that was current before; None for a new course."""
    changes: bool
    """False where the body says what the current version says: then it makes no new one."""


Preview = Callable[[Tx, Course], Awaitable[EditPreview]]
"""Count what a course that is not published yet would change; ``wiring`` has it from progress."""
OnPublish = Callable[[Tx, Course, Course | None], Awaitable[None]]
OnEnrolment = Callable[[Tx, Enrolment], Awaitable[None]]


class Catalogue:
    """Publishes courses and enrols by hand, and tells who must know in the same transaction."""

    def __init__(self) -> None:
        """Start with nobody listening; ``wiring`` fills the lists."""
        self.on_publish: list[OnPublish] = []
        """Called with the new version and the one before (None: a new course)."""
        self.on_enrolment: list[OnEnrolment] = []
        """Called with an enrolment that was made or approved through the API."""

    async def draft(self, tx: Tx, course_id: str, body: Any) -> Draft:
        """Read a body; raise ``Invalid`` with all its faults. Changes nothing."""
        previous = (await current_courses(tx, [course_id])).get(course_id)
        version = 1 if previous is None else previous.version + 1
        course = document.parse(course_id, version, body)
        if previous is not None and _text(previous) == _text(course):
            return Draft(previous, previous, changes=False)
        return Draft(course, previous, changes=True)

    async def publish(self, tx: Tx, course_id: str, body: Any) -> Draft:
        """Make a body the current version, unless it is that already.

        Raises ``Invalid`` with all faults.
        """
        await tx.lock(_LEARNER)
        draft = await self.draft(tx, course_id, body)
        if draft.changes:
            text = _text(draft.course)
            body_hash = hashlib.sha256(text.encode()).hexdigest()
            await store.add_version(tx, course_id, draft.course.version, body_hash, text)
            await store.set_prerequisites(tx, course_id, draft.course.prerequisites)
            for hook in self.on_publish:
                await hook(tx, draft.course, draft.previous)
            tx.notify("courses", course_id)
        return draft

    async def enrol(
        self, tx: Tx, course_id: str, user_id: str, approved: bool | None = None
    ) -> tuple[Enrolment, bool]:
        """Enrol a learner, or return the attempt that is open; the flag says whether it is new.

        ``approved`` sets or takes back the approval that the criterion ``manual`` asks for. Raises
        ``NotFound`` for an unknown course.
        """
        await lock_learners(tx, [user_id])
        course = (await current_courses(tx, [course_id])).get(course_id)
        if course is None:
            raise NotFound(f"There is no course {course_id!r}.")
        pair = (user_id, course_id)
        attempts = (await enrolments(tx, [pair])).get(pair)
        if attempts:
            if approved is None or approved == attempts[-1].approved:
                return attempts[-1], False
            changed = msgspec.structs.replace(attempts[-1], approved=approved)
            await update_enrolments(tx, [changed])
        else:
            changed = Enrolment(
                user_id,
                course_id,
                attempt=1,
                version=course.version,
                status="registered",
                enrolled_at=tx.now,
                opened_at=0,
                approved=approved is True,
            )
            await add_enrolments(tx, [changed])
        for hook in self.on_enrolment:
            await hook(tx, changed)
        tx.notify("enrolments", f"{course_id}/{user_id}")
        return (await enrolments(tx, [pair]))[pair][-1], not attempts


def _text(course: Course) -> str:
    """Return a course's canonical document: equal texts, equal courses."""
    return msgspec.json.encode(document.dump(course), order="sorted").decode()
