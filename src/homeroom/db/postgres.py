"""PostgreSQL as Homeroom uses it: many writers at READ COMMITTED, snapshots to read from.

Two transactions that read and then write the same thing are kept apart by ``Tx.lock`` and
``Tx.row_lock`` where they do so; what an upsert or a unique key decides needs neither (decision
0013).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import structlog

from homeroom.clock import SECOND, Clock, from_datetime
from homeroom.db.database import Database, Lane, Listener
from homeroom.db.postgres_driver import asyncpg, need_driver
from homeroom.db.postgres_fault import Collided, mapped
from homeroom.db.postgres_hint import Herald
from homeroom.db.postgres_tx import PostgresTx, Shapes
from homeroom.db.tx import Tx
from homeroom.errors import ConfigurationError, Unavailable

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

OLDEST = 15
"""The oldest major version that is supported."""
CONNECTIONS = 16
"""Connections of one process at most, the one for hints included."""
FEWEST = 8
READ_LIMIT_SECONDS = 5.0
CONNECT_SECONDS = 5.0
WAIT_SECONDS = 10.0
"""How long to wait for a connection, or for somebody else's lock, before ``Unavailable``."""
STATEMENT_SECONDS = 20
TRIES = 5
"""How often ``transact`` does a transaction that was undone for the sake of another one."""
_KEPT = 3
"""Connections that requests never take: one each for job commits, upkeep and leases; ingest has
its own."""
_INGEST = 3
"""Commits of ingest that one process has under way, where there are connections enough."""
_COLLISION_PAUSE_SECONDS = 0.02
_INTERRUPT_SECONDS = 2.0
_TOLD_APART_SECONDS = 2.0
REFUSED_APART_SECONDS = 10.0
"""Two machines whose clocks are off the server's by less, to either side, differ by less than the
30 s of a lease."""

_BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_SESSION = {
    "application_name": "homeroom",
    "timezone": "UTC",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": f"{WAIT_SECONDS:g}s",
    "idle_in_transaction_session_timeout": "60s",
}


_CLIENTS_OWN = frozenset(
    {
        "application_name",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "tcp_user_timeout",
    }
)
"""Options of libpq's that ask nothing of the server. The driver would pass on what it does not know
as settings of the server; these we have our own of, or can do without."""
_AS_YOU_LIKE = {"channel_binding": ("disable", "prefer"), "gssencmode": ("disable", "prefer")}
"""Options that may be left out only where they do not insist: the driver can do neither."""


def for_driver(url: str) -> str:
    """Return a libpq URL without those options that the driver does not know and need not."""
    head, _, query = url.partition("?")
    kept = [
        each
        for each in query.split("&")
        if (name := each.partition("=")[0]) not in _CLIENTS_OWN
        and each.partition("=")[2] not in _AS_YOU_LIKE.get(name, ())
    ]
    return f"{head}?{'&'.join(kept)}" if any(kept) else head


async def connect(url: str, **session: str) -> Any:
    """Open a connection of one's own; raise ``Unavailable`` or ``ConfigurationError``.

    ``session`` are settings of the server for this connection. libpq's URL is understood, with its
    TLS options.
    """
    need_driver()
    with _readable_url(), mapped():
        return await asyncpg.connect(
            for_driver(url), timeout=CONNECT_SECONDS, server_settings={**_SESSION, **session}
        )


