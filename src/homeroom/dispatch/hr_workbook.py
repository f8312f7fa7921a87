"""The HR report as a workbook; loaded on demand, because openpyxl is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

_TIMES = frozenset({"completedAt", "validUntil"})
_WIDTHS = {"courseTitle": 40, "credentialUrl": 50, "completedAt": 20, "validUntil": 20}
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that no XLSX file can hold."""


class WorkbookFile:
    """A workbook with one sheet: times as dates in UTC, texts never as formulas.

    Rows are collected first, because openpyxl cannot give up a sheet that it has begun.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        """Write into a file, with these columns."""
        self._file, self._columns = file, columns
        self._rows: list[tuple[Any, ...]] = []
        self._book = Workbook(write_only=True)
        self._sheet = self._book.create_sheet("HR")

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""
        self._rows += [tuple(record[name] for name in self._columns) for record in records]

    def finish(self) -> None:
        """Write the file."""
        self._sheet.freeze_panes = "A2"
        for position, name in enumerate(self._columns, start=1):
            letter = get_column_letter(position)
            self._sheet.column_dimensions[letter].width = _WIDTHS.get(name, 16)
        heading = [WriteOnlyCell(self._sheet, name) for name in self._columns]
        for cell in heading:
            cell.font = Font(bold=True)
        self._sheet.append(heading)
        for row in self._rows:
            self._sheet.append(
                [self._cell(name, value) for name, value in zip(self._columns, row, strict=True)]
            )
        self._book.save(self._file)

    def _cell(self, name: str, value: Any) -> Any:
        if value is None or not isinstance(value, str):
            return value
        if name in _TIMES:  # a spreadsheet has no time zones, and whole seconds are enough
            moment = datetime.fromisoformat(value).replace(tzinfo=None, microsecond=0)
            cell = WriteOnlyCell(self._sheet, moment)
            cell.number_format = "yyyy-mm-dd hh:mm:ss"
            return cell
        cell = WriteOnlyCell(self._sheet, _NOT_IN_XML.sub("", value))
        cell.data_type = "s"  # openpyxl makes a formula of a text that begins with "="
        return cell
