"""The source and target of a copy: a SQLite file or a PostgreSQL database."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Table

from homeroom.backup.table_counts import COUNT_OTHER_CONNECTIONS, database_in_use
from homeroom.db.migrate import REVISION_TABLE
from homeroom.db.postgres.driver import asyncpg, translate_postgres_errors
from homeroom.db.seal import SEAL, SEAL_COLUMNS, Seal
from homeroom.db.tables import metadata
from homeroom.errors import HomeroomError

CopyRow = tuple[Any, ...]
RowBatches = AsyncIterator[Sequence[CopyRow]]
BATCH_ROWS = 2_000
"""Rows that are read at a time, and written to a file at a time."""

_IN_USE_TRIES = 11
_IN_USE_PAUSE_SECONDS = 0.2


def ordered_tables() -> list[Table]:
    """Return all tables that are copied, referenced ones first; not the seal."""
    return [table for table in metadata.sorted_tables if table is not SEAL]


def sequence_columns() -> dict[str, str]:
    """Return the tables with a generated number, and the column of the number."""
    return {
        table.name: column.name
        for table in ordered_tables()
        for column in table.primary_key
        if column.autoincrement is True
    }


def _column_list(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


class CopyEndpoint(ABC):
    """A database in the one transaction that reads or fills it."""

    @abstractmethod
    def batches(self, table: Table) -> RowBatches:
        """Yield all rows of a table."""

    @abstractmethod
    async def insert_rows(self, table: Table, rows: RowBatches) -> None:
        """Insert rows into an empty table."""

    @abstractmethod
    async def fetch_integer(self, sql: str) -> int:
        """Return the integer that a statement selects."""

    @abstractmethod
    async def last_numbers(self) -> dict[str, int]:
        """Return the last generated number by table, 0 for none."""

    @abstractmethod
    async def continue_numbers_after(self, numbers: Mapping[str, int]) -> None:
        """Generate higher numbers for the next rows of these tables."""

    @abstractmethod
    async def read_seal(self) -> Seal | None:
        """Return the seal of the database; None if it may run."""

    @abstractmethod
    async def write_seal(self, seal: Seal | None) -> None:
        """Seal the database, or unseal it with None, once the transaction is committed."""

    @abstractmethod
    async def commit(self) -> None:
        """Commit the transaction."""


class SqliteEndpoint(CopyEndpoint):
    """A SQLite file, on the one thread of a command."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use a connection on which BEGIN was run."""
        self._connection = connection

    async def batches(self, table: Table) -> RowBatches:
        """Yield all rows of a table."""
        cursor = self._connection.execute(f'SELECT {_column_list(table)} FROM "{table.name}"')
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield rows

    async def insert_rows(self, table: Table, rows: RowBatches) -> None:
        """Insert rows into an empty table."""
        marks = ", ".join("?" * len(table.columns))
        sql = f'INSERT INTO "{table.name}" ({_column_list(table)}) VALUES ({marks})'
        async for batch in rows:
            self._connection.executemany(sql, batch)

    async def fetch_integer(self, sql: str) -> int:
        """Return the integer that a statement selects."""
        return int(self._connection.execute(sql).fetchone()[0])

    async def last_numbers(self) -> dict[str, int]:
        """Return the last generated number by table, 0 for none."""
        # SQLite records it for tables with AUTOINCREMENT only.
        recorded = dict(self._connection.execute("SELECT name, seq FROM sqlite_sequence"))
        return {
            name: max(
                await self.fetch_integer(f'SELECT coalesce(max("{column}"), 0) FROM "{name}"'),
                recorded.get(name, 0),
            )
            for name, column in sequence_columns().items()
        }

    async def continue_numbers_after(self, numbers: Mapping[str, int]) -> None:
        """Generate higher numbers for the next rows of tables with AUTOINCREMENT."""
        for table in ordered_tables():
            if table.name in numbers and table.dialect_options["sqlite"]["autoincrement"]:
                values = (table.name, numbers[table.name])
                self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", values[:1])
                self._connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", values)

    async def read_seal(self) -> Seal | None:
        """Return the seal of the database; None if it may run."""
        row = self._connection.execute(f"SELECT {SEAL_COLUMNS} FROM {SEAL.name}").fetchone()
        return None if row is None else Seal(*row)

    async def write_seal(self, seal: Seal | None) -> None:
        """Seal the database, or unseal it with None, once the transaction is committed."""
        self._connection.execute(f"DELETE FROM {SEAL.name}")
        if seal is not None:
            self._connection.execute(
                f"INSERT INTO {SEAL.name} (id, {SEAL_COLUMNS}) VALUES (1, ?, ?, ?, ?)",
                (seal.role, seal.copy_id, seal.other, seal.sealed_at),
            )

    async def commit(self) -> None:
        """Commit the transaction."""
        self._connection.execute("COMMIT")


