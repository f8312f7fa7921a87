"""Public interface of the catalogue: courses in their versions, and enrolments."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from homeroom.access import api as access
from homeroom.catalogue import course_document as document
from homeroom.catalogue import store
from homeroom.catalogue.course import (
    AttemptKey,
    Chapter,
    Course,
    Enrolment,
    EnrolmentStatus,
    LearnerCourse,
    LearnerPolicy,
    MoveOn,
    QuizPolicy,
    Unit,
    Validity,
)
from homeroom.catalogue.course_document import MAX_CHAPTERS, dump_course
from homeroom.catalogue.criteria import (
    AllItems,
    AllOf,
    AnyOf,
    CompletionFacts,
    Criteria,
    Manual,
    MinCourseGrade,
    MinTime,
    NOfM,
    Prerequisite,
    evaluate_criteria,
    facts_needed,
    prerequisites,
)
from homeroom.catalogue.document_faults import DocumentFaults, DocumentPath, invalid_document
from homeroom.catalogue.store import (
    PERSONAL,
    CurrentVersion,
    add_enrolments,
    archived_at,
    enrolment_record_id,
    enrolments_in,
    enrolments_of,
    enrolments_read,
    list_by_keys,
    mark_completed,
    update_enrolments,
)
from homeroom.catalogue.unmet_criteria import UnmetCriterion, unmet_criteria
from homeroom.db.bulk import BatchedRead, bulk_tx
from homeroom.db.tx import Row, Tx
from homeroom.errors import Conflict, NotFound

__all__ = [
    "MAX_CHAPTERS",
    "PERSONAL",
    "AllItems",
    "AllOf",
    "AnyOf",
    "AttemptKey",
    "Catalogue",
    "Chapter",
    "CompletedEnrolmentCursor",
    "CompletionFacts",
    "Course",
    "CourseDraft",
    "Criteria",
    "CurrentVersion",
    "DocumentFaults",
    "DocumentPath",
    "Enrolment",
    "EnrolmentStatus",
    "LearnerCourse",
    "LearnerPolicy",
    "Manual",
    "MinCourseGrade",
    "MinTime",
    "MoveOn",
    "NOfM",
    "Prerequisite",
    "PreviewVersionChange",
    "QuizPolicy",
    "Unit",
    "UnmetCriterion",
    "Validity",
    "VersionChangePreview",
    "add_enrolments",
    "archived_at",
    "archived_courses",
    "course_at",
    "courses_at",
    "current_courses",
    "current_versions_read",
    "dependent_courses",
    "dump_course",
    "enrolment_record_id",
    "enrolments",
    "enrolments_in",
    "enrolments_of",
    "enrolments_read",
    "evaluate_criteria",
    "expire_enrolments",
    "expiring_versions",
    "facts_needed",
    "invalid_document",
    "known_chapters",
    "list_by_keys",
    "list_courses",
    "load_courses",
    "lock_learners",
    "mark_completed",
    "prerequisites",
    "published_at",
    "unmet_criteria",
    "update_enrolments",
]

CompletedEnrolmentCursor = tuple[int, str, int]
"""(completed_at, user id, attempt): a position among a course's completed enrolments."""
_BEFORE_FIRST: CompletedEnrolmentCursor = (-(1 << 62), "", 0)

_LEARNER_LOCK = "learner"
COURSE_CACHE_SIZE = 4_096
_cache_lock = threading.Lock()
"""Ingest loads courses in the writer's thread, requests load them in the event loop's."""
_course_cache: dict[tuple[str, int, str], Course] = {}
"""Loaded versions by (id, version, hash of the body).

The hash is read from the database each time, so the cache decides nothing: a version that was
rolled back, or one of another database in the same process, has another key.
"""


@dataclass(frozen=True, slots=True)
class VersionChangePreview:
    """Counts of the learners whom publishing an edit would affect (B11)."""

    newly_complete: int
    dropping: int
    """Learners whose percentage would fall."""
    unaffected: int
    moved: int
    """Learners who would move to the new version at once."""
    renewed: int
    """Learners who have completed the course and would get another attempt."""


@dataclass(frozen=True, slots=True)
class CourseDraft:
    """A parsed course document, compared with the current version."""

    course: Course
    """The course as it is, or would be, published."""
    previous: Course | None
    """The version that was current before; None for a new course."""
    changes: bool
    """False if the document equals the current version: then it creates no new one."""


PreviewVersionChange = Callable[[Tx, Course], Awaitable[VersionChangePreview]]
"""Counts the learners whom publishing a course would affect; ``progress`` implements it."""
OnPublish = Callable[[Tx, Course, Course | None], Awaitable[None]]
OnEnrolment = Callable[[Tx, Enrolment], Awaitable[None]]


