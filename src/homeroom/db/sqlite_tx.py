"""The transactions of SQLite: one hops to its connection's thread, and one lives there."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import aiosqlite
import msgspec

from homeroom.db import turn
from homeroom.db.chunk import keyed, multi_row
from homeroom.db.database import Unit
from homeroom.db.statement import render
from homeroom.db.tx import Found, Row, Statement, Tx
from homeroom.errors import Unavailable

Result = TypeVar("Result")

STEPS_BETWEEN_LOOKS = 5_000_000
"""Steps of SQLite's machine, about a tenth of a second, after which a stop cannot be overlooked."""

_KEY_COLUMN = re.compile(r"\bcolumn(\d+)\b")
_as_json_texts: dict[str, str] = {}
"""What ``_as_json`` made of each statement; there are as many as the stores have."""
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
"""By the type of a row; there are as many as the stores have."""

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


def _fetch(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[Row]:
    return connection.execute(sql, values).fetchall()


def _fetch_as(
    connection: sqlite3.Connection, of: type[Found], sql: str, keys: Sequence[Sequence[Any]]
) -> list[Found]:
    """Fetch rows by many keys as one JSON text a chunk.

    ``fetchall`` takes Python's lock back for every row too, and decoding JSON makes the rows faster
    than the driver does.
    """
    decoder = _decoders.get(of)
    if decoder is None:
        decoder = _decoders[of] = msgspec.json.Decoder(list[of])  # type: ignore[valid-type]
    found: list[Found] = []
    for statement, values in keyed(_as_json(connection, sql), keys):
        [[text]] = connection.execute(statement, values).fetchall()
        found += decoder.decode(text)
    return found


def _as_json(connection: sqlite3.Connection, sql: str) -> str:
    """Return a keyed SELECT that gives all its rows as one JSON text."""
    known = _as_json_texts.get(sql)
    if known is None:
        statement, values = next(keyed(f"SELECT * FROM ({sql}) LIMIT 0", [(None,) * _width(sql)]))
        names = [column[0] for column in connection.execute(statement, values).description]
        json_names = [name for name in names if name.endswith("_json")]
        plain = ", ".join(names[: len(names) - len(json_names)])
        row = f"json_array({plain})"
        if json_names:  # already JSON, which would take long to be parsed here
            row = " || ',' || ".join([f"rtrim({row}, ']')", *json_names]) + " || ']'"
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

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
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

    Its methods are coroutines that never pause, so ``Series`` runs whole batches in one visit to
    the thread where ``SqliteTx`` needs one a statement.
    """

    dialect = "sqlite"

    def __init__(self, series: Series, now: int) -> None:
        """Take the series that opens and ends the transaction."""
        super().__init__(now)
        self._live = series.live

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        sql, bound = render(statement, values)
        with mapped():
            return turn.lend(self._live().execute, sql, bound).rowcount

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for every row of values and return how many rows changed."""
        if not rows:
            return 0
        with mapped():
            return turn.lend(_execute_rows, self._live(), sql, rows)

    async def fetch_as(
        self, of: type[Found], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[Found]:
        """Run a SELECT for any number of keys at once, and return rows of a type."""
        if not keys:
            return []
        with mapped():
            return turn.lend(_fetch_as, self._live(), of, sql, keys)

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = render(statement, values)
        with mapped():
            return turn.lend(_fetch, self._live(), sql, bound)


class Series:
    """Transactions that follow each other on the connection's own thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        now: Callable[[], int],
        done: Callable[[Tx], object],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Take the driver's connection, who is told of a commit, and whether others want it."""
        self._connection, self._now, self._done = connection, now, done
        self._is_wanted = is_wanted
        self._stopped = False

    def stop(self) -> None:
        """Make the statement that runs, or the next one, fail; may be called from any thread."""
        self._stopped = True
        self._connection.interrupt()

    def live(self) -> sqlite3.Connection:
        """Return the connection; raise ``Unavailable`` if the series was stopped."""
        if self._stopped:
            raise Unavailable("The transaction was interrupted.", retry_after_seconds=1)
        return self._connection

    def _is_stopped(self) -> bool:
        return self._stopped

    def run(self, following: Callable[[], Unit[Any] | None]) -> None:
        """Run transactions; called on the connection's thread.

        Raises RuntimeError, with that transaction rolled back, if one awaits anything but itself:
        there is no event loop here to wait with.
        """
        with mapped():
            # An interrupt that comes just before a statement begins is forgotten by SQLite.
            self._connection.set_progress_handler(self._is_stopped, STEPS_BETWEEN_LOOKS)
            turn.take()
            try:
                while (unit := following()) is not None:
                    self._run(unit)
                    if self._is_wanted():
                        return
            finally:
                turn.give()
                self._connection.set_progress_handler(None, 0)

    def _run(self, unit: Unit[Any]) -> None:
        tx = DrivenTx(self, self._now())
        try:
            turn.lend(self.live().execute, "BEGIN IMMEDIATE")
            result = _run_through(unit.work(tx))
            turn.lend(self.live().execute, "COMMIT")
        finally:
            # After an error; a full disk or an interrupt may have rolled it back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._done(tx)
        unit.committed(result)


def _run_through(coroutine: Coroutine[Any, Any, Result]) -> Result:
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise RuntimeError("the work of Database.transact may await its transaction only")
