"""Transactions of SQLite: on the event loop, and on the connection's thread.

The private parts of aiosqlite are used in this file only, by ``driver_connection`` and
``run_in_connection_thread``; ``tests/unit/db/test_sqlite_transactions.py`` checks that they exist.
"""

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
from sqlalchemy.exc import DBAPIError

from homeroom.db.bulk import (
    BulkTx,
    RowType,
    json_row_sql,
    json_rows_decoder,
    keyed_statements,
    multi_row_statements,
)
from homeroom.db.tx import Row, Statement, Tx, render_sql
from homeroom.errors import (
    DatabaseDamaged,
    OutOfMemory,
    StorageFailing,
    StorageFull,
    StorageReadOnly,
    TooManyOpenFiles,
    Unavailable,
)
from homeroom.machine import descriptors_are_exhausted

Result = TypeVar("Result")

PROGRESS_HANDLER_STEPS = 5_000_000
"""Steps of SQLite's virtual machine, about 0.1 s, between two checks for an interrupt."""

_KEY_COLUMN = re.compile(r"\bcolumn(\d+)\b")
_json_sql_cache: dict[str, str] = {}
"""Statements made by ``_json_sql``; there are as many as the stores have keyed SELECTs."""

_FAULTS: dict[str, type[Unavailable]] = {
    "SQLITE_BUSY": Unavailable,
    "SQLITE_LOCKED": Unavailable,
    "SQLITE_INTERRUPT": Unavailable,
    "SQLITE_CANTOPEN": StorageFailing,
    "SQLITE_CORRUPT": DatabaseDamaged,
    "SQLITE_FULL": StorageFull,
    "SQLITE_IOERR": StorageFailing,
    "SQLITE_IOERR_SHMSIZE": StorageFull,
    "SQLITE_NOMEM": OutOfMemory,
    "SQLITE_NOTADB": DatabaseDamaged,
    "SQLITE_READONLY": StorageReadOnly,
}
"""Errors by the names of SQLite's result codes, https://sqlite.org/rescode.html.

An extended code without an entry counts as its primary one. ``IOERR_SHMSIZE`` is an index of the
log that could not be extended.
"""

_DESCRIPTIONS: dict[type[Unavailable], tuple[str, str]] = {
    StorageFull: (
        "The disk of the SQLite database is full",
        "Free some space on the disk of HOMEROOM_DATA_DIR; nothing else is needed.",
    ),
    StorageReadOnly: (
        "The SQLite database cannot be written",
        "Mount its disk for writing, and check the owner and the mode of the file.",
    ),
    StorageFailing: (
        "The disk of the SQLite database fails",
        "Check the disk, and the system's log for its errors.",
    ),
    DatabaseDamaged: (
        "The SQLite database is damaged",
        "Stop all processes and restore a backup: homeroom db restore FILE --force.",
    ),
    TooManyOpenFiles: (
        "The server has no file descriptor left for the SQLite database",
        "Raise the limit of open files (ulimit -n, LimitNOFILE=), and start again.",
    ),
    OutOfMemory: (
        "SQLite got no memory",
        "Give the machine or the container more memory.",
    ),
}


@contextmanager
def translate_sqlite_errors() -> Iterator[None]:
    """Raise ``Unavailable``, or the ``DatabaseFault`` that is the cause."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate_error(error) from error


@contextmanager
def translate_engine_errors() -> Iterator[None]:
    """Do the same for the errors that SQLAlchemy has wrapped, as of a migration."""
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.Error):
            raise
        translated = _translate_error(error.orig)
        raise (error if translated is error.orig else translated) from error.orig


def _translate_error(error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "") or ""
    fault = _FAULTS.get(name) or _FAULTS.get("_".join(name.split("_")[:2]))
    if fault is None:
        return error
    if fault is StorageFailing and descriptors_are_exhausted():
        fault = TooManyOpenFiles
    return sqlite_fault(fault, error)


def sqlite_fault(fault: type[Unavailable], cause: BaseException | None) -> Unavailable:
    """Return an error of a type with its description, its fix and its cause."""
    text, hint = _DESCRIPTIONS.get(fault, ("The SQLite database is not available", None))
    return fault(f"{text}: {cause}.", hint=hint, retry_after_seconds=fault.usual_retry_seconds)


def _execute_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Send rows in chunks, each one statement without Python's interpreter lock.

    ``executemany`` of the driver acquires that lock for every row: beside a busy event loop a row
    took 1,397 us instead of 6.2; in chunks of 64 it takes 29 and 5.0 (decision 0003).
    """
    changed = 0
    for statement, values in multi_row_statements(sql, rows):
        changed += connection.execute(statement, values).rowcount
    return changed


