"""Read the file of a curriculum: JSON, YAML or CSV, bounded, with the place of what is wrong.

All three come to the body of ``POST /api/v3/workflow``, which ``curriculum.parse`` then reads
(pure).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from homeroom.errors import Invalid

MAX_BYTES = 1024 * 1024
Format = Literal["json", "yaml", "csv"]
FORMATS: Mapping[str, Format] = {
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".csv": "csv",
}
COLUMNS = ("module", "hours", "outcome")
OPTIONAL_COLUMNS = ("module_id", "outcome_id", "bloom", "notes")
_HEADINGS = {
    "modulename": "module",
    "moduletitle": "module",
    "moduleid": "module_id",
    "contacthours": "hours",
    "outcometext": "outcome",
    "learningoutcome": "outcome",
    "outcomeid": "outcome_id",
    "bloomlevel": "bloom",
}
MAX_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class _Fault:
    place: str
    detail: str


def read(text: bytes, form: Format, title: str) -> Any:
    """Return the body that a file holds; ``title`` stands in where a CSV file names none.

    Raises ``Invalid`` with every fault that keeps it from being read, and its line.
    """
    if len(text) > MAX_BYTES:
        raise Invalid(f"The file has more than {MAX_BYTES} bytes.")
    try:
        content = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _invalid([_Fault(f"line {line}", "is not UTF-8 text")]) from None
    if form == "json":
        return _json(content)
    if form == "yaml":
        return _yaml(content)
    return _csv(content, title)


def _json(content: str) -> Any:
    try:
        return json.loads(content, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _invalid([_Fault(place, f"is not JSON: {error.msg}")]) from None
    except (ValueError, RecursionError) as error:
        raise _invalid([_Fault("line 1", f"is not JSON: {error}")]) from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


class _Loader(yaml.SafeLoader):
    """YAML as JSON would have it: no aliases (they can grow without bound), no repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs
            raise yaml.constructor.ConstructorError(None, None, "aliases are not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# Days and times stay text, as they are in JSON.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(content: str) -> Any:
    try:
        return yaml.load(content, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "line 1" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
        raise _invalid([_Fault(place, f"is not YAML: {error.problem}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _invalid([_Fault("line 1", f"is not YAML: {error}")]) from None


def _csv(content: str, title: str) -> Any:
    """Read a table with one row an outcome; a module's rows name it, its hours once or always."""
    reader = csv.reader(io.StringIO(content, newline=""), dialect=_dialect(content), strict=True)
    faults: list[_Fault] = []
    modules: list[dict[str, Any]] = []
    names: list[str] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not names:
                names = _headings(row, faults)
                if faults:
                    break
                continue
            if len(faults) > MAX_ROWS or reader.line_num > MAX_ROWS:
                faults.append(_Fault(f"line {reader.line_num}", f"is beyond row {MAX_ROWS}"))
                break
            _add_row(modules, names, row, f"line {reader.line_num}", faults)
    except csv.Error as error:
        faults.append(_Fault(f"line {reader.line_num}", f"is not CSV: {error}"))
    if not names and not faults:
        faults.append(_Fault("line 1", f"needs the columns {', '.join(COLUMNS)}"))
    for module in modules:
        line = module.pop("line")
        if module["contactHours"] is None:
            faults.append(_Fault(line, f"hours: the module {module['title']!r} has none"))
    if faults:
        raise _invalid(faults)
    return {"title": title, "modules": modules}


def _dialect(content: str) -> type[csv.Dialect]:
    """Return commas, or semicolons as spreadsheets of many countries write them, or tabs."""
    heading = content.lstrip().split("\n", 1)[0]

    class Found(csv.excel):
        delimiter = max(",;\t", key=heading.count)

    return Found


def _headings(row: list[str], faults: list[_Fault]) -> list[str]:
    names = []
    for cell in row:
        name = cell.strip().lower().replace(" ", "_").replace("-", "_")
        names.append(_HEADINGS.get(name.replace("_", ""), name))
    known = (*COLUMNS, *OPTIONAL_COLUMNS)
    for name in names:
        if name not in known:
            faults.append(
                _Fault("line 1", f"has the unknown column {name!r}; known are {', '.join(known)}")
            )
    for name in COLUMNS:
        if name not in names:
            faults.append(_Fault("line 1", f"lacks the column {name}"))
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.append(_Fault("line 1", f"has the column {name} twice"))
    return names


def _add_row(
    modules: list[dict[str, Any]],
    names: list[str],
    row: list[str],
    line: str,
    faults: list[_Fault],
) -> None:
    if len(row) > len(names):
        faults.append(_Fault(line, f"has {len(row)} cells; the heading has {len(names)}"))
    cells = {name: cell.strip() for name, cell in zip(names, row, strict=False)}
    title = cells.get("module", "")
    if not title and modules:
        title = modules[-1]["title"]
    hours = _hours(cells.get("hours", ""), line, faults)
    if not modules or title != modules[-1]["title"]:
        modules.append(
            {
                "line": line,
                "id": cells.get("module_id") or f"m{len(modules) + 1}",
                "title": title,
                "contactHours": hours,
                "outcomes": [],
                "notes": cells.get("notes") or None,
            }
        )
    module = modules[-1]
    if hours is not None and module["contactHours"] is None:
        module["contactHours"] = hours
    elif hours is not None and hours != module["contactHours"]:
        faults.append(
            _Fault(line, f"hours: {title!r} has {module['contactHours']} hours in its first row")
        )
    outcome: dict[str, Any] = {
        "id": cells.get("outcome_id") or f"{module['id']}.{len(module['outcomes']) + 1}",
        "text": cells.get("outcome", ""),
    }
    if cells.get("bloom"):
        outcome["bloomLevel"] = cells["bloom"]
    if not outcome["text"]:
        faults.append(_Fault(line, "outcome: must be text that is not blank"))
    module["outcomes"].append(outcome)


def _hours(text: str, line: str, faults: list[_Fault]) -> float | None:
    if not text:
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        faults.append(_Fault(line, f"hours: {text[:40]!r} is not a number"))
        return 0.25


def _invalid(faults: list[_Fault]) -> Invalid:
    first = faults[0]
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return Invalid(
        f"The file has {count}; the first: {first.place}: {first.detail}.",
        details={
            "errors": [
                {"pointer": each.place, "detail": each.detail, "code": "invalid"}
                for each in faults[:50]
            ],
            "errorCount": len(faults),
        },
    )
