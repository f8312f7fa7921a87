"""Publish a plan as a draft course: modules are its units, lessons its chapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeroom.access import api as access
from homeroom.catalogue import api as catalogue_api
from homeroom.catalogue.api import Catalogue, Course
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid
from homeroom.lessonplans import plan_queries
from homeroom.lessonplans.curriculum import contact_hours, one_line
from homeroom.lessonplans.plan import LessonPlan
from homeroom.plain_text import ID_RULE, is_external_id


@dataclass(frozen=True, slots=True)
class PublishedPlan:
    """The draft course of a plan."""

    course_id: str
    version: int
    is_new: bool
    """False: the course had an earlier version."""
    has_changed: bool
    units: int
    chapters: int


class CoursePublisher:
    """Publishes plans as courses of the catalogue; built in ``bootstrap``."""

    def __init__(self, db: Database, catalogue: Catalogue) -> None:
        """Publish through this catalogue."""
        self._db, self._catalogue = db, catalogue

    async def publish(
        self, plan_id: str, actor: str, course_id: str | None = None
    ) -> PublishedPlan:
        """Publish a plan as a draft course: its ``autoEnrol`` is false.

        Without ``course_id`` the course is that of the curriculum. Published again, the course gets
        a version with the titles of the plan; what its author has set otherwise stays. Raises
        ``NotFound``, ``Invalid``, and ``Conflict`` for a course that is open, has learners, or has
        chapters of its own.
        """
        async with self._db.write() as tx:
            plan = await plan_queries.load_plan(tx, plan_id)
            id = _check_course_id(course_id or plan.curriculum.course_id)
            await tx.lock(f"course {id}")  # the check and the write belong together
            previous = (await catalogue_api.current_courses(tx, [id])).get(id)
            if previous is not None:
                await _check_is_draft(tx, previous, plan)
            body = course_body(plan, previous)
            draft = await self._catalogue.publish(tx, id, body)
            if draft.changes:
                details = {"course": id, "version": draft.course.version}
                await access.record_audit(tx, actor, "plan.published", plan_id, details)
        return PublishedPlan(
            course_id=id,
            version=draft.course.version,
            is_new=previous is None,
            has_changed=draft.changes,
            units=len(draft.course.units),
            chapters=len(draft.course.chapters),
        )


def course_body(plan: LessonPlan, previous: Course | None) -> dict[str, Any]:
    """Return the course document of a plan.

    Chapters have the ids of the lessons. Settings of ``previous`` and of its chapters stay.
    """
    kept: Mapping[str, Any] = {} if previous is None else catalogue_api.dump_course(previous)
    chapters = {
        chapter["id"]: chapter for unit in kept.get("units", ()) for chapter in unit["chapters"]
    }
    return {
        "autoEnrol": False,
        "estimatedHours": contact_hours(plan.curriculum.minutes),
        **kept,
        "title": one_line(plan.curriculum.title),
        "units": [
            {
                "id": module.id,
                "title": one_line(module.title),
                "chapters": [
                    {
                        **chapters.get(lesson.slot.id, {}),
                        "id": lesson.slot.id,
                        "title": f"{lesson.slot.number} {one_line(lesson.title)}",
                    }
                    for lesson in plan.lessons_of(index)
                ],
            }
            for index, module in enumerate(plan.curriculum.modules)
        ],
    }


def _check_course_id(course_id: str | None) -> str:
    if course_id is None:
        raise Invalid(
            "The curriculum names no course.",
            hint="Name one: homeroom plans publish ID --course COURSE, or courseId in the request.",
        )
    if not is_external_id(course_id):
        raise Invalid(f"The course id {course_id!r} is not allowed: {ID_RULE}.")
    return course_id


async def _check_is_draft(tx: Tx, course: Course, plan: LessonPlan) -> None:
    """Raise ``Conflict`` for a course that a plan must not replace."""
    lessons = {lesson.slot.id for lesson in plan.lessons}
    reason = None
    if course.auto_enrol:
        reason = "is open to learners (autoEnrol)"
    elif await catalogue_api.enrolments_in(tx, course.id, None, 1):
        reason = "has learners"
    elif not set(course.chapters) <= lessons:
        reason = "has chapters that are no lessons of this plan"
    if reason is not None:
        raise Conflict(
            f"The course {course.id!r} exists and {reason}.",
            hint="Publish the plan under another id: homeroom plans publish ID --course COURSE",
        )
