"""Lesson plans over HTTP (API page, "Lesson plans")."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi import Body as RequestBody
from pydantic import WithJsonSchema

from homeroom.db.database import Database
from homeroom.lessonplans import answer, read, schema
from homeroom.lessonplans.answer import CallData, StartedData, StatusData
from homeroom.lessonplans.api import LessonPlans, Started
from homeroom.lessonplans.curriculum import dump
from homeroom.lessonplans.export.format import FORMATS, Format, export
from homeroom.lessonplans.lesson import (
    Activity,
    Assessment,
    Differentiation,
    Lines,
    Misconception,
    Prose,
    Term,
)
from homeroom.lessonplans.plan import Plan, document, lesson_document
from homeroom.lessonplans.status import PlanStatus
from homeroom.web import etag
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, Json, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

_WRITE = (Role.AUTHOR, Role.SERVICE)
_READ = (*_WRITE, Role.FACILITATOR, Role.MANAGER, Role.OPERATOR, Role.VIEWER)
EXPORTS_AT_ONCE = 2
"""More of them wait: they take the processor from everything else."""

PlanId = Annotated[OutsideId, Path(alias="workflowId")]
ModuleId = Annotated[OutsideId, Path(alias="moduleId")]
LessonId = Annotated[OutsideId, Path(alias="lessonId")]
Overwrite = Annotated[bool, Query(alias="overwriteEdits")]
CurriculumBody = Annotated[Json, RequestBody(), WithJsonSchema(schema.CURRICULUM)]
PlanView = Annotated[Json, WithJsonSchema(schema.PLAN)]
LessonView = Annotated[Json, WithJsonSchema(schema.LESSON)]


class LessonEdit(Body):
    """What a person changes in a lesson; only what is given is changed."""

    revision: int | None = None
    """The revision that was read; another one by now is a conflict."""
    title: str | None = None
    prior_knowledge: Lines | None = None
    key_points: Lines | None = None
    vocabulary: list[Term] | None = None
    misconceptions: list[Misconception] | None = None
    materials: Lines | None = None
    activities: list[Activity] | None = None
    assessments: list[Assessment] | None = None
    differentiation: Differentiation | None = None
    homework: Prose | None = None
    references: Lines | None = None
    notes: Prose | None = None


class CreatedView(View):
    """The id of a new plan."""

    workflow_id: str


class SummaryView(View):
    """A plan in a list."""

    workflow_id: str
    title: str
    course_id: str | None
    status: PlanStatus
    modules_generated: int
    total_modules: int
    created_at: Instant
    created_by: str


class CancelledData(View):
    """How many jobs were told to stop."""

    workflow_id: str
    jobs_cancelled: int


class CancelledView(View):
    """The answer to a cancellation."""

    success: Literal[True] = True
    data: CancelledData


class StartedView(View):
    """The answer to a start."""

    success: Literal[True] = True
    data: StartedData
    message: str


class StatusView(View):
    """The answer to a question for the status."""

    success: Literal[True] = True
    data: StatusData


class PlanAnswer(View):
    """The answer to a question for the plan so far."""

    success: Literal[True] = True
    data: PlanView


class LessonAnswer(View):
    """The answer to an edit."""

    success: Literal[True] = True
    data: LessonView


def _attached(name: str) -> str:
    """Return the header that names a file, in letters of any alphabet (RFC 6266)."""
    if name.isascii():
        return f'attachment; filename="{name}"'
    plain = f"lesson-plans.{name.rpartition('.')[2]}"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"


def router(db: Database, auth: Auth, plans: LessonPlans) -> APIRouter:
    """Return the routes of lesson plans."""
    routes = APIRouter(prefix="/api/v3/workflow", tags=["Lesson plans"])
    _add_curricula(routes, db, auth, plans)
    _add_generation(routes, auth, plans)
    _add_reading(routes, db, auth)
    _add_editing(routes, auth, plans)
    return routes


def _add_curricula(routes: APIRouter, db: Database, auth: Auth, plans: LessonPlans) -> None:
    reader = Depends(auth.require(*_READ))
    writer: Identity = Depends(auth.require(*_WRITE))

    @routes.post("", status_code=201)
    async def create_workflow(body: CurriculumBody, identity: Identity = writer) -> CreatedView:
        """Store a curriculum and compute the skeleton of its lessons; nothing is generated yet.

        A faulty curriculum is refused with every fault and its place.
        """
        async with db.write() as tx:
            return CreatedView(workflow_id=await plans.create(tx, body, identity.subject))

    @routes.get("", dependencies=[reader])
    async def list_workflows(paging: PagingQuery) -> Page[SummaryView]:
        """List the plans, newest first."""
        key = paging.key(int, str)
        async with db.read() as tx:
            before = None if key is None else (key[0], key[1])
            found = await read.newest(tx, before, paging.limit + 1)
        kept, cursor = page(found, paging, lambda one: (one.plan.created_at, one.plan.id))
        items = [
            SummaryView(
                workflow_id=each.plan.id,
                title=each.plan.title,
                course_id=each.plan.course_id,
                status=each.status,
                modules_generated=each.modules_generated,
                total_modules=each.total_modules,
                created_at=each.plan.created_at,
                created_by=each.plan.created_by,
            )
            for each in kept
        ]
        return Page(items=items, next_cursor=cursor)

    @routes.get(
        "/{workflowId}",
        dependencies=[reader],
        response_model=Annotated[Json, WithJsonSchema(schema.WORKFLOW)],
    )
    async def get_workflow(request: Request, workflow_id: PlanId) -> Response:
        """Return a plan's curriculum, every default written out."""
        async with db.read() as tx:
            found = await read.plan(tx, workflow_id)
        body = {"workflowId": found.id, "status": found.status, **dump(found.curriculum)}
        return etag.answer(request, msgspec.json.encode(body))


