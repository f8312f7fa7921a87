"""HTTP routes of courses and enrolments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi import Body as RequestBody
from pydantic import GetPydanticSchema

from homeroom.catalogue import api
from homeroom.catalogue import course_document as document
from homeroom.catalogue.api import (
    AttemptKey,
    Catalogue,
    Course,
    CurrentVersion,
    Enrolment,
    EnrolmentStatus,
    PreviewVersionChange,
)
from homeroom.changes.api import ENROLMENTS, ChangeKind, LoadRecords, split_record_id
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden, NotFound
from homeroom.identity import Identity, Role
from homeroom.instant import to_rfc3339
from homeroom.web import etag
from homeroom.web.identity import Auth
from homeroom.web.model import (
    ExternalId,
    IfMatch,
    JsonObject,
    RequestModel,
    ResponseModel,
    Rfc3339Instant,
)
from homeroom.web.paging import Page, PagingQuery, cut_page

_WRITERS = (Role.SERVICE, Role.AUTHOR)
_ALL_ENROLMENTS_ROLES = (Role.SERVICE, Role.AUTHOR, Role.OPERATOR, Role.VIEWER)
_ENROLMENT_READERS = (*_ALL_ENROLMENTS_ROLES, Role.MANAGER)
_COURSE_READERS = (*_ENROLMENT_READERS, Role.LEARNER, Role.FACILITATOR)

CourseId = Annotated[ExternalId, Path(alias="courseId")]
UserId = Annotated[ExternalId, Path(alias="userId")]
CourseJson = Annotated[
    JsonObject,
    RequestBody(),
    GetPydanticSchema(
        get_pydantic_json_schema=lambda _, handler: handler(
            document.CourseBody.__pydantic_core_schema__
        )
    ),
]
"""Documented as a ``CourseBody``, and parsed by the catalogue: it reports all faults at once."""


class CourseView(document.CourseContent):
    """A version of a course."""

    course_id: str
    version: int
    published_at: str
    archived_at: str | None


class CourseSummary(ResponseModel):
    """A course in a list."""

    course_id: str
    version: int
    title: str
    total_chapters: int
    required_chapters: int
    auto_enrol: bool
    published_at: Rfc3339Instant
    archived_at: Rfc3339Instant | None


class CourseDryRun(ResponseModel):
    """Counts of the learners whom an edit would affect (rule B11)."""

    course_id: str
    version: int
    """The version that publishing would create; the current one if nothing changes."""
    changes: bool
    newly_complete: int
    dropping: int
    unaffected: int
    moved: int
    renewed: int
    """Learners who have completed the course and would get another attempt (`require_new`)."""


class EnrolmentBody(RequestModel):
    """Options of an enrolment; the body is optional."""

    approved: bool | None = None
    """The approval for the criterion `manual`; needs the role service."""


class EnrolmentView(ResponseModel):
    """One attempt of one learner at a course."""

    user_id: str
    course_id: str
    version: int
    attempt: int
    status: EnrolmentStatus
    enrolled_at: Rfc3339Instant
    completed_at: Rfc3339Instant | None
    approved: bool
    ended_at: Rfc3339Instant | None


async def _course_json(tx: Tx, course: Course) -> bytes:
    published_at = await api.published_at(tx, course)
    archived_at = await api.archived_at(tx, course.id)
    return msgspec.json.encode(
        {
            "courseId": course.id,
            "version": course.version,
            "publishedAt": to_rfc3339(published_at),
            "archivedAt": None if archived_at is None else to_rfc3339(archived_at),
            **document.dump_course(course),
        }
    )


def router(
    db: Database, auth: Auth, catalogue: Catalogue, preview: PreviewVersionChange
) -> APIRouter:
    """Return the routes of courses and enrolments."""
    routes = APIRouter(prefix="/api/v1/courses", tags=["Catalogue"])
    _add_publication(routes, db, auth, catalogue, preview)
    _add_course_reads(routes, db, auth)
    _add_archive(routes, db, auth, catalogue)
    _add_enrolment_routes(routes, db, auth, catalogue)
    return routes


def _add_publication(
    routes: APIRouter, db: Database, auth: Auth, catalogue: Catalogue, preview: PreviewVersionChange
) -> None:
    writer = Depends(auth.require(*_WRITERS))

    @routes.put(
        "/{courseId}",
        dependencies=[writer],
        response_model=None,
        responses={
            200: {
                "model": CourseView | CourseDryRun,
                "description": "Published, or unchanged; or a dry run",
            },
            201: {"model": CourseView, "description": "A new course"},
        },
    )
    async def put_course(
        course_id: CourseId,
        body: CourseJson,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        if_match: IfMatch = None,
    ) -> Response:
        """Publish a course, or a new version of it; an equal body creates no new version.

        With `dryRun=true` nothing is stored: the response counts the learners it would affect.
        With `If-Match` it is 412 if the course has changed since its ETag was read.
        """
        if dry_run:
            return await _answer_dry_run(db, catalogue, preview, course_id, body)
        async with db.write() as tx:
            if if_match is not None:
                await tx.lock(f"course {course_id}")  # the check and the write belong together
                etag.check_if_match(if_match, await _stored_course_json(tx, course_id))
            draft = await catalogue.publish(tx, course_id, body)
            content = await _course_json(tx, draft.course)
        return Response(
            content,
            status_code=201 if draft.previous is None else 200,
            headers={"ETag": etag.entity_tag(content)},
            media_type="application/json",
        )


def _add_course_reads(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader = Depends(auth.require(*_COURSE_READERS))

    @routes.get("", dependencies=[reader], response_model=Page[CourseSummary])
    async def list_courses(
        request: Request, paging: PagingQuery, archived: bool = False
    ) -> Response:
        """List the courses by id, each in its current version; archived ones apart."""
        key = paging.key(str)
        after = None if key is None else str(key[0])
        async with db.read() as tx:
            rows = await api.list_courses(tx, after, paging.limit + 1, archived=archived)
        page, cursor = cut_page(rows, paging, lambda each: [each[0].id])
        items = [_course_summary(course, current) for course, current in page]
        return etag.json_response_with_etag(
            request, Page[CourseSummary](items=items, next_cursor=cursor)
        )

    @routes.get("/{courseId}", dependencies=[reader], response_model=CourseView)
    async def get_course(
        request: Request,
        course_id: CourseId,
        version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    ) -> Response:
        """Return a course, in its current or an earlier version."""
        async with db.read() as tx:
            course = (
                await _current_course(tx, course_id)
                if version is None
                else await api.course_at(tx, course_id, version)
            )
            content = await _course_json(tx, course)
        return etag.json_response_with_etag(request, content)


def _add_archive(routes: APIRouter, db: Database, auth: Auth, catalogue: Catalogue) -> None:
    writer: Identity = Depends(auth.require(*_WRITERS))

    @routes.post("/{courseId}/archive", status_code=204)
    async def archive_course(course_id: CourseId, identity: Identity = writer) -> None:
        """Archive a course: no new enrolments. Enrolled learners go on, and reads stay."""
        async with db.write() as tx:
            await catalogue.set_archived(tx, course_id, True, identity.subject)

    @routes.post("/{courseId}/unarchive", status_code=204)
    async def unarchive_course(course_id: CourseId, identity: Identity = writer) -> None:
        """Open an archived course to new enrolments again."""
        async with db.write() as tx:
            await catalogue.set_archived(tx, course_id, False, identity.subject)


def _add_enrolment_routes(
    routes: APIRouter, db: Database, auth: Auth, catalogue: Catalogue
) -> None:
    writer: Identity = Depends(auth.require(*_WRITERS))
    reader: Identity = Depends(auth.require(*_ENROLMENT_READERS))

    @routes.put(
        "/{courseId}/enrolments/{userId}",
        response_model=EnrolmentView,
        responses={201: {"model": EnrolmentView, "description": "Newly enrolled"}},
    )
    async def put_enrolment(
        course_id: CourseId,
        user_id: UserId,
        response: Response,
        body: EnrolmentBody | None = None,
        identity: Identity = writer,
    ) -> EnrolmentView:
        """Enrol a learner in the current version; an existing enrolment stays as it is.

        An enrolment that was ended goes on. It is 409 for a new one in an archived course.
        """
        approved = None if body is None else body.approved
        if approved is not None and not identity.has(Role.SERVICE):
            raise Forbidden("Approving an enrolment needs the role service.")
        async with db.write() as tx:
            enrolment, new = await catalogue.enrol(tx, course_id, user_id, approved)
        response.status_code = 201 if new else 200
        return _enrolment_view(enrolment)

    staff = Depends(auth.require(Role.SERVICE, Role.AUTHOR, Role.OPERATOR, Role.VIEWER))

    @routes.get("/{courseId}/enrolments/{userId}", dependencies=[staff])
    async def get_enrolment(course_id: CourseId, user_id: UserId) -> EnrolmentView:
        """Return a learner's enrolment, in the latest attempt."""
        async with db.read() as tx:
            attempts = (await api.enrolments(tx, [(user_id, course_id)])).values()
        for of_pair in attempts:
            return _enrolment_view(of_pair[-1])
        raise NotFound(f"The learner {user_id!r} is not enrolled in the course {course_id!r}.")

    @routes.delete("/{courseId}/enrolments/{userId}", status_code=204)
    async def end_enrolment(
        course_id: CourseId, user_id: UserId, identity: Identity = writer
    ) -> None:
        """Un-enrol a learner: later events are refused. Progress and completions stay."""
        async with db.write() as tx:
            await catalogue.end_enrolment(tx, course_id, user_id, identity.subject)

    @routes.get("/{courseId}/enrolments")
    async def list_enrolments(
        course_id: CourseId, paging: PagingQuery, identity: Identity = reader
    ) -> Page[EnrolmentView]:
        """List the enrolments of a course by user id and attempt.

        Managers see those of their own people.
        """
        key: Any = paging.key(str, int)
        learners = auth.people(identity, _ALL_ENROLMENTS_ROLES).ids
        async with db.read() as tx:
            await _current_course(tx, course_id)
            rows = await api.enrolments_in(tx, course_id, key, paging.limit + 1, learners)
        page, cursor = cut_page(rows, paging, lambda each: [each.user_id, each.attempt])
        return Page[EnrolmentView](
            items=[_enrolment_view(each) for each in page], next_cursor=cursor
        )


