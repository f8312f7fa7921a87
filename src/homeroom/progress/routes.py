"""HTTP routes of progress; ``http/ingest.py`` has the route that ingests batches."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import Field

from homeroom.catalogue.api import EnrolmentStatus
from homeroom.db.database import Database
from homeroom.errors import Forbidden, Invalid
from homeroom.identity import Identity, Role
from homeroom.progress import ingestion, queries
from homeroom.progress.event import (
    MAX_TIME_SPENT_SECONDS,
    NO_PERSON,
    EventFlag,
    EventSender,
    EventType,
    waiver_reason,
)
from homeroom.progress.ingestion import Ingest
from homeroom.progress.quarantine_routes import add_quarantine_routes
from homeroom.progress.rollup import scaled_score
from homeroom.web import etag
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

_STAFF = (Role.SERVICE, Role.OPERATOR, Role.VIEWER, Role.MANAGER)
_READERS = (*_STAFF, Role.LEARNER, Role.FACILITATOR)
_SENDERS = (Role.LEARNER, Role.FACILITATOR, Role.MANAGER, Role.SERVICE)


CourseId = Annotated[ExternalId, Path(alias="courseId")]
UserId = Annotated[ExternalId | None, Query(alias="userId")]


class QuizProgressView(ResponseModel):
    """A chapter's quiz. The score is 0 to 1, by the quizPolicy; null: no attempt."""

    score: float | None
    attempts: int
    """Number of quiz attempts that count."""
    passed: bool


class ChapterProgressView(ResponseModel):
    """A chapter; a satisfied one has the progress 100."""

    chapter_id: str
    title: str
    required: bool
    progress: float
    """Percent, rounded down."""
    completed: bool
    """True if it is satisfied by its moveOn, or waived; the history has the reason."""
    time_spent: int
    last_watched_at: Rfc3339Instant | None
    quiz: QuizProgressView | None


class CourseLearner(ResponseModel):
    """A learner of a course, in the latest attempt."""

    user_id: str
    status: EnrolmentStatus | None
    version: int
    attempt: int
    progress: float | None
    time_spent: int
    completed_chapters: int
    last_activity_at: Rfc3339Instant | None
    completed_at: Rfc3339Instant | None


class UnmetCriterionView(ResponseModel):
    """A criterion that is missing for the completion of a course."""

    type: Literal[
        "all_items", "n_of_m", "min_course_grade", "min_time", "prerequisite", "manual", "any"
    ]
    text: str
    """For people, such as `2 of 3 required chapters are done. Open: Exits.`"""
    chapter_ids: list[str]
    """Chapters that would help."""


class LearnerCourseView(ResponseModel):
    """A learner's course. Percentages are rounded down; null: nothing measured."""

    user_id: str
    course_id: str
    title: str
    version: int
    """The course version to which this attempt is pinned."""
    attempt: int
    status: EnrolmentStatus | None
    """Null before the first event, which enrols, as for a learner whom Homeroom does not know."""
    progress: float | None
    completed_chapters: int
    total_chapters: int
    completed_required: int
    required_chapters: int
    """Chapters that the percentage counts; `totalChapters` has the optional ones too."""
    time_spent: int
    """Seconds."""
    last_activity_at: Rfc3339Instant | None
    completed_at: Rfc3339Instant | None
    newer_version_available: bool


class CourseProgressView(LearnerCourseView):
    """A learner's progress in a course, with its chapters."""

    unmet_criteria: list[UnmetCriterionView]
    """Why the course is not complete; empty if it is."""
    chapters: list[ChapterProgressView]


class HistoryEntryView(ResponseModel):
    """An event, and the percentages after it."""

    event_id: str
    event_type: EventType
    chapter_id: str | None
    progress: float | None
    """As sent, in percent."""
    score: float | None
    time_spent: int
    occurred_at: Rfc3339Instant
    """As sent."""
    corrected_at: Rfc3339Instant | None
    """The time that counts, where `sentAt` showed that the device's clock was wrong."""
    received_at: Rfc3339Instant
    version: int
    attempt: int
    chapter_progress: float | None
    course_progress: float | None
    flags: list[str]
    """Anomalies: future, ancient, implausible_time, two_courses, untrusted_score,
    clock_corrected."""
    reason: str | None
    """The reason of a waiver."""


class ChapterUpdateBody(RequestModel):
    """Progress on one chapter; `lessonId` is another name for `chapterId`."""

    user_id: ExternalId | None = None
    """The learner; a learner may omit it and reports its own progress."""
    chapter_id: ExternalId | None = None
    lesson_id: ExternalId | None = None
    progress: Annotated[float | None, Field(ge=0, le=100, strict=True)] = None
    """Percent."""
    completed: Annotated[bool | None, Field(strict=True)] = None
    """True completes the chapter; false changes nothing, as only a reset undoes progress."""
    time_spent: Annotated[float | None, Field(ge=0, le=MAX_TIME_SPENT_SECONDS, strict=True)] = None
    """Seconds since the last report: a delta, never a running total. Rounded half up."""
    event_id: ExternalId | None = None
    """Makes the request safe to repeat; so does the header Idempotency-Key."""


