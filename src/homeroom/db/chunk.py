"""Make one statement of many rows, so that the driver is called once for all of them (pure)."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

CHUNK = 128
"""Rows in one statement at most: 2.5 KB of memory a row stay with the connection, and 768 are not
faster (decision 0010). SQLite takes 32,766 values.
"""
_SIZES: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, CHUNK)
"""How many rows a statement may have: few texts to prepare, and few statements for any number."""

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
    start = 0
    while start < len(rows):
        size = _SIZES[bisect_right(_SIZES, len(rows) - start) - 1]
        part = rows[start : start + size]
        yield _with_rows(sql, size), list(chain.from_iterable(part))
        start += size


@lru_cache(maxsize=512)
def _with_keys(sql: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return sql.replace("{keys}", f"(VALUES {', '.join([row] * count)})")


def keyed(sql: str, keys: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield statements and values that fetch by many keys; ``{keys}`` stands for them.

    What a statement has more places for is filled up with nulls, which equal nothing.
    """
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        size, width = _SIZES[bisect_left(_SIZES, len(part))], len(part[0])
        values = list(chain.from_iterable(part))
        values += [None] * ((size - len(part)) * width)
        yield _with_keys(sql, size, width), values
