"""Print results of commands: tables for people, JSON for programs.

No meaning is carried by colour alone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from homeroom.cli.group import LazyModule
from homeroom.errors import BadRequest
from homeroom.instant import to_rfc3339

if TYPE_CHECKING:
    from rich import box as rich_box
    from rich import console as rich_console
    from rich import table as rich_tables
    from rich import text as rich_text
else:
    rich_box = LazyModule("rich.box")
    rich_console = LazyModule("rich.console")
    rich_tables = LazyModule("rich.table")
    rich_text = LazyModule("rich.text")

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}Z")
_WEEK = re.compile(r"[0-9]{2}-W[0-9]{2}")
_LEAST_IMPORTANT = (
    *("HOST", "PID", "PRIORITY", "CHILDREN", "CREATED", "STARTED", "LIMIT", "CONCURRENCY"),
    *("QUEUE", "ATTEMPTS", "TRIES", "WORKERS", "LAST USED"),
)
"""Columns that a narrow terminal leaves out first, in this order."""
_MOST_IMPORTANT = frozenset({"STATE", "STATUS", "WAITING", "ACTIVE", "FAILED", "MISSED", "LATE"})
_shows_all_columns = False
_TABLE_WIDTH, _LEAST_WIDTH = 80, 16
_OPAQUE_FIELDS = frozenset({"data", "result", "progress", "queues"})
"""Members whose keys are those of a client or a partner; they are printed unchanged."""


def escape_control_characters(text: str) -> str:
    """Return text with control characters replaced by their codes, for a terminal."""
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


def format_instant(instant: int | None) -> str:
    """Return an instant (microseconds UTC) to the second; a dash for None."""
    return "-" if instant is None else to_rfc3339(instant)[:19].replace("T", " ") + "Z"


def truncate_line(text: str | None, max_length: int) -> str:
    """Return the first line of a text, cut to ``max_length``; a dash for no text."""
    if not text:
        return "-"
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= max_length else line[: max_length - 3] + "..."


def to_json_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields in the form of the HTTP API.

    Keys are camelCase, and instants (``*_at``) are written as in RFC 3339.
    """
    return {_camel_case(key): _json_value(key, value) for key, value in fields.items()}


