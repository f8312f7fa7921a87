"""A PostgreSQL database: many writers at READ COMMITTED, snapshots to read from.

Transactions that read and then write the same rows exclude each other by ``Tx.lock`` and
``Tx.row_lock``; an upsert or a unique key needs neither (decision 0013).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog

from homeroom.clock import Clock
from homeroom.db.database import SLOW_HINT, Database, HintListener, WriteClass
from homeroom.db.postgres.driver import (
    CONNECT_TIMEOUT_SECONDS,
    SESSION_SETTINGS,
    STATEMENT_TIMEOUT_SECONDS,
    WAIT_TIMEOUT_SECONDS,
    TransactionConflict,
    asyncpg,
    connect_postgres,
    driver_url,
    is_lost,
    require_driver,
    translate_postgres_errors,
    translate_url_errors,
)
from homeroom.db.postgres.notifier import HintNotifier
from homeroom.db.postgres.transaction import PostgresTx, StatementCache
from homeroom.db.tx import Tx
from homeroom.errors import (
    ConfigurationError,
    DatabaseSlow,
    DatabaseUnreachable,
    TooManyConnections,
    Unavailable,
)
from homeroom.instant import SECOND, from_datetime

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

MIN_SERVER_MAJOR = 15
"""The oldest supported major version of the server."""
DEFAULT_CONNECTIONS = 16
"""Most connections of one process, including the one for hints."""
MIN_CONNECTIONS = 8
READ_TIMEOUT_SECONDS = 5.0
MAX_TRANSACTION_TRIES = 5
"""Most tries of a transaction that was rolled back because of another one."""
_RESERVED_CONNECTIONS = 3
"""Connections that requests may not use: one each for job commits, maintenance and leases. Those of
ingest come on top."""
_INGEST_COMMITS = 3
"""Concurrent commits of ingest in one process, if there are enough connections."""
_CONFLICT_PAUSE_SECONDS = 0.02
_INTERRUPT_TIMEOUT_SECONDS = 2.0
_CLOCK_SKEW_WARNING_SECONDS = 2.0
MAX_CLOCK_SKEW_SECONDS = 10.0
"""The clocks of two machines within this skew differ by less than the 30 s of a lease."""

_BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresDatabase(Database):
    """A database on a PostgreSQL server, with pools of connections to it."""

    dialect = "postgresql"

    def __init__(self, url: str, clock: Clock, *, connections: int = DEFAULT_CONNECTIONS) -> None:
        """Use the libpq URL of a migrated database, with at most so many connections."""
        super().__init__(clock)
        require_driver()
        self._url = url
        writers = max(connections, MIN_CONNECTIONS) * 5 // 8
        self._pool_sizes = {
            "writers": writers,
            "readers": max(connections, MIN_CONNECTIONS) - writers - 1,
        }
        self.max_concurrent_commits = _INGEST_COMMITS if writers >= 3 * _INGEST_COMMITS else 1
        self._requests = asyncio.Semaphore(
            writers - _RESERVED_CONNECTIONS - self.max_concurrent_commits
        )
        self._writers: Any = None
        self._readers: Any = None
        self._busy: set[Any] = set()
        """Connections on which ingest and jobs write, for ``interrupt``."""
        self._statement_cache: StatementCache = {}
        self._notifier = HintNotifier(self._connect_notifier, self._notify_listeners)

    async def open(self) -> None:
        """Connect; raise ``Unavailable``, or ``ConfigurationError`` for an old server.

        Connections beyond the first are opened on demand.
        """
        with translate_url_errors(), translate_postgres_errors():
            self._writers = await self._create_pool("writers")
            self._readers = await self._create_pool("readers")
            try:
                async with self._connection(self._writers) as connection:
                    await _check_server(connection)
            except BaseException:
                await self._disconnect()
                raise
        self._notifier.open()

    async def close(self) -> None:
        """Finish running transactions and disconnect."""
        await self._notifier.close()
        await self._disconnect()

    async def _disconnect(self) -> None:
        pools, self._writers, self._readers = (self._writers, self._readers), None, None
        await asyncio.gather(*[_close_pool(pool) for pool in pools if pool is not None])

    async def _create_pool(self, name: str) -> Any:
        return await asyncpg.create_pool(
            driver_url(self._url),
            min_size=0,
            max_size=self._pool_sizes[name],
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=STATEMENT_TIMEOUT_SECONDS + CONNECT_TIMEOUT_SECONDS,
            statement_cache_size=512,
            server_settings=SESSION_SETTINGS,
            reset=_skip_reset,
        )

    async def _connect_notifier(self) -> Any:
        return await connect_postgres(self._url, synchronous_commit="off")

    def keep_connection(self) -> None:
        """Hold one connection; idle ones of the pools are closed after five minutes."""
        self._notifier.keep_connection()

    def subscribe(self, listener: HintListener) -> Callable[[], None]:
        """Call ``listener`` with the hints of every commit in every process.

        ``("*", "*")`` stands for lost hints.
        """
        self._notifier.listen()
        return super().subscribe(listener)

    def _committed(self, tx: Tx) -> None:
        super()._committed(tx)
        if tx.topics:
            self._notifier.send_soon(tx.topics)

    @asynccontextmanager
    async def write(self, write_class: WriteClass = WriteClass.REQUEST) -> AsyncIterator[Tx]:
        """Open a write transaction: committed after the block, rolled back on an error.

        Raises ``Unavailable`` if the server is away, if a connection or a lock is not free within
        10 seconds, or if the transaction was rolled back because of another one.
        """
        with self._recorded_faults():
            async with self._write(write_class) as tx:
                yield tx

    @asynccontextmanager
    async def _write(self, write_class: WriteClass) -> AsyncIterator[Tx]:
        async with self._request_slot(write_class), self._connection(self._writers) as connection:
            if write_class is not WriteClass.REQUEST:
                self._busy.add(connection)
            try:
                tx = PostgresTx(connection, self.clock.now(), self._statement_cache, _BEGIN_WRITE)
                try:
                    yield tx
                    await tx.finish()
                except BaseException:
                    if tx.has_begun:
                        await _roll_back(connection)
                    raise
                cancelled = await _commit(connection) if tx.has_begun else None
            finally:
                self._busy.discard(connection)
            # Before the pool takes the connection back: callers need not wait for that.
            self._committed(tx)
        if cancelled is not None:
            raise cancelled

    async def transact(
        self,
        work: Callable[[Tx], Coroutine[Any, Any, Result]],
        write_class: WriteClass = WriteClass.REQUEST,
    ) -> Result:
        """Run ``work`` in a write transaction; retry it after a conflict.

        A unique key that another transaction inserted after ``work`` read counts as a conflict.
        """
        for tries_left in reversed(range(MAX_TRANSACTION_TRIES)):
            try:
                async with self.write(write_class) as tx:
                    return await work(tx)
            except (TransactionConflict, asyncpg.UniqueViolationError) as conflict:
                if not tries_left:
                    raise
                log.info("transaction_retried", error=str(conflict))
                await asyncio.sleep(random.random() * _CONFLICT_PAUSE_SECONDS)
        raise AssertionError("the loop above returns or raises")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Open a snapshot that cannot write; ``Unavailable`` after 5 seconds.

        An open snapshot prevents the server from vacuuming old rows.
        """
        with self._recorded_faults():
            async with self._read() as tx:
                yield tx

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[Tx]:
        async with self._connection(self._readers) as connection:
            try:
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    await _execute(connection, _BEGIN_READ)
                    try:
                        yield PostgresTx(connection, self.clock.now(), self._statement_cache)
                    finally:
                        await _roll_back(connection)
            except TimeoutError as error:
                raise DatabaseSlow(
                    "The read took longer than 5 seconds.", hint=SLOW_HINT, retry_after_seconds=1
                ) from error

    async def interrupt(self) -> None:
        """Make the statements that ingest and jobs are running fail, if any run.

        Asks the server to cancel them; if it does not answer, terminates their connections.
        """
        stuck = list(self._busy)
        if not stuck:
            return
        with suppress(Exception):
            async with asyncio.timeout(_INTERRUPT_TIMEOUT_SECONDS):
                other = await connect_postgres(self._url)
                try:
                    for connection in stuck:
                        pid = connection.get_server_pid()
                        await other.execute("SELECT pg_cancel_backend($1)", pid)
                finally:
                    other.terminate()
                return
        for connection in stuck:
            if connection in self._busy:
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()

    @asynccontextmanager
    async def _request_slot(self, write_class: WriteClass) -> AsyncIterator[None]:
        """Make a request wait while other requests use all but the reserved connections."""
        if write_class is not WriteClass.REQUEST:
            yield
            return
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
                await self._requests.acquire()
        except TimeoutError as error:
            raise Unavailable(
                "Too many requests are writing to the database. Send the request again later.",
                retry_after_seconds=1,
            ) from error
        try:
            yield
        finally:
            self._requests.release()

    @asynccontextmanager
    async def _connection(self, pool: Any) -> AsyncIterator[Any]:
        """Acquire a connection; terminate one that is left in a transaction."""
        if pool is None:
            raise Unavailable("The database is closed.")
        with translate_postgres_errors():
            # The time-out of ``acquire`` would create a task for each call.
            try:
                async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
                    connection = await pool.acquire()
            except TimeoutError as error:
                raise _acquire_timeout(pool) from error
        try:
            yield connection
        finally:
            # A lost connection was removed from the pool and raises an error here.
            with suppress(Exception):
                if connection.is_in_transaction():
                    connection.terminate()
            with suppress(Exception):
                await pool.release(connection)


