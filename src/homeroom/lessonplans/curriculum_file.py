"""Parser of curriculum files: JSON, YAML, CSV, XLSX, DOCX; bounded (pure).

Every format yields the body of ``POST /api/v3/workflow``. All faults of a file are reported at
once, each with its line and column, or its cell, and in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from homeroom.errors import Invalid
from homeroom.lessonplans.curriculum_office import (
    UnreadableFile,
    csv_tables,
    docx_tables,
    xlsx_tables,
)
from homeroom.lessonplans.curriculum_parser import find_errors, path_words
from homeroom.lessonplans.curriculum_source import (
    HOUR_FIELDS,
    MAX_FILE_BYTES,
    CurriculumSource,
    FileFault,
    ValuePath,
)
from homeroom.lessonplans.curriculum_table import parse_hours, read_tables
from homeroom.lessonplans.curriculum_text import read_json, read_yaml

CurriculumFormat = Literal["json", "yaml", "csv", "xlsx", "docx"]
CURRICULUM_FORMATS: Mapping[str, CurriculumFormat] = {
    **{f".{form}": form for form in get_args(CurriculumFormat)},
    ".yml": "yaml",
}
MAX_FAULTS_SHOWN = 200
_VERBS = ("is ", "must ", "has ", "have ", "names ", "makes ")


def read_curriculum_file(
    content: bytes,
    form: CurriculumFormat,
    title: str,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the valid curriculum in a file as a body, with ids where it has none.

    ``title`` is the title of a table. ``options`` replace values of the file: fields of the
    curriculum and, under ``preferences``, of its preferences. Raises ``Invalid`` with every fault
    (``errors: [{pointer, detail}]``); a pointer is a line and column, or a cell.
    """
    source = _read(content, form, title)
    faults = list(source.faults)
    if isinstance(source.body, dict):
        _convert_hours(source.body)
        _fill_ids(source.body)
        _set_options(source, options or {})
    if source.body is not None:
        for path, detail in find_errors(source.body):
            faults.append(FileFault(source.place(path), _in_words(path, detail, source.headings)))
    if faults:
        raise _file_errors(sorted(faults, key=_numbers_of_place))
    assert isinstance(source.body, dict)  # it is valid
    return source.body


def _read(content: bytes, form: CurriculumFormat, title: str) -> CurriculumSource:
    if len(content) > MAX_FILE_BYTES:
        raise Invalid(f"The file has more than {MAX_FILE_BYTES} bytes.")
    try:
        if form == "xlsx":
            return read_tables(xlsx_tables(content), title)
        if form == "docx":
            return read_tables(docx_tables(content), title)
        text = content.decode("utf-8-sig")
        if form == "csv":
            return read_tables(csv_tables(text), title)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        detail = "is not UTF-8 text; save the file as UTF-8"
        return CurriculumSource(faults=[FileFault(f"line {line}", detail)])
    except UnreadableFile as error:
        return CurriculumSource(faults=[error.fault])
    return read_json(text) if form == "json" else read_yaml(text)


def _convert_hours(body: Mapping[str, Any]) -> None:
    """Replace hours that are written as text, such as 1:30, by numbers."""
    for module in _dicts(body, "modules"):
        for field in HOUR_FIELDS:
            if isinstance(module.get(field), str):
                module[field] = parse_hours(module[field])
        for outcome in _dicts(module, "outcomes"):
            if isinstance(outcome.get("hours"), str):
                outcome["hours"] = parse_hours(outcome["hours"])


def _fill_ids(body: Mapping[str, Any]) -> None:
    """Give each module and outcome without an id one that no other has."""
    modules = list(_dicts(body, "modules"))
    taken = {str(module["id"]) for module in modules if module.get("id")}
    taken_outcomes = {
        str(outcome["id"])
        for module in modules
        for outcome in _dicts(module, "outcomes")
        if outcome.get("id")
    }
    for number, module in enumerate(modules, start=1):
        if module.get("id") in (None, ""):
            module["id"] = _free_id(f"m{number}", taken)
        prefix = module["id"] if len(str(module["id"])) <= 100 else f"m{number}"
        for place, outcome in enumerate(_dicts(module, "outcomes"), start=1):
            if outcome.get("id") in (None, ""):
                outcome["id"] = _free_id(f"{prefix}.{place}", taken_outcomes)


def _free_id(wish: str, taken: set[str]) -> str:
    id, number = wish, 2
    while id in taken:
        id, number = f"{wish}-{number}", number + 1
    taken.add(id)
    return id


def _dicts(parent: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    items = parent.get(key)
    return (item for item in (items if isinstance(items, list) else ()) if isinstance(item, dict))


def _set_options(source: CurriculumSource, options: Mapping[str, Any]) -> None:
    """Set options in the body; their faults are in the command line."""
    body = source.body
    for field, value in options.items():
        if field != "preferences":
            body[field] = value
            source.places[(field,)] = "the command line"
            continue
        if not value or not isinstance(body.setdefault("preferences", {}) or {}, dict):
            continue
        body["preferences"] = {**(body["preferences"] or {}), **value}
        for name in value:
            source.places[("preferences", name)] = "the command line"


def _in_words(path: ValuePath, detail: str, headings: Mapping[str, str]) -> str:
    """Return a fault in words, such as ``module 2, outcome 1: text is required``."""
    words = path_words(path)
    if not words:
        return f"the file {detail}" if detail.startswith(_VERBS) else detail
    if isinstance(path[-1], str):
        words[-1] = headings.get(path[-1], words[-1])
    *around, last = words
    sentence = f"{last} {detail}" if detail.startswith(_VERBS) else f"{last}: {detail}"
    return f"{', '.join(around)}: {sentence}" if around else sentence


def _numbers_of_place(fault: FileFault) -> list[int]:
    """Return the line and the column, or the row, for sorting."""
    return [int(number) for number in re.findall(r"[0-9]{1,9}", fault.place)]


def _file_errors(faults: list[FileFault]) -> Invalid:
    first = faults[0]
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return Invalid(
        f"The file has {count}; the first: {first.place}: {first.detail}.",
        details={
            "errors": [
                {"pointer": each.place, "detail": each.detail, "code": "invalid"}
                for each in faults[:MAX_FAULTS_SHOWN]
            ],
            "errorCount": len(faults),
        },
    )
