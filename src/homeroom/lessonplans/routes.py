"""HTTP routes of lesson plans; ``docs/lesson-plans.md`` lists them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi import Body as RequestBody
from pydantic import BaseModel, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from homeroom.db.database import Database
from homeroom.identity import Identity, Role
from homeroom.lessonplans import plan_queries, responses
from homeroom.lessonplans.api import GenerationStart, LessonPlans
from homeroom.lessonplans.curriculum import Curriculum
from homeroom.lessonplans.export.formats import EXPORT_FORMATS, ExportFormat, export_file
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.lessonplans.lesson import (
    ChoiceQuestion,
    Differentiation,
    Explanation,
    LessonActivity,
    LessonAssessment,
    LineTexts,
    Misconception,
    PracticeTask,
    ProseText,
    VocabularyTerm,
)
from homeroom.lessonplans.lesson_parts import PARTS
from homeroom.lessonplans.plan import LessonPlan, PlanStatus, lesson_document, plan_document
from homeroom.lessonplans.responses import GenerationStartView, GenerationStatusView, ModelCallView
from homeroom.web import etag
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, JsonObject, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

_WRITE_ROLES = (Role.AUTHOR, Role.SERVICE)
_AUTHOR_READ_ROLES = (*_WRITE_ROLES, Role.OPERATOR, Role.VIEWER)
"""The roles that see who created a plan: those who write plans, and those who see all people."""
_READ_ROLES = (*_AUTHOR_READ_ROLES, Role.FACILITATOR, Role.MANAGER)
MAX_CONCURRENT_EXPORTS = 2
"""Further exports wait: rendering uses a whole processor core."""


@dataclass(frozen=True)
class _SchemaOf:
    """Documents a body with the JSON schema of a model, without validating it."""

    model: type[BaseModel]

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self.model.__pydantic_core_schema__)


PlanId = Annotated[ExternalId, Path(alias="workflowId")]
ModuleId = Annotated[ExternalId, Path(alias="moduleId")]
LessonId = Annotated[ExternalId, Path(alias="lessonId")]
OverwriteEdits = Annotated[bool, Query(alias="overwriteEdits")]
SectionNames = Annotated[list[str] | None, Query(alias="section", max_length=len(PARTS))]
"""Names of sections (`overview`, `teaching`, `assessment`, `support`) or of single parts."""
CurriculumBody = Annotated[JsonObject, RequestBody(), _SchemaOf(Curriculum)]
"""Any object: ``LessonPlans.create`` validates it and reports all its errors at once."""
LessonPlanJson = Annotated[JsonObject, WithJsonSchema(responses.PLAN_SCHEMA)]
LessonJson = Annotated[JsonObject, WithJsonSchema(responses.LESSON_SCHEMA)]


class LessonEdit(RequestModel):
    """A person's edit of a lesson; only the given parts change."""

    revision: int | None = None
    """The revision that the edit is based on; if it is not the current one, 409."""
    title: str | None = None
    prior_knowledge: LineTexts | None = None
    key_points: LineTexts | None = None
    vocabulary: list[VocabularyTerm] | None = None
    misconceptions: list[Misconception] | None = None
    materials: LineTexts | None = None
    explanation: Explanation | None = None
    activities: list[LessonActivity] | None = None
    checks: list[ChoiceQuestion] | None = None
    """Questions that are asked between the activities."""
    practice: list[PracticeTask] | None = None
    starter_quiz: list[ChoiceQuestion] | None = None
    exit_quiz: list[ChoiceQuestion] | None = None
    assessments: list[LessonAssessment] | None = None
    differentiation: Differentiation | None = None
    homework: ProseText | None = None
    references: LineTexts | None = None
    notes: ProseText | None = None
    values: dict[str, Any] | None = None
    """New values inside parts, by path: `activities/1/facilitatorDoes`, as `openPlaces` names it.

    A path that ends in `-` appends to a list, and null removes an entry of a list.
    """


class LessonPlanCreated(ResponseModel):
    """The id of a new plan."""

    workflow_id: str


