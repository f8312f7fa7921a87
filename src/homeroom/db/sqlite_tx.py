"""The transactions of SQLite: one hops to its connection's thread, and one lives there."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import aiosqlite

from homeroom.db.chunk import keyed, multi_row
from homeroom.db.json_rows import decoder, row_text
from homeroom.db.statement import render
from homeroom.db.tx import Found, Row, Statement, Tx
from homeroom.errors import Unavailable

Result = TypeVar("Result")

STEPS_BETWEEN_LOOKS = 5_000_000
"""Steps of SQLite's machine, about a tenth of a second, after which a stop cannot be overlooked."""

_KEY_COLUMN = re.compile(r"\bcolumn(\d+)\b")
_as_json_texts: dict[str, str] = {}
"""What ``_as_json`` made of each statement; there are as many as the stores have."""

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
def mapped() -> Iterator[None]:
    """Turn the errors of a database that is locked, full or away into ``Unavailable``."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meant(error) from error


def _meant(error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "") or ""
    if any(name == away or name.startswith(away + "_") for away in _AWAY):
        return Unavailable(
            f"The database cannot do this right now: {error}.", retry_after_seconds=1
        )
    return error


def _execute_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Send rows in chunks, each one statement that runs without Python's lock.

    ``executemany`` of the driver takes that lock back for every row: beside a busy event loop a row
    took 1,397 us instead of 6.2; in chunks of 64 it takes 29 and 5.0 (decision 0003).
    """
    changed = 0
    for statement, values in multi_row(sql, rows):
        changed += connection.execute(statement, values).rowcount
    return changed


def _fetch_as(
    connection: sqlite3.Connection, of: type[Found], sql: str, keys: Sequence[Sequence[Any]]
) -> list[Found]:
    """Fetch rows by many keys as one JSON text a chunk.

    ``fetchall`` takes Python's lock back for every row too, and decoding JSON makes the rows faster
    than the driver does.
    """
    decode = decoder(of).decode
    found: list[Found] = []
    for statement, values in keyed(_as_json(connection, sql), keys):
        [[text]] = connection.execute(statement, values).fetchall()
        found += decode(text)
    return found


def _as_json(connection: sqlite3.Connection, sql: str) -> str:
    """Return a keyed SELECT that gives all its rows as one JSON text."""
    known = _as_json_texts.get(sql)
    if known is None:
        statement, values = next(keyed(f"SELECT * FROM ({sql}) LIMIT 0", [(None,) * _width(sql)]))
        names = [column[0] for column in connection.execute(statement, values).description]
        row = row_text(names, "json_array({})")
        known = _as_json_texts[sql] = (
            f"WITH found ({', '.join(names)}) AS ({sql})"
            f" SELECT '[' || coalesce(group_concat({row}), '') || ']' FROM found"
        )
    return known


def _width(sql: str) -> int:
    """Return how many key columns a statement uses."""
    return max(int(number) for number in _KEY_COLUMN.findall(sql))


def in_thread(
    connection: aiosqlite.Connection, call: Callable[..., Result], *args: Any
) -> asyncio.Future[Result]:
    """Run several statements in one visit to the connection's thread, which begins at once.

    aiosqlite keeps its queue to itself, and its own ``_execute`` begins only when it is awaited.
    Each visit costs 0.1-0.2 ms on a busy loop.
    """
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    connection._tx.put_nowait((done, partial(call, *args)))
    return done


class SqliteTx(Tx):
    """A transaction on the event loop: each statement visits the connection's thread."""

    dialect = "sqlite"

    def __init__(self, connection: aiosqlite.Connection, now: int) -> None:
        """Take the connection on which BEGIN was run."""
        super().__init__(now)
        self._connection = connection

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        sql, bound = render(statement, values)
        with mapped():
            cursor = await self._connection.execute(sql, bound)
        return cursor.rowcount

    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return how many rows changed."""
        if not rows:
            return 0
        with mapped():
            connection = self._connection
            return await in_thread(connection, _execute_rows, connection._conn, sql, rows)

    async def fetch_as(
        self, of: type[Found], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[Found]:
        """Run a SELECT for any number of keys at once, and return rows of a type."""
        if not keys:
            return []
        with mapped():
            connection = self._connection
            return await in_thread(connection, _fetch_as, connection._conn, of, sql, keys)

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = render(statement, values)
        with mapped():
            return list(await self._connection.execute_fetchall(sql, bound))  # type: ignore[arg-type]  # rows are tuples: no row factory is set


class DrivenTx(Tx):
    """A transaction on the connection's own thread: nothing in it waits for the event loop.

    Its methods are coroutines that never pause, so a ``Visit`` runs whole batches in one visit to
    the thread where ``SqliteTx`` needs one a statement.
    """

    dialect = "sqlite"

    def __init__(self, live: Callable[[], sqlite3.Connection], now: int) -> None:
        """Take what gives the connection for as long as it may be used."""
        super().__init__(now)
        self._live = live

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        sql, bound = render(statement, values)
        with mapped():
            return self._live().execute(sql, bound).rowcount

    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return how many rows changed."""
        if not rows:
            return 0
        with mapped():
            return _execute_rows(self._live(), sql, rows)

    async def fetch_as(
        self, of: type[Found], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[Found]:
        """Run a SELECT for any number of keys at once, and return rows of a type."""
        if not keys:
            return []
        with mapped():
            return _fetch_as(self._live(), of, sql, keys)

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = render(statement, values)
        with mapped():
            return self._live().execute(sql, bound).fetchall()


class Visit:
    """One transaction that runs on the connection's own thread from BEGIN to COMMIT."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        """Take the driver's connection and the time of the transaction."""
        self.tx = DrivenTx(self._live, now)
        self._connection = connection
        self._stopped = False
        self._statements = threading.Lock()  # held until nothing but COMMIT is left
        self._statements.acquire()

    def stop(self) -> None:
        """Make the statement that runs, or the next one, fail; may be called from any thread."""
        self._stopped = True
        self._connection.interrupt()

    def stand_by(self, seconds: float) -> None:
        """Block this thread until the statements are done, or for so long: see decision 0010."""
        self._statements.acquire(timeout=seconds)

    def _live(self) -> sqlite3.Connection:
        if self._stopped:
            raise Unavailable("The transaction was interrupted.", retry_after_seconds=1)
        return self._connection

    def _is_stopped(self) -> bool:
        return self._stopped

    def run(self, work: Callable[[Tx], Coroutine[Any, Any, Result]]) -> Result:
        """Run the transaction and return what ``work`` does; called on the connection's thread.

        Raises RuntimeError, with everything undone, if ``work`` awaits anything but its
        transaction: there is no event loop here to wait with.
        """
        connection = self._connection
        with mapped():
            # An interrupt that comes just before a statement begins is forgotten by SQLite.
            connection.set_progress_handler(self._is_stopped, STEPS_BETWEEN_LOOKS)
            try:
                self._live().execute("BEGIN IMMEDIATE")
                result = _run_through(work(self.tx))
                self._statements.release()  # the file's part of the work begins
                self._live().execute("COMMIT")
                return result
            finally:
                if self._statements.locked():
                    self._statements.release()
                # After an error; a full disk or an interrupt may have rolled it back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                connection.set_progress_handler(None, 0)


def _run_through(coroutine: Coroutine[Any, Any, Result]) -> Result:
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise RuntimeError("the work of Database.transact may await its transaction only")
