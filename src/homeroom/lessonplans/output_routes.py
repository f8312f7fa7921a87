"""HTTP routes of a plan's schedule and of its course."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Response

from homeroom.db.database import Database
from homeroom.identity import Identity, Role
from homeroom.lessonplans.course_publication import CoursePublisher
from homeroom.lessonplans.plan import LessonPlan, schedule_meetings
from homeroom.lessonplans.plan_schedule import reschedule
from homeroom.lessonplans.school_break import SchoolBreak
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel

_WRITE_ROLES = (Role.AUTHOR, Role.SERVICE)
PlanId = Annotated[ExternalId, Path(alias="workflowId")]


class PlanScheduleEdit(RequestModel):
    """Changes of a schedule; only the given fields change."""

    starts_on: date | None = None
    """The first day; null: lessons have no dates."""
    start_time: str | None = None
    """Start of the first lesson of a day, such as `09:00`."""
    time_zone: str | None = None
    """An IANA name."""
    breaks: list[SchoolBreak] | None = None
    """All holidays and breaks: no lesson is on these days."""


class PlanScheduleView(ResponseModel):
    """The schedule of a plan."""

    workflow_id: str
    revision: int
    """Number of changes of the schedule."""
    starts_on: date | None
    """The first day; null: lessons have no dates."""
    start_time: str
    """Start of the first lesson of a day."""
    time_zone: str
    """An IANA name."""
    breaks: list[SchoolBreak]
    """Days without lessons."""
    first_lesson_on: date | None
    """Day of the first lesson."""
    last_lesson_on: date | None
    """Day of the last lesson."""


class PlanScheduleResponse(ResponseModel):
    """The response with a schedule."""

    success: Literal[True] = True
    data: PlanScheduleView


class PlanPublicationBody(RequestModel):
    """The course of a plan; the body is optional."""

    course_id: ExternalId | None = None
    """If absent, that of the curriculum."""


class PlanPublicationView(ResponseModel):
    """The draft course of a plan."""

    workflow_id: str
    course_id: str
    version: int
    changed: bool
    """False: the course had this content already."""
    units: int
    chapters: int


class PlanPublicationResponse(ResponseModel):
    """The response to a publication."""

    success: Literal[True] = True
    data: PlanPublicationView


def router(db: Database, auth: Auth, publisher: CoursePublisher) -> APIRouter:
    """Return the routes of schedules and of courses made of plans."""
    routes = APIRouter(prefix="/api/v3/workflow", tags=["Lesson plans"])
    writer: Identity = Depends(auth.require(*_WRITE_ROLES))

    @routes.patch("/{workflowId}/schedule")
    async def edit_plan_schedule(
        workflow_id: PlanId, body: PlanScheduleEdit, identity: Identity = writer
    ) -> PlanScheduleResponse:
        """Move a plan to another first day, time or zone, or replace its breaks.

        Lessons keep their ids, so a calendar that imports the file again moves its events.
        """
        changes = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
        plan = await reschedule(db, workflow_id, changes, identity.subject)
        return PlanScheduleResponse(data=_schedule_view(plan))

    @routes.post(
        "/{workflowId}/course",
        response_model=PlanPublicationResponse,
        responses={201: {"model": PlanPublicationResponse, "description": "A new course"}},
    )
    async def create_plan_course(
        workflow_id: PlanId,
        response: Response,
        body: PlanPublicationBody | None = None,
        identity: Identity = writer,
    ) -> PlanPublicationResponse:
        """Make a draft course of a plan: modules are units, lessons chapters.

        It is a draft because `autoEnrol` is false: learners come into it only after its author has
        opened it. A course that is open or has learners is refused with 409.
        """
        course_id = None if body is None else body.course_id
        made = await publisher.publish(workflow_id, identity.subject, course_id)
        response.status_code = 201 if made.is_new else 200
        return PlanPublicationResponse(
            data=PlanPublicationView(
                workflow_id=workflow_id,
                course_id=made.course_id,
                version=made.version,
                changed=made.has_changed,
                units=made.units,
                chapters=made.chapters,
            )
        )

    return routes


def _schedule_view(plan: LessonPlan) -> PlanScheduleView:
    preferences = plan.curriculum.preferences
    meetings = schedule_meetings(plan)
    return PlanScheduleView(
        workflow_id=plan.id,
        revision=plan.schedule_revision,
        starts_on=preferences.starts_on,
        start_time=preferences.start_time,
        time_zone=preferences.time_zone,
        breaks=list(preferences.breaks),
        first_lesson_on=meetings[0].begins.date() if meetings else None,
        last_lesson_on=meetings[-1].begins.date() if meetings else None,
    )