class Catalogue:
    """Publishes courses and enrols learners; runs hooks in the same transaction."""

    def __init__(self) -> None:
        """Start without hooks; ``bootstrap`` appends them."""
        self.on_publish: list[OnPublish] = []
        """Called with the new version and the one before (None: a new course)."""
        self.on_enrolment: list[OnEnrolment] = []
        """Called with an enrolment that was created or approved through the API."""

    async def draft(self, tx: Tx, course_id: str, body: Any) -> CourseDraft:
        """Parse a course document; raise ``Invalid`` with all faults. Changes nothing."""
        previous = (await current_courses(tx, [course_id])).get(course_id)
        version = 1 if previous is None else previous.version + 1
        course = document.parse_course(course_id, version, body)
        document.check_new_course(course)
        if previous is not None and _canonical_text(previous) == _canonical_text(course):
            return CourseDraft(previous, previous, changes=False)
        return CourseDraft(course, previous, changes=True)

    async def publish(self, tx: Tx, course_id: str, body: Any) -> CourseDraft:
        """Publish a course document as a new version, unless it equals the current one.

        Raises ``Invalid`` with all faults.
        """
        await tx.lock(_LEARNER_LOCK)
        draft = await self.draft(tx, course_id, body)
        if draft.changes:
            text = _canonical_text(draft.course)
            body_hash = hashlib.sha256(text.encode()).hexdigest()
            await store.add_version(tx, course_id, draft.course.version, body_hash, text)
            await store.add_prerequisites(tx, course_id, draft.course.prerequisites)
            for hook in self.on_publish:
                await hook(tx, draft.course, draft.previous)
            tx.notify("courses", course_id)
        return draft

    async def enrol(
        self, tx: Tx, course_id: str, user_id: str, approved: bool | None = None
    ) -> tuple[Enrolment, bool]:
        """Enrol a learner; return the latest attempt, and whether it is new.

        ``approved`` sets or withdraws the approval for the criterion ``manual``. An ended enrolment
        goes on as it was. Raises ``NotFound`` for an unknown course, ``Conflict`` for a new or
        ended enrolment in an archived one.
        """
        await lock_learners(tx, [user_id])
        course = (await current_courses(tx, [course_id])).get(course_id)
        if course is None:
            raise NotFound(f"There is no course {course_id!r}.")
        pair = (user_id, course_id)
        attempts = (await enrolments(tx, [pair])).get(pair)
        if not attempts or attempts[-1].ended_at is not None:
            await _check_open(tx, course_id)
        if attempts:
            last = attempts[-1]
            if last.ended_at is None and approved in (None, last.approved):
                return last, False
            changed = msgspec.structs.replace(
                last, approved=last.approved if approved is None else approved, ended_at=None
            )
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

    async def end_enrolment(self, tx: Tx, course_id: str, user_id: str, actor: str) -> None:
        """Un-enrol a learner; progress, events and completions stay.

        Does nothing for an enrolment that has ended. Raises ``NotFound`` if there is none.
        """
        await lock_learners(tx, [user_id])
        pair = (user_id, course_id)
        attempts = (await enrolments(tx, [pair])).get(pair)
        if not attempts:
            raise NotFound(f"The learner {user_id!r} is not enrolled in the course {course_id!r}.")
        if attempts[-1].ended_at is not None:
            return
        await update_enrolments(tx, [msgspec.structs.replace(attempts[-1], ended_at=tx.now)])
        await access.record_audit(tx, actor, "enrolment.ended", user_id, {"courseId": course_id})
        tx.notify("enrolments", f"{course_id}/{user_id}")

    async def set_archived(self, tx: Tx, course_id: str, archived: bool, actor: str) -> None:
        """Archive a course, or open it to new enrolments again; raise ``NotFound``."""
        if not await current_courses(tx, [course_id]):
            raise NotFound(f"There is no course {course_id!r}.")
        if await store.set_archived_at(tx, course_id, tx.now if archived else None):
            action = "course.archived" if archived else "course.unarchived"
            await access.record_audit(tx, actor, action, course_id)
            tx.notify("courses", course_id)


async def _check_open(tx: Tx, course_id: str) -> None:
    """Raise ``Conflict`` if a course is archived."""
    if await archived_at(tx, course_id) is not None:
        raise Conflict(
            f"The course {course_id!r} is archived and takes no new enrolments.",
            hint="Take it out of the archive first.",
        )


def current_versions_read(course_ids: Collection[str]) -> BatchedRead[list[Row]]:
    """Read the current versions of courses, for ``load_courses``."""
    return store.current_versions_read(course_ids)


async def load_courses(tx: Tx, current: Sequence[Row]) -> dict[str, Course]:
    """Load, by id, the courses in the result of ``current_versions_read``."""
    return {
        course_id: await _load_course(tx, course_id, version, body_hash)
        for course_id, version, body_hash, _ in current
    }


def archived_courses(current: Sequence[Row]) -> frozenset[str]:
    """Return the archived courses in the result of ``current_versions_read``."""
    return frozenset(row[0] for row in current if row[3] is not None)


async def current_courses(tx: Tx, course_ids: Collection[str]) -> dict[str, Course]:
    """Return the current versions of the courses that exist, by id."""
    rows = await bulk_tx(tx).fetch_batch(current_versions_read(course_ids))
    return await load_courses(tx, rows)