def _camel_case(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _json_value(key: str, value: Any) -> Any:
    if key in _OPAQUE_FIELDS:
        return value
    if isinstance(value, int) and (key == "at" or key.endswith("_at")):
        return to_rfc3339(value)
    if isinstance(value, Mapping):
        return to_json_fields(value)
    if isinstance(value, list | tuple):
        return [to_json_fields(item) if isinstance(item, Mapping) else item for item in value]
    return value


def print_json(value: Any) -> None:
    """Print a value as JSON, over several lines only on a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=indent) + "\n")


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> rich_tables.Table:
    """Return a table for a terminal, with columns of numbers aligned to the right."""
    table = rich_tables.Table(box=rich_box.SIMPLE, header_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        is_numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        # Text may continue in the next line of its cell; an id or a time is of no use in pieces.
        is_text = any(" " in str(row[index]) and not _is_instant(row[index]) for row in rows)
        table.add_column(
            name,
            justify="right" if is_numeric else "left",
            overflow="fold",
            no_wrap=not is_text,
        )
    for row in rows:
        table.add_row(*(rich_text.Text(escape_control_characters(str(cell))) for cell in row))
    return table


def fitting_columns(
    columns: Sequence[str], rows: Sequence[Sequence[object]], width: int
) -> list[int]:
    """Return the indices of columns that fit into a terminal with ids unbroken.

    The least important ones are left out first; the first column always stays.
    """
    kept = list(range(len(columns)))
    console = rich_console.Console(width=10_000)
    for index in _by_importance(columns):
        shown = rich_table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows])
        if console.measure(shown).minimum <= width:
            break
        kept.remove(index)
    return kept


def _by_importance(columns: Sequence[str]) -> list[int]:
    """Return the indices of all columns but the first, the least important first."""

    def importance(index: int) -> tuple[int, int]:
        name = columns[index]
        if _WEEK.fullmatch(name):
            return 1, index  # the oldest week first
        if name in _LEAST_IMPORTANT:
            return 0, _LEAST_IMPORTANT.index(name)
        return (3 if name in _MOST_IMPORTANT else 2), -index

    return sorted(range(1, len(columns)), key=importance)


def _is_instant(cell: object) -> bool:
    return _INSTANT.fullmatch(str(cell)) is not None


def show_all_columns() -> None:
    """Print all columns of tables, however narrow the terminal is (``--wide``)."""
    global _shows_all_columns
    _shows_all_columns = True


def shrink_columns(
    columns: Sequence[str], rows: Sequence[Sequence[object]], names: Sequence[str]
) -> list[list[object]]:
    """Return rows that fit 80 columns, with texts of some columns cut.

    A column is cut to 16 characters at least, the first one first. ``--wide`` cuts nothing.
    """
    shown = [list(row) for row in rows]
    if _shows_all_columns or not rows:
        return shown
    widths = [
        max(len(columns[index]), *(len(str(row[index])) for row in rows))
        for index in range(len(columns))
    ]
    for name in names:
        index = columns.index(name)
        excess = sum(widths) + 2 * (len(columns) - 1) - _TABLE_WIDTH
        if excess > 0:
            widths[index] = min(widths[index], max(_LEAST_WIDTH, widths[index] - excess))
            for row in shown:
                row[index] = truncate_line(str(row[index]), widths[index])
    return shown


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as aligned text: one line per row, nothing cut or wrapped."""
    lines = [
        list(columns),
        *([escape_control_characters(str(cell)) for cell in row] for row in rows),
    ]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print a table, or the sentence ``empty`` if it has no rows."""
    if not rows:
        print_text(empty)
    elif sys.stdout.isatty():
        _print_rich_table(columns, rows)
    else:
        sys.stdout.write(plain_table(columns, rows))


def _print_rich_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    console = rich_console.Console()
    if _shows_all_columns:
        table = rich_table(columns, rows)
        needed = rich_console.Console(width=10_000).measure(table).maximum
        rich_console.Console(width=max(needed, console.width)).print(table)
        return
    kept = fitting_columns(columns, rows, console.width)
    console.print(rich_table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows]))
    hidden = [name for index, name in enumerate(columns) if index not in kept]
    if hidden:
        print_to_stderr(f"Not shown: {', '.join(hidden)}. Add --wide for all columns.")


def print_text(text: str) -> None:
    """Print lines of the result to standard output."""
    sys.stdout.write("".join(escape_control_characters(line) + "\n" for line in text.split("\n")))


def print_to_stderr(text: str) -> None:
    """Print lines about the result to standard error."""
    sys.stdout.flush()  # the two streams stay in order on a terminal
    sys.stderr.write("".join(escape_control_characters(line) + "\n" for line in text.split("\n")))


def print_file_fault(file: object, place: str, detail: str) -> None:
    """Print a fault of a file to standard error, with its place in the file."""
    print_to_stderr(
        f"{file}: {detail}" if place in {"#", "the file"} else f"{file}: {place}: {detail}"
    )


def pluralize(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 job``, ``2 jobs``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask a question on standard error; end the command unless the answer is yes.

    Raises ``BadRequest`` if standard input is closed, as in a script without ``--yes``.
    """
    if yes:
        return
    # typer.confirm writes a space to standard output even if it asks on standard error
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        print_to_stderr("")
        raise BadRequest(
            "The question got no answer, so nothing was changed.",
            hint="Add --yes to skip the question.",
        )
    if line.strip().lower() not in {"y", "yes"}:
        print_to_stderr("Nothing was changed.")
        raise typer.Exit(1)
