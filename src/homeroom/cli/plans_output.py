"""List lesson plans, schedule them, and publish them as courses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.group import JsonOption, LazyModule
from homeroom.cli.plans_edit import PlanIdArgument, resolve_plan_id
from homeroom.cli.terminal import (
    pluralize,
    print_json,
    print_table,
    print_text,
    shrink_columns,
)
from homeroom.errors import BadRequest

if TYPE_CHECKING:
    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.lessonplans import holiday_file, plan_queries, plan_schedule
    from homeroom.lessonplans import plan as plan_model
    from homeroom.lessonplans.course_publication import PublishedPlan
    from homeroom.lessonplans.plan import LessonPlan
else:
    plan_model = LazyModule("homeroom.lessonplans.plan")
    plan_queries = LazyModule("homeroom.lessonplans.plan_queries")
    holiday_file = LazyModule("homeroom.lessonplans.holiday_file")
    plan_schedule = LazyModule("homeroom.lessonplans.plan_schedule")


def schedule(
    id: PlanIdArgument,
    starts_on: Annotated[
        str | None, typer.Option(help="First day, such as 2027-01-11; none removes it.")
    ] = None,
    start_time: Annotated[str | None, typer.Option(help="Start of a day, such as 09:00.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Such as Europe/Berlin.")] = None,
    breaks: Annotated[
        list[str] | None,
        typer.Option(
            "--break", help="Days without lessons: DAY, DAY..DAY or either =TITLE; repeatable."
        ),
    ] = None,
    holidays: Annotated[
        Path | None, typer.Option(help="iCalendar file of holidays: its events of whole days.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show or change the days of a plan; its lessons stay as they are.

    Breaks, given by --break and --holidays, replace all earlier ones.
    """
    changes: dict[str, Any] = {}
    if starts_on is not None:
        changes["startsOn"] = None if starts_on == "none" else starts_on
    if start_time is not None:
        changes["startTime"] = start_time
    if time_zone is not None:
        changes["timeZone"] = time_zone
    if breaks or holidays is not None:
        changes["breaks"] = [_parse_break(each) for each in breaks or ()]
        if holidays is not None:
            changes["breaks"] += _read_holidays(holidays)

    async def run(application: Application) -> LessonPlan:
        plan_id = await resolve_plan_id(application.db, id)
        return await plan_schedule.reschedule(application.db, plan_id, changes, audit_actor())

    _print_schedule(run_with_application(run), as_json)


def publish(
    id: PlanIdArgument,
    course: Annotated[
        str | None, typer.Option(help="Id of the course; by default that of the curriculum.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a draft course of a plan: modules are units, lessons chapters.

    Learners come into it only after `autoEnrol` is set to true. Published again, it follows the
    plan; a course that is open or has learners stays as it is.
    """

    async def run(application: Application) -> PublishedPlan:
        plan_id = await resolve_plan_id(application.db, id)
        return await application.plan_publisher.publish(plan_id, audit_actor(), course)

    made = run_with_application(run)
    if as_json:
        print_json(
            {
                "courseId": made.course_id,
                "version": made.version,
                "changed": made.has_changed,
                "units": made.units,
                "chapters": made.chapters,
            }
        )
        return
    verb = "Published" if made.has_changed else "Nothing has changed:"
    print_text(
        f"{verb} draft course {made.course_id}, version {made.version}, with"
        f" {pluralize(made.units, 'unit')} and {pluralize(made.chapters, 'chapter')}."
    )


def _parse_break(text: str) -> dict[str, str]:
    days, _, title = text.partition("=")
    first, _, last = days.partition("..")
    parsed = {"from": first.strip(), "until": (last or first).strip()}
    return {"title": title.strip(), **parsed} if title.strip() else parsed


def _read_holidays(file: Path) -> list[dict[str, str]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}.") from error
    return holiday_file.read_holidays(content)


def _print_schedule(plan: LessonPlan, as_json: bool) -> None:
    preferences = plan.curriculum.preferences
    meetings = plan_model.schedule_meetings(plan)
    days = [meeting.begins.date().isoformat() for meeting in meetings]
    breaks = [each.model_dump(mode="json", by_alias=True) for each in preferences.breaks]
    if as_json:
        print_json(
            {
                "workflowId": plan.id,
                "revision": plan.schedule_revision,
                "startsOn": None if preferences.starts_on is None else str(preferences.starts_on),
                "startTime": preferences.start_time,
                "timeZone": preferences.time_zone,
                "breaks": breaks,
                "firstLessonOn": days[0] if days else None,
                "lastLessonOn": days[-1] if days else None,
            }
        )
        return
    if not days:
        print_text("The plan has no first day; set it with --starts-on.")
    else:
        print_text(
            f"{pluralize(len(days), 'lesson')} from {days[0]} to {days[-1]}, at"
            f" {preferences.start_time} {preferences.time_zone}."
        )
    for each in breaks:
        title = f": {each['title']}" if each["title"] else ""
        print_text(f"No lessons from {each['from']} to {each['until']}{title}")


def list_plans(as_json: bool) -> None:
    """Print the newest lesson plans."""

    async def read_plans(db: Database) -> Any:
        async with db.read() as tx:
            return await plan_queries.list_newest_plans(tx, None, 20)

    plans = run_with_database(read_plans)
    if as_json:
        print_json(
            {
                "items": [
                    {
                        "workflowId": each.plan.id,
                        "title": each.plan.title,
                        "status": each.status,
                        "modulesGenerated": each.modules_generated,
                        "totalModules": each.total_modules,
                    }
                    for each in plans
                ]
            }
        )
        return
    rows = [
        [each.plan.id, each.status, f"{each.modules_generated}/{each.total_modules}",
         each.plan.title]
        for each in plans
    ]  # fmt: skip
    columns = ["PLAN", "STATUS", "MODULES", "TITLE"]
    print_table(columns, shrink_columns(columns, rows, ["TITLE"]), "There are no lesson plans yet.")