class LessonPlanSummaryView(ResponseModel):
    """A plan in a list."""

    workflow_id: str
    title: str
    course_id: str | None
    status: PlanStatus
    modules_generated: int
    total_modules: int
    created_at: Rfc3339Instant
    created_by: str | None
    """Who created it; null for managers and facilitators, who need not know."""


class GenerationCancelled(ResponseModel):
    """The number of cancelled jobs."""

    workflow_id: str
    jobs_cancelled: int


class CancelGenerationResponse(ResponseModel):
    """The response to a cancellation."""

    success: Literal[True] = True
    data: GenerationCancelled


class StartGenerationResponse(ResponseModel):
    """The response to a start."""

    success: Literal[True] = True
    data: GenerationStartView
    message: str


class GenerationStatusResponse(ResponseModel):
    """The response with the generation status."""

    success: Literal[True] = True
    data: GenerationStatusView


class LessonPlanResponse(ResponseModel):
    """The response with the plan so far."""

    success: Literal[True] = True
    data: LessonPlanJson


class LessonResponse(ResponseModel):
    """The response to an edit."""

    success: Literal[True] = True
    data: LessonJson


def router(
    db: Database, auth: Auth, plans: LessonPlans, style: PrintStyle | None = None
) -> APIRouter:
    """Return the routes of lesson plans."""
    routes = APIRouter(prefix="/api/v3/workflow", tags=["Lesson plans"])
    _add_curriculum_routes(routes, db, auth, plans)
    _add_generation_routes(routes, auth, plans)
    _add_regeneration_routes(routes, auth, plans)
    _add_plan_reads(routes, db, auth)
    _add_export(routes, db, auth, style)
    _add_model_calls(routes, db, auth)
    _add_edit_routes(routes, auth, plans)
    return routes


def _add_curriculum_routes(routes: APIRouter, db: Database, auth: Auth, plans: LessonPlans) -> None:
    reader = Depends(auth.require(*_READ_ROLES))
    reading: Identity = reader
    writer: Identity = Depends(auth.require(*_WRITE_ROLES))

    @routes.post("", status_code=201)
    async def create_workflow(
        body: CurriculumBody, identity: Identity = writer
    ) -> LessonPlanCreated:
        """Store a curriculum and allocate its lessons; no lesson is generated yet.

        An invalid curriculum is rejected with all its errors, each with its place.
        """
        async with db.write() as tx:
            return LessonPlanCreated(workflow_id=await plans.create(tx, body, identity.subject))

    @routes.get("")
    async def list_workflows(
        paging: PagingQuery, identity: Identity = reading
    ) -> Page[LessonPlanSummaryView]:
        """List the plans, newest first."""
        sees_authors = identity.has(*_AUTHOR_READ_ROLES)
        key = paging.key(int, str)
        async with db.read() as tx:
            before = None if key is None else (key[0], key[1])
            rows = await plan_queries.list_newest_plans(tx, before, paging.limit + 1)
        page, cursor = cut_page(rows, paging, lambda one: (one.plan.created_at, one.plan.id))
        items = [
            LessonPlanSummaryView(
                workflow_id=each.plan.id,
                title=each.plan.title,
                course_id=each.plan.course_id,
                status=each.status,
                modules_generated=each.modules_generated,
                total_modules=each.total_modules,
                created_at=each.plan.created_at,
                created_by=each.plan.created_by if sees_authors else None,
            )
            for each in page
        ]
        return Page(items=items, next_cursor=cursor)

    @routes.delete("/{workflowId}", status_code=204)
    async def delete_workflow(workflow_id: PlanId, identity: Identity = writer) -> None:
        """Delete a plan with its lessons; the records of its model calls stay.

        A plan that is being generated is rejected: cancel it first.
        """
        await plans.delete(workflow_id, identity.subject)

    @routes.get("/{workflowId}", dependencies=[reader], response_model=responses.WorkflowView)
    async def get_workflow(request: Request, workflow_id: PlanId) -> Response:
        """Return a plan's curriculum with all its defaults."""
        async with db.read() as tx:
            plan = await plan_queries.load_plan(tx, workflow_id)
        content = msgspec.json.encode(responses.curriculum_view(plan))
        return etag.json_response_with_etag(request, content)