class PostgresEndpoint(CopyEndpoint):
    """A PostgreSQL database."""

    def __init__(self, connection: Any) -> None:
        """Use a connection on which BEGIN was run."""
        self.connection = connection

    async def batches(self, table: Table) -> RowBatches:
        """Yield all rows of a table."""
        name = f'"copy of {table.name}"'  # unique, because the driver caches the columns
        sql = f'SELECT {_column_list(table)} FROM public."{table.name}"'
        await self.connection.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}")
        while rows := await self.connection.fetch(f"FETCH {BATCH_ROWS} FROM {name}"):
            yield [tuple(row) for row in rows]
        await self.connection.execute(f"CLOSE {name}")

    async def insert_rows(self, table: Table, rows: RowBatches) -> None:
        """Insert rows into an empty table by COPY."""

        async def single_rows() -> AsyncIterator[CopyRow]:
            async for batch in rows:
                for row in batch:
                    yield row

        try:
            await self.connection.copy_records_to_table(
                table.name,
                schema_name="public",
                columns=[column.name for column in table.columns],
                records=single_rows(),
            )
        except (asyncpg.DataError, OverflowError, TypeError) as error:
            raise HomeroomError(
                f"The table {table.name} holds a value that PostgreSQL does not accept: {error}.",
                hint="Verify the source with: homeroom db verify",
            ) from error

    async def fetch_integer(self, sql: str) -> int:
        """Return the integer that a statement selects."""
        return int(await self.connection.fetchval(sql))

    async def last_numbers(self) -> dict[str, int]:
        """Return the last generated number by table, 0 for none."""
        numbers = {}
        for name, column in sequence_columns().items():
            sequence = await self._sequence(name, column)
            numbers[name] = await self.fetch_integer(
                # The ledger reserves several numbers with one call of its sequence.
                "SELECT greatest(CASE WHEN is_called THEN last_value ELSE 0 END,"
                f' (SELECT max("{column}") FROM public."{name}")) FROM {sequence}'
            )
        return numbers

    async def continue_numbers_after(self, numbers: Mapping[str, int]) -> None:
        """Generate higher numbers for the next rows of these tables."""
        for name, column in sequence_columns().items():
            last = numbers[name]
            await self.connection.execute(
                "SELECT setval(CAST($1 AS text)::regclass, $2, $3)",
                await self._sequence(name, column),
                max(last, 1),
                last > 0,
            )

    async def _sequence(self, table: str, column: str) -> str:
        sequence: str = await self.connection.fetchval(
            "SELECT pg_get_serial_sequence($1, $2)", f'public."{table}"', column
        )
        return sequence

    async def require_unused(self) -> None:
        """Raise ``Conflict`` if another Homeroom process is connected.

        The session of a process that has just ended may last a moment longer.
        """
        for tries_left in reversed(range(_IN_USE_TRIES)):
            others = await self.connection.fetchval(COUNT_OTHER_CONNECTIONS)
            if not others:
                return
            if not tries_left:
                raise database_in_use(others)
            await asyncio.sleep(_IN_USE_PAUSE_SECONDS)

    async def lock(self, mode: str) -> None:
        """Lock all tables for this transaction.

        A process that starts reads the seal first, so it waits here until the copy has ended.
        """
        names = ", ".join(f'public."{table.name}"' for table in ordered_tables())
        await self.connection.execute(f"LOCK TABLE public.{SEAL.name} IN ACCESS EXCLUSIVE MODE")
        await self.connection.execute(f"LOCK TABLE {names} IN {mode} MODE")

    async def truncate_tables(self) -> None:
        """Delete all rows of all tables."""
        names = ", ".join(f'public."{table.name}"' for table in ordered_tables())
        await self.connection.execute(f"TRUNCATE {names}")

    async def read_mark(self) -> str | None:
        """Return the mark of the last copy into this database."""
        mark: str | None = await self.connection.fetchval(
            f"SELECT obj_description('public.{REVISION_TABLE}'::regclass)"
        )
        return mark

    async def write_mark(self, text: str) -> None:
        """Store a mark as the comment of a table; ``text`` holds no quotes."""
        await self.connection.execute(f"COMMENT ON TABLE public.{REVISION_TABLE} IS '{text}'")

    async def read_seal(self) -> Seal | None:
        """Return the seal of the database; None if it may run."""
        row = await self.connection.fetchrow(f"SELECT {SEAL_COLUMNS} FROM public.{SEAL.name}")
        return None if row is None else Seal(*row)

    async def write_seal(self, seal: Seal | None) -> None:
        """Seal the database, or unseal it with None, once the transaction is committed."""
        await self.connection.execute(f"DELETE FROM public.{SEAL.name}")
        if seal is not None:
            await self.connection.execute(
                f"INSERT INTO public.{SEAL.name} (id, {SEAL_COLUMNS}) VALUES (1, $1, $2, $3, $4)",
                seal.role,
                seal.copy_id,
                seal.other,
                seal.sealed_at,
            )

    async def commit(self) -> None:
        """Commit the transaction."""
        with translate_postgres_errors():
            await self.connection.execute("COMMIT")
