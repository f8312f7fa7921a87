"""Parser of curricula in tables, one row per outcome (pure).

Headings are English or German. CSV, XLSX and DOCX files yield such tables. Values are not validated
here, so that their faults are reported together with all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homeroom.lessonplans.curriculum_source import (
    MAX_ROWS,
    CurriculumSource,
    FileFault,
    ValuePath,
)

_MODULE_FIELDS = {
    "hours": "contactHours",
    "notes": "notes",
    "review_hours": "reviewHours",
    "assessment_hours": "assessmentHours",
    "field_practice_hours": "fieldPracticeHours",
}
_OUTCOME_FIELDS = {
    "outcome_id": "id",
    "outcome": "text",
    "bloom": "bloomLevel",
    "domain": "domain",
    "outcome_hours": "hours",
    "weight": "weight",
    "criteria": "criteria",
    "prerequisites": "prerequisites",
}
_LISTS = ("criteria", "prerequisites")
REQUIRED_COLUMNS = ("module", "hours", "outcome")
COLUMNS: Mapping[str, Sequence[str]] = {
    "module": ("module", "Modul", "module name", "module title", "Modulname", "Modultitel"),
    "hours": (
        *("hours", "Stunden", "contact hours", "module hours"),
        *("Kontaktstunden", "Modulstunden", "Unterrichtsstunden"),
    ),
    "outcome": (
        *("outcome", "Lernziel", "outcome text", "learning outcome"),
        *("Lernergebnis", "Kompetenz"),
    ),
    "module_id": ("module_id", "Modul-ID", "Modulnummer"),
    "outcome_id": ("outcome_id", "Lernziel-ID", "Lernzielnummer"),
    "bloom": ("bloom", "Taxonomiestufe", "bloom level", "level", "Bloom-Stufe", "Stufe", "Niveau"),
    "domain": ("domain", "Bereich", "Domäne", "Lernbereich"),
    "notes": ("notes", "Anmerkungen", "Notizen", "Bemerkungen", "Hinweise"),
    "outcome_hours": ("outcome_hours", "Stunden des Lernziels", "Lernzielstunden"),
    "weight": ("weight", "Gewicht", "Gewichtung"),
    "criteria": ("criteria", "Kriterien", "assessment criteria", "Bewertungskriterien"),
    "prerequisites": ("prerequisites", "Voraussetzungen"),
    "review_hours": ("review_hours", "Stunden Wiederholung", "Wiederholungsstunden"),
    "assessment_hours": ("assessment_hours", "Stunden Prüfung", "Prüfungsstunden"),
    "field_practice_hours": ("field_practice_hours", "Stunden Praxis", "Praxisstunden"),
}
"""The columns and their headings: English, German, then others that are read.