def _add_generation(routes: APIRouter, auth: Auth, plans: LessonPlans) -> None:
    writer: Identity = Depends(auth.require(*_WRITE))

    @routes.post("/{workflowId}/step10", status_code=202)
    async def start_generation(workflow_id: PlanId, identity: Identity = writer) -> StartedView:
        """Generate the lesson plans in the background; answers at once.

        One job a module, one after another. While one is queued or runs, this queues nothing.
        """
        return _started(await plans.start(workflow_id, identity.subject))

    @routes.post("/{workflowId}/step10/retry", status_code=202)
    async def retry_generation(workflow_id: PlanId, identity: Identity = writer) -> StartedView:
        """Go on with a plan that failed or was cancelled; what is written is kept."""
        return _started(await plans.retry(workflow_id, identity.subject))

    @routes.post("/{workflowId}/step10/cancel", status_code=202)
    async def cancel_generation(workflow_id: PlanId, identity: Identity = writer) -> CancelledView:
        """Stop what is queued or runs, within a second; what is written is kept."""
        count = await plans.cancel(workflow_id, identity.subject)
        data = CancelledData(workflow_id=workflow_id, jobs_cancelled=count)
        return CancelledView(data=data)

    @routes.post("/{workflowId}/step10/modules/{moduleId}/regenerate", status_code=202)
    async def regenerate_module(
        workflow_id: PlanId,
        module_id: ModuleId,
        overwrite_edits: Overwrite = False,
        identity: Identity = writer,
    ) -> StartedView:
        """Generate one module anew; lessons that people have edited stay, unless asked."""
        return _started(
            await plans.regenerate_module(
                workflow_id, module_id, identity.subject, overwrite_edits=overwrite_edits
            )
        )

    @routes.post("/{workflowId}/step10/lessons/{lessonId}/regenerate", status_code=202)
    async def regenerate_lesson(
        workflow_id: PlanId,
        lesson_id: LessonId,
        overwrite_edits: Overwrite = False,
        identity: Identity = writer,
    ) -> StartedView:
        """Generate one lesson anew; one that somebody has edited only if asked."""
        return _started(
            await plans.regenerate_lesson(
                workflow_id, lesson_id, identity.subject, overwrite_edits=overwrite_edits
            )
        )


def _add_reading(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader = Depends(auth.require(*_READ))
    at_once = asyncio.Semaphore(EXPORTS_AT_ONCE)

    @routes.get("/{workflowId}/step10/status", dependencies=[reader], response_model=StatusView)
    async def get_status(request: Request, workflow_id: PlanId) -> Response:
        """Return how far the generation is; carries an ETag and answers 304."""
        async with db.read() as tx:
            found = await read.status(tx, workflow_id)
        return etag.answer(request, StatusView(data=answer.status(found)))

    @routes.get("/{workflowId}/step10", dependencies=[reader], response_model=PlanAnswer)
    async def get_plan(request: Request, workflow_id: PlanId) -> Response:
        """Return the lesson plans so far, lessons that are not written yet included."""
        async with db.read() as tx:
            found = await read.plan(tx, workflow_id)
        return etag.answer(request, await asyncio.to_thread(_whole, found))

    @routes.get(
        "/{workflowId}/step10/export",
        dependencies=[reader],
        response_class=Response,
        responses={
            200: {
                "description": "A file",
                "content": {each.media_type: {} for each in FORMATS.values()},
            }
        },
    )
    async def export_plan(
        workflow_id: PlanId, form: Annotated[Format, Query(alias="format")] = "json"
    ) -> Response:
        """Return the lesson plans as a file."""
        async with db.read() as tx:
            found = await read.plan(tx, workflow_id)
        # a hundred pages take a second or two: not on the loop that answers everybody
        async with at_once:
            made = await asyncio.to_thread(export, found, form)
        return Response(
            made.content,
            media_type=made.media_type,
            headers={"Content-Disposition": _attached(made.name)},
        )

    @routes.get("/{workflowId}/step10/calls", dependencies=[reader])
    async def list_calls(workflow_id: PlanId, paging: PagingQuery) -> Page[CallData]:
        """List what was asked of a language model, one line an HTTP attempt, oldest first."""
        key = paging.key(str)
        async with db.read() as tx:
            after = "" if key is None else str(key[0])
            found = await read.calls(tx, workflow_id, after, paging.limit + 1)
        kept, cursor = page(found, paging, lambda one: [one.id])
        return Page(items=[answer.call(one) for one in kept], next_cursor=cursor)


def _add_editing(routes: APIRouter, auth: Auth, plans: LessonPlans) -> None:
    writer: Identity = Depends(auth.require(*_WRITE))

    @routes.patch("/{workflowId}/step10/lessons/{lessonId}")
    async def edit_lesson(
        workflow_id: PlanId,
        lesson_id: LessonId,
        body: LessonEdit,
        identity: Identity = writer,
    ) -> LessonAnswer:
        """Change parts of a lesson by hand; no later generation overwrites it unless asked.

        What is given replaces what was there; `revision`, if given, must be the lesson's own.
        """
        changes = body.model_dump(by_alias=True, exclude_unset=True, exclude={"revision"})
        plan, lesson = await plans.edit_lesson(
            workflow_id, lesson_id, changes, identity.subject, body.revision
        )
        return LessonAnswer(data=lesson_document(plan, lesson))


def _whole(plan: Plan) -> bytes:
    return msgspec.json.encode({"success": True, "data": document(plan)})


def _started(found: Started) -> StartedView:
    return StartedView(data=answer.started(found), message=answer.message_of(found))
