"""Commands that import a CSV file: its content, and the report of the import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.terminal import pluralize, print_json, print_text, print_to_stderr
from homeroom.errors import BadRequest, Invalid, TooLarge

if TYPE_CHECKING:
    from homeroom.people.import_routes import CsvImportReport

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Limit of a file; over HTTP it is ``HOMEROOM_MAX_BODY_BYTES``."""
CsvFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file in UTF-8.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only show faults and what would change.")
]


def read_csv_file(path: Path) -> bytes:
    """Return the content of a file; raise ``BadRequest`` or ``TooLarge``."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_FILE_BYTES:
        raise TooLarge(f"{path} is larger than {MAX_FILE_BYTES // 1024**2} MiB: divide it.")
    return content


def print_import_report(path: Path, report: CsvImportReport, *, as_json: bool) -> None:
    """Print what an import changed; with faults, print each and raise ``Invalid``."""
    if as_json:
        print_json(report.model_dump(by_alias=True))
    else:
        for each in report.faults:
            column = "" if each.column is None else f"{each.column}: "
            print_to_stderr(f"{path}:{each.line}: {column}{each.detail}")
    if report.faults:
        count = pluralize(len(report.faults), "fault")
        raise Invalid(f"{count}; nothing was imported.")
    if not as_json:
        verb = "would be " if report.dry_run else ""
        print_text(
            f"{pluralize(report.rows, 'row')}: {report.added} {verb}added,"
            f" {report.changed} {verb}changed, {report.unchanged} unchanged."
        )
        if report.dry_run:
            print_text("Nothing was written.")
