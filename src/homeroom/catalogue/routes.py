"""Courses and enrolments over HTTP (API page, "Catalogue")."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi import Body as RequestBody
from pydantic import WithJsonSchema

from homeroom.catalogue import api, schema
from homeroom.catalogue import body as document
from homeroom.catalogue.api import Catalogue, Course, Enrolment, Preview, Status
from homeroom.clock import to_rfc3339
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden, NotFound
from homeroom.web import etag
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, Json, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

_WRITE = (Role.SERVICE, Role.AUTHOR)
_READ_ENROLMENTS = (Role.SERVICE, Role.AUTHOR, Role.OPERATOR, Role.VIEWER, Role.MANAGER)
_READ_COURSES = (*_READ_ENROLMENTS, Role.LEARNER, Role.FACILITATOR)

CourseId = Annotated[OutsideId, Path(alias="courseId")]
UserId = Annotated[OutsideId, Path(alias="userId")]
CourseBody = Annotated[Json, RequestBody(), WithJsonSchema(schema.COURSE)]
CourseView = Annotated[Json, WithJsonSchema({**schema.COURSE, "required": ["courseId", "version"]})]


class CourseSummary(View):
    """A course in a list."""

    course_id: str
    version: int
    title: str
    total_chapters: int
    required_chapters: int
    auto_enrol: bool
    published_at: Instant


class DryRun(View):
    """What an edit would change: counts of learners (rule B11)."""

    course_id: str
    version: int
    """The version that publishing would make, or the current one if the body changes nothing."""
    changes: bool
    newly_complete: int
    dropping: int
    unaffected: int
    moved: int
    renewed: int
    """Who has completed the course and would be asked for what is new (`require_new`)."""


class EnrolmentBody(Body):
    """How to enrol; may be left out."""

    approved: bool | None = None
    """What the criterion ``manual`` asks for; needs the role service."""


class EnrolmentView(View):
    """One attempt of one learner."""

    user_id: str
    course_id: str
    version: int
    attempt: int
    status: Status
    enrolled_at: Instant
    completed_at: Instant | None
    approved: bool


def _json(course: Course, published_at: int) -> bytes:
    return msgspec.json.encode(
        {
            "courseId": course.id,
            "version": course.version,
            "publishedAt": to_rfc3339(published_at),
            **document.dump(course),
        }
    )


def router(db: Database, auth: Auth, catalogue: Catalogue, preview: Preview) -> APIRouter:
    """Return the routes of courses and enrolments."""
    routes = APIRouter(prefix="/api/v1/courses", tags=["Catalogue"])
    _add_course_routes(routes, db, auth, catalogue, preview)
    _add_enrolment_routes(routes, db, auth, catalogue)
    return routes


def _add_course_routes(
    routes: APIRouter, db: Database, auth: Auth, catalogue: Catalogue, preview: Preview
) -> None:
    reader = Depends(auth.require(*_READ_COURSES))
    writer = Depends(auth.require(*_WRITE))

    @routes.put(
        "/{courseId}",
        dependencies=[writer],
        response_model=None,
        responses={
            200: {
                "model": CourseView | DryRun,
                "description": "Published, or unchanged; or a dry run",
            },
            201: {"model": CourseView, "description": "A new course"},
        },
    )
    async def put_course(
        course_id: CourseId,
        body: CourseBody,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
    ) -> Response:
        """Publish a course, or a new version of it. The same body again makes no new version.

        With `dryRun=true` nothing is written: the answer counts what would change for learners.
        """
        if dry_run:
            return await _dry_run(db, catalogue, preview, course_id, body)
        async with db.write() as tx:
            draft = await catalogue.publish(tx, course_id, body)
            published_at = await api.published_at(tx, draft.course)
        return Response(
            _json(draft.course, published_at),
            status_code=201 if draft.previous is None else 200,
            media_type="application/json",
        )

    @routes.get("", dependencies=[reader], response_model=Page[CourseSummary])
    async def list_courses(request: Request, paging: PagingQuery) -> Response:
        """List the courses by id, each in its current version."""
        key = paging.key(str)
        after = None if key is None else str(key[0])
        async with db.read() as tx:
            found = await api.listed(tx, after, paging.limit + 1)
        kept, cursor = page(found, paging, lambda each: [each[0].id])
        items = [_summary(course, published_at) for course, published_at in kept]
        return etag.answer(request, Page[CourseSummary](items=items, next_cursor=cursor))

    @routes.get("/{courseId}", dependencies=[reader], response_model=CourseView)
    async def get_course(
        request: Request,
        course_id: CourseId,
        version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    ) -> Response:
        """Return a course, in its current or an earlier version."""
        async with db.read() as tx:
            course = (
                await _current(tx, course_id)
                if version is None
                else await api.course_at(tx, course_id, version)
            )
            published_at = await api.published_at(tx, course)
        return etag.answer(request, _json(course, published_at))


def _add_enrolment_routes(
    routes: APIRouter, db: Database, auth: Auth, catalogue: Catalogue
) -> None:
    writer: Identity = Depends(auth.require(*_WRITE))
    reader = Depends(auth.require(*_READ_ENROLMENTS))

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
        """Enrol a learner in the current version; who is enrolled already stays as they are."""
        approved = None if body is None else body.approved
        if approved is not None and not identity.has(Role.SERVICE):
            raise Forbidden("To approve an enrolment needs the role service.")
        async with db.write() as tx:
            enrolment, new = await catalogue.enrol(tx, course_id, user_id, approved)
        response.status_code = 201 if new else 200
        return _view(enrolment)

    @routes.get("/{courseId}/enrolments", dependencies=[reader])
    async def list_enrolments(
        course_id: CourseId,
        paging: PagingQuery,
    ) -> Page[EnrolmentView]:
        """List who is enrolled, by user id and attempt."""
        key: Any = paging.key(str, int)
        async with db.read() as tx:
            await _current(tx, course_id)
            found = await api.enrolments_in(tx, course_id, key, paging.limit + 1)
        kept, cursor = page(found, paging, lambda each: [each.user_id, each.attempt])
        return Page[EnrolmentView](items=[_view(each) for each in kept], next_cursor=cursor)


async def _current(tx: Tx, course_id: str) -> Course:
    course = (await api.current_courses(tx, [course_id])).get(course_id)
    if course is None:
        raise NotFound(f"There is no course {course_id!r}.")
    return course


async def _dry_run(
    db: Database, catalogue: Catalogue, preview: Preview, course_id: str, body: Json
) -> Response:
    async with db.read() as tx:
        draft = await catalogue.draft(tx, course_id, body)
        counts = await preview(tx, draft.course)
    answer = DryRun(
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


def _summary(course: Course, published_at: int) -> CourseSummary:
    return CourseSummary(
        course_id=course.id,
        version=course.version,
        title=course.title,
        total_chapters=len(course.chapters),
        required_chapters=len(course.required),
        auto_enrol=course.auto_enrol,
        published_at=published_at,
    )


def _view(enrolment: Enrolment) -> EnrolmentView:
    return EnrolmentView.model_validate(enrolment)
