"""Make one statement of many rows, so that the driver is called once for all of them (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

CHUNK = 512
"""Rows in one statement. Alone, more than 64 gain nothing; beside a busy event loop every statement
waits for the interpreter's lock once or twice.
"""

_ONE_ROW = re.compile(r"VALUES \((?:\?, )*\?\)")


@lru_cache(maxsize=512)
def _with_rows(sql: str, count: int) -> str:
    row = _ONE_ROW.search(sql)
    assert row is not None
    more = ", ".join([row[0].removeprefix("VALUES ")] * count)
    return f"{sql[: row.start()]}VALUES {more}{sql[row.end() :]}"


def multi_row(sql: str, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield statements and values that do for many rows what ``sql`` does for one.

    A statement other than ``INSERT ... VALUES (?, ...)`` is yielded once for every row.
    """
    if _ONE_ROW.search(sql) is None:
        for row in rows:
            yield sql, row
        return
    for part in _parts(rows):
        yield _with_rows(sql, len(part)), list(chain.from_iterable(part))


@lru_cache(maxsize=512)
def _with_keys(sql: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return sql.replace("{keys}", f"(VALUES {', '.join([row] * count)})")


def keyed(sql: str, keys: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield statements and values that fetch by many keys; ``{keys}`` stands for them."""
    for part in _parts(keys):
        yield _with_keys(sql, len(part), len(part[0])), list(chain.from_iterable(part))


def _parts(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """Cut rows into chunks of 64, and the rest into powers of two: few statements to prepare."""
    start, size = 0, CHUNK
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size
