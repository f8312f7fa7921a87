"""SQLite as Homeroom uses it: one writer connection, a few readers, WAL, ``synchronous=FULL``.

Why one writer: eight claimers and a batch writer on connections of their own gave 3,045 "database
is locked" errors with plain BEGIN and a p99 of 434 ms with BEGIN IMMEDIATE (architecture page).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from homeroom.clock import Clock
from homeroom.db.chunk import keyed, multi_row
from homeroom.db.database import Database, Lane
from homeroom.db.lane import LaneLock
from homeroom.db.statement import render
from homeroom.db.tx import Row, Statement, Tx
from homeroom.errors import Unavailable

Result = TypeVar("Result")
BUSY_TIMEOUT_MS = 10_000
READ_LIMIT_SECONDS = 5.0
AUTOCHECKPOINT_PAGES = 16_000
JOURNAL_SIZE_LIMIT = 256 * 1024 * 1024
PAGE_CACHE_KIB = 32 * 1024

_AWAY = frozenset(
    {
        "SQLITE_BUSY",
        "SQLITE_LOCKED",
        "SQLITE_FULL",
        "SQLITE_CANTOPEN",
        "SQLITE_INTERRUPT",
        "SQLITE_READONLY",
        "SQLITE_IOERR",
        "SQLITE_NOMEM",
        "SQLITE_CORRUPT",
        "SQLITE_NOTADB",
    }
)


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn the errors of a database that is locked, full or away into ``Unavailable``."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        if any(name == away or name.startswith(away + "_") for away in _AWAY):
            raise Unavailable(
                f"The database cannot do this right now: {error}.", retry_after_seconds=1
            ) from error
        raise


def _execute_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Send rows in chunks, each one statement that runs without Python's lock.

    ``executemany`` of the driver takes that lock back for every row: beside a busy event loop a row
    took 1,397 us instead of 6.2; in chunks of 64 it takes 29 and 5.0 (decision 0003).
    """
    changed = 0
    for statement, values in multi_row(sql, rows):
        changed += connection.execute(statement, values).rowcount
    return changed


def _fetch_keyed(
    connection: sqlite3.Connection, sql: str, keys: Sequence[Sequence[Any]]
) -> list[Row]:
    found: list[Row] = []
    for statement, values in keyed(sql, keys):
        found += connection.execute(statement, values).fetchall()
    return found


async def _in_thread(
    connection: aiosqlite.Connection, call: Callable[..., Result], *args: Any
) -> Result:
    """Run several statements in one visit to the connection's thread.

    aiosqlite keeps the method for it to itself; each visit costs 0.1-0.2 ms on a busy loop.
    """
    result: Result = await connection._execute(call, connection._conn, *args)
    return result