def _acquire_timeout(pool: Any) -> Unavailable:
    """Return the cause of a wait: no free connection, or a silent server."""
    if pool.get_size() >= pool.get_max_size() and not pool.get_idle_size():
        return TooManyConnections(
            f"All {pool.get_size()} connections of this process to PostgreSQL are in use.",
            hint="Look for long transactions in pg_stat_activity, or raise"
            " HOMEROOM_DATABASE_CONNECTIONS.",
            retry_after_seconds=1,
        )
    return DatabaseUnreachable(
        "The PostgreSQL server does not answer.",
        hint="Check that the server runs, and HOMEROOM_DATABASE_URL.",
        retry_after_seconds=1,
    )


async def _close_pool(pool: Any) -> None:
    """Close the connections of a pool; terminate them if the server does not answer."""
    try:
        async with asyncio.timeout(_INTERRUPT_TIMEOUT_SECONDS):
            await pool.close()
    except Exception:
        pool.terminate()


async def _skip_reset(_: Any) -> None:
    """Skip the reset: locks and settings of a transaction end with it."""


async def _check_server(connection: Any) -> None:
    """Raise ``ConfigurationError`` for an unsupported server or database."""
    version = connection.get_server_version()
    if version.major < MIN_SERVER_MAJOR:
        raise ConfigurationError(
            f"The server is PostgreSQL {version.major},"
            f" but Homeroom needs {MIN_SERVER_MAJOR} or later.",
            hint="Upgrade the server, or use another one.",
        )
    await _check_clock(connection)
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database has the encoding {encoding}, which cannot store every name.",
            hint="Create another database: createdb --encoding=UTF8 --template=template0",
        )


