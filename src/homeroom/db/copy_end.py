"""The two ends of a copy: a SQLite file and a PostgreSQL database, each read and filled alike."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Table

from homeroom.db.inventory import SERVED, served
from homeroom.db.migrate import REVISION_TABLE
from homeroom.db.postgres_driver import asyncpg
from homeroom.db.schema import metadata
from homeroom.errors import HomeroomError

Row = tuple[Any, ...]
Batches = AsyncIterator[Sequence[Row]]
BATCH = 2_000
"""Rows that are read, and written to a file, at a time."""


def tables() -> list[Table]:
    """Return all tables, those that others point to first."""
    return list(metadata.sorted_tables)


def numbered() -> dict[str, str]:
    """Return the tables whose rows the database numbers, with the column of the number."""
    return {
        table.name: column.name
        for table in tables()
        for column in table.primary_key
        if column.autoincrement is True
    }


def _columns(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


class End(ABC):
    """A database within the one transaction that reads or fills it."""

    @abstractmethod
    def batches(self, table: Table) -> Batches:
        """Yield all rows of a table."""

    @abstractmethod
    async def put(self, table: Table, rows: Batches) -> None:
        """Insert rows into a table that is empty."""

    @abstractmethod
    async def one(self, sql: str) -> int:
        """Return the integer that a statement gives."""

    @abstractmethod
    async def numbers(self) -> dict[str, int]:
        """Return by table the last number that was given to a row, 0 for none."""

    @abstractmethod
    async def go_on_after(self, numbers: Mapping[str, int]) -> None:
        """Give the next rows of these tables higher numbers."""


class FileEnd(End):
    """A SQLite file, on the one thread of a command that does nothing else meanwhile."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take a connection on which BEGIN was run."""
        self._connection = connection

    async def batches(self, table: Table) -> Batches:
        """Yield all rows of a table."""
        cursor = self._connection.execute(f'SELECT {_columns(table)} FROM "{table.name}"')
        while rows := cursor.fetchmany(BATCH):
            yield rows

    async def put(self, table: Table, rows: Batches) -> None:
        """Insert rows into a table that is empty."""
        marks = ", ".join("?" * len(table.columns))
        sql = f'INSERT INTO "{table.name}" ({_columns(table)}) VALUES ({marks})'
        async for batch in rows:
            self._connection.executemany(sql, batch)

    async def one(self, sql: str) -> int:
        """Return the integer that a statement gives."""
        return int(self._connection.execute(sql).fetchone()[0])

    async def numbers(self) -> dict[str, int]:
        """Return by table the last number that was given to a row, 0 for none."""
        # SQLite remembers it only for some of the tables
        known = dict(self._connection.execute("SELECT name, seq FROM sqlite_sequence"))
        return {
            name: max(
                await self.one(f'SELECT coalesce(max("{column}"), 0) FROM "{name}"'),
                known.get(name, 0),
            )
            for name, column in numbered().items()
        }

    async def go_on_after(self, numbers: Mapping[str, int]) -> None:
        """Give the next rows of these tables higher numbers, where SQLite remembers them."""
        for table in tables():
            if table.name in numbers and table.dialect_options["sqlite"]["autoincrement"]:
                values = (table.name, numbers[table.name])
                self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", values[:1])
                self._connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", values)


class ServerEnd(End):
    """A PostgreSQL database."""

    def __init__(self, connection: Any) -> None:
        """Take a connection on which BEGIN was run."""
        self.connection = connection

    async def batches(self, table: Table) -> Batches:
        """Yield all rows of a table."""
        name = f'"copy of {table.name}"'  # each its own, for the driver remembers their columns
        sql = f'SELECT {_columns(table)} FROM public."{table.name}"'
        await self.connection.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}")
        while rows := await self.connection.fetch(f"FETCH {BATCH} FROM {name}"):
            yield [tuple(row) for row in rows]
        await self.connection.execute(f"CLOSE {name}")

    async def put(self, table: Table, rows: Batches) -> None:
        """Insert rows into a table that is empty, by COPY."""

        async def each() -> AsyncIterator[Row]:
            async for batch in rows:
                for row in batch:
                    yield row

        try:
            await self.connection.copy_records_to_table(
                table.name,
                schema_name="public",
                columns=[column.name for column in table.columns],
                records=each(),
            )
        except (asyncpg.DataError, OverflowError, TypeError) as error:
            raise HomeroomError(
                f"The table {table.name} holds a value that PostgreSQL does not take: {error}.",
                hint="Look at the source with: homeroom db verify",
            ) from error

    async def one(self, sql: str) -> int:
        """Return the integer that a statement gives."""
        return int(await self.connection.fetchval(sql))

    async def numbers(self) -> dict[str, int]:
        """Return by table the last number that was given to a row, 0 for none."""
        found = {}
        for name, column in numbered().items():
            sequence = await self._sequence(name, column)
            found[name] = await self.one(
                # A number of the ledger's stands for those after it, too.
                "SELECT greatest(CASE WHEN is_called THEN last_value ELSE 0 END,"
                f' (SELECT max("{column}") FROM public."{name}")) FROM {sequence}'
            )
        return found

    async def go_on_after(self, numbers: Mapping[str, int]) -> None:
        """Give the next rows of these tables higher numbers."""
        for name, column in numbered().items():
            last = numbers[name]
            await self.connection.execute(
                "SELECT setval(CAST($1 AS text)::regclass, $2, $3)",
                await self._sequence(name, column),
                max(last, 1),
                last > 0,
            )

    async def _sequence(self, table: str, column: str) -> str:
        found: str = await self.connection.fetchval(
            "SELECT pg_get_serial_sequence($1, $2)", f'public."{table}"', column
        )
        return found

    async def refuse_served(self) -> None:
        """Raise ``Conflict`` where another process of Homeroom's is connected."""
        others = await self.connection.fetchval(SERVED)
        if others:
            raise served(others)

    async def lock(self, mode: str) -> None:
        """Lock all tables for this transaction."""
        names = ", ".join(f'public."{table.name}"' for table in tables())
        await self.connection.execute(f"LOCK TABLE {names} IN {mode} MODE")

    async def empty(self) -> None:
        """Delete all rows of all tables."""
        names = ", ".join(f'public."{table.name}"' for table in tables())
        await self.connection.execute(f"TRUNCATE {names}")

    async def marked(self) -> str | None:
        """Return what the last copy into this database left as its mark."""
        found: str | None = await self.connection.fetchval(
            f"SELECT obj_description('public.{REVISION_TABLE}'::regclass)"
        )
        return found

    async def mark(self, text: str) -> None:
        """Leave a mark, which is a comment on a table; ``text`` holds no quotes."""
        await self.connection.execute(f"COMMENT ON TABLE public.{REVISION_TABLE} IS '{text}'")
