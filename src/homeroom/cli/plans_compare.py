"""Compare lesson plans, and list what is open in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import run_with_database
from homeroom.cli.group import JsonOption, LazyModule
from homeroom.cli.plans_edit import PlanIdArgument, resolve_plan_id
from homeroom.cli.terminal import pluralize, print_json, print_text
from homeroom.errors import BadRequest

if TYPE_CHECKING:
    import json

    from homeroom.db.database import Database
    from homeroom.lessonplans import plan as plan_model
    from homeroom.lessonplans import plan_difference, plan_queries
    from homeroom.lessonplans.export import markdown
    from homeroom.lessonplans.plan import LessonPlan
else:
    json = LazyModule("json")
    markdown = LazyModule("homeroom.lessonplans.export.markdown")
    plan_difference = LazyModule("homeroom.lessonplans.plan_difference")
    plan_model = LazyModule("homeroom.lessonplans.plan")
    plan_queries = LazyModule("homeroom.lessonplans.plan_queries")


def checklist(id: PlanIdArgument, as_json: JsonOption = False) -> None:
    """List the open places of a plan, as boxes to tick in Markdown."""
    plan = run_with_database(lambda db: _load_plan(db, id))
    if as_json:
        print_json({"items": plan_model.plan_document(plan)["openPlaces"]})
    else:
        print_text(markdown.render_checklist(plan).decode().rstrip("\n"))


def diff(
    id: PlanIdArgument,
    other: Annotated[
        str,
        typer.Argument(metavar="OTHER", help="Another plan's id, or a file of `export -f json`."),
    ],
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 2.1.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two plans, lesson by lesson and part by part.

    Lines that begin with - are those of ID, and lines that begin with + those of OTHER.
    """
    before = plan_model.plan_document(run_with_database(lambda db: _load_plan(db, id)))
    if Path(other).is_file():
        after = _read_export(Path(other))
    else:
        after = plan_model.plan_document(run_with_database(lambda db: _load_plan(db, other)))
    differences = plan_difference.compare_plans(before, after, lesson)
    if as_json:
        print_json({"items": [each.to_json() for each in differences]})
    elif not differences:
        print_text("The plans do not differ.")
    else:
        for each in differences:
            print_text("\n".join(each.lines()))
        print_text(f"{pluralize(len(differences), 'lesson')} of the plans differ.")


async def _load_plan(db: Database, id: str) -> LessonPlan:
    plan_id = await resolve_plan_id(db, id)
    async with db.read() as tx:
        return await plan_queries.load_plan(tx, plan_id)


def _read_export(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["modules"], list):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{path} is not an export of a plan.", hint="Make one with: plans export ID -f json"
        ) from error
    plan: dict[str, Any] = document
    return plan