class SqliteTx(Tx):
    """A transaction on one of the SQLite connections."""

    dialect = "sqlite"

    def __init__(self, connection: aiosqlite.Connection, now: int) -> None:
        """Take the connection on which BEGIN was run."""
        super().__init__(now)
        self._connection = connection

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        sql, bound = render(statement, values, "sqlite")
        with _mapped():
            cursor = await self._connection.execute(sql, bound)
        return cursor.rowcount

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for every row of values and return how many rows changed."""
        if not rows:
            return 0
        with _mapped():
            return await _in_thread(self._connection, _execute_rows, sql, rows)

    async def fetch_keyed(self, sql: str, keys: Sequence[Sequence[Any]]) -> list[Row]:
        """Run a SELECT for any number of keys at once."""
        if not keys:
            return []
        with _mapped():
            return await _in_thread(self._connection, _fetch_keyed, sql, keys)

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = render(statement, values, "sqlite")
        with _mapped():
            return list(await self._connection.execute_fetchall(sql, bound))  # type: ignore[arg-type]  # rows are tuples: no row factory is set


class SqliteDatabase(Database):
    """A SQLite file, with the writer behind a fair queue."""

    dialect = "sqlite"

    def __init__(self, path: Path, clock: Clock, *, readers: int = 4) -> None:
        """Take the file, which must have been migrated, and how many may read at once."""
        super().__init__(clock)
        self.path = path
        self._lock = LaneLock()
        self._writer: aiosqlite.Connection | None = None
        self._readers: asyncio.Queue[aiosqlite.Connection | None] = asyncio.Queue()
        for _ in range(readers):
            self._readers.put_nowait(None)  # opened when first needed

    async def open(self) -> None:
        """Connect; raise ``Unavailable`` where that fails."""
        self._writer = await self._connect(
            f"PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint={AUTOCHECKPOINT_PAGES};"
            f"PRAGMA journal_size_limit={JOURNAL_SIZE_LIMIT}; PRAGMA cache_size=-{PAGE_CACHE_KIB};"
        )

    async def close(self) -> None:
        """Finish what runs and disconnect."""
        while not self._readers.empty():
            reader = self._readers.get_nowait()
            if reader is not None:
                await reader.close()
        if self._writer is not None:
            await self._lock.acquire(Lane.JOBS)
            await self._writer.close()
            self._writer = None

    async def _connect(self, pragmas: str) -> aiosqlite.Connection:
        with _mapped():
            connection = await aiosqlite.connect(
                self.path, isolation_level=None, cached_statements=256
            )
            await connection.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA busy_timeout={BUSY_TIMEOUT_MS};"
                f"PRAGMA temp_store=MEMORY; {pragmas}"
            )
        return connection

    @asynccontextmanager
    async def write(self, lane: Lane = Lane.REQUEST) -> AsyncIterator[Tx]:
        """Open a write transaction; it commits at the end of the block, or rolls back on an error.

        Raises ``Unavailable`` if another process holds the file for longer than 10 seconds.
        """
        await self._lock.acquire(lane)
        try:
            writer = self._writer
            if writer is None:
                raise Unavailable("The database is closed.")
            await _run(writer, "BEGIN IMMEDIATE", undo="ROLLBACK")
            tx = SqliteTx(writer, self.clock.now())
            try:
                yield tx
            except BaseException:
                await _run(writer, "ROLLBACK")
                raise
            await _run(writer, "COMMIT", undo_on_error="ROLLBACK")
        finally:
            self._lock.release()
        self._committed(tx)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Open a snapshot that cannot write; ``Unavailable`` after 5 seconds (a reader that stays
        open keeps the write-ahead log from being reset).
        """
        reader = await self._readers.get()
        try:
            if reader is None:
                reader = await self._connect("PRAGMA query_only=ON; PRAGMA cache_size=-4096;")
            try:
                async with asyncio.timeout(READ_LIMIT_SECONDS):
                    await _run(reader, "BEGIN", undo="ROLLBACK")
                    try:
                        yield SqliteTx(reader, self.clock.now())
                    except asyncio.CancelledError:
                        await reader.interrupt()
                        raise
                    finally:
                        await _run(reader, "ROLLBACK")
            except TimeoutError as error:
                raise Unavailable("The read took longer than 5 seconds.") from error
        finally:
            self._readers.put_nowait(reader)

    async def interrupt(self) -> None:
        """Make the statement that the writer is running fail, if one runs."""
        if self._writer is not None:
            await self._writer.interrupt()

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the file as far as readers allow, and free page memory."""
        async with self._exclusive() as writer:
            await writer.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
            await writer.execute_fetchall("PRAGMA shrink_memory")

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[aiosqlite.Connection]:
        await self._lock.acquire(Lane.REQUEST)
        try:
            if self._writer is None:
                raise Unavailable("The database is closed.")
            with _mapped():
                yield self._writer
        finally:
            self._lock.release()


async def _run(
    connection: aiosqlite.Connection,
    sql: str,
    *,
    undo: str | None = None,
    undo_on_error: str | None = None,
) -> None:
    """Run BEGIN, COMMIT or ROLLBACK to its end even if the caller is cancelled meanwhile.

    The connection's thread goes on regardless, so a cancelled caller must wait until the connection
    is in a known state: ``undo`` takes back a statement that succeeded for a caller who is gone.
    """
    running = asyncio.ensure_future(connection.execute(sql))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError as error:
            cancelled = error
        except sqlite3.Error:
            break
    with _mapped():
        try:
            running.result()
        except sqlite3.Error:
            if undo_on_error is not None and connection.in_transaction:
                await connection.execute(undo_on_error)
            raise
    if cancelled is not None:
        if undo is not None:
            await connection.execute(undo)
        raise cancelled
