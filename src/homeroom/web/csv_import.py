"""Import of CSV: rows checked by the models of the single routes; the report."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import ValidationError

from homeroom.csv_table import CsvFault, CsvRow, read_csv
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Invalid, UnsupportedMediaType
from homeroom.web.model import RequestModel, ResponseModel, field_kinds
from homeroom.web.problem import MAX_PROBLEM_ERRORS

MAX_ROWS = 10_000
LIST_SEPARATOR = "|"
"""Between the values of a cell that holds several: both delimiters may divide columns."""
CSV_MEDIA_TYPES = frozenset(
    {"text/csv", "application/csv", "application/vnd.ms-excel", "application/octet-stream"}
)
"""The third is what browsers on Windows with Excel say of a CSV file."""
CSV_REQUEST: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "UTF-8, its columns divided by comma, semicolon or tab. The first line has"
        " their names."
        " `text/csv` is accepted, too.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The body of an import, for the OpenAPI document.

Generators of clients know how to send a file of bytes, and not every one knows ``text/csv``.
"""
_BOOLEANS = {"true": True, "false": False}

Row = TypeVar("Row", bound=RequestModel)
Record = TypeVar("Record")


class CsvImportFault(ResponseModel):
    """One fault of a CSV file."""

    line: int
    """The line of the file, from 1; that of the header is 1."""
    column: str | None
    """The name of the column; null for a fault of the whole line."""
    detail: str


class CsvImportReport(ResponseModel):
    """The counts of an import, or of its dry run, and its faults."""

    dry_run: bool
    """Whether nothing was stored because the caller asked for a dry run."""
    rows: int
    """Number of rows that can be read."""
    added: int
    """Number of records that are new."""
    changed: int
    """Number of records that change."""
    unchanged: int
    """Number of records that are stored like this already."""
    faults: list[CsvImportFault]
    """All faults; with one of them nothing is imported."""


@dataclass(frozen=True, slots=True)
class CheckedRow(Generic[Row]):
    """A row whose cells are valid, with its line."""

    line: int
    body: Row

    def fault(self, column: str | None, detail: str) -> CsvFault:
        """Return a fault of this row."""
        return CsvFault(self.line, column, detail)


@dataclass(frozen=True, slots=True)
class CheckedRows(Generic[Row]):
    """The rows of a file that are valid, and the faults of the others."""

    rows: list[CheckedRow[Row]]
    faults: list[CsvFault]
    count: int
    """Number of rows, with those that have faults."""


@dataclass(frozen=True, slots=True)
class ImportPlan(Generic[Record]):
    """The records that an import adds and changes."""

    added: list[Record]
    changed: list[Record]
    unchanged: int
    faults: list[CsvFault]

    @property
    def writes(self) -> list[Record]:
        """Return the records to store; none if there is a fault."""
        return [] if self.faults else [*self.added, *self.changed]

    def parts(self, size: int) -> Iterator[ImportPlan[Record]]:
        """Yield plans of at most ``size`` records each, in the order of ``writes``."""
        new = len(self.added)
        for start in range(0, len(self.writes), size):
            end = start + size
            changed = self.changed[max(0, start - new) : max(0, end - new)]
            yield ImportPlan(self.added[start:end], changed, 0, [])


StorePlan = Callable[[Tx, ImportPlan[Record]], Coroutine[Any, Any, None]]
"""Store the records of a plan and write the audit entry of it."""


def check_rows(
    content: bytes,
    model: type[Row],
    key: Callable[[Row], tuple[str, ...]],
    max_rows: int = MAX_ROWS,
) -> CheckedRows[Row]:
    """Check the rows of a file against a model; two rows may not have the same key."""
    names = [each.alias or name for name, each in model.model_fields.items()]
    required = [
        each.alias or name for name, each in model.model_fields.items() if each.is_required()
    ]
    table = read_csv(content, names, required, max_rows)
    rows: list[CheckedRow[Row]] = []
    faults = list(table.faults)
    lines: dict[tuple[str, ...], int] = {}
    for row in table.rows:
        try:
            body = model.model_validate(dict(_cell_values(model, row)))
        except ValidationError as error:
            faults += _row_faults(row.line, error)
            continue
        first = lines.setdefault(key(body), row.line)
        if first == row.line:
            rows.append(CheckedRow(row.line, body))
        else:
            detail = f"is the same record as line {first}: {' / '.join(key(body))}"
            faults.append(CsvFault(row.line, None, detail))
    return CheckedRows(rows, faults, len(table.rows))