_PLATFORM_SENDER = EventSender(person=None, trusted=True, may_manage=True)


def event_sender_of(identity: Identity) -> EventSender:
    """Return the rights of an identity that sends events, or raise ``Forbidden``."""
    if identity.has(Role.SERVICE):
        return _PLATFORM_SENDER
    identity.require(*_SENDERS)
    # A manager resets and waives for its people, and sends only its own progress.
    may_manage = identity.has(Role.MANAGER)
    if identity.via == "jwt":
        return EventSender(person=identity.subject, trusted=False, may_manage=may_manage)
    if may_manage and identity.via == "session":
        return EventSender(person=NO_PERSON, trusted=False, may_manage=True)
    raise Forbidden(
        f"The API key {identity.subject!r} belongs to no learner, so it may not send progress.",
        hint="Send the learner's own JWT (docs/tokens.md), or use a key with the role service.",
    )


def router(db: Database, auth: Auth, ingest: Ingest) -> APIRouter:
    """Return the routes of progress."""
    routes = APIRouter(prefix="/api/v1", tags=["Progress"])
    _add_learner_routes(routes, db, auth, ingest)
    _add_course_routes(routes, db, auth)
    add_quarantine_routes(routes, db, auth, ingest)
    return routes


def _add_learner_routes(routes: APIRouter, db: Database, auth: Auth, ingest: Ingest) -> None:
    reader: Identity = Depends(auth.require(*_READERS))
    sending: Identity = Depends(auth.require(*_SENDERS))

    @routes.patch("/courses/{courseId}/progress")
    async def update_progress(
        course_id: CourseId,
        body: ChapterUpdateBody,
        key: Annotated[
            str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)
        ] = None,
        identity: Identity = sending,
    ) -> CourseProgressView:
        """Report progress on one chapter and return the course's progress.

        With `eventId` or `Idempotency-Key` the request can be repeated; the same key with another
        body is 409. An unknown course or chapter is 404.
        """
        update = _chapter_update(course_id, body, key, identity)
        await ingestion.ingest_chapter_update(db, ingest, event_sender_of(identity), update)
        async with db.read() as tx:
            return _course_progress_view(
                await queries.learner_progress(tx, update.user_id, course_id, ingest.completions)
            )

    @routes.get("/courses/{courseId}/progress", response_model=CourseProgressView)
    async def get_progress(
        request: Request, course_id: CourseId, user_id: UserId = None, identity: Identity = reader
    ) -> Response:
        """Return a learner's progress in a course; without `userId` the caller's own."""
        learner_id = _subject_user_id(identity, user_id)
        async with db.read() as tx:
            await auth.people(identity).check(tx, learner_id)
            found = await queries.learner_progress(tx, learner_id, course_id, ingest.completions)
        return etag.json_response_with_etag(request, _course_progress_view(found))

    @routes.get("/people/{userId}/progress", response_model=Page[LearnerCourseView])
    async def list_progress_of_person(
        request: Request,
        user_id: Annotated[ExternalId, Path(alias="userId")],
        paging: PagingQuery,
        identity: Identity = reader,
    ) -> Response:
        """List all courses of a learner by course id, each in the latest attempt."""
        key = paging.key(str)
        after = None if key is None else str(key[0])
        async with db.read() as tx:
            await auth.people(identity).check(tx, user_id)
            rows = await queries.courses_of_learner(tx, user_id, after, paging.limit + 1)
        page, cursor = cut_page(rows, paging, lambda each: [each.course_id])
        items = [LearnerCourseView(**_course_fields(each)) for each in page]
        return etag.json_response_with_etag(
            request, Page[LearnerCourseView](items=items, next_cursor=cursor)
        )

    @routes.get("/courses/{courseId}/progress/history", response_model=Page[HistoryEntryView])
    async def get_progress_history(
        request: Request,
        course_id: CourseId,
        paging: PagingQuery,
        user_id: UserId = None,
        identity: Identity = reader,
    ) -> Response:
        """List a learner's events in recorded order, each with its flags.

        The percentages of an event are those after it.
        """
        learner_id = _subject_user_id(identity, user_id)
        key = paging.key(int)
        after = 0 if key is None else int(key[0])
        async with db.read() as tx:
            await auth.people(identity).check(tx, learner_id)
            rows = await queries.event_history(tx, learner_id, course_id, after, paging.limit + 1)
        page, cursor = cut_page(rows, paging, lambda each: [each.seq])
        items = [_history_entry_view(each) for each in page]
        return etag.json_response_with_etag(
            request, Page[HistoryEntryView](items=items, next_cursor=cursor)
        )


