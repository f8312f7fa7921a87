"""The fast path of ingest: reads and writes of many rows by few driver calls.

Only ``progress`` and the batched reads of ``catalogue`` use this module; every other store uses the
plain methods of ``Tx``. The three rules that they need not know are stated here: columns of JSON
text (``json_row_sql``), text without NUL (``BulkTx.executemany``), and the end of a transaction's
reads (``BulkTx.reads_done``).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Generic, TypeVar

import msgspec

from homeroom.db.tx import Row, Tx

RowType = TypeVar("RowType")
ReadResult = TypeVar("ReadResult")

MAX_ROWS_PER_STATEMENT = 128
"""Most rows of one statement: the connection retains 2.5 KB of memory a row, and 768 rows are not
faster (decision 0010). SQLite accepts 32,766 values.
"""
_ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, MAX_ROWS_PER_STATEMENT)
"""Row counts of the statements in use: few texts to prepare, and few statements for any number."""

_VALUES_ROW = re.compile(r"VALUES \((?:\?, )*\?\)")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


@dataclass(frozen=True, slots=True)
class BatchedRead(Generic[ReadResult]):
    """A keyed SELECT and the function that makes a result of its rows.

    Packages return such reads so that those of several packages can be sent together.
    """

    row_type: type[Any]
    sql: str
    keys: Sequence[Sequence[Any]]
    parse: Callable[[list[Any]], ReadResult]


class BulkTx(Tx):
    """A transaction with the methods of the fast path. Every transaction is one."""

    def __init__(self, now: int) -> None:
        """Start at ``now`` (microseconds UTC), the instant of all rows of this commit."""
        super().__init__(now)
        self.on_reads_done: Callable[[], None] | None = None
        """Called by ``reads_done``."""

    @abstractmethod
    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return the number of changed rows.

        ``nul_free`` promises that no text in the rows holds a NUL character, which PostgreSQL
        cannot store; without it every column is searched for one.
        """

    @abstractmethod
    async def fetch_by_keys_into(
        self, of: type[RowType], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[RowType]:
        """Run a SELECT as ``fetch_by_keys`` does, and return rows of a type.

        ``of`` is a tuple, or a msgspec type that is encoded as an array. Columns of JSON text
        arrive decoded; ``json_row_sql`` states their names and places.
        """

    async def fetch_by_keys(self, sql: str, keys: Sequence[Sequence[Any]]) -> list[Row]:
        """Run a SELECT for any number of keys at once, and return tuples."""
        return await self.fetch_by_keys_into(Row, sql, keys)

    async def fetch_batch(self, read: BatchedRead[ReadResult]) -> ReadResult:
        """Return the result of one batched read."""
        return read.parse(await self.fetch_by_keys_into(read.row_type, read.sql, read.keys))

    async def fetch_many(self, *reads: BatchedRead[Any]) -> list[Any]:
        """Return the results of several batched reads.

        PostgreSQL answers them in one round trip and from one snapshot.
        """
        return [await self.fetch_batch(read) for read in reads]

    def reads_done(self) -> None:
        """Announce that only writes follow: its writer may begin another transaction.

        A hint for databases that run several transactions at a time (decision 0013).
        """
        if self.on_reads_done is not None:
            self.on_reads_done()


def bulk_tx(tx: Tx) -> BulkTx:
    """Return a transaction as one that has the methods of the fast path."""
    if not isinstance(tx, BulkTx):
        raise TypeError(f"{type(tx).__name__} has no methods of the fast path")
    return tx


def multi_row_statements(
    sql: str, rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield statements and values that have the effect of ``sql`` for every row.

    A statement other than ``INSERT ... VALUES (?, ...)`` is yielded once for every row.
    """
    if _VALUES_ROW.search(sql) is None:
        for row in rows:
            yield sql, row
        return
    start = 0
    while start < len(rows):
        size = _ROW_COUNTS[bisect_right(_ROW_COUNTS, len(rows) - start) - 1]
        part = rows[start : start + size]
        yield _repeat_values_row(sql, size), list(chain.from_iterable(part))
        start += size


def keyed_statements(
    sql: str, keys: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield statements and values that fetch by many keys, given as ``{keys}``.

    Unused places of a statement are filled with nulls, which equal nothing.
    """
    for start in range(0, len(keys), MAX_ROWS_PER_STATEMENT):
        part = keys[start : start + MAX_ROWS_PER_STATEMENT]
        size, width = _ROW_COUNTS[bisect_left(_ROW_COUNTS, len(part))], len(part[0])
        values = list(chain.from_iterable(part))
        values += [None] * ((size - len(part)) * width)
        yield _fill_in_keys(sql, size, width), values


def json_row_sql(names: Sequence[str], array: str) -> str:
    """Return the SQL expression that makes a JSON array of one row.

    ``array`` formats the list of columns. Columns named ``..._json`` must come last: they hold JSON
    already and are appended as text, because the database would take long to parse them.
    """
    json_names = [name for name in names if name.endswith("_json")]
    plain = ", ".join(names[: len(names) - len(json_names)])
    row = array.format(plain)
    if json_names:
        row = " || ',' || ".join([f"rtrim({row}, ']')", *json_names]) + " || ']'"
    return row


def json_rows_decoder(of: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a list of rows of a type, cached by type."""
    decoder = _decoders.get(of)
    if decoder is None:
        decoder = _decoders[of] = msgspec.json.Decoder(list[of])
    return decoder


@lru_cache(maxsize=512)
def _repeat_values_row(sql: str, count: int) -> str:
    row = _VALUES_ROW.search(sql)
    assert row is not None
    rows = ", ".join([row[0].removeprefix("VALUES ")] * count)
    return f"{sql[: row.start()]}VALUES {rows}{sql[row.end() :]}"


@lru_cache(maxsize=512)
def _fill_in_keys(sql: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return sql.replace("{keys}", f"(VALUES {', '.join([row] * count)})")
