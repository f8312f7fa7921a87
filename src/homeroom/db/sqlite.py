"""SQLite as Homeroom uses it: one writer connection, a few readers, WAL, ``synchronous=FULL``.

Why one writer: eight claimers and a batch writer on connections of their own gave 3,045 "database
is locked" errors with plain BEGIN and a p99 of 434 ms with BEGIN IMMEDIATE (architecture page).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from homeroom.clock import Clock
from homeroom.db.database import Database, Lane
from homeroom.db.lane import LaneLock
from homeroom.db.sqlite_log import LogKeeper, copy
from homeroom.db.sqlite_tx import SqliteTx, Visit, in_thread, mapped
from homeroom.db.tx import Tx
from homeroom.errors import Unavailable
from homeroom.tasks import cancel

__all__ = ["SqliteDatabase", "SqliteTx"]

Result = TypeVar("Result")
BUSY_TIMEOUT_MS = 10_000
READ_LIMIT_SECONDS = 5.0
STAND_BY_SECONDS = 0.02
"""How long the event loop leaves the interpreter to a transaction's statements (decision 0010)."""
AUTOCHECKPOINT_PAGES = 60_000
"""The writer's own limit, should ``LogKeeper`` not keep up (235 MiB)."""
JOURNAL_SIZE_LIMIT = 256 * 1024 * 1024
PAGE_CACHE_KIB = 32 * 1024


class SqliteDatabase(Database):
    """A SQLite file, with the writer behind a fair queue."""

    dialect = "sqlite"

    def __init__(self, path: Path, clock: Clock, *, readers: int = 4) -> None:
        """Take the file, which must have been migrated, and how many may read at once."""
        super().__init__(clock)
        self.path = path
        self._lock = LaneLock()
        self._writer: aiosqlite.Connection | None = None
        self._visit: Visit | None = None
        self._log = LogKeeper(self._connect_log, self._exclusive)
        self._log_task: asyncio.Task[None] | None = None
        self._reader_count = readers
        self._readers: asyncio.Queue[aiosqlite.Connection | None] = asyncio.Queue()
        for _ in range(readers):
            self._readers.put_nowait(None)  # opened when first needed

    async def open(self) -> None:
        """Connect; raise ``Unavailable`` where that fails."""
        self._writer = await self._connect(
            "PRAGMA secure_delete=ON;"  # who is erased must not be left in free pages
            f"PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint={AUTOCHECKPOINT_PAGES};"
            f"PRAGMA journal_size_limit={JOURNAL_SIZE_LIMIT}; PRAGMA cache_size=-{PAGE_CACHE_KIB};"
        )
        self._log_task = asyncio.create_task(self._log.run())

    async def close(self) -> None:
        """Finish what runs and disconnect."""
        if self._log_task is not None:
            await cancel(self._log_task)
            self._log_task = None
        if self._writer is not None:
            await self._lock.acquire(Lane.JOBS)
            writer, self._writer = self._writer, None
            try:
                await writer.close()
            finally:
                self._lock.release()  # who still waits is told that it is closed
        for _ in range(self._reader_count):  # those that still read have 5 seconds at most
            reader = await self._readers.get()
            if reader is not None:
                await reader.close()
        for _ in range(self._reader_count):
            self._readers.put_nowait(None)

    async def _connect(self, pragmas: str) -> aiosqlite.Connection:
        """Open a connection; for a caller who is cancelled meanwhile, open and close it."""
        opening = asyncio.ensure_future(self._opened(pragmas))
        try:
            with mapped():
                return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if opening.exception() is None:
                await opening.result().close()
            raise

    async def _opened(self, pragmas: str) -> aiosqlite.Connection:
        connection = await aiosqlite.connect(self.path, isolation_level=None, cached_statements=256)
        try:
            await connection.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA busy_timeout={BUSY_TIMEOUT_MS};"
                f"PRAGMA temp_store=MEMORY; {pragmas}"
            )
        except Exception:
            await connection.close()
            raise
        return connection

    @asynccontextmanager
    async def _connect_log(self) -> AsyncIterator[aiosqlite.Connection]:
        connection = await self._connect("PRAGMA synchronous=FULL; PRAGMA cache_size=-64;")
        try:
            with mapped():
                yield connection
        finally:
            await connection.close()

    def _done(self, tx: Tx) -> None:
        """Pass on that a transaction was committed."""
        if self._writer is not None:
            self._log.changed(self._writer.total_changes)
        self._committed(tx)

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
        self._done(tx)

    async def transact(
        self, work: Callable[[Tx], Coroutine[Any, Any, Result]], lane: Lane = Lane.REQUEST
    ) -> Result:
        """Run ``work`` in a write transaction, from BEGIN to COMMIT in one visit to the thread.

        The event loop stands by meanwhile, for ``STAND_BY_SECONDS`` at most. A caller who is
        cancelled waits until it was undone, or was committed already.
        """
        await self._lock.acquire(lane)
        try:
            if self._writer is None:
                raise Unavailable("The database is closed.")
            visit = self._visit = Visit(self._writer._conn, self.clock.now())
            running: asyncio.Future[Result] = in_thread(self._writer, visit.run, work)
            visit.stand_by(STAND_BY_SECONDS)
            cancelled = await _until_done(running, visit.stop)
        finally:
            self._visit = None
            self._lock.release()
        if cancelled is not None:
            if running.exception() is None:
                self._done(visit.tx)
            raise cancelled
        result = running.result()
        self._done(visit.tx)
        return result

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Open a snapshot that cannot write; ``Unavailable`` after 5 seconds.

        A reader that stays open keeps the write-ahead log from beginning again.
        """
        reader = await self._readers.get()
        try:
            if self._writer is None:
                raise Unavailable("The database is closed.")
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
        if self._visit is not None:
            self._visit.stop()
        elif self._writer is not None:
            await self._writer.interrupt()

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the file as far as readers allow, and free page memory."""
        async with self._exclusive() as writer:
            await copy(writer)
            await writer.execute_fetchall("PRAGMA shrink_memory")

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[aiosqlite.Connection]:
        await self._lock.acquire(Lane.REQUEST)
        try:
            if self._writer is None:
                raise Unavailable("The database is closed.")
            with mapped():
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
    cancelled = await _until_done(running)
    with mapped():
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


async def _until_done(
    running: asyncio.Future[Any], on_cancel: Callable[[], None] | None = None
) -> asyncio.CancelledError | None:
    """Wait for something that goes on whatever happens; return the cancellation that came."""
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    return cancelled