def _fetch_by_keys_into(
    connection: sqlite3.Connection, of: type[RowType], sql: str, keys: Sequence[Sequence[Any]]
) -> list[RowType]:
    """Fetch rows by many keys as one JSON text a chunk.

    ``fetchall`` acquires the interpreter lock for every row too, and decoding JSON creates the rows
    faster than the driver does.
    """
    decode = json_rows_decoder(of).decode
    rows: list[RowType] = []
    for statement, values in keyed_statements(_json_sql(connection, sql), keys):
        [[text]] = connection.execute(statement, values).fetchall()
        rows += decode(text)
    return rows


def _json_sql(connection: sqlite3.Connection, sql: str) -> str:
    """Return a keyed SELECT whose result is one JSON text of all its rows."""
    json_sql = _json_sql_cache.get(sql)
    if json_sql is None:
        statement, values = next(
            keyed_statements(f"SELECT * FROM ({sql}) LIMIT 0", [(None,) * _key_width(sql)])
        )
        names = [column[0] for column in connection.execute(statement, values).description]
        row = json_row_sql(names, "json_array({})")
        json_sql = _json_sql_cache[sql] = (
            f"WITH found ({', '.join(names)}) AS ({sql})"
            f" SELECT '[' || coalesce(group_concat({row}), '') || ']' FROM found"
        )
    return json_sql


def _key_width(sql: str) -> int:
    """Return the number of key columns that a statement uses."""
    return max(int(number) for number in _KEY_COLUMN.findall(sql))


def _fetch_named(
    connection: sqlite3.Connection, sql: str, values: Sequence[Any]
) -> tuple[tuple[str, ...], list[Row]]:
    cursor = connection.execute(sql, values)
    return tuple(column[0] for column in cursor.description), cursor.fetchall()


def driver_connection(connection: aiosqlite.Connection) -> sqlite3.Connection:
    """Return the connection of the driver, for the thread of ``connection`` only."""
    return connection._conn


def run_in_connection_thread(
    connection: aiosqlite.Connection, call: Callable[..., Result], *args: Any
) -> asyncio.Future[Result]:
    """Start a call of several statements on the connection's thread.

    aiosqlite has no public access to its queue, and its ``_execute`` starts only when it is
    awaited. Each call costs 0.1-0.2 ms on a busy loop.
    """
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    connection._tx.put_nowait((done, partial(call, *args)))
    return done


