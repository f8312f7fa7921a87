"""``homeroom programmes``: import programmes and show log compliance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.csv_import import (
    CsvFileArgument,
    DryRunOption,
    print_import_report,
    read_csv_file,
)
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.terminal import pluralize, print_json, print_table, print_text
from homeroom.errors import BadRequest, Invalid

if TYPE_CHECKING:
    from homeroom.activity import api as activity
    from homeroom.activity import import_routes as programme_import
    from homeroom.activity import programme_file
    from homeroom.activity import store as programme_store
    from homeroom.activity.api import ComplianceReport, Programme
    from homeroom.activity.programme_file import ProgrammeWithOfferings
    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.people.import_routes import CsvImportReport
else:
    activity = LazyModule("homeroom.activity.api")
    programme_import = LazyModule("homeroom.activity.import_routes")
    programme_file = LazyModule("homeroom.activity.programme_file")
    programme_store = LazyModule("homeroom.activity.store")

app = command_group("Import programmes; show log compliance.")
_MARK_TEXT = {"done": "ok", "late": "late", "missed": "MISSED"}
"""The cell of a ``ComplianceMark``; other marks are shown by their names."""


MAX_FAULTS_SHOWN = 20
"""Limit of the faults that one import names."""


@app.command(
    "import",
    epilog=epilog(
        "homeroom programmes import programmes.json",
        "homeroom programmes import spring/*.json --json",
    ),
)
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JSON files.")],
    as_json: JsonOption = False,
) -> None:
    """Store programmes and offerings from JSON files, or none if one is faulty.

    A file holds one programme or a list: the body of PUT /api/v1/programmes/{programmeId} with its
    `id`, and `offerings`, each the body of its PUT with its `id`. An
    import can be repeated.
    """
    entries = _read_files(files)

    async def store_all(application: Application) -> list[tuple[str, bool, int]]:
        stored = []
        programmes = application.activity.programmes
        async with application.db.write() as tx:
            for each in entries:
                is_new = await programmes.put(tx, each.programme, audit_actor())
                for offering in each.offerings:
                    await programmes.put_offering(tx, offering, audit_actor())
                stored.append((each.programme.id, is_new, len(each.offerings)))
        return stored

    stored = run_with_application(store_all)
    if as_json:
        items = [{"id": id, "created": new, "offerings": count} for id, new, count in stored]
        print_json({"items": items})
        return
    print_table(
        ("PROGRAMME", "OUTCOME", "OFFERINGS"),
        [(id, "created" if new else "updated", count) for id, new, count in stored],
        "There are no programmes in these files.",
    )


@app.command(
    "import-csv",
    epilog=epilog(
        "homeroom programmes import-csv programmes.csv --dry-run",
        "homeroom programmes import-csv offerings.csv --offerings",
    ),
)
def import_csv(
    file: CsvFileArgument,
    offerings: Annotated[
        bool, typer.Option("--offerings", help="The file holds offerings.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Store programmes, or offerings, from a CSV file, or none if there is a fault.

    The columns are `id` and the fields of the body of PUT /api/v1/programmes/{programmeId}; those
    of offerings are `id`, `programmeId` and the fields of their PUT. Several managers in a cell
    are divided by `|`. The same file again changes nothing.
    """
    content = read_csv_file(file)

    async def import_content(application: Application) -> CsvImportReport:
        import_rows = (
            programme_import.import_offerings if offerings else programme_import.import_programmes
        )
        return await import_rows(
            application.db, application.activity, content, audit_actor(), dry_run=dry_run
        )

    print_import_report(file, run_with_application(import_content), as_json=as_json)


def _read_files(files: list[Path]) -> list[ProgrammeWithOfferings]:
    """Return the programmes of all files; raise ``Invalid`` with the faults of all."""
    found: list[ProgrammeWithOfferings] = []
    faults: list[str] = []
    for file in files:
        try:
            document = json.loads(file.read_bytes())
        except OSError as error:
            raise BadRequest(f"{file} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            faults.append(f"{file} is not JSON: {error}")
            continue
        programmes, wrong = programme_file.parse_programmes(document)
        found += programmes
        faults += [f"{file}, {fault}" for fault in wrong]
    if faults:
        shown = "\n".join(faults[:MAX_FAULTS_SHOWN])
        raise Invalid(f"{pluralize(len(faults), 'fault')}, so nothing was imported:\n{shown}")
    return found


@app.command("list", epilog=epilog("homeroom programmes list"))
def list_(as_json: JsonOption = False) -> None:
    """List the programmes."""

    async def read_programmes(db: Database) -> list[Programme]:
        async with db.read() as tx:
            return await programme_store.list_programmes(tx, count=10_000)

    programmes = run_with_database(read_programmes)
    if as_json:
        items = [
            {"id": each.id, "title": each.title, "timeZone": each.time_zone} for each in programmes
        ]
        print_json({"items": items})
        return
    print_table(
        ("ID", "TITLE", "TIME ZONE", "MANAGERS", "CLOSED ON"),
        [
            (each.id, each.title, each.time_zone, " ".join(each.managers), each.closed_on or "-")
            for each in programmes
        ],
        "There are no programmes. Import some with: homeroom programmes import FILE",
    )


@app.command(
    "compliance",
    epilog=epilog(
        "homeroom programmes compliance data-lab",
        "homeroom programmes compliance data-lab --from 2026-W36 --to 2026-W47",
        "homeroom programmes compliance data-lab --csv > compliance.csv",
        codes=(4,),
    ),
)
def show_compliance(
    programme_id: Annotated[str, typer.Argument(metavar="ID")],
    first: Annotated[str | None, typer.Option("--from", help="A week, such as 2026-W36.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="A week; else the current one.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the compliance with logs: a row per facilitator, a column per week.

    The latest twelve weeks are shown by default.
    """
    try:
        weeks = [None if key is None else activity.parse_week(key) for key in (first, last)]
    except ValueError as error:
        raise BadRequest(f"{error}.") from error

    async def build_report(application: Application) -> ComplianceReport:
        async with application.db.read() as tx:
            programme = await application.activity.programmes.get(tx, programme_id)
            return await activity.build_compliance_report(tx, programme, weeks[0], weeks[1])

    report = run_with_application(build_report)
    if as_json:
        rows = [_compliance_row(report, each) for each in report.rows]
        print_json({"weeks": list(report.weeks), "rows": rows})
    elif csv:
        print_text(activity.format_compliance_csv(report).replace("\r\n", "\n").rstrip("\n"))
    else:
        _print_compliance(report)


def _compliance_row(report: ComplianceReport, row: Any) -> dict[str, Any]:
    marks = {
        week: None if each is None else each.value
        for week, each in zip(report.weeks, row.marks, strict=True)
    }
    return {
        "userId": row.user_id,
        "name": row.name,
        "weeks": marks,
        "missed": row.missed,
        "late": row.late,
        "expected": row.expected,
    }


def _print_compliance(report: ComplianceReport) -> None:
    columns: Sequence[str] = (
        "FACILITATOR",
        *(week.removeprefix("20") for week in report.weeks),
        "MISSED",
        "LATE",
    )
    print_table(
        columns,
        [
            (
                row.name,
                *("" if each is None else _MARK_TEXT.get(each, each.value) for each in row.marks),
                row.missed,
                row.late,
            )
            for row in report.rows
        ],
        "No log was expected in these weeks.",
    )
    if report.rows:
        print_text(
            f"{pluralize(len(report.rows), 'facilitator')}. Blank: no log was expected, or the"
            " offering was not known yet."
        )