async def course_at(tx: Tx, course_id: str, version: int) -> Course:
    """Return one version of a course; raise ``NotFound``."""
    body_hash = await store.version_hash(tx, course_id, version)
    if body_hash is None:
        raise NotFound(f"There is no version {version} of the course {course_id!r}.")
    return await _load_course(tx, course_id, version, body_hash)


async def courses_at(
    tx: Tx, versions: Collection[tuple[str, int]]
) -> dict[tuple[str, int], Course]:
    """Return the (course id, version) that exist; one statement if all are cached."""
    if not versions:
        return {}
    return {
        (course_id, version): await _load_course(tx, course_id, version, body_hash)
        for course_id, version, body_hash in await store.version_hashes(tx, set(versions))
    }


async def known_chapters(tx: Tx, course_id: str) -> frozenset[str]:
    """Return the ids of the chapters of all versions of a course."""
    chapter_ids: set[str] = set()
    for version, body_hash in await store.versions_of(tx, course_id):
        chapter_ids.update((await _load_course(tx, course_id, version, body_hash)).chapters)
    return frozenset(chapter_ids)


async def published_at(tx: Tx, course: Course) -> int:
    """Return the instant at which a version was published."""
    return await store.published_at(tx, course.id, course.version)


async def list_courses(
    tx: Tx, after: str | None, count: int, *, archived: bool = False
) -> list[tuple[Course, CurrentVersion]]:
    """Return up to ``count`` current courses by id: open ones, or archived ones."""
    return [
        (await _load_course(tx, each.id, each.version, each.body_hash), each)
        for each in await store.list_courses(tx, after, count, archived=archived)
    ]


async def dependent_courses(tx: Tx, course_ids: Collection[str]) -> dict[str, frozenset[str]]:
    """Return, by course, the courses of which some version has it as a prerequisite.

    A completion of a course may thereby complete one of its dependents.
    """
    found: dict[str, set[str]] = {}
    if course_ids:
        for requires_id, course_id in await store.dependent_courses(tx, course_ids):
            found.setdefault(requires_id, set()).add(course_id)
    return {course_id: frozenset(dependents) for course_id, dependents in found.items()}


async def expiring_versions(tx: Tx) -> dict[str, list[Course]]:
    """Return the versions of courses that have a ``validity``, by course id."""
    versions: dict[str, list[Course]] = {}
    for course_id, version, body_hash in await store.versions_with_validity(tx):
        course = await _load_course(tx, course_id, version, body_hash)
        if course.validity is not None:
            versions.setdefault(course_id, []).append(course)
    return versions


async def lock_learners(tx: Tx, user_ids: Collection[str]) -> None:
    """Lock these learners' courses until the end of the transaction.

    Required before a transaction reads enrolments or progress and writes what follows from them:
    else two commits for one learner would each add to what both have read. Publishing a course
    locks all learners, so that no commit sees half of it.
    """
    await tx.lock(_LEARNER_LOCK, user_ids)


async def enrolments(
    tx: Tx, pairs: Collection[LearnerCourse]
) -> dict[LearnerCourse, list[Enrolment]]:
    """Return the result of ``enrolments_read``."""
    return await bulk_tx(tx).fetch_batch(enrolments_read(pairs))


async def expire_enrolments(
    tx: Tx, versions: Sequence[Course], after: CompletedEnrolmentCursor | None, count: int
) -> tuple[list[AttemptKey], CompletedEnrolmentCursor | None]:
    """Expire enrolments of one course whose completion is no longer valid (rule B12).

    ``versions`` are those of ``expiring_versions``. Reads ``count`` completed enrolments after a
    cursor; returns the expired ones and the next cursor, None at the end.
    """
    by_version = {course.version: course for course in versions}
    course_id = versions[0].id
    until = max(
        course.validity.latest_start(tx.now) for course in versions if course.validity is not None
    )
    page = await store.completed_enrolments(tx, course_id, until, after or _BEFORE_FIRST, count)
    expired: list[AttemptKey] = []
    cursor: CompletedEnrolmentCursor | None = None
    for each in page:
        completed_at = each.completed_at or 0
        cursor = (completed_at, each.user_id, each.attempt)
        course = by_version.get(each.version)
        ends_at = None if course is None else course.valid_until(completed_at)
        if ends_at is not None and ends_at <= tx.now:
            expired.append((each.user_id, course_id, each.attempt))
    if expired:
        await lock_learners(tx, {user_id for user_id, _, _ in expired})
        await store.mark_expired(tx, sorted(expired))
    return expired, cursor if len(page) == count else None


async def _load_course(tx: Tx, course_id: str, version: int, body_hash: str) -> Course:
    key = (course_id, version, body_hash)
    course = _course_cache.get(key)
    if course is None:
        text = await store.version_body(tx, course_id, version)
        course = document.parse_course(course_id, version, msgspec.json.decode(text))
        with _cache_lock:
            while len(_course_cache) >= COURSE_CACHE_SIZE:
                del _course_cache[next(iter(_course_cache))]
            _course_cache[key] = course
    return course


def _canonical_text(course: Course) -> str:
    """Return a course's canonical document: equal courses give equal texts."""
    return msgspec.json.encode(document.dump_course(course), order="sorted").decode()
