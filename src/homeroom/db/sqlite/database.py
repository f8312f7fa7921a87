"""A SQLite database: one writer, a few readers, WAL, ``synchronous=FULL``.

Eight job claimers and a batch writer on connections of their own gave 3,045 "database is locked"
errors with plain BEGIN and a p99 of 434 ms with BEGIN IMMEDIATE; hence one writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from homeroom.cancellation import cancel_and_wait
from homeroom.clock import Clock
from homeroom.db.database import SLOW_HINT, Database, WriteClass
from homeroom.db.sqlite.quick_check import find_damage
from homeroom.db.sqlite.reserve import keep_reserve
from homeroom.db.sqlite.transaction import (
    SqliteTx,
    ThreadTransaction,
    driver_connection,
    run_in_connection_thread,
    sqlite_fault,
    translate_sqlite_errors,
)
from homeroom.db.sqlite.wal_checkpointer import WalCheckpointer, checkpoint_wal
from homeroom.db.tx import Tx
from homeroom.errors import (
    DatabaseDamaged,
    DatabaseSlow,
    StorageFailing,
    StorageFull,
    StorageReadOnly,
    Unavailable,
)
from homeroom.machine import disk_space, is_read_only

Result = TypeVar("Result")
BUSY_TIMEOUT_MS = 10_000
READ_TIMEOUT_SECONDS = 5.0
MAX_LOOP_BLOCK_SECONDS = 0.02
"""Most time that the event loop blocks for a transaction's statements (decision 0010)."""
AUTOCHECKPOINT_PAGES = 60_000
"""The limit of the log (235 MiB) in case ``WalCheckpointer`` falls behind."""
JOURNAL_SIZE_LIMIT = 256 * 1024 * 1024
PAGE_CACHE_KIB = 32 * 1024
MAX_OVERTAKES = 4
"""Most times that more urgent write classes overtake a waiting one before its turn."""


