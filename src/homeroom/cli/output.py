"""Print what commands found: tables for people, JSON for programs; nothing is said by colour."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from homeroom.clock import to_rfc3339

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OPAQUE = frozenset({"data", "result", "progress", "queues"})
"""Members whose keys are somebody else's; they are printed as they are."""


def visible(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are shown by their codes."""
    return _CONTROL.sub(lambda hit: ascii(hit[0])[1:-1], text)


def moment(instant: int | None) -> str:
    """Return an instant (microseconds UTC) to the second, for people; a dash for none."""
    return "-" if instant is None else to_rfc3339(instant)[:19].replace("T", " ") + "Z"


def short(text: str | None, longest: int) -> str:
    """Return the first line of a text, cut to a number of characters; a dash for none."""
    if not text:
        return "-"
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= longest else line[: longest - 3] + "..."


def wire(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as the HTTP API writes them: camelCase keys, RFC 3339 instants (``*_at``)."""
    return {_camel(key): _wired(key, value) for key, value in fields.items()}


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _wired(key: str, value: Any) -> Any:
    if key in _OPAQUE:
        return value
    if isinstance(value, int) and (key == "at" or key.endswith("_at")):
        return to_rfc3339(value)
    if isinstance(value, Mapping):
        return wire(value)
    if isinstance(value, list | tuple):
        return [wire(item) if isinstance(item, Mapping) else item for item in value]
    return value


def print_json(value: Any) -> None:
    """Print a value as JSON, over several lines only on a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=indent) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table for a terminal; the columns of numbers are aligned to the right."""
    made = Table(box=SIMPLE, header_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(visible(str(cell))) for cell in row))
    return made


def plain(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as aligned text, for a pipe: one line a row, nothing cut or wrapped."""
    lines = [list(columns), *([visible(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> None:
    """Print a table, or a sentence where it has no rows."""
    if not rows:
        say(none)
    elif sys.stdout.isatty():
        Console().print(table(columns, rows))
    else:
        sys.stdout.write(plain(columns, rows))


def say(text: str) -> None:
    """Print lines that were asked for."""
    sys.stdout.write("".join(visible(line) + "\n" for line in text.split("\n")))


def note(text: str) -> None:
    """Print lines that go beside what was asked for, to standard error."""
    sys.stdout.flush()  # so that the two stay in order on a terminal
    sys.stderr.write("".join(visible(line) + "\n" for line in text.split("\n")))


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Return a number with its noun: ``1 job``, ``2 jobs``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
