"""``homeroom plans``: import curricula, generate and export lesson plans."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.plan_view import (
    PlanProgressBar,
    lesson_lines,
    lesson_table,
    plan_status_json,
    plan_status_lines,
)
from homeroom.cli.plans_compare import checklist, diff
from homeroom.cli.plans_edit import calls, delete, edit, find_lesson, resolve_plan_id
from homeroom.cli.plans_files import OutputOption, read_curricula, template, write_file
from homeroom.cli.plans_options import with_curriculum_options
from homeroom.cli.plans_output import list_plans, publish, schedule
from homeroom.cli.terminal import (
    pluralize,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
)
from homeroom.errors import BadRequest, Invalid, NotFound

if TYPE_CHECKING:
    import asyncio

    from homeroom.bootstrap import inline_worker
    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.lessonplans import plan as plan_model
    from homeroom.lessonplans import plan_queries
    from homeroom.lessonplans.export import formats
    from homeroom.lessonplans.export.print_style import PrintStyle
    from homeroom.lessonplans.plan import LessonPlan
    from homeroom.lessonplans.plan_queries import GenerationStatus
else:
    asyncio = LazyModule("asyncio")
    inline_worker = LazyModule("homeroom.bootstrap.inline_worker")
    formats = LazyModule("homeroom.lessonplans.export.formats")
    plan_model = LazyModule("homeroom.lessonplans.plan")
    plan_queries = LazyModule("homeroom.lessonplans.plan_queries")

app = command_group("Generate lesson plans from a curriculum.")
EXPORT_FORMATS = ("json", "md", "docx", "pdf", "csv", "ics", "imscc", "imscc-1.3", "checklist")
"""The names of ``formats.EXPORT_FORMATS``, for the help, which does not load the formats."""
FILE_TYPES = "JSON, YAML, CSV, XLSX or DOCX"
POLL_SECONDS = 0.2
EXIT_FAILED = 1
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the plan is done, or only queue it.")
]
PlanIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A plan's id; `last` is the newest.")
]
CurriculumArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help=f"A file of type {FILE_TYPES}.")
]


app.command(
    epilog=epilog(
        "homeroom plans template --format xlsx",
        "homeroom plans template --format csv --language de --output lehrplan.csv",
        codes=(5,),
    )
)(template)


@app.command(
    "import",
    epilog=epilog(
        "homeroom plans import examples/curricula/data-skills.yaml",
        "homeroom plans import first-aid.csv --title 'First aid'",
        "homeroom plans import *.json --json",
    ),
)
@with_curriculum_options
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help=f"Files of type {FILE_TYPES}.")
    ],
    options: dict[str, Any],
    as_json: JsonOption = False,
) -> None:
    """Store curricula, all or, if one is faulty, none, without generating plans.

    Options replace what the files say.
    """
    bodies = read_curricula(files, options, as_json)

    async def store_all(application: Application) -> list[str]:
        async with application.db.write() as tx:
            return [await application.plans.create(tx, body, audit_actor()) for body in bodies]

    ids = run_with_application(store_all)
    if as_json:
        pairs = zip(files, ids, strict=True)
        print_json({"items": [{"file": str(file), "workflowId": id} for file, id in pairs]})
        return
    for id in ids:
        print_text(id)
    print_to_stderr(f"Generate with: homeroom plans start {ids[-1]}")


@app.command(
    epilog=epilog(
        "homeroom plans create examples/curricula/data-skills.yaml",
        "homeroom plans create first-aid.csv --title 'First aid' --lesson-minutes 45",
        "homeroom plans create lehrplan.xlsx --locale de --weekdays MO,WE,FR --no-wait",
        "homeroom plans create cours.csv --title 'Cours' --locale fr --wording en",
        codes=(EXIT_FAILED,),
    )
)
@with_curriculum_options
def create(
    file: CurriculumArgument,
    options: dict[str, Any],
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Store a curriculum and generate its lesson plans.

    A running worker generates them; without one, this command does. Options replace what the file
    says.
    """
    (body,) = read_curricula([file], options, as_json)

    async def run(application: Application) -> GenerationStatus:
        async with application.db.write() as tx:
            id = await application.plans.create(tx, body, audit_actor())
        await application.plans.start(id, audit_actor())
        return await _wait_until_done(application, id, wait=wait, has_bar=not as_json)

    _print_status(run_with_application(run), as_json=as_json, wait=wait)