class SqliteTx(BulkTx):
    """A transaction on the event loop; each statement is a call on the thread."""

    dialect = "sqlite"

    def __init__(self, connection: aiosqlite.Connection, now: int) -> None:
        """Use a connection on which BEGIN was run."""
        super().__init__(now)
        self._connection = connection

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return the number of changed rows."""
        sql, bound = render_sql(statement, values)
        with translate_sqlite_errors():
            cursor = await self._connection.execute(sql, bound)
        return cursor.rowcount

    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return the number of changed rows."""
        if not rows:
            return 0
        with translate_sqlite_errors():
            connection = self._connection
            return await run_in_connection_thread(
                connection, _execute_rows, driver_connection(connection), sql, rows
            )

    async def fetch_by_keys_into(
        self, of: type[RowType], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[RowType]:
        """Run a SELECT for any number of keys at once, and return rows of a type."""
        if not keys:
            return []
        with translate_sqlite_errors():
            connection = self._connection
            return await run_in_connection_thread(
                connection, _fetch_by_keys_into, driver_connection(connection), of, sql, keys
            )

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = render_sql(statement, values)
        with translate_sqlite_errors():
            return list(await self._connection.execute_fetchall(sql, bound))  # type: ignore[arg-type]  # rows are tuples: no row factory is set

    async def fetch_named(
        self, statement: Statement, values: Sequence[Any] = ()
    ) -> tuple[tuple[str, ...], list[Row]]:
        """Run a statement and return the names of its columns and all its rows."""
        sql, bound = render_sql(statement, values)
        with translate_sqlite_errors():
            connection = self._connection
            return await run_in_connection_thread(
                connection, _fetch_named, driver_connection(connection), sql, bound
            )


class BlockingTx(BulkTx):
    """A transaction on the connection's own thread, without the event loop.

    Its methods are coroutines that never pause, so a ``ThreadTransaction`` runs a whole batch in
    one call on the thread, where ``SqliteTx`` needs one call a statement.
    """

    dialect = "sqlite"

    def __init__(self, usable_connection: Callable[[], sqlite3.Connection], now: int) -> None:
        """Use a function that returns the connection, or raises after an interrupt."""
        super().__init__(now)
        self._usable_connection = usable_connection

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return the number of changed rows."""
        sql, bound = render_sql(statement, values)
        with translate_sqlite_errors():
            return self._usable_connection().execute(sql, bound).rowcount

    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return the number of changed rows."""
        if not rows:
            return 0
        with translate_sqlite_errors():
            return _execute_rows(self._usable_connection(), sql, rows)

    async def fetch_by_keys_into(
        self, of: type[RowType], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[RowType]:
        """Run a SELECT for any number of keys at once, and return rows of a type."""
        if not keys:
            return []
        with translate_sqlite_errors():
            return _fetch_by_keys_into(self._usable_connection(), of, sql, keys)

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = render_sql(statement, values)
        with translate_sqlite_errors():
            return self._usable_connection().execute(sql, bound).fetchall()

    async def fetch_named(
        self, statement: Statement, values: Sequence[Any] = ()
    ) -> tuple[tuple[str, ...], list[Row]]:
        """Run a statement and return the names of its columns and all its rows."""
        sql, bound = render_sql(statement, values)
        with translate_sqlite_errors():
            return _fetch_named(self._usable_connection(), sql, bound)


class ThreadTransaction:
    """One transaction that runs on the connection's own thread from BEGIN to COMMIT."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        """Use the connection of the driver; ``now`` is the instant of the transaction."""
        self.tx = BlockingTx(self._usable_connection, now)
        self._connection = connection
        self._interrupted = False
        self._statements = threading.Lock()  # held until only COMMIT remains
        self._statements.acquire()

    def interrupt(self) -> None:
        """Make the running statement, or the next one, fail; on any thread."""
        self._interrupted = True
        self._connection.interrupt()

    def wait_for_statements(self, seconds: float) -> None:
        """Block until the statements are done, for a limited time (decision 0010)."""
        self._statements.acquire(timeout=seconds)

    def run(self, work: Callable[[Tx], Coroutine[Any, Any, Result]]) -> Result:
        """Run the transaction, on the connection's thread; return its result.

        Rolls back and raises RuntimeError if ``work`` awaits anything but its transaction: this
        thread has no event loop.
        """
        connection = self._connection
        with translate_sqlite_errors():
            # SQLite drops an interrupt that comes just before a statement begins.
            connection.set_progress_handler(self._is_interrupted, PROGRESS_HANDLER_STEPS)
            try:
                self._usable_connection().execute("BEGIN IMMEDIATE")
                result = _run_without_waiting(work(self.tx))
                _run_without_waiting(self.tx.finish())
                self._statements.release()  # only the commit to the file remains
                self._usable_connection().execute("COMMIT")
                return result
            finally:
                if self._statements.locked():
                    self._statements.release()
                # After an error; a full disk or an interrupt may have rolled back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                connection.set_progress_handler(None, 0)

    def _usable_connection(self) -> sqlite3.Connection:
        if self._interrupted:
            raise Unavailable("The transaction was interrupted.", retry_after_seconds=1)
        return self._connection

    def _is_interrupted(self) -> bool:
        return self._interrupted


def _run_without_waiting(coroutine: Coroutine[Any, Any, Result]) -> Result:
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise RuntimeError("the work of Database.transact may await its transaction only")
