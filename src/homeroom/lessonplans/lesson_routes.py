"""HTTP route of one lesson: its content, and its pages as they are printed."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import WithJsonSchema

from homeroom.db.database import Database
from homeroom.errors import NotFound
from homeroom.identity import Role
from homeroom.lessonplans import plan_queries, responses
from homeroom.lessonplans.export.blocks import (
    Block,
    Bullets,
    Grid,
    Heading,
    Paragraph,
    WritingSpace,
)
from homeroom.lessonplans.export.print_style import is_right_to_left
from homeroom.lessonplans.plan import lesson_document
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, JsonObject, ResponseModel

_READ_ROLES = (
    *(Role.AUTHOR, Role.SERVICE, Role.FACILITATOR, Role.MANAGER, Role.OPERATOR, Role.VIEWER),
)
LessonJson = Annotated[JsonObject, WithJsonSchema(responses.LESSON_SCHEMA)]


class PrintedBlock(ResponseModel):
    """A piece of a printed lesson; the fields that its kind does not have are null."""

    kind: Literal["heading", "paragraph", "note", "gap", "list", "table", "lines"]
    text: str | None = None
    items: list[str] | None = None
    columns: list[str] | None = None
    """Titles of the columns."""
    widths: list[int] | None = None
    """Relative widths of the columns."""
    rows: list[list[str]] | None = None
    lines: int | None = None
    """Ruled lines to write on."""


class PrintedLessonView(ResponseModel):
    """The pages of a lesson."""

    title: str
    locale: str
    right_to_left: bool
    """The script runs from right to left."""
    blocks: list[PrintedBlock]
    """The pieces of the pages in order."""


class LessonPageView(ResponseModel):
    """A lesson: its content, its pages, and the lessons beside it."""

    workflow_id: str
    plan_title: str
    """Title of the lesson plan."""
    lesson: LessonJson
    """The content of the lesson."""
    printed: PrintedLessonView
    """The pages as they print."""
    previous_id: str | None
    """Id of the lesson before it."""
    next_id: str | None
    """Id of the lesson after it."""


class LessonPageResponse(ResponseModel):
    """The response with one lesson."""

    success: Literal[True] = True
    data: LessonPageView


def router(db: Database, auth: Auth) -> APIRouter:
    """Return the route of one lesson."""
    routes = APIRouter(prefix="/api/v3/workflow", tags=["Lesson plans"])
    reader = Depends(auth.require(*_READ_ROLES))

    @routes.get("/{workflowId}/step10/lessons/{lessonId}", dependencies=[reader])
    async def get_lesson(
        workflow_id: Annotated[ExternalId, Path(alias="workflowId")],
        lesson_id: Annotated[ExternalId, Path(alias="lessonId")],
    ) -> LessonPageResponse:
        """Return one lesson with its pages as the exports print them."""
        async with db.read() as tx:
            plan = await plan_queries.load_plan(tx, workflow_id)
        ids = [each.slot.id for each in plan.lessons]
        if lesson_id not in ids:
            raise NotFound(f"There is no lesson {lesson_id!r} in this plan.")
        index = ids.index(lesson_id)
        lesson = plan.lessons[index]
        printed = _load_printing().print_lesson(plan, lesson)
        return LessonPageResponse(
            data=LessonPageView(
                workflow_id=plan.id,
                plan_title=plan.curriculum.title,
                lesson=lesson_document(plan, lesson),
                printed=PrintedLessonView(
                    title=printed.title,
                    locale=plan.curriculum.locale,
                    right_to_left=is_right_to_left(plan.curriculum),
                    blocks=[_block_view(each) for each in printed.blocks],
                ),
                previous_id=ids[index - 1] if index else None,
                next_id=ids[index + 1] if index + 1 < len(ids) else None,
            )
        )

    return routes


def _load_printing() -> Any:
    """Load the module at the first lesson: until then its calendars take no memory."""
    return import_module("homeroom.lessonplans.export.print_document")


def _block_view(block: Block | WritingSpace) -> PrintedBlock:
    match block:
        case Heading():
            return PrintedBlock(kind="heading", text=block.text)
        case Paragraph():
            kind: Literal["paragraph", "note", "gap"]
            kind = "paragraph" if block.style == "plain" else block.style
            return PrintedBlock(kind=kind, text=block.text)
        case Bullets():
            return PrintedBlock(kind="list", items=list(block.items))
        case Grid():
            return PrintedBlock(
                kind="table",
                columns=list(block.columns),
                widths=list(block.widths),
                rows=[list(row) for row in block.rows],
            )
        case WritingSpace():
            return PrintedBlock(
                kind="lines", text=block.title, items=list(block.prompts), lines=block.lines
            )
