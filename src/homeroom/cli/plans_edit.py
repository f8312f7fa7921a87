"""Edit and delete lesson plans, and list their model calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.group import JsonOption, LazyModule, YesOption
from homeroom.cli.terminal import (
    confirm,
    format_instant,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
    shrink_columns,
)
from homeroom.errors import BadRequest, HomeroomError, Invalid, NotFound

if TYPE_CHECKING:
    import click
    import yaml

    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.lessonplans import curriculum_text, plan_queries, responses
    from homeroom.lessonplans.model.call_store import ModelCallRow
    from homeroom.lessonplans.plan import PlannedLesson
else:
    click = LazyModule("click")
    yaml = LazyModule("yaml")
    curriculum_text = LazyModule("homeroom.lessonplans.curriculum_text")
    plan_queries = LazyModule("homeroom.lessonplans.plan_queries")
    responses = LazyModule("homeroom.lessonplans.responses")

MAX_CALLS = 1_000
PlanIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A plan's id; `last` is the newest.")
]


def edit(
    id: PlanIdArgument,
    lesson: Annotated[str, typer.Argument(metavar="LESSON", help="Its number, such as 2.1.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="YAML file with the lesson, instead of an editor.")
    ] = None,
) -> None:
    """Edit a lesson as YAML in $EDITOR; it must pass the checks of every lesson.

    A text that does not pass is kept in a file, to continue with --from.
    """
    plan_id, planned = run_with_database(lambda db: find_lesson(db, id, lesson))
    if planned.body is None:
        raise NotFound(f"The lesson {lesson} is not generated yet.")
    body = planned.body.model_dump(mode="json", by_alias=True)
    if source is not None:
        try:
            text: str | None = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"{source} cannot be read: {error}.") from error
    else:
        shown = yaml.safe_dump(body, allow_unicode=True, sort_keys=False, width=100)
        text = click.edit(shown, extension=".yaml")
    if text is None:
        print_text("Nothing was changed.")
        return
    try:
        changes = _read_lesson(text)
        for field, value in body.items():  # a field that is removed becomes empty
            changes.setdefault(field, [] if isinstance(value, list) else None)
        if changes == body:
            print_text("Nothing was changed.")
            return

        async def save(application: Application) -> PlannedLesson:
            _, saved = await application.plans.edit_lesson(
                plan_id, planned.slot.id, changes, audit_actor(), planned.revision
            )
            return saved

        saved = run_with_application(save)
    except HomeroomError as error:
        for fault in error.details.get("errors", ()):
            print_to_stderr(f"{fault.get('pointer', lesson)}: {fault['detail']}")
        if source is None:
            _keep_text(plan_id, planned.slot.number, text)
        raise
    print_text(f"Saved lesson {saved.slot.number} as revision {saved.revision}.")


def delete(id: PlanIdArgument, yes: YesOption = False) -> None:
    """Delete a plan with all its lessons; the records of its model calls stay."""
    plan_id = run_with_database(lambda db: resolve_plan_id(db, id))
    row = run_with_database(lambda db: _read_plan_row(db, plan_id))
    confirm(f"Delete the plan {row.title!r} ({plan_id}) with all its lessons?", yes=yes)

    async def delete_plan(application: Application) -> None:
        await application.plans.delete(plan_id, audit_actor())

    run_with_application(delete_plan)
    print_text(f"Deleted {plan_id}.")


def calls(id: PlanIdArgument, as_json: JsonOption = False) -> None:
    """List the calls to a model for a plan, one per HTTP attempt, oldest first."""

    async def read_calls(db: Database) -> list[ModelCallRow]:
        plan_id = await resolve_plan_id(db, id)
        async with db.read() as tx:
            return await plan_queries.list_plan_calls(tx, plan_id, "", MAX_CALLS)

    rows = run_with_database(read_calls)
    views = [responses.model_call_view(row) for row in rows]
    if as_json:
        print_json({"items": [view.model_dump(mode="json", by_alias=True) for view in views]})
        return
    table = [
        [
            format_instant(row.started_at),
            row.model,
            row.outcome,
            "" if row.http_status is None else str(row.http_status),
            "?" if row.input_tokens is None else str(row.input_tokens),
            "?" if row.output_tokens is None else str(row.output_tokens),
            "unknown" if view.cost is None else f"{view.cost:.4f} {row.currency}",
        ]
        for row, view in zip(rows, views, strict=True)
    ]
    headings = ["STARTED", "MODEL", "OUTCOME", "HTTP", "IN", "OUT", "COST"]
    print_table(
        headings,
        shrink_columns(headings, table, ["MODEL", "COST"]),
        "No model was called for this plan.",
    )


async def resolve_plan_id(db: Database, id: str) -> str:
    """Return a plan's id; ``last`` is that of the newest plan. Raises ``NotFound``."""
    if id != "last":
        return id
    async with db.read() as tx:
        newest = await plan_queries.list_newest_plans(tx, None, 1)
    if not newest:
        raise NotFound("There is no lesson plan yet.")
    return newest[0].plan.id


async def _read_plan_row(db: Database, plan_id: str) -> Any:
    async with db.read() as tx:
        return await plan_queries.load_plan_row(tx, plan_id)


async def find_lesson(db: Database, id: str, lesson: str) -> tuple[str, PlannedLesson]:
    """Return a plan's id and its lesson of a number or id. Raises ``NotFound``."""
    plan_id = await resolve_plan_id(db, id)
    async with db.read() as tx:
        plan = await plan_queries.load_plan(tx, plan_id)
    for each in plan.lessons:
        if lesson in {each.slot.number, each.slot.id}:
            return plan_id, each
    raise NotFound(f"The plan has no lesson {lesson!r}.")


def _read_lesson(text: str) -> dict[str, Any]:
    """Return the lesson in YAML text. Raises ``Invalid`` with every place."""
    source = curriculum_text.read_yaml(text)
    errors = [{"pointer": each.place, "detail": each.detail} for each in source.faults]
    if not errors and not isinstance(source.body, dict):
        errors.append({"pointer": "line 1", "detail": "is not a lesson"})
    if errors:
        raise Invalid("The lesson cannot be read.", details={"errors": errors})
    body: dict[str, Any] = source.body
    return body


def _keep_text(plan_id: str, number: str, text: str) -> None:
    path = Path(f"lesson-{number}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:  # never over a text that was kept before
            file.write(text)
    except OSError:
        print_to_stderr(text)
        return
    command = f"homeroom plans edit {plan_id} {number} --from {path}"
    print_to_stderr(f"The text is kept in {path}. Continue with: {command}")