async def _check_clock(connection: Any) -> None:
    """Raise ``ConfigurationError`` if this machine's clock is far from the server's.

    Leases of jobs are compared by the clocks of all machines: one that is ahead would rescue jobs
    that another machine still runs, and they would run twice.
    """
    machine_clock = Clock()  # the clock of a ``Database`` may be shifted, for a demo
    asked_at = machine_clock.now()
    server_now = from_datetime(await connection.fetchval("SELECT clock_timestamp()"))
    # The least skew that explains the answer, however slow it was.
    skew_seconds = max(asked_at - server_now, server_now - machine_clock.now(), 0) / SECOND
    if skew_seconds >= MAX_CLOCK_SKEW_SECONDS:
        raise ConfigurationError(
            f"The clocks of this machine and of the database server are {skew_seconds:.0f} s"
            " apart; jobs would run twice.",
            hint="Synchronize both with a time server (chrony, systemd-timesyncd). Start again.",
        )
    if skew_seconds >= _CLOCK_SKEW_WARNING_SECONDS:
        log.warning("clock_skew_detected", seconds=round(skew_seconds, 1))


async def _execute(connection: Any, sql: str) -> None:
    with translate_postgres_errors(connection):
        await connection.execute(sql)


async def _commit(connection: Any) -> asyncio.CancelledError | None:
    """Commit even if the caller is cancelled meanwhile; return that cancellation.

    Raises ``Unavailable`` for a commit without an answer: the server may have done it or not.
    """
    running = asyncio.ensure_future(connection.execute("COMMIT"))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    try:
        with translate_postgres_errors(connection):
            status = running.result()
    except Unavailable as error:
        if not is_lost(connection):
            raise
        raise Unavailable(
            "The connection to the PostgreSQL database was lost during the commit: the changes were"
            " stored completely or not at all. Send the request again later.",
            retry_after_seconds=1,
        ) from error
    if status != "COMMIT":  # the answer after an error that the caller caught
        raise RuntimeError("a statement of this transaction had failed, so it was rolled back")
    return cancelled


async def _roll_back(connection: Any) -> None:
    """Roll back; terminate a connection that fails to do so."""
    try:
        running = asyncio.ensure_future(connection.execute("ROLLBACK"))
        running.add_done_callback(_retrieve_exception)  # a cancelled caller does not
        async with asyncio.timeout(_INTERRUPT_TIMEOUT_SECONDS):
            await asyncio.shield(running)
    except BaseException as error:
        with suppress(asyncpg.InterfaceError):  # it was lost and removed from the pool
            connection.terminate()
        if isinstance(error, asyncio.CancelledError):
            raise


def _retrieve_exception(ended: asyncio.Future[Any]) -> None:
    if not ended.cancelled():
        ended.exception()
