"""``homeroom reports``: reports of completions as files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.terminal import pluralize, print_json, print_text
from homeroom.errors import BadRequest

if TYPE_CHECKING:
    from homeroom.bootstrap.application import Application
    from homeroom.completion import api as completion_api
    from homeroom.dispatch import hr_report
    from homeroom.dispatch.hr_report import ReportFormat
else:
    completion_api = LazyModule("homeroom.completion.api")
    hr_report = LazyModule("homeroom.dispatch.hr_report")

app = command_group("Write reports of completions as files.")
_FORMATS: dict[str, ReportFormat] = {".csv": "csv", ".xlsx": "xlsx"}


@app.callback()
def _group() -> None:
    """Write reports of completions as files."""


@app.command(
    "hr",
    epilog=epilog(
        "homeroom reports hr --from 2026-01-01 --to 2026-03-31 --output hr.xlsx",
        "homeroom reports hr --course fire-safety --group ward-3 --output ward-3.csv",
    ),
)
def hr(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file: .csv or .xlsx. It is overwritten.")
    ],
    first: Annotated[
        str | None, typer.Option("--from", help="Completed on this date (UTC) or later.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="Completed on this date or earlier.")
    ] = None,
    course: Annotated[str | None, typer.Option("--course", help="Only of this course.")] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Only of people whom the directory has in this group."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the training records of a period, as HR's webhook has them.

    CSV begins with a byte order mark for Excel, and no cell is a formula. This adds a line to the
    audit trail.
    """
    file_format = _FORMATS.get(output.suffix.lower())
    if file_format is None:
        raise BadRequest(
            f"{output.name} is no name of a CSV or XLSX file.",
            hint="Name it with .csv or .xlsx at the end.",
        )
    try:
        period = completion_api.parse_period(first, last)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    query = hr_report.HrReportFilter(period, course, group)
    unfinished = output.with_name(output.name + ".part")

    async def write(application: Application) -> int:
        with unfinished.open("wb") as file:
            return await application.hr_reports.write(query, file_format, file, audit_actor())

    try:
        count = run_with_application(write)
        os.replace(unfinished, output)
    except OSError as error:
        raise BadRequest(f"{output} cannot be written: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
    if as_json:
        print_json({"file": str(output), "rows": count})
        return
    print_text(f"{output}: {pluralize(count, 'row')}")