class PostgresDatabase(Database):
    """A database on a PostgreSQL server, with pools of connections to it."""

    dialect = "postgresql"

    def __init__(self, url: str, clock: Clock, *, connections: int = CONNECTIONS) -> None:
        """Take a libpq URL of a database that was migrated, and how many connections to use."""
        super().__init__(clock)
        need_driver()
        self._url = url
        writers = max(connections, FEWEST) * 5 // 8
        self._sizes = {"writers": writers, "readers": max(connections, FEWEST) - writers - 1}
        self.commits_at_once = _INGEST if writers >= 3 * _INGEST else 1
        self._requests = asyncio.Semaphore(writers - _KEPT - self.commits_at_once)
        self._writers: Any = None
        self._readers: Any = None
        self._busy: set[Any] = set()
        """Connections on which ingest and jobs are writing."""
        self._shapes: Shapes = {}
        self._herald = Herald(self._connect_herald, self._tell)

    async def open(self) -> None:
        """Connect; raise ``Unavailable``, or ``ConfigurationError`` for a server that is too old.

        Connections beyond the first are opened when they are needed.
        """
        with _readable_url(), mapped():
            self._writers = await self._pool("writers")
            self._readers = await self._pool("readers")
            try:
                async with self._connection(self._writers) as connection:
                    await _check(connection)
            except BaseException:
                await self._disconnect()
                raise
        self._herald.open()

    async def close(self) -> None:
        """Finish what runs and disconnect."""
        await self._herald.close()
        await self._disconnect()

    async def _disconnect(self) -> None:
        pools, self._writers, self._readers = (self._writers, self._readers), None, None
        await asyncio.gather(*[_close(pool) for pool in pools if pool is not None])

    async def _pool(self, name: str) -> Any:
        return await asyncpg.create_pool(
            for_driver(self._url),
            min_size=0,
            max_size=self._sizes[name],
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS + CONNECT_SECONDS,
            statement_cache_size=512,
            server_settings=_SESSION,
            reset=_leave_as_it_is,
        )

    async def _connect_herald(self) -> Any:
        return await connect(self._url, synchronous_commit="off")

    def stay_connected(self) -> None:
        """Keep one connection: the pools' idle ones are closed after five minutes."""
        self._herald.stay()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the pairs of every commit, those of other processes too.

        ``("*", "*")`` stands for hints that were lost.
        """
        self._herald.listen()
        return super().subscribe(listener)

    def _committed(self, tx: Tx) -> None:
        super()._committed(tx)
        if tx.topics:
            self._herald.tell(tx.topics)

    @asynccontextmanager
    async def write(self, lane: Lane = Lane.REQUEST) -> AsyncIterator[Tx]:
        """Open a write transaction; it commits at the end of the block, or rolls back on an error.

        Raises ``Unavailable`` where the server is away, where no connection is free or a lock is
        held for longer than 10 seconds, and where it was undone for the sake of another one.
        """
        async with self._turn(lane), self._connection(self._writers) as connection:
            watched = lane is not Lane.REQUEST
            if watched:
                self._busy.add(connection)
            try:
                tx = PostgresTx(connection, self.clock.now(), self._shapes, _BEGIN_WRITE)
                try:
                    yield tx
                except BaseException:
                    if tx.has_begun:
                        await _roll_back(connection)
                    raise
                cancelled = await _commit(connection) if tx.has_begun else None
            finally:
                self._busy.discard(connection)
            self._committed(tx)  # whoever waits for it need not wait for the pool as well
        if cancelled is not None:
            raise cancelled

    async def transact(
        self, work: Callable[[Tx], Coroutine[Any, Any, Result]], lane: Lane = Lane.REQUEST
    ) -> Result:
        """Run ``work`` in a write transaction; again, if it was undone for the sake of another.

        That another one has taken a unique key since ``work`` looked for it is such a case.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                async with self.write(lane) as tx:
                    return await work(tx)
            except (Collided, asyncpg.UniqueViolationError) as collision:
                if not tries_left:
                    raise
                log.info("transaction_repeated", why=str(collision))
                await asyncio.sleep(random.random() * _COLLISION_PAUSE_SECONDS)
        raise AssertionError("the loop above returns or raises")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Open a snapshot that cannot write; ``Unavailable`` after 5 seconds.

        One that stays open keeps the server from clearing away old rows.
        """
        async with self._connection(self._readers) as connection:
            try:
                async with asyncio.timeout(READ_LIMIT_SECONDS):
                    await _run(connection, _BEGIN_READ)
                    try:
                        yield PostgresTx(connection, self.clock.now(), self._shapes)
                    finally:
                        await _roll_back(connection)
            except TimeoutError as error:
                raise Unavailable("The read took longer than 5 seconds.") from error

    async def interrupt(self) -> None:
        """Make the statements that ingest and jobs are running fail, if any run.

        The server is asked to stop them; where it does not answer, the connection is cut.
        """
        stuck = list(self._busy)
        if not stuck:
            return
        with suppress(Exception):
            async with asyncio.timeout(_INTERRUPT_SECONDS):
                other = await connect(self._url)
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
    async def _turn(self, lane: Lane) -> AsyncIterator[None]:
        """Let a request wait while others hold all connections but those that are kept."""
        if lane is not Lane.REQUEST:
            yield
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._requests.acquire()
        except TimeoutError as error:
            raise Unavailable("Too many requests are writing.", retry_after_seconds=1) from error
        try:
            yield
        finally:
            self._requests.release()

    @asynccontextmanager
    async def _connection(self, pool: Any) -> AsyncIterator[Any]:
        """Lend a connection; one that is left within a transaction is thrown away."""
        if pool is None:
            raise Unavailable("The database is closed.")
        with mapped():
            async with asyncio.timeout(WAIT_SECONDS):  # the pool's own takes a task for each
                connection = await pool.acquire()
        try:
            yield connection
        finally:
            # One that is lost meanwhile belongs to nobody any more, and says so by an error.
            with suppress(Exception):
                if connection.is_in_transaction():
                    connection.terminate()
            with suppress(Exception):
                await pool.release(connection)


async def _close(pool: Any) -> None:
    """Close a pool's connections; where the server is away, what is left is cut off."""
    try:
        async with asyncio.timeout(_INTERRUPT_SECONDS):
            await pool.close()
    except Exception:
        pool.terminate()


