"""A transaction, the same for SQLite and PostgreSQL.

Every store is given a ``Tx``, so that one commit can span packages. A statement is either SQL text
with ``?`` placeholders that both databases understand, or a SQLAlchemy Core construct. Rows are
tuples; ``fetch_into`` and ``insert`` map them to types by the names of their columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any, Literal, TypeVar

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import registry
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import LRUCache

from homeroom.db.tables import OnConflict, insert_rows, insert_sql, record_reader

Statement = str | ClauseElement
Row = tuple[Any, ...]
RecordType = TypeVar("RecordType")
CounterKey = tuple[str, tuple[str, ...]]
"""The name of a counter and the values of its labels."""
PERSON_TOPIC = "person"
"""The topic of ``Tx.notify_about``; its ids are ``topic/user``."""


class Tx(ABC):
    """An open transaction: all of it is committed together, or none."""

    dialect: Literal["sqlite", "postgresql"]

    def __init__(self, now: int) -> None:
        """Start at ``now`` (microseconds UTC), the instant of all rows of this commit."""
        self.now = now
        self.topics: list[tuple[str, str]] = []
        self.counts: dict[CounterKey, float] = {}
        self._commit_callbacks: list[Callable[[], None]] = []
        self._last_inserts: dict[Table, dict[object, None]] = {}

    @abstractmethod
    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return the number of changed rows."""

    @abstractmethod
    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for every row of values and return the number of changed rows.

        An ``INSERT ... VALUES (?, ...)`` may be sent with many rows at a time, so no two rows of
        one call may have the same key in an ``ON CONFLICT DO UPDATE``.
        """

    @abstractmethod
    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""

    @abstractmethod
    async def fetch_named(
        self, statement: Statement, values: Sequence[Any] = ()
    ) -> tuple[tuple[str, ...], list[Row]]:
        """Run a statement and return the names of its columns and all its rows."""

    @abstractmethod
    async def fetch_by_keys(self, sql: str, keys: Sequence[Sequence[Any]]) -> list[Row]:
        """Run a SELECT for any number of keys at once, given as ``{keys}``.

        The columns of ``{keys}`` are ``column1``, ``column2``, ...: ``FROM {keys} AS k CROSS JOIN t
        WHERE t.a = k.column1``, where CROSS JOIN makes SQLite iterate over the keys. The statement
        must use every key column and give each selected column a name of its own. Selected values
        are text, integers and nulls.
        """

    async def fetch_one(self, statement: Statement, values: Sequence[Any] = ()) -> Row | None:
        """Return the first row of a statement, or None."""
        rows = await self.fetch(statement, values)
        return rows[0] if rows else None

    async def fetch_into(
        self, of: type[RecordType], statement: Statement, values: Sequence[Any] = ()
    ) -> list[RecordType]:
        """Run a statement and return its rows as records, column by field name.

        The record type is a dataclass or Struct; ``homeroom.db.tables`` converts the columns.
        Raises TypeError for a field that has neither a column nor a default.
        """
        columns, rows = await self.fetch_named(statement, values)
        return list(map(record_reader(of, columns), rows)) if rows else []

    async def fetch_one_into(
        self, of: type[RecordType], statement: Statement, values: Sequence[Any] = ()
    ) -> RecordType | None:
        """Return the first row of a statement as ``fetch_into`` does, or None."""
        records = await self.fetch_into(of, statement, values)
        return records[0] if records else None

    async def insert(
        self,
        table: Table,
        records: Iterable[object],
        *,
        on_conflict: OnConflict = "fail",
        keep: Collection[str] = (),
        **common: Any,
    ) -> int:
        """Insert records, column by field name; return the number of changed rows.

        ``common`` gives columns that are the same in every row, as they are stored. ``ignore``
        skips records whose key exists; ``update`` writes the new values over the row of the same
        primary key, except the columns in ``keep``. No two records may then have the same key.
        """
        columns, rows = insert_rows(table, records, common)
        if not rows:
            return 0
        sql = insert_sql(table, columns, on_conflict, tuple(keep))
        if len(rows) == 1:
            return await self.execute(sql, rows[0])
        return await self.executemany(sql, rows)

    def insert_last(self, table: Table, records: Iterable[object]) -> None:
        """Insert records just before the commit, equal ones once.

        All records of a table are one statement. For rows that many functions add and that this
        transaction does not read.
        """
        if distinct := dict.fromkeys(records):
            self._last_inserts.setdefault(table, {}).update(distinct)

    async def finish(self) -> None:
        """Insert the records of ``insert_last``; the database calls this before COMMIT."""
        for table, records in self._last_inserts.items():
            await self.insert(table, records)

    async def lock(self, kind: str, ids: Collection[str] | None = None) -> None:
        """Wait for a lock and hold it until the end of this transaction.

        For rows that are read and then written, where there may be no row to lock yet. Without
        ``ids`` everything of that kind is locked. SQLite has one writer and needs no lock.
        """
        return

    @property
    def row_lock(self) -> str:
        """Return the clause that locks the rows of a SELECT against other changes."""
        return " FOR UPDATE" if self.dialect == "postgresql" else ""

    def notify(self, topic: str, id: str) -> None:
        """Publish, after the commit, that ``id`` of ``topic`` changed.

        It is a hint and may be lost; nothing that must happen may depend on it.
        """
        self.topics.append((topic, id))

    def notify_about(self, user_id: str, topic: str) -> None:
        """Publish, after the commit, that a record of ``topic`` about a person changed.

        For streams to callers who see some people only: they get the topic without an id.
        """
        self.topics.append((PERSON_TOPIC, f"{topic}/{user_id}"))

    def count(self, counter: str, *labels: str, amount: float = 1) -> None:
        """Add to a counter of this process, once this transaction is committed.

        ``homeroom.monitoring.counters`` declares the counters and the order of their labels.
        """
        key = (counter, labels)
        self.counts[key] = self.counts.get(key, 0) + amount

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run a callback after the commit; it is dropped if the transaction fails."""
        self._commit_callbacks.append(call)

    def commit_callbacks(self) -> Iterable[Callable[[], None]]:
        """Return the callbacks of ``after_commit`` for the database that runs them."""
        return self._commit_callbacks