``hours`` are the module's; ``outcome_hours`` those of one outcome. Cells of ``criteria`` and
``prerequisites`` hold several, separated by a bar or a line break.
"""
_GERMAN_VALUES = {
    "bloom": {
        **dict.fromkeys(("erinnern", "wissen", "kennen"), "remember"),
        "verstehen": "understand",
        "anwenden": "apply",
        "analysieren": "analyze",
        **dict.fromkeys(("bewerten", "beurteilen", "evaluieren"), "evaluate"),
        **dict.fromkeys(("erschaffen", "gestalten", "entwickeln"), "create"),
    },
    "domain": {
        **dict.fromkeys(("kognitiv", "wissen"), "cognitive"),
        **dict.fromkeys(("psychomotorisch", "fertigkeit", "fertigkeiten"), "psychomotor"),
        **dict.fromkeys(("affektiv", "haltung", "haltungen"), "affective"),
    },
}


@dataclass(frozen=True, slots=True)
class TableRow:
    """Cells of a row, and the function that gives the place of each, counted from 0."""

    place: Callable[[int], str]
    cells: Sequence[str]


def read_tables(tables: Iterable[Iterable[TableRow]], title: str) -> CurriculumSource:
    """Return the body in tables; those without headings of a curriculum are skipped.

    Rows of one module need not be neighbours: they have the same ``module_id`` or, without one,
    the same title. An empty ``module`` cell continues the module of the row above.
    """
    source = CurriculumSource(body={"title": title, "modules": []})
    reader = _TableReader(source)
    first_faults: list[FileFault] = []
    is_found = False
    rows_left = MAX_ROWS
    for table in tables:
        rows = (row for row in table if any(cell.strip() for cell in row.cells))
        heading = next(rows, None)
        if heading is None:
            continue
        names = [_column(cell) for cell in heading.cells]
        faults = _heading_faults(heading, names)
        is_curriculum = sum(name in REQUIRED_COLUMNS for name in names) >= 2
        if faults and not is_curriculum:
            first_faults = first_faults or faults
            continue
        is_found = True
        source.faults += faults
        if faults:
            continue
        reader.headings(names, heading.cells)
        for row in rows:
            if rows_left == 0:
                source.faults.append(FileFault(row.place(0), f"is beyond row {MAX_ROWS}"))
                break
            rows_left -= 1
            reader.add(names, row)
    if not is_found:
        needed = f"needs a table with the columns {', '.join(REQUIRED_COLUMNS)}"
        source.faults += first_faults or [FileFault("line 1", needed)]
    if source.faults and not source.body["modules"]:
        source.body = None
    return source


def parse_hours(text: str) -> float | int | str:
    """Return hours as a number: ``1,5`` and ``1:30`` are 1.5; other text stays."""
    text = text.strip()
    if clock := re.fullmatch(r"([0-9]{1,4}):([0-5][0-9])(?::00)?", text):
        return round(int(clock[1]) + int(clock[2]) / 60, 4)
    if re.fullmatch(r"[-+]?(?:[0-9]{1,12}(?:[.,][0-9]{0,12})?|[.,][0-9]{1,12})", text):
        number = float(text.replace(",", "."))
        return int(number) if number.is_integer() else number
    return text


def _normalize(heading: str) -> str:
    return re.sub(r"[\W_]+", "", heading.casefold())


_COLUMN_OF = {
    _normalize(heading): column for column, headings in COLUMNS.items() for heading in headings
}


def _column(heading: str) -> str | None:
    return _COLUMN_OF.get(_normalize(heading))


def _heading_faults(heading: TableRow, names: Sequence[str | None]) -> list[FileFault]:
    faults = []
    for index, (name, cell) in enumerate(zip(names, heading.cells, strict=True)):
        if name is None and cell.strip():
            detail = f"unknown column {cell.strip()[:60]!r}; known are {', '.join(COLUMNS)}"
            faults.append(FileFault(heading.place(index), detail))
        elif name is not None and name in names[:index]:
            faults.append(FileFault(heading.place(index), f"the column {name} is there twice"))
    for name in REQUIRED_COLUMNS:
        if name not in names:
            faults.append(FileFault(heading.place(0), f"the column {name} is missing"))
    return faults


class _TableReader:
    """Collects the modules of all rows in a source."""

    def __init__(self, source: CurriculumSource) -> None:
        self._source = source
        self._modules: list[dict[str, Any]] = source.body["modules"]
        self._by_id: dict[str, int] = {}
        self._by_title: dict[str, int] = {}
        self._current: int | None = None

    def headings(self, names: Sequence[str | None], cells: Sequence[str]) -> None:
        """Keep the file's names of the fields for the words of faults."""
        fields = {**_MODULE_FIELDS, **_OUTCOME_FIELDS, "module": "title"}
        del fields["outcome_id"], fields["outcome_hours"]  # both fields have two meanings
        self._source.headings = {
            fields[name]: cell.strip()
            for name, cell in zip(names, cells, strict=True)
            if name in fields
        }

    def add(self, names: Sequence[str | None], row: TableRow) -> None:
        """Add the outcome of a row to its module."""
        extra = [index for index, cell in enumerate(row.cells) if cell.strip()]
        if extra and extra[-1] >= len(names):
            detail = f"the row has {extra[-1] + 1} cells; the heading has {len(names)}"
            self._fault(row, extra[-1], detail)
        index_of = {name: index for index, name in enumerate(names) if name is not None}
        cells = {
            name: cell.strip()
            for name, cell in zip(names, row.cells, strict=False)
            if name is not None
        }
        module_index = self._module(cells, row, index_of)
        path: ValuePath = ("modules", module_index)
        module = self._modules[module_index]
        for column, field in _MODULE_FIELDS.items():
            if not cells.get(column):
                continue
            value = cells[column] if column == "notes" else parse_hours(cells[column])
            place = row.place(index_of[column])
            if field not in module:
                module[field] = value
                self._source.places[(*path, field)] = place
            elif column == "hours" and _differ(module[field], value):
                first = self._source.places[(*path, field)]
                detail = f"the module has {module[field]} hours at {first}"
                self._source.faults.append(FileFault(place, detail))
        self._add_outcome(cells, row, index_of, path)

    def _module(self, cells: Mapping[str, str], row: TableRow, index_of: Mapping[str, int]) -> int:
        """Return the index of the row's module, which is added where it is new."""
        id, title = cells.get("module_id", ""), cells.get("module", "")
        key = _normalize(title)
        if not id and not title and self._current is not None:
            return self._current
        index = self._by_id.get(id) if id else self._by_title.get(key)
        if index is None and id and title and not self._has_id(self._by_title.get(key)):
            index = self._by_title.get(key)
        if index is None:
            index = len(self._modules)
            self._modules.append({**({"id": id} if id else {}), "title": title, "outcomes": []})
            self._source.places[("modules", index)] = row.place(index_of["module"])
            for field, column in (("id", "module_id"), ("title", "module")):
                if column in index_of:
                    place = row.place(index_of[column])
                    self._source.places[("modules", index, field)] = place
        module = self._modules[index]
        if id:
            module["id"] = id
            self._by_id[id] = index
        if title and _normalize(str(module["title"])) != key:
            detail = f"the module {id!r} has the title {module['title'][:60]!r} in an earlier row"
            self._fault(row, index_of["module"], detail)
        if key:
            self._by_title[key] = index
        self._current = index
        return index

    def _has_id(self, index: int | None) -> bool:
        return index is not None and "id" in self._modules[index]

    def _add_outcome(
        self,
        cells: Mapping[str, str],
        row: TableRow,
        index_of: Mapping[str, int],
        path: ValuePath,
    ) -> None:
        outcomes: list[dict[str, Any]] = self._modules[int(path[1])]["outcomes"]
        path = (*path, "outcomes", len(outcomes))
        self._source.places[path] = row.place(index_of["outcome"])
        outcome: dict[str, Any] = {"text": ""}
        for column, field in _OUTCOME_FIELDS.items():
            if column not in index_of:
                continue
            self._source.places[(*path, field)] = row.place(index_of[column])
            if cells.get(column):
                outcome[field] = _cell_value(column, cells[column])
        outcomes.append(outcome)

    def _fault(self, row: TableRow, index: int, detail: str) -> None:
        self._source.faults.append(FileFault(row.place(index), detail))


def _differ(first: Any, second: Any) -> bool:
    """Return whether two hours differ; text that is no number is a fault of its own."""
    return first != second and not isinstance(first, str) and not isinstance(second, str)


def _cell_value(column: str, cell: str) -> Any:
    if column in ("outcome_hours", "weight"):
        return parse_hours(cell)
    if column in _LISTS:
        return list(_split(cell))
    return _GERMAN_VALUES.get(column, {}).get(cell.casefold(), cell)


def _split(cell: str) -> Iterator[str]:
    return (item.strip() for item in re.split(r"[|\n]", cell) if item.strip())