class SqliteDatabase(Database):
    """A SQLite file whose writer is shared by a priority lock."""

    dialect = "sqlite"

    def __init__(self, path: Path, clock: Clock, *, readers: int = 4) -> None:
        """Use a migrated file; ``readers`` is the most readers at a time."""
        super().__init__(clock)
        self.path = path
        self._lock = WriteClassLock()
        self._writer: aiosqlite.Connection | None = None
        self._thread_transaction: ThreadTransaction | None = None
        self._checkpointer = WalCheckpointer(self._connect_checkpointer, self._exclusive)
        self._checkpoint_task: asyncio.Task[None] | None = None
        self._reader_count = readers
        self._readers: asyncio.Queue[aiosqlite.Connection | None] = asyncio.Queue()
        for _ in range(readers):
            self._readers.put_nowait(None)  # opened on first use

    async def open(self) -> None:
        """Connect; raise ``Unavailable`` if that fails."""
        self._writer = await self._connect(
            "PRAGMA secure_delete=ON;"  # erased people must not remain in free pages
            f"PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint={AUTOCHECKPOINT_PAGES};"
            f"PRAGMA journal_size_limit={JOURNAL_SIZE_LIMIT}; PRAGMA cache_size=-{PAGE_CACHE_KIB};"
        )
        self._checkpoint_task = asyncio.create_task(self._checkpointer.run())

    async def close(self) -> None:
        """Finish running transactions and disconnect."""
        if self._checkpoint_task is not None:
            await cancel_and_wait(self._checkpoint_task)
            self._checkpoint_task = None
        if self._writer is not None:
            await self._lock.acquire(WriteClass.JOBS)
            writer, self._writer = self._writer, None
            try:
                await writer.close()
            finally:
                self._lock.release()  # waiting writers find it closed
        for _ in range(self._reader_count):  # open readers end after 5 seconds
            reader = await self._readers.get()
            if reader is not None:
                await reader.close()
        for _ in range(self._reader_count):
            self._readers.put_nowait(None)

    async def _connect(self, pragmas: str) -> aiosqlite.Connection:
        """Open a connection; if the caller is cancelled meanwhile, close it again."""
        opening = asyncio.ensure_future(self._open_connection(pragmas))
        try:
            with translate_sqlite_errors():
                return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if opening.exception() is None:
                await opening.result().close()
            raise

    async def _open_connection(self, pragmas: str) -> aiosqlite.Connection:
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
    async def _connect_checkpointer(self) -> AsyncIterator[aiosqlite.Connection]:
        connection = await self._connect("PRAGMA synchronous=FULL; PRAGMA cache_size=-64;")
        try:
            with self._recorded_faults(), translate_sqlite_errors():
                yield connection
        finally:
            await connection.close()

    def _after_commit(self, tx: Tx) -> None:
        if self._writer is not None:
            self._checkpointer.record_changes(self._writer.total_changes)
        self._committed(tx)

    @asynccontextmanager
    async def write(self, write_class: WriteClass = WriteClass.REQUEST) -> AsyncIterator[Tx]:
        """Open a write transaction: committed after the block, rolled back on an error.

        Raises ``Unavailable`` if another process locks the file for longer than 10 seconds.
        """
        await self._lock.acquire(write_class)
        try:
            writer = self._writer
            if writer is None:
                raise Unavailable("The database is closed.")
            with self._recorded_faults():
                await _run_to_end(writer, "BEGIN IMMEDIATE", undo="ROLLBACK")
                tx = SqliteTx(writer, self.clock.now())
                try:
                    yield tx
                    await tx.finish()
                except BaseException:
                    await _roll_back(writer)
                    raise
                await _run_to_end(writer, "COMMIT", undo_on_error="ROLLBACK")
        finally:
            self._lock.release()
        self._after_commit(tx)

    async def transact(
        self,
        work: Callable[[Tx], Coroutine[Any, Any, Result]],
        write_class: WriteClass = WriteClass.REQUEST,
    ) -> Result:
        """Run ``work`` in a write transaction, in one call on the writer's thread.

        The call runs from BEGIN to COMMIT. The event loop blocks meanwhile, for
        ``MAX_LOOP_BLOCK_SECONDS`` at most. A cancelled caller waits until the transaction is rolled
        back, or was committed already.
        """
        await self._lock.acquire(write_class)
        try:
            if self._writer is None:
                raise Unavailable("The database is closed.")
            transaction = self._thread_transaction = ThreadTransaction(
                driver_connection(self._writer), self.clock.now()
            )
            running: asyncio.Future[Result] = run_in_connection_thread(
                self._writer, transaction.run, work
            )
            transaction.wait_for_statements(MAX_LOOP_BLOCK_SECONDS)
            cancelled = await _wait_until_done(running, transaction.interrupt)
        finally:
            self._thread_transaction = None
            self._lock.release()
        if cancelled is not None:
            if running.exception() is None:
                self._after_commit(transaction.tx)
            raise cancelled
        with self._recorded_faults():
            result = running.result()
        self._after_commit(transaction.tx)
        return result

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Open a snapshot that cannot write; ``Unavailable`` after 5 seconds.

        A reader that stays open prevents the restart of the write-ahead log.
        """
        reader = await self._readers.get()
        try:
            if self._writer is None:
                raise Unavailable("The database is closed.")
            with self._recorded_faults():
                if reader is None:
                    reader = await self._connect("PRAGMA query_only=ON; PRAGMA cache_size=-4096;")
                try:
                    async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                        await _run_to_end(reader, "BEGIN", undo="ROLLBACK")
                        try:
                            yield SqliteTx(reader, self.clock.now())
                        except asyncio.CancelledError:
                            await reader.interrupt()
                            raise
                        finally:
                            await _roll_back(reader)
                except TimeoutError as error:
                    raise DatabaseSlow(
                        "The read took longer than 5 seconds.",
                        hint=SLOW_HINT,
                        retry_after_seconds=1,
                    ) from error
        finally:
            self._readers.put_nowait(reader)

    async def probe_write(self) -> None:
        """Store a row that changes nothing; raise ``StorageFull`` on a full disk.

        Small transactions may succeed there, because the log is written anew from its beginning.
        """
        is_full = any(isinstance(fault, StorageFull) for fault in self.faults.current)
        space = disk_space(self.path.parent)
        if is_full and space is not None and space.is_full:
            raise sqlite_fault(StorageFull, None)
        await super().probe_write()

    @contextmanager
    def _recorded_faults(self) -> Iterator[None]:
        """Record the fault that a block raises, with its cause if the disk shows it."""
        with super()._recorded_faults():
            try:
                yield
            except StorageFailing as error:
                space = disk_space(self.path.parent)
                if is_read_only(self.path.parent):
                    raise sqlite_fault(StorageReadOnly, error.__cause__) from error
                if space is not None and space.is_full:
                    raise sqlite_fault(StorageFull, error.__cause__) from error
                raise

    def keep_reserve(self) -> None:
        """Keep the space that a start on a full disk needs."""
        keep_reserve(self.path)

    def log_size(self) -> int | None:
        """Return the bytes of the write-ahead log."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except OSError:
            return 0

    async def interrupt(self) -> None:
        """Make the statement that the writer is running fail, if one runs."""
        if self._thread_transaction is not None:
            self._thread_transaction.interrupt()
        elif self._writer is not None:
            await self._writer.interrupt()

    async def check_integrity(self, seconds: float) -> None:
        """Check the structure of the file for a limited time, and record its damage.

        It runs on a thread and a connection of its own. A large file is checked in part: 1 GB takes
        some seconds, and `homeroom db verify` checks all of it.
        """
        damage = await asyncio.to_thread(find_damage, self.path, seconds)
        if damage is not None:
            self.faults.record(sqlite_fault(DatabaseDamaged, ValueError(damage)))

    async def checkpoint(self) -> None:
        """Copy the write-ahead log into the file, and free page memory."""
        async with self._exclusive() as writer:
            await checkpoint_wal(writer)
            await writer.execute_fetchall("PRAGMA shrink_memory")

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[aiosqlite.Connection]:
        await self._lock.acquire(WriteClass.REQUEST)
        try:
            if self._writer is None:
                raise Unavailable("The database is closed.")
            with self._recorded_faults(), translate_sqlite_errors():
                yield self._writer
        finally:
            self._lock.release()