def _add_course_routes(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader: Identity = Depends(auth.require(*_STAFF))

    @routes.get(
        "/courses/{courseId}/learners",
        response_model=Page[CourseLearner],
    )
    async def list_learners(
        request: Request, course_id: CourseId, paging: PagingQuery, identity: Identity = reader
    ) -> Response:
        """List a course's learners by user id, each in the latest attempt.

        Managers see their own people.
        """
        learners = auth.people(identity).ids
        key = paging.key(str)
        after = None if key is None else str(key[0])
        async with db.read() as tx:
            rows = await queries.course_learners(tx, course_id, after, paging.limit + 1, learners)
        page, cursor = cut_page(rows, paging, lambda each: [each.user_id])
        items = [_course_learner(each) for each in page]
        return etag.json_response_with_etag(
            request, Page[CourseLearner](items=items, next_cursor=cursor)
        )


def _subject_user_id(identity: Identity, user_id: str | None) -> str:
    """Return the requested learner, or the caller; raise ``Invalid`` for an API key."""
    if user_id is not None:
        return user_id
    if identity.via != "jwt":
        raise Invalid("userId is missing. Fix: name the learner in userId.")
    return identity.subject


def _chapter_update(
    course_id: str, body: ChapterUpdateBody, key: str | None, identity: Identity
) -> ingestion.ChapterUpdate:
    """Convert the body of a PATCH; raise ``Invalid`` if a needed field is missing."""
    chapter_id = body.chapter_id if body.lesson_id is None else body.lesson_id
    if chapter_id is None:
        raise Invalid("The chapter is missing. Fix: name it in chapterId or lessonId.")
    if body.chapter_id is not None and body.lesson_id is not None:
        raise Invalid("chapterId and lessonId are both given. Fix: send one of them.")
    if body.progress is None and not body.completed and body.time_spent is None:
        raise Invalid("The report is empty. Fix: send progress, completed or timeSpent.")
    user_id = body.user_id
    if user_id is None:
        if identity.via != "jwt":
            raise Invalid("userId is missing. Fix: name the learner in userId.")
        user_id = identity.subject
    event_id = body.event_id
    if event_id is None and key is not None:
        event_id = ingestion.idempotent_event_id(identity.subject, user_id, course_id, key)
    return ingestion.ChapterUpdate(
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


def _course_progress_view(found: queries.LearnerProgress) -> CourseProgressView:
    return CourseProgressView(
        **_course_fields(found.course),
        unmet_criteria=[UnmetCriterionView.model_validate(each) for each in found.unmet],
        chapters=[_chapter_progress_view(each) for each in found.chapters],
    )


def _course_fields(progress: queries.CourseProgress) -> dict[str, Any]:
    return {
        "user_id": progress.user_id,
        "course_id": progress.course_id,
        "title": progress.title,
        "version": progress.version,
        "attempt": progress.attempt,
        "status": progress.status,
        "progress": _percent(progress.progress),
        "completed_chapters": progress.completed_chapters,
        "total_chapters": progress.total_chapters,
        "completed_required": progress.completed_required,
        "required_chapters": progress.required_chapters,
        "time_spent": progress.time_spent,
        "last_activity_at": progress.last_at,
        "completed_at": progress.completed_at,
        "newer_version_available": progress.newer_version,
    }


def _chapter_progress_view(chapter: queries.ChapterProgress) -> ChapterProgressView:
    quiz = None
    if chapter.quiz is not None:
        score = None if chapter.quiz.score is None else chapter.quiz.score / 10_000
        quiz = QuizProgressView(
            score=score, attempts=chapter.quiz.attempts, passed=chapter.quiz.passed
        )
    return ChapterProgressView(
        chapter_id=chapter.chapter_id,
        title=chapter.title,
        required=chapter.is_required,
        progress=chapter.progress / 100,
        completed=chapter.completed,
        time_spent=chapter.time_spent,
        last_watched_at=chapter.last_at,
        quiz=quiz,
    )


def _course_learner(progress: queries.CourseProgress) -> CourseLearner:
    return CourseLearner(
        user_id=progress.user_id,
        status=progress.status,
        version=progress.version,
        attempt=progress.attempt,
        progress=_percent(progress.progress),
        time_spent=progress.time_spent,
        completed_chapters=progress.completed_chapters,
        last_activity_at=progress.last_at,
        completed_at=progress.completed_at,
    )


def _history_entry_view(entry: queries.HistoryEntry) -> HistoryEntryView:
    event = entry.event
    score = scaled_score(event)
    return HistoryEntryView(
        event_id=event.id,
        event_type=event.type,
        chapter_id=event.chapter_id,
        progress=_percent(event.progress),
        score=None if score is None else score / 10_000,
        time_spent=event.time_spent,
        occurred_at=event.occurred_at,
        corrected_at=event.at if event.flags & EventFlag.CLOCK_CORRECTED else None,
        received_at=event.received_at,
        version=entry.version,
        attempt=entry.attempt,
        chapter_progress=_percent(entry.chapter_progress),
        course_progress=_percent(entry.course_progress),
        flags=[(flag.name or "").lower() for flag in EventFlag(event.flags)],
        reason=waiver_reason(event.metadata) if event.type is EventType.CHAPTER_WAIVED else None,
    )