def _add_generation_routes(routes: APIRouter, auth: Auth, plans: LessonPlans) -> None:
    writer: Identity = Depends(auth.require(*_WRITE_ROLES))

    @routes.post("/{workflowId}/step10", status_code=202)
    async def start_generation(
        workflow_id: PlanId, identity: Identity = writer
    ) -> StartGenerationResponse:
        """Start the generation of the lesson plans in the background.

        Each module is one job, and completes before the next is queued. While a job is queued or
        active, no other is queued.
        """
        return _start_response(await plans.start(workflow_id, identity.subject))

    @routes.post("/{workflowId}/step10/retry", status_code=202)
    async def retry_generation(
        workflow_id: PlanId, identity: Identity = writer
    ) -> StartGenerationResponse:
        """Continue a plan that failed or was cancelled; generated lessons stay."""
        return _start_response(await plans.retry(workflow_id, identity.subject))

    @routes.post("/{workflowId}/step10/cancel", status_code=202)
    async def cancel_generation(
        workflow_id: PlanId, identity: Identity = writer
    ) -> CancelGenerationResponse:
        """Cancel queued and active jobs, within a second; generated lessons stay."""
        count = await plans.cancel(workflow_id, identity.subject)
        data = GenerationCancelled(workflow_id=workflow_id, jobs_cancelled=count)
        return CancelGenerationResponse(data=data)


def _add_regeneration_routes(routes: APIRouter, auth: Auth, plans: LessonPlans) -> None:
    writer: Identity = Depends(auth.require(*_WRITE_ROLES))

    @routes.post("/{workflowId}/step10/modules/{moduleId}/regenerate", status_code=202)
    async def regenerate_module(
        workflow_id: PlanId,
        module_id: ModuleId,
        overwrite_edits: OverwriteEdits = False,
        fill: bool = False,
        identity: Identity = writer,
    ) -> StartGenerationResponse:
        """Regenerate one module.

        Lessons that a person has edited stay, unless `overwriteEdits` is true. With `fill` a
        language model writes only what is empty, and fills the open places.
        """
        return _start_response(
            await plans.regenerate_module(
                workflow_id,
                module_id,
                identity.subject,
                overwrite_edits=overwrite_edits,
                fill=fill,
            )
        )

    @routes.post("/{workflowId}/step10/fill", status_code=202)
    async def fill_lesson_plan(
        workflow_id: PlanId, identity: Identity = writer
    ) -> StartGenerationResponse:
        """Have a language model write what is empty in a plan; everything else stays."""
        return _start_response(await plans.fill(workflow_id, identity.subject))

    @routes.post("/{workflowId}/step10/lessons/{lessonId}/regenerate", status_code=202)
    async def regenerate_lesson(
        workflow_id: PlanId,
        lesson_id: LessonId,
        sections: SectionNames = None,
        overwrite_edits: OverwriteEdits = False,
        fill: bool = False,
        identity: Identity = writer,
    ) -> StartGenerationResponse:
        """Regenerate one lesson, or with `section` some of its sections or parts.

        A lesson that a person has edited is rejected, unless `overwriteEdits` is true; in a section
        the edited parts stay. With `fill` a language model writes only what is empty.
        """
        return _start_response(
            await plans.regenerate_lesson(
                workflow_id,
                lesson_id,
                identity.subject,
                overwrite_edits=overwrite_edits,
                sections=sections or (),
                fill=fill,
            )
        )