async def _run_to_end(
    connection: aiosqlite.Connection,
    sql: str,
    *,
    undo: str | None = None,
    undo_on_error: str | None = None,
) -> None:
    """Run BEGIN, COMMIT or ROLLBACK to its end, even for a cancelled caller.

    The connection's thread continues regardless, so a cancelled caller must wait until the
    connection is in a known state: ``undo`` reverts a statement that succeeded after the
    cancellation.
    """
    running = asyncio.ensure_future(connection.execute(sql))
    cancelled = await _wait_until_done(running)
    with translate_sqlite_errors():
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


async def _roll_back(connection: aiosqlite.Connection) -> None:
    """Roll back, unless an error such as a full disk has done so already."""
    if connection.in_transaction:
        await _run_to_end(connection, "ROLLBACK")


async def _wait_until_done(
    running: asyncio.Future[Any], on_cancel: Callable[[], None] | None = None
) -> asyncio.CancelledError | None:
    """Wait for a future despite cancellations; return the last one."""
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    return cancelled


class WriteClassLock:
    """Priority lock with starvation protection.

    Job claims are short and urgent, ingest is neither.
    """

    def __init__(self) -> None:
        """Start unlocked."""
        self._held = False
        self._waiting: dict[WriteClass, deque[asyncio.Future[None]]] = {
            write_class: deque() for write_class in WriteClass
        }
        self._overtaken: dict[WriteClass, int] = dict.fromkeys(WriteClass, 0)

    async def acquire(self, write_class: WriteClass) -> None:
        """Wait for the lock in the queue of a write class."""
        if not self._held:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[write_class].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the lock was granted already: pass it on
            else:
                self._waiting[write_class].remove(turn)
            raise

    def release(self) -> None:
        """Grant the lock to the next waiter, if there is one."""
        write_class = self._next_write_class()
        if write_class is None:
            self._held = False
            return
        for other in WriteClass:
            if other > write_class and self._waiting[other]:
                self._overtaken[other] += 1
        self._overtaken[write_class] = 0
        self._waiting[write_class].popleft().set_result(None)

    def _next_write_class(self) -> WriteClass | None:
        waiting = [write_class for write_class in WriteClass if self._waiting[write_class]]
        for write_class in waiting:
            if self._overtaken[write_class] >= MAX_OVERTAKES:
                return write_class
        return waiting[0] if waiting else None