_DIALECT_NAMES = {
    "sqlite": ("sqlite", "qmark"),
    "postgresql": ("postgresql.asyncpg", "numeric_dollar"),
}


_COMPILED_STATEMENTS = 500
_compiled: LRUCache[Any, Any] = LRUCache(_COMPILED_STATEMENTS)
"""Compiled statements by their form. To compile takes 0.2 ms, to find one 0.01 to 0.06."""


def render_sql(
    statement: Statement,
    values: Sequence[Any],
    dialect: Literal["sqlite", "postgresql"] = "sqlite",
) -> tuple[str, Sequence[Any]]:
    """Return the SQL text of a statement and its values; text passes unchanged.

    A Core construct carries its own values, so ``values`` must be empty for one. The private parts
    of SQLAlchemy are used here only; ``tests/unit/db/test_render_sql.py`` compares their results
    with those of the documented way.
    """
    if isinstance(statement, str):
        return statement, values
    # As SQLAlchemy's own connections do it: a statement of the same form is compiled once.
    compiled, extracted, params, _ = statement._compile_w_cache(
        _load_dialect(dialect), compiled_cache=_compiled, column_keys=[]
    )
    assert isinstance(compiled, SQLCompiler)
    by_name = compiled.construct_params(params, extracted_parameters=extracted, escape_names=False)
    if compiled.post_compile_params:  # lists, which have a placeholder for each of their values
        expanded = compiled._process_parameters_for_postcompile(by_name)
        return expanded.statement, expanded.positional_parameters
    return compiled.string, [by_name[key] for key in compiled.positiontup or ()]


@cache
def _load_dialect(name: str) -> Dialect:
    """Return a dialect, loaded on first use: that of PostgreSQL takes some memory."""
    entry_point, paramstyle = _DIALECT_NAMES[name]
    dialect: Dialect = registry.load(entry_point)(paramstyle=paramstyle)
    return dialect
