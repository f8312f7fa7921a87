"""Progress over HTTP (API page, "Progress"), but for the raw ingest route of ``http``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import Field

from homeroom.catalogue.api import Status
from homeroom.db.database import Database
from homeroom.errors import Forbidden, Invalid
from homeroom.progress import quarantine, read, single
from homeroom.progress.event import MAX_TIME_SPENT_SECONDS, EventType, Flag, Sender, waiver_reason
from homeroom.progress.ingest import Ingest
from homeroom.progress.merge import scaled_score
from homeroom.progress.readmit import PAGE, readmit
from homeroom.web import etag
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

_STAFF = (Role.SERVICE, Role.OPERATOR, Role.VIEWER, Role.MANAGER)
_READ = (*_STAFF, Role.LEARNER, Role.FACILITATOR)
_SEND = (Role.LEARNER, Role.FACILITATOR, Role.MANAGER, Role.SERVICE)
_MAX_REPLAY = 5_000

CourseId = Annotated[OutsideId, Path(alias="courseId")]
UserId = Annotated[OutsideId | None, Query(alias="userId")]


class QuizView(View):
    """A chapter's quiz. The score is 0 to 1, by the course's quizPolicy; 0 is a score."""

    score: float | None
    attempts: int
    """Attempts that count."""
    passed: bool


class ChapterView(View):
    """A chapter; one that is satisfied shows 100."""

    chapter_id: str
    progress: float
    """Percent, rounded down."""
    completed: bool
    """Whether it is satisfied, by its moveOn, or waived as the history says."""
    time_spent: int
    last_watched_at: Instant | None
    quiz: QuizView | None


class LearnerView(View):
    """A learner of a course, in their latest attempt."""

    user_id: str
    status: Status | None
    version: int
    attempt: int
    progress: float | None
    time_spent: int
    completed_chapters: int
    last_activity_at: Instant | None
    completed_at: Instant | None


class ProgressView(View):
    """A learner's progress. Percentages are rounded down; null: nothing can be measured."""

    user_id: str
    course_id: str
    version: int
    """Of the course, to which this attempt is pinned."""
    attempt: int
    status: Status | None
    """Null: not enrolled yet; the first event enrols."""
    progress: float | None
    completed_chapters: int
    total_chapters: int
    time_spent: int
    """Seconds."""
    last_activity_at: Instant | None
    completed_at: Instant | None
    newer_version_available: bool
    chapters: list[ChapterView]


class HistoryView(View):
    """An event, and the percentages that it led to."""

    event_id: str
    event_type: EventType
    chapter_id: str | None
    progress: float | None
    """As sent, in percent."""
    score: float | None
    time_spent: int
    occurred_at: Instant
    received_at: Instant
    version: int
    attempt: int
    chapter_progress: float | None
    course_progress: float | None
    flags: list[str]
    """What is odd: future, ancient, implausible_time, two_courses, untrusted_score."""
    reason: str | None
    """Why a chapter was waived."""


class HeldView(View):
    """An event that is set aside."""

    seq: int
    event_id: str
    event_type: EventType
    reason: str
    user_id: str
    course_id: str
    chapter_id: str | None
    occurred_at: Instant
    received_at: Instant


class ReadmittedView(View):
    """What became of the held events that were tried."""

    accepted: int
    duplicate: int
    conflict: int
    held: int
    next_after: int | None


class ProgressBody(Body):
    """Progress on one chapter; `lessonId` is another name for `chapterId`."""

    user_id: OutsideId | None = None
    """Whose progress; left out by a learner, who sends its own."""
    chapter_id: OutsideId | None = None
    lesson_id: OutsideId | None = None
    progress: Annotated[float | None, Field(ge=0, le=100, strict=True)] = None
    """Percent."""
    completed: Annotated[bool | None, Field(strict=True)] = None
    """True completes the chapter; false takes nothing back, as nothing but a reset does."""
    time_spent: Annotated[int | None, Field(ge=0, le=MAX_TIME_SPENT_SECONDS, strict=True)] = None
    """Seconds since the last report: a delta, never a running total."""
    event_id: OutsideId | None = None
    """Makes the request safe to repeat; so does the header Idempotency-Key."""


_PLATFORM = Sender(person=None, trusted=True, may_manage=True)


