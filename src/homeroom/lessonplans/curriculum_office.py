"""Readers of the tables in CSV, XLSX and DOCX files, bounded in size (pure).

XLSX and DOCX files are ZIP archives of XML: their uncompressed size is bounded before any part is
parsed, and a document type, which can expand entities, is refused.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import docx
import openpyxl
from docx.oxml.ns import qn
from docx.oxml.table import CT_Tbl, CT_Tc
from openpyxl.utils import get_column_letter

from homeroom.lessonplans.curriculum_source import MAX_COLUMNS, MAX_ROWS, FileFault
from homeroom.lessonplans.curriculum_table import TableRow

MAX_UNCOMPRESSED_BYTES = 30 * 1024 * 1024
MAX_ARCHIVE_PARTS = 1_000
MAX_TABLES = 200
_ROWS_READ = MAX_ROWS * 2
"""Rows read of a table or of all sheets, empty ones included."""
_DOCUMENT_TYPE = re.compile(rb"<\0?!\0?D\0?O\0?C\0?T\0?Y\0?P\0?E")


class UnreadableFile(Exception):
    """A file that is not what its name says; ``fault`` has the place."""

    def __init__(self, place: str, detail: str) -> None:
        """Keep the place and the detail."""
        super().__init__(detail)
        self.fault = FileFault(place, detail)


def csv_tables(content: str) -> Iterator[Iterator[TableRow]]:
    """Yield the one table of a CSV file: commas, semicolons or tabs.

    Raises ``UnreadableFile``.
    """
    yield _csv_rows(content)


def _csv_rows(content: str) -> Iterator[TableRow]:
    reader = csv.reader(
        io.StringIO(content, newline=""), dialect=_detect_dialect(content), strict=True
    )
    line = 1
    try:
        for cells in reader:
            yield _csv_row(line, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFile(f"line {line}", f"is not CSV: {error}") from None


def _csv_row(line: int, cells: list[str]) -> TableRow:
    return TableRow(lambda index: f"line {line}, column {index + 1}", cells)


def _detect_dialect(content: str) -> type[csv.Dialect]:
    """Return the dialect of the heading: commas, semicolons or tabs.

    Spreadsheets of many locales write semicolons.
    """
    heading = content.lstrip().split("\n", 1)[0]

    class DetectedDialect(csv.excel):
        delimiter = max(",;\t", key=heading.count)

    return DetectedDialect


def xlsx_tables(content: bytes) -> Iterator[Iterator[TableRow]]:
    """Yield the table of each visible sheet. Raises ``UnreadableFile``."""
    _check_archive(content, "XLSX")
    try:
        book = openpyxl.load_workbook(
            io.BytesIO(content), read_only=True, data_only=True, keep_links=False
        )
        tables = list(_sheets(book))
        book.close()
    except Exception as error:  # openpyxl raises what its parts raise
        detail = " ".join(str(error).split())[:200]
        raise UnreadableFile("the file", f"is not XLSX: {detail}") from None
    for rows in tables:
        yield iter(rows)


def _sheets(book: openpyxl.Workbook) -> Iterator[list[TableRow]]:
    rows_left = _ROWS_READ
    for sheet in book.worksheets:
        if sheet.sheet_state == "visible" and rows_left:
            cells = sheet.iter_rows(max_row=rows_left, max_col=MAX_COLUMNS, values_only=True)
            rows = [_sheet_row(sheet.title, number, row) for number, row in enumerate(cells, 1)]
            rows_left -= len(rows)
            yield rows


def _sheet_row(title: str, number: int, cells: tuple[Any, ...]) -> TableRow:
    return TableRow(
        lambda index: f"sheet {title!r}, cell {get_column_letter(index + 1)}{number}",
        [_cell_text(cell) for cell in cells],
    )


def _cell_text(value: Any) -> str:
    """Return a cell as a person reads it: hours typed as ``1:30`` are a time there."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0")  # 0.1 + 0.2 in a formula is 0.3
    if isinstance(value, time):
        return f"{value.hour}:{value.minute:02}"
    if isinstance(value, timedelta):
        minutes = round(value.total_seconds() / 60)
        return f"{minutes // 60}:{minutes % 60:02}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def docx_tables(content: bytes) -> Iterator[Iterator[TableRow]]:
    """Yield the tables of a document, without those inside of others.

    Raises ``UnreadableFile``.
    """
    _check_archive(content, "DOCX")
    try:
        tables = docx.Document(io.BytesIO(content)).tables[:MAX_TABLES]
        # The rows of python-docx take quadratic time; those of its elements do not.
        rows = [list(_document_rows(number, each._tbl)) for number, each in enumerate(tables, 1)]
    except Exception as error:  # python-docx raises what its parts raise
        detail = " ".join(str(error).split())[:200]
        raise UnreadableFile("the file", f"is not DOCX: {detail}") from None
    for table in rows:
        yield iter(table)


def _document_rows(table: int, element: CT_Tbl) -> Iterator[TableRow]:
    for number, row in enumerate(element.tr_lst[:_ROWS_READ], start=1):
        cells: list[str] = []
        for cell in row.tc_lst[:MAX_COLUMNS]:
            span = max(1, min(cell.grid_span, MAX_COLUMNS))
            cells += [_document_text(cell), *[""] * (span - 1)]
        yield _document_row(table, number, cells)


def _document_row(table: int, number: int, cells: list[str]) -> TableRow:
    return TableRow(lambda index: f"table {table}, row {number}, cell {index + 1}", cells)


def _document_text(cell: CT_Tc) -> str:
    """Return the text of a cell; one that continues the cell above is empty."""
    if cell.vMerge == "continue":
        return ""
    return "\n".join(paragraph.text for paragraph in cell.findall(qn("w:p")))


def _check_archive(content: bytes, kind: str) -> None:
    """Check the parts of an archive before any is parsed.

    Raises ``UnreadableFile``.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            # zipfile never reads more of a part than the size that is checked here.
            size = sum(part.file_size for part in parts)
            if len(parts) > MAX_ARCHIVE_PARTS or size > MAX_UNCOMPRESSED_BYTES:
                raise UnreadableFile(
                    "the file",
                    f"unpacks to {len(parts)} parts of {size} bytes; at most {MAX_ARCHIVE_PARTS}"
                    f" parts of {MAX_UNCOMPRESSED_BYTES} bytes are read",
                )
            for part in parts:
                if part.filename.lower().endswith((".xml", ".rels", ".vml")) and (
                    _DOCUMENT_TYPE.search(archive.read(part))
                ):
                    raise UnreadableFile(
                        f"the part {part.filename[:100]!r}", "has a document type; none is read"
                    )
    except UnreadableFile:
        raise
    except Exception:  # zipfile raises what its parts raise: a bad offset is a ValueError
        raise UnreadableFile("the file", f"is not {kind}: it is no ZIP archive") from None
