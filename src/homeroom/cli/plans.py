"""``homeroom plans``: curricula in, lesson plans out, here or by a worker that runs elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.output import counted, note, print_json, print_table, say
from homeroom.cli.plan_view import Bar, lesson_lines, status_json, status_lines, summary_rows
from homeroom.errors import BadRequest, Conflict, Invalid, NotFound
from homeroom.lessonplans import read as reading
from homeroom.lessonplans.api import parse
from homeroom.lessonplans.export.format import FORMATS, export
from homeroom.lessonplans.plan import document
from homeroom.lessonplans.read import Status
from homeroom.lessonplans.source import FORMATS as SOURCES
from homeroom.lessonplans.source import read
from homeroom.wiring import House
from homeroom.wiring.working import worker_if_none

app = group("Generate lesson plans from a curriculum.")
WATCH_SECONDS = 0.2
FAILED = 1
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Stay until the plan is done, or only queue it.")
]
PlanId = Annotated[str, typer.Argument(metavar="ID", help="A plan's id; `last` is the newest.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON, YAML or CSV.")]
Title = Annotated[str | None, typer.Option(help="Title, where a CSV file can hold none.")]


@app.command(
    "import",
    epilog=epilog(
        "homeroom plans import examples/curricula/data-skills.yaml",
        "homeroom plans import first-aid.csv --title 'First aid'",
        "homeroom plans import *.json --json",
    ),
)
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JSON, YAML or CSV files.")],
    title: Title = None,
    as_json: Json = False,
) -> None:
    """Store curricula, all of them or, if one is faulty, none; nothing is generated yet."""
    bodies = _bodies(files, title, as_json)

    async def work(house: House) -> list[str]:
        async with house.db.write() as tx:
            return [await house.plans.create(tx, body, _actor()) for body in bodies]

    ids = in_house(work)
    if as_json:
        pairs = zip(files, ids, strict=True)
        print_json({"items": [{"file": str(file), "workflowId": id} for file, id in pairs]})
        return
    for id in ids:
        say(id)
    note(f"Generate with: homeroom plans start {ids[-1]}")


@app.command(
    epilog=epilog(
        "homeroom plans create examples/curricula/data-skills.yaml",
        "homeroom plans create first-aid.csv --title 'First aid' --no-wait",
        codes=(FAILED,),
    )
)
def create(file: File, title: Title = None, wait: Wait = True, as_json: Json = False) -> None:
    """Store a curriculum and generate its lesson plans.

    A running worker does the work; where none runs, this command does it itself.
    """
    (body,) = _bodies([file], title, as_json)

    async def work(house: House) -> Status:
        async with house.db.write() as tx:
            id = await house.plans.create(tx, body, _actor())
        await house.plans.start(id, _actor())
        return await _until_done(house, id, wait=wait, bar=not as_json)

    _report(in_house(work), as_json=as_json, wait=wait)


@app.command(
    epilog=epilog(
        "homeroom plans start last", "homeroom plans start ID --no-wait", codes=(FAILED, 4)
    )
)
def start(id: PlanId, wait: Wait = True, as_json: Json = False) -> None:
    """Generate what of a plan is not generated yet; one that is running is only watched."""

    async def work(house: House) -> Status:
        plan_id = await _found(house, id)
        await house.plans.start(plan_id, _actor())
        return await _until_done(house, plan_id, wait=wait, bar=not as_json)

    _report(in_house(work), as_json=as_json, wait=wait)


@app.command(
    epilog=epilog("homeroom plans retry last", "homeroom plans retry ID --no-wait", codes=(1, 4, 5))
)
def retry(id: PlanId, wait: Wait = True, as_json: Json = False) -> None:
    """Go on with a plan that failed or was cancelled; what is written is kept."""

    async def work(house: House) -> Status:
        plan_id = await _found(house, id)
        await house.plans.retry(plan_id, _actor())
        return await _until_done(house, plan_id, wait=wait, bar=not as_json)

    _report(in_house(work), as_json=as_json, wait=wait)


@app.command(epilog=epilog("homeroom plans cancel last", codes=(4, 5)))
def cancel(id: PlanId) -> None:
    """Stop what of a plan is queued or runs, within a second; what is written is kept."""

    async def work(house: House) -> int:
        return await house.plans.cancel(await _found(house, id), _actor())

    say(f"{counted(in_house(work), 'job')} told to stop.")


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
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it stands still.")] = False,
    as_json: Json = False,
) -> None:
    """Show how far a plan is, or which plans there are."""
    if id is None:
        _list(as_json)
        return

    async def work(house: House) -> Status:
        plan_id = await _found(house, id)
        if not watch:
            return await _status(house, plan_id)
        return await _watched(house, plan_id, bar=not as_json)

    with contextlib.suppress(KeyboardInterrupt):
        found = in_house(work)
        if as_json:
            print_json(status_json(found))
        else:
            say("\n".join(status_lines(found)))


@app.command(
    epilog=epilog("homeroom plans show last", "homeroom plans show ID --lesson 2.1", codes=(4,))
)
def show(
    id: PlanId,
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 2.1.")] = None,
    as_json: Json = False,
) -> None:
    """Show the lessons of a plan, or one of them whole."""

    async def work(house: House) -> Any:
        plan_id = await _found(house, id)
        async with house.db.read() as tx:
            return await reading.plan(tx, plan_id)

    plan = in_house(work)
    if lesson is None:
        if as_json:
            print_json(document(plan))
        else:
            print_table(*summary_rows(plan), none="There are no lessons.")
        return
    known = [each for each in plan.lessons if lesson in {each.slot.number, each.slot.id}]
    if not known:
        raise NotFound(f"The plan has no lesson {lesson!r}.")
    say("\n".join(lesson_lines(plan, known[0])))


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
    id: PlanId,
    form: Annotated[
        str, typer.Option("--format", "-f", help=f"One of {', '.join(FORMATS)}.")
    ] = "docx",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; - is standard output.")
    ] = None,
) -> None:
    """Write a plan to a file for other programs."""
    found = next((each for each in FORMATS if each == form), None)
    if found is None:
        raise Invalid(f"There is no format {form!r}; there are {', '.join(FORMATS)}.")

    async def work(house: House) -> Any:
        plan_id = await _found(house, id)
        async with house.db.read() as tx:
            return await reading.plan(tx, plan_id)

    made = export(in_house(work), found)
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(made.content)
        return
    path = output or Path(made.name)
    if output is None and path.exists():  # somebody may have worked on it, or it is another plan's
        raise Conflict(f"{path} is there already.", hint=f"Write over it with: -o {path}")
    try:
        path.write_bytes(made.content)
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}.") from error
    say(str(path))


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def _bodies(files: list[Path], title: str | None, as_json: bool) -> list[Any]:
    """Read files; say every fault of all of them, then end, if there is one."""
    bodies, faults = [], []
    for file in files:
        try:
            form = SOURCES.get(file.suffix.lower())
            if form is None:
                raise Invalid(f"is none of {', '.join(SOURCES)}")
            body = read(file.read_bytes(), form, title or file.stem)
            parse(body)
            bodies.append(body)
        except OSError as error:
            faults.append({"file": str(file), "pointer": "#", "detail": str(error.strerror)})
        except Invalid as error:
            listed = error.details.get("errors") or [{"pointer": "#", "detail": error.message}]
            faults += [
                {"file": str(file), "pointer": one["pointer"], "detail": one["detail"]}
                for one in listed
            ]
    if not faults:
        return bodies
    if as_json:
        print_json({"items": [], "errors": faults})
    else:
        for fault in faults:
            note(f"{fault['file']}: {fault['pointer']}: {fault['detail']}")
    raise Invalid(f"{counted(len(faults), 'fault')}; nothing was stored.")


async def _found(house: House, id: str) -> str:
    """Return a plan's id; ``last`` is the newest one's. Raises ``NotFound``."""
    if id != "last":
        return id
    async with house.db.read() as tx:
        newest = await reading.newest(tx, None, 1)
    if not newest:
        raise NotFound("There is no lesson plan yet.")
    return newest[0].plan.id


async def _status(house: House, id: str) -> Status:
    async with house.db.read() as tx:
        return await reading.status(tx, id)


async def _until_done(house: House, id: str, *, wait: bool, bar: bool) -> Status:
    """Watch a plan until it stands still; do its work here where nobody else does."""
    if not wait:
        return await _status(house, id)
    async with worker_if_none(house):
        return await _watched(house, id, bar=bar)


async def _watched(house: House, id: str, *, bar: bool) -> Status:
    """Show a bar until nothing of the plan is queued or runs."""
    with Bar(shown=bar) as shown:
        while True:
            found = await _status(house, id)
            shown.update(found)
            if found.status != "in_progress":
                return found
            await asyncio.sleep(WATCH_SECONDS)


def _report(found: Status, *, as_json: bool, wait: bool) -> None:
    if as_json:
        print_json(status_json(found))
    else:
        say("\n".join(status_lines(found)))
    if wait and found.status != "complete":
        raise typer.Exit(FAILED)


def _list(as_json: bool) -> None:
    async def work(house: House) -> Any:
        async with house.db.read() as tx:
            return await reading.newest(tx, None, 20)

    found = in_house(work)
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
                    for each in found
                ]
            }
        )
        return
    rows = [
        [each.plan.id, each.status, f"{each.modules_generated}/{each.total_modules}",
         each.plan.title]
        for each in found
    ]  # fmt: skip
    print_table(["PLAN", "STATUS", "MODULES", "TITLE"], rows, "There are no lesson plans yet.")