def sender_of(identity: Identity) -> Sender:
    """Return whose progress an identity may send, or raise ``Forbidden``."""
    if identity.has(Role.SERVICE):
        return _PLATFORM
    if identity.via == "jwt" and identity.has(Role.LEARNER, Role.FACILITATOR, Role.MANAGER):
        # A manager resets and waives for anybody, and sends progress of its own only.
        may_manage = identity.has(Role.MANAGER)
        return Sender(person=identity.subject, trusted=False, may_manage=may_manage)
    raise Forbidden(
        "Progress is sent with the role service, or by a learner, facilitator or manager with a JWT"
        " of their own, whose sub is their user id."
    )


def router(db: Database, auth: Auth, ingest: Ingest) -> APIRouter:
    """Return the routes of progress."""
    routes = APIRouter(prefix="/api/v1", tags=["Progress"])
    _add_learner_routes(routes, db, auth, ingest)
    _add_course_routes(routes, db, auth)
    _add_quarantine_routes(routes, db, auth, ingest)
    return routes


def _add_learner_routes(routes: APIRouter, db: Database, auth: Auth, ingest: Ingest) -> None:
    reader: Identity = Depends(auth.require(*_READ))
    sending: Identity = Depends(auth.require(*_SEND))

    @routes.patch("/courses/{courseId}/progress")
    async def patch_progress(
        course_id: CourseId,
        body: ProgressBody,
        key: Annotated[
            str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)
        ] = None,
        identity: Identity = sending,
    ) -> ProgressView:
        """Report progress on one chapter and return the course's progress.

        With `eventId` or `Idempotency-Key` it may be repeated; the same key with another body is
        409. An unknown course or chapter is 404.
        """
        report = _report(course_id, body, key, identity)
        await single.put(db, ingest, sender_of(identity), report)
        async with db.read() as tx:
            return _progress(*await read.of_learner(tx, report.user_id, course_id))

    @routes.get("/courses/{courseId}/progress", response_model=ProgressView)
    async def get_progress(
        request: Request, course_id: CourseId, user_id: UserId = None, identity: Identity = reader
    ) -> Response:
        """Return a learner's progress in a course; a learner's own where no `userId` is given."""
        whose = _whose(identity, user_id)
        async with db.read() as tx:
            line, chapters = await read.of_learner(tx, whose, course_id)
        return etag.answer(request, _progress(line, chapters))

    @routes.get("/courses/{courseId}/progress/history", response_model=Page[HistoryView])
    async def get_history(
        request: Request,
        course_id: CourseId,
        paging: PagingQuery,
        user_id: UserId = None,
        identity: Identity = reader,
    ) -> Response:
        """List a learner's events in the order in which they were recorded.

        Each with what is odd about it, and the percentages that it led to.
        """
        whose = _whose(identity, user_id)
        key = paging.key(int)
        after = 0 if key is None else int(key[0])
        async with db.read() as tx:
            found = await read.history(tx, whose, course_id, after, paging.limit + 1)
        kept, cursor = page(found, paging, lambda each: [each.seq])
        items = [_history(each) for each in kept]
        return etag.answer(request, Page[HistoryView](items=items, next_cursor=cursor))


def _add_course_routes(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader = Depends(auth.require(*_STAFF))

    @routes.get(
        "/courses/{courseId}/learners",
        dependencies=[reader],
        response_model=Page[LearnerView],
    )
    async def list_learners(request: Request, course_id: CourseId, paging: PagingQuery) -> Response:
        """List a course's learners by user id, each in their latest attempt."""
        key = paging.key(str)
        after = None if key is None else str(key[0])
        async with db.read() as tx:
            found = await read.learners(tx, course_id, after, paging.limit + 1)
        kept, cursor = page(found, paging, lambda each: [each.user_id])
        items = [_learner(each) for each in kept]
        return etag.answer(request, Page[LearnerView](items=items, next_cursor=cursor))


def _add_quarantine_routes(routes: APIRouter, db: Database, auth: Auth, ingest: Ingest) -> None:
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER, Role.SERVICE))
    operator = Depends(auth.require(Role.OPERATOR, Role.SERVICE))

    @routes.get("/progress/quarantine", dependencies=[reader])
    async def list_quarantine(
        paging: PagingQuery,
        course_id: Annotated[OutsideId | None, Query(alias="courseId")] = None,
    ) -> Page[HeldView]:
        """List the events that are set aside, the first that came first."""
        key = paging.key(int)
        after = 0 if key is None else int(key[0])
        async with db.read() as tx:
            found = await quarantine.listed(tx, after, paging.limit + 1, course_id)
        kept, cursor = page(found, paging, lambda each: [each.seq])
        return Page[HeldView](items=[_held(each) for each in kept], next_cursor=cursor)

    @routes.post("/progress/quarantine/replay", dependencies=[operator])
    async def replay_quarantine(
        course_id: Annotated[OutsideId | None, Query(alias="courseId")] = None,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=_MAX_REPLAY)] = PAGE,
    ) -> ReadmittedView:
        """Bring held events in again that the catalogue knows by now; each counts once.

        Conflicts are kept for inspection. At most `limit` events are tried; `nextAfter` says where
        to go on.
        """
        done = await readmit(db, ingest, course_id=course_id, after=after, limit=limit)
        return ReadmittedView.model_validate(done)