def _cell_values(model: type[RequestModel], row: CsvRow) -> Iterator[tuple[str, Any]]:
    """Yield the values of a row's cells, as JSON would have them.

    An empty cell is null where the field may be null, and else absent: the default holds.
    """
    for name, field in model.model_fields.items():
        alias = field.alias or name
        if alias not in row.cells:
            continue
        cell, kinds = row.cells[alias], field_kinds(model, name)
        if list in kinds:
            parts = [each.strip() for each in cell.split(LIST_SEPARATOR)]
            yield alias, [each for each in parts if each]
        elif cell:
            yield alias, _scalar(cell, kinds)
        elif type(None) in kinds:
            yield alias, None
        elif field.is_required():
            yield alias, ""


def _scalar(cell: str, kinds: frozenset[Any]) -> Any:
    if bool in kinds:
        return _BOOLEANS.get(cell.lower(), cell)
    if int in kinds and cell.isascii() and cell.isdecimal() and len(cell) < 16:
        return int(cell)
    return cell


def _row_faults(line: int, error: ValidationError) -> list[CsvFault]:
    faults = []
    for each in error.errors(include_url=False, include_input=False):
        message = str(each["msg"]).removeprefix("Value error, ")
        message = message.replace("Input should", "must", 1)
        column = str(each["loc"][0]) if each["loc"] else None
        faults.append(CsvFault(line, column, message[:300]))
    return faults


async def import_rows(
    db: Database,
    checked: CheckedRows[Any],
    plan: Callable[[Tx], Coroutine[Any, Any, ImportPlan[Record]]],
    store: StorePlan[Record],
    *,
    dry_run: bool,
    lock: Callable[[Tx], Coroutine[Any, Any, None]] | None = None,
    rows_per_commit: int | None = None,
) -> CsvImportReport:
    """Store the planned records, or none in a dry run and if one row is faulty.

    The plan is made and stored in one transaction, after ``lock``. With ``rows_per_commit`` it is
    made before, and stored in parts: for records that other transactions wait for.
    """

    async def plan_and_store(tx: Tx) -> ImportPlan[Record]:
        if lock is not None:
            await lock(tx)
        planned = await plan(tx)
        if planned.writes:
            await store(tx, planned)
        return planned

    is_dry = dry_run or bool(checked.faults)
    if rows_per_commit is None and not is_dry:
        return _build_report(checked, await db.transact(plan_and_store), dry_run)
    async with db.read() as tx:
        planned = await plan(tx)
    if rows_per_commit is not None and not is_dry:
        for part in planned.parts(rows_per_commit):
            await db.transact(partial(_store_part, store, part))
    return _build_report(checked, planned, dry_run)


async def _store_part(store: StorePlan[Record], part: ImportPlan[Record], tx: Tx) -> None:
    await store(tx, part)


def _build_report(
    checked: CheckedRows[Any], plan: ImportPlan[Any], dry_run: bool
) -> CsvImportReport:
    """Return the report of an import, its faults by line."""
    faults = sorted([*checked.faults, *plan.faults], key=lambda each: each.line)
    return CsvImportReport(
        dry_run=dry_run,
        rows=checked.count,
        added=len(plan.added),
        changed=len(plan.changed),
        unchanged=plan.unchanged,
        faults=[CsvImportFault.model_validate(each) for each in faults],
    )


def refuse_faults(report: CsvImportReport) -> CsvImportReport:
    """Return a report; raise ``Invalid`` if faults kept the rows from being stored.

    The problem has the first faults, the dry run all of them.
    """
    if report.dry_run or not report.faults:
        return report
    count = len(report.faults)
    raise Invalid(
        f"The file has {count} fault{'' if count == 1 else 's'}; nothing was imported.",
        hint="A dry run (dryRun=true) lists all faults with their lines.",
        details={
            "errors": [
                {**each.model_dump(exclude_none=True), "code": "invalid_row"}
                for each in report.faults[:MAX_PROBLEM_ERRORS]
            ],
            "errorCount": count,
        },
    )


async def read_csv_body(request: Request) -> bytes:
    """Return the body of a request; raise ``UnsupportedMediaType`` if it is not CSV."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in CSV_MEDIA_TYPES:
        raise UnsupportedMediaType("The body must be text/csv.")
    return await request.body()
