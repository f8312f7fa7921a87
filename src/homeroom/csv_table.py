"""Reading of CSV: columns by name, rows by line, and all faults (pure)."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

_DELIMITERS = (",", ";", "\t")
_MAX_NAME_CHARACTERS = 100
_MAX_COLUMNS = 100
"""Every unknown name is compared with all known ones."""


@dataclass(frozen=True, slots=True)
class CsvFault:
    """A fault of a CSV file. Lines count from 1, as an editor shows them."""

    line: int
    column: str | None
    """The name of the column; None: the fault is of the whole line."""
    detail: str


@dataclass(frozen=True, slots=True)
class CsvRow:
    """The cells of one row by column name, stripped."""

    line: int
    cells: dict[str, str]


@dataclass(slots=True)
class CsvTable:
    """The columns and rows of a CSV file that can be read, and all faults."""

    columns: list[str] = field(default_factory=list)
    rows: list[CsvRow] = field(default_factory=list)
    faults: list[CsvFault] = field(default_factory=list)


def read_csv(
    content: bytes, known: Sequence[str], required: Collection[str], max_rows: int
) -> CsvTable:
    """Read CSV in UTF-8, divided by comma, semicolon or tab.

    It may begin with a byte order mark. The first line names the columns, in any order. Blank
    lines are skipped.
    """
    table = CsvTable()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        table.faults.append(CsvFault(line, None, "is not UTF-8: save the file as CSV in UTF-8"))
        return table
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    ended = 0
    try:
        for cells in reader:
            line, ended = ended + 1, reader.line_num
            if any(cell.strip() for cell in cells):
                _add_line(table, line, [cell.strip() for cell in cells], known, required)
            if len(table.rows) + len(table.faults) > max_rows:
                too_many = f"the file has more than {max_rows} rows: divide it"
                table.faults.append(CsvFault(line, None, too_many))
                break
            if table.faults and not table.columns:
                return table
    except csv.Error as error:
        table.faults.append(CsvFault(ended + 1, None, f"cannot be read as CSV: {error}"))
    if not table.rows and not table.faults:
        missing = "the file has no rows" if table.columns else "the file names no columns"
        table.faults.append(CsvFault(1, None, missing))
    return table


def _add_line(
    table: CsvTable,
    line: int,
    cells: list[str],
    known: Sequence[str],
    required: Collection[str],
) -> None:
    if not table.columns:
        table.faults += _header_faults(line, cells, known, required)
        table.columns = [] if table.faults else cells
    elif len(cells) != len(table.columns):
        detail = f"has {len(cells)} cells, and the header has {len(table.columns)}"
        table.faults.append(CsvFault(line, None, detail))
    else:
        table.rows.append(CsvRow(line, dict(zip(table.columns, cells, strict=True))))


def _header_faults(
    line: int, names: Sequence[str], known: Sequence[str], required: Collection[str]
) -> list[CsvFault]:
    if len(names) > _MAX_COLUMNS:
        return [
            CsvFault(line, None, f"has {len(names)} columns, and {_MAX_COLUMNS} at most are read")
        ]
    faults: list[CsvFault] = []
    for index, name in enumerate(names):
        shown = name[:_MAX_NAME_CHARACTERS]
        if name not in known:
            faults.append(CsvFault(line, shown, _unknown_column(name, known)))
        elif name in names[:index]:
            faults.append(CsvFault(line, shown, "the column is there twice"))
    faults += [
        CsvFault(line, name, "the column is missing") for name in required if name not in names
    ]
    return faults


def _unknown_column(name: str, known: Sequence[str]) -> str:
    by_folded_name = {_fold(each): each for each in known}
    near = difflib.get_close_matches(_fold(name[:_MAX_NAME_CHARACTERS]), by_folded_name, n=1)
    if near:
        return f"the column is unknown; did you mean {by_folded_name[near[0]]}?"
    return f"the column is unknown; there are {', '.join(known)}"


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()