def _whose(identity: Identity, user_id: str | None) -> str:
    """Return whose progress is meant; raise ``Forbidden`` where it is somebody else's."""
    if user_id is not None:
        identity.check_reads(user_id)
        return user_id
    if identity.via != "jwt":
        raise Invalid("Say whose progress, in userId.")
    return identity.subject


def _report(
    course_id: str, body: ProgressBody, key: str | None, identity: Identity
) -> single.Report:
    """Return what a PATCH says; raise ``Invalid`` where it does not say enough."""
    chapter_id = body.chapter_id if body.lesson_id is None else body.lesson_id
    if chapter_id is None:
        raise Invalid("Name the chapter, in chapterId or in lessonId.")
    if body.chapter_id is not None and body.lesson_id is not None:
        raise Invalid("Name the chapter in one of them, chapterId or lessonId, and not in both.")
    if body.progress is None and not body.completed and body.time_spent is None:
        raise Invalid("Say what was done: progress, completed or timeSpent.")
    user_id = body.user_id
    if user_id is None:
        if identity.via != "jwt":
            raise Invalid("Say whose progress, in userId.")
        user_id = identity.subject
    event_id = body.event_id
    if event_id is None and key is not None:
        event_id = single.id_of_key(identity.subject, user_id, course_id, key)
    return single.Report(
        user_id=user_id,
        course_id=course_id,
        chapter_id=chapter_id,
        progress=body.progress,
        completed=body.completed is True,
        time_spent=body.time_spent,
        event_id=event_id,
    )


def _percent(points: int | None) -> float | None:
    return None if points is None else points / 100


def _progress(line: read.CourseLine, chapters: Sequence[read.ChapterLine]) -> ProgressView:
    return ProgressView(
        user_id=line.user_id,
        course_id=line.course_id,
        version=line.version,
        attempt=line.attempt,
        status=line.status,
        progress=_percent(line.progress),
        completed_chapters=line.completed_chapters,
        total_chapters=line.total_chapters,
        time_spent=line.time_spent,
        last_activity_at=line.last_at,
        completed_at=line.completed_at,
        newer_version_available=line.newer_version,
        chapters=[_chapter(each) for each in chapters],
    )


def _chapter(line: read.ChapterLine) -> ChapterView:
    quiz = None
    if line.quiz is not None:
        score = None if line.quiz.score is None else line.quiz.score / 10_000
        quiz = QuizView(score=score, attempts=line.quiz.attempts, passed=line.quiz.passed)
    return ChapterView(
        chapter_id=line.chapter_id,
        progress=line.progress / 100,
        completed=line.completed,
        time_spent=line.time_spent,
        last_watched_at=line.last_at,
        quiz=quiz,
    )


def _learner(line: read.CourseLine) -> LearnerView:
    return LearnerView(
        user_id=line.user_id,
        status=line.status,
        version=line.version,
        attempt=line.attempt,
        progress=_percent(line.progress),
        time_spent=line.time_spent,
        completed_chapters=line.completed_chapters,
        last_activity_at=line.last_at,
        completed_at=line.completed_at,
    )


def _history(line: read.HistoryLine) -> HistoryView:
    event = line.event
    score = scaled_score(event)
    return HistoryView(
        event_id=event.id,
        event_type=event.type,
        chapter_id=event.chapter_id,
        progress=_percent(event.progress),
        score=None if score is None else score / 10_000,
        time_spent=event.time_spent,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        version=line.version,
        attempt=line.attempt,
        chapter_progress=_percent(line.chapter_progress),
        course_progress=_percent(line.course_progress),
        flags=[(flag.name or "").lower() for flag in Flag(event.flags)],
        reason=waiver_reason(event.metadata) if event.type is EventType.CHAPTER_WAIVED else None,
    )


def _held(held: quarantine.Held) -> HeldView:
    return HeldView(
        seq=held.seq,
        event_id=held.id,
        event_type=held.event.type,
        reason=held.reason,
        user_id=held.user_id,
        course_id=held.course_id,
        chapter_id=held.chapter_id,
        occurred_at=held.event.occurred_at,
        received_at=held.received_at,
    )