@app.command(
    epilog=epilog(
        "homeroom plans start last", "homeroom plans start ID --no-wait", codes=(EXIT_FAILED, 4)
    )
)
def start(id: PlanIdArgument, wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """Generate the missing lessons of a plan; one that is running is only watched."""

    async def run(application: Application) -> GenerationStatus:
        plan_id = await resolve_plan_id(application.db, id)
        await application.plans.start(plan_id, audit_actor())
        return await _wait_until_done(application, plan_id, wait=wait, has_bar=not as_json)

    _print_status(run_with_application(run), as_json=as_json, wait=wait)


@app.command(
    epilog=epilog("homeroom plans retry last", "homeroom plans retry ID --no-wait", codes=(1, 4, 5))
)
def retry(id: PlanIdArgument, wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """Resume a plan that failed or was cancelled; its generated lessons stay."""

    async def run(application: Application) -> GenerationStatus:
        plan_id = await resolve_plan_id(application.db, id)
        await application.plans.retry(plan_id, audit_actor())
        return await _wait_until_done(application, plan_id, wait=wait, has_bar=not as_json)

    _print_status(run_with_application(run), as_json=as_json, wait=wait)


@app.command(epilog=epilog("homeroom plans cancel last", codes=(4, 5)))
def cancel(id: PlanIdArgument) -> None:
    """Cancel the jobs of a plan within a second; its generated lessons stay."""

    async def cancel_jobs(application: Application) -> int:
        plan_id = await resolve_plan_id(application.db, id)
        return await application.plans.cancel(plan_id, audit_actor())

    print_text(f"Cancelled {pluralize(run_with_application(cancel_jobs), 'job')}.")


@app.command(
    epilog=epilog(
        "homeroom plans status",
        "homeroom plans status last",
        "homeroom plans status ID --watch",
        "homeroom plans status ID --json",
        codes=(4,),
    )
)
def status(
    id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="A plan's id; without one the newest are listed."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch it until it ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the progress of a plan, or list the newest plans."""
    if id is None:
        list_plans(as_json)
        return

    async def read_status(db: Database) -> GenerationStatus:
        plan_id = await resolve_plan_id(db, id)
        if not watch:
            return await _read_status(db, plan_id)
        return await _watch_status(db, plan_id, has_bar=not as_json)

    with contextlib.suppress(KeyboardInterrupt):
        generation = run_with_database(read_status)
        if as_json:
            print_json(plan_status_json(generation))
        else:
            print_text("\n".join(plan_status_lines(generation)))


@app.command(
    epilog=epilog("homeroom plans show last", "homeroom plans show ID --lesson 2.1", codes=(4,))
)
def show(
    id: PlanIdArgument,
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 2.1.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the lessons of a plan, or show one of them."""
    plan = run_with_database(lambda db: _load_plan(db, id))
    if lesson is None:
        if as_json:
            print_json(plan_model.plan_document(plan))
        else:
            print_table(*lesson_table(plan), empty="There are no lessons.")
        return
    matching = [each for each in plan.lessons if lesson in {each.slot.number, each.slot.id}]
    if not matching:
        raise NotFound(f"The plan has no lesson {lesson!r}.")
    print_text("\n".join(lesson_lines(plan, matching[0])))


@app.command(
    "export",
    epilog=epilog(
        "homeroom plans export last --format docx",
        "homeroom plans export ID --format imscc --output course.imscc",
        "homeroom plans export ID --format md --output - | less",
        codes=(4,),
    ),
)
def export_(
    id: PlanIdArgument,
    form: Annotated[
        str, typer.Option("--format", "-f", help=f"One of {', '.join(EXPORT_FORMATS)}.")
    ] = "docx",
    output: OutputOption = None,
) -> None:
    """Write a plan to a file for other programs."""
    chosen = next((each for each in formats.EXPORT_FORMATS if each == form), None)
    if chosen is None:
        raise Invalid(f"There is no format {form!r}; there are {', '.join(EXPORT_FORMATS)}.")

    async def load(application: Application) -> tuple[LessonPlan, PrintStyle]:
        return await _load_plan(application.db, id), application.plan_style

    plan, style = run_with_application(load)
    exported = formats.export_file(plan, chosen, style)
    write_file(exported.content, exported.name, output)


@app.command(
    epilog=epilog(
        "homeroom plans regenerate last 2.1",
        "homeroom plans regenerate last 2.1 --section teaching --section exitQuiz",
        "homeroom plans regenerate ID --module m2 --overwrite-edits",
        "homeroom plans regenerate ID --fill",
        codes=(EXIT_FAILED, 4, 5),
    )
)
def regenerate(
    id: PlanIdArgument,
    lesson: Annotated[
        str | None, typer.Argument(metavar="[LESSON]", help="Its number, such as 2.1.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="All lessons of the module of this id.")
    ] = None,
    section: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this section of the lesson: overview, teaching, assessment, support, or one"
            " part, such as vocabulary; may be repeated."
        ),
    ] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Have a model write only what is empty or open.")
    ] = False,
    overwrite_edits: Annotated[
        bool, typer.Option("--overwrite-edits", help="Replace what people have edited, too.")
    ] = False,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Generate a lesson, sections of it or a module again; edits stay.

    With --fill a language model completes an outline: a lesson, a module or the whole plan.
    """
    if (lesson is None) == (module is None) and not (fill and lesson is None):
        raise BadRequest(
            "Name a lesson or a module, and not both.", hint="--fill alone is for the whole plan."
        )
    if section and lesson is None:
        raise BadRequest("A section is one of a lesson; name the lesson.")

    async def run(application: Application) -> GenerationStatus:
        plan_id = await resolve_plan_id(application.db, id)
        plans, actor = application.plans, audit_actor()
        if lesson is not None:
            _, planned = await find_lesson(application.db, plan_id, lesson)
            await plans.regenerate_lesson(
                plan_id,
                planned.slot.id,
                actor,
                overwrite_edits=overwrite_edits,
                sections=section or (),
                fill=fill,
            )
        elif module is not None:
            await plans.regenerate_module(
                plan_id, module, actor, overwrite_edits=overwrite_edits, fill=fill
            )
        else:
            await plans.fill(plan_id, actor)
        return await _wait_until_done(application, plan_id, wait=wait, has_bar=not as_json)

    _print_status(run_with_application(run), as_json=as_json, wait=wait)


app.command(
    epilog=epilog(
        "homeroom plans checklist last", "homeroom plans checklist last > open.md", codes=(4,)
    )
)(checklist)
app.command(
    epilog=epilog(
        "homeroom plans diff ID last",
        "homeroom plans diff last before.json --lesson 2.1",
        codes=(4,),
    )
)(diff)
app.command(
    epilog=epilog(
        "homeroom plans edit last 2.1",
        "homeroom plans edit ID 2.1 --from lesson-2.1.yaml",
        codes=(4, 5),
    )
)(edit)
app.command(
    epilog=epilog("homeroom plans delete ID", "homeroom plans delete last --yes", codes=(4, 5))
)(delete)
app.command(epilog=epilog("homeroom plans calls last", codes=(4,)))(calls)
app.command(
    epilog=epilog(
        "homeroom plans schedule last --starts-on 2027-01-11",
        "homeroom plans schedule ID --break 2027-03-29..2027-04-09=Easter --break 2027-05-01",
        "homeroom plans schedule ID --starts-on 2027-09-01 --holidays school-holidays.ics",
        codes=(4, 5),
    )
)(schedule)
app.command(
    epilog=epilog(
        "homeroom plans publish last",
        "homeroom plans publish ID --course data-skills",
        codes=(4, 5),
    )
)(publish)


async def _load_plan(db: Database, id: str) -> LessonPlan:
    plan_id = await resolve_plan_id(db, id)
    async with db.read() as tx:
        return await plan_queries.load_plan(tx, plan_id)


async def _read_status(db: Database, plan_id: str) -> GenerationStatus:
    async with db.read() as tx:
        return await plan_queries.load_generation_status(tx, plan_id)


async def _wait_until_done(
    application: Application, plan_id: str, *, wait: bool, has_bar: bool
) -> GenerationStatus:
    """Watch a plan until none of its jobs is left; be its worker if none runs."""
    if not wait:
        return await _read_status(application.db, plan_id)
    async with inline_worker.inline_worker_if_none(application):
        return await _watch_status(application.db, plan_id, has_bar=has_bar)


async def _watch_status(db: Database, plan_id: str, *, has_bar: bool) -> GenerationStatus:
    """Show a progress bar until no job of the plan is queued or runs."""
    with PlanProgressBar(is_shown=has_bar) as bar:
        while True:
            status = await _read_status(db, plan_id)
            bar.update(status)
            if status.status != "in_progress":
                return status
            await asyncio.sleep(POLL_SECONDS)


def _print_status(generation: GenerationStatus, *, as_json: bool, wait: bool) -> None:
    if as_json:
        print_json(plan_status_json(generation))
    else:
        print_text("\n".join(plan_status_lines(generation)))
    if wait and generation.status != "complete":
        raise typer.Exit(EXIT_FAILED)