def _add_plan_reads(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader = Depends(auth.require(*_READ_ROLES))

    @routes.get(
        "/{workflowId}/step10/status",
        dependencies=[reader],
        response_model=GenerationStatusResponse,
    )
    async def get_generation_status(request: Request, workflow_id: PlanId) -> Response:
        """Return the generation status, with an ETag for conditional requests."""
        async with db.read() as tx:
            status = await plan_queries.load_generation_status(tx, workflow_id)
        return etag.json_response_with_etag(
            request, GenerationStatusResponse(data=responses.generation_status_view(status))
        )

    @routes.get("/{workflowId}/step10", dependencies=[reader], response_model=LessonPlanResponse)
    async def get_lesson_plan(request: Request, workflow_id: PlanId) -> Response:
        """Return the lesson plans so far, including lessons not generated yet."""
        async with db.read() as tx:
            plan = await plan_queries.load_plan(tx, workflow_id)
        return etag.json_response_with_etag(
            request, await asyncio.to_thread(_encode_plan_response, plan)
        )


def _add_export(routes: APIRouter, db: Database, auth: Auth, style: PrintStyle | None) -> None:
    reader = Depends(auth.require(*_READ_ROLES))
    export_slots = asyncio.Semaphore(MAX_CONCURRENT_EXPORTS)

    @routes.get(
        "/{workflowId}/step10/export",
        dependencies=[reader],
        response_class=Response,
        responses={
            200: {
                "description": "A file",
                "content": {each.media_type: {} for each in EXPORT_FORMATS.values()},
            }
        },
    )
    async def export_lesson_plan(
        workflow_id: PlanId, form: Annotated[ExportFormat, Query(alias="format")] = "json"
    ) -> Response:
        """Return the lesson plans as a file."""
        async with db.read() as tx:
            plan = await plan_queries.load_plan(tx, workflow_id)
        # A hundred pages take one to two seconds, so a thread waits for them.
        async with export_slots:
            file = await asyncio.to_thread(export_file, plan, form, style)
        return Response(
            file.content,
            media_type=file.media_type,
            headers={"Content-Disposition": _content_disposition(file.name)},
        )


def _add_model_calls(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader = Depends(auth.require(*_READ_ROLES))

    @routes.get("/{workflowId}/step10/calls", dependencies=[reader])
    async def list_model_calls(workflow_id: PlanId, paging: PagingQuery) -> Page[ModelCallView]:
        """List the calls to a language model, one per HTTP attempt, oldest first."""
        key = paging.key(str)
        async with db.read() as tx:
            after = "" if key is None else str(key[0])
            rows = await plan_queries.list_plan_calls(tx, workflow_id, after, paging.limit + 1)
        page, cursor = cut_page(rows, paging, lambda one: [one.id])
        return Page(items=[responses.model_call_view(one) for one in page], next_cursor=cursor)


def _add_edit_routes(routes: APIRouter, auth: Auth, plans: LessonPlans) -> None:
    writer: Identity = Depends(auth.require(*_WRITE_ROLES))

    @routes.patch("/{workflowId}/step10/lessons/{lessonId}")
    async def edit_lesson(
        workflow_id: PlanId,
        lesson_id: LessonId,
        body: LessonEdit,
        identity: Identity = writer,
    ) -> LessonResponse:
        """Replace parts of a lesson by a person's edit.

        Regeneration keeps the edited lesson, unless `overwriteEdits` is true. `revision`, if given,
        must be the lesson's current revision. `values` changes single values inside parts.
        """
        changes = body.model_dump(by_alias=True, exclude_unset=True, exclude={"revision"})
        plan, lesson = await plans.edit_lesson(
            workflow_id, lesson_id, changes, identity.subject, body.revision
        )
        return LessonResponse(data=lesson_document(plan, lesson))


def _content_disposition(name: str) -> str:
    """Return the header for a file name in any alphabet (RFC 6266)."""
    if name.isascii():
        return f'attachment; filename="{name}"'
    plain = f"lesson-plans.{name.rpartition('.')[2]}"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"


def _encode_plan_response(plan: LessonPlan) -> bytes:
    return msgspec.json.encode({"success": True, "data": plan_document(plan)})


def _start_response(start: GenerationStart) -> StartGenerationResponse:
    return StartGenerationResponse(
        data=responses.generation_start_view(start), message=responses.start_message(start)
    )