async def _stored_course_json(tx: Tx, course_id: str) -> bytes | None:
    """Return a course as a read would; None if there is none."""
    course = (await api.current_courses(tx, [course_id])).get(course_id)
    return None if course is None else await _course_json(tx, course)


async def _current_course(tx: Tx, course_id: str) -> Course:
    course = (await api.current_courses(tx, [course_id])).get(course_id)
    if course is None:
        raise NotFound(f"There is no course {course_id!r}.")
    return course


async def _answer_dry_run(
    db: Database,
    catalogue: Catalogue,
    preview: PreviewVersionChange,
    course_id: str,
    body: JsonObject,
) -> Response:
    async with db.read() as tx:
        draft = await catalogue.draft(tx, course_id, body)
        counts = await preview(tx, draft.course)
    answer = CourseDryRun(
        course_id=course_id,
        version=draft.course.version,
        changes=draft.changes,
        newly_complete=counts.newly_complete,
        dropping=counts.dropping,
        unaffected=counts.unaffected,
        moved=counts.moved,
        renewed=counts.renewed,
    )
    return Response(answer.model_dump_json(by_alias=True), media_type="application/json")


def _course_summary(course: Course, current: CurrentVersion) -> CourseSummary:
    return CourseSummary(
        course_id=course.id,
        version=course.version,
        title=course.title,
        total_chapters=len(course.chapters),
        required_chapters=len(course.required),
        auto_enrol=course.auto_enrol,
        published_at=current.published_at,
        archived_at=current.archived_at,
    )


def _enrolment_view(enrolment: Enrolment) -> EnrolmentView:
    return EnrolmentView.model_validate(enrolment)


def change_records() -> dict[ChangeKind, LoadRecords]:
    """Return the function that shows enrolments in the feed of changes."""

    async def load(tx: Tx, ids: Sequence[str]) -> dict[str, JsonObject]:
        keys: list[AttemptKey] = []
        for id in ids:
            course_id, user_id, attempt = split_record_id(id)
            keys.append((user_id, course_id, int(attempt)))
        return {
            api.enrolment_record_id(each.user_id, each.course_id, each.attempt): _enrolment_view(
                each
            ).model_dump(mode="json", by_alias=True)
            for each in await api.list_by_keys(tx, keys)
        }

    return {ENROLMENTS: load}