async def _leave_as_it_is(_: Any) -> None:
    """Reset nothing: transactions are ended, and their locks and settings with them."""


@contextmanager
def _readable_url() -> Iterator[None]:
    """Say of a URL that cannot be read which setting it is, and nothing of what it holds."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            "HOMEROOM_DATABASE_URL cannot be read as the URL of a PostgreSQL database.",
            hint="Write postgresql://user:password@host:5432/database, special characters of the"
            " password percent-encoded, and TLS as libpq has it: ?sslmode=verify-full.",
        ) from error
    except asyncpg.UndefinedObjectError as error:
        raise ConfigurationError(
            f"The server does not know an option of HOMEROOM_DATABASE_URL: {error}.",
            hint="Leave it out. TLS is asked for with sslmode, best verify-full with sslrootcert.",
        ) from error


async def _check(connection: Any) -> None:
    """Raise ``ConfigurationError`` for a server or a database that cannot hold our data."""
    version = connection.get_server_version()
    if version.major < OLDEST:
        raise ConfigurationError(
            f"The server is PostgreSQL {version.major}, and {OLDEST} is the oldest that will do.",
            hint="Upgrade it, or use another server.",
        )
    await _check_clock(connection)
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database keeps text as {encoding}, which cannot hold every name.",
            hint="Make another one with: createdb --encoding=UTF8 --template=template0",
        )


async def _check_clock(connection: Any) -> None:
    """Raise ``ConfigurationError`` where this machine's clock is far from the server's.

    Leases of jobs are compared by the clocks of all machines: one that is ahead takes what another
    is still working on, and it is done twice.
    """
    wall = Clock()  # the machine's: the database's own may be moved, for a demo
    before = wall.now()
    theirs = from_datetime(await connection.fetchval("SELECT clock_timestamp()"))
    # At least so much, however slow the answer was:
    apart = max(before - theirs, theirs - wall.now(), 0) / SECOND
    if apart >= REFUSED_APART_SECONDS:
        raise ConfigurationError(
            f"The clocks of this machine and of the database's server are {apart:.0f} s apart;"
            " jobs would be done twice.",
            hint="Let both follow a time server (chrony, systemd-timesyncd), and start again.",
        )
    if apart >= _TOLD_APART_SECONDS:
        log.warning("clocks_differ", seconds=round(apart, 1))


async def _run(connection: Any, sql: str) -> None:
    with mapped():
        await connection.execute(sql)


async def _commit(connection: Any) -> asyncio.CancelledError | None:
    """Commit, though the caller is cancelled meanwhile; return the cancellation that came."""
    running = asyncio.ensure_future(connection.execute("COMMIT"))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    with mapped():
        ended = running.result()
    if ended != "COMMIT":  # the answer to a COMMIT after an error that somebody has caught
        raise RuntimeError("a statement of this transaction had failed, so it was rolled back")
    return cancelled


async def _roll_back(connection: Any) -> None:
    """Undo what was done; a connection that cannot even do that is cut off."""
    try:
        running = asyncio.ensure_future(connection.execute("ROLLBACK"))
        running.add_done_callback(_take_notice)  # where the caller is cancelled, nobody else does
        async with asyncio.timeout(_INTERRUPT_SECONDS):
            await asyncio.shield(running)
    except BaseException as error:
        with suppress(asyncpg.InterfaceError):  # it was lost, and is in nobody's hands any more
            connection.terminate()
        if isinstance(error, asyncio.CancelledError):
            raise


def _take_notice(ended: asyncio.Future[Any]) -> None:
    if not ended.cancelled():
        ended.exception()
