"""SQLite's transactions are atomic under errors, cancellations, interrupts and locks."""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import aiosqlite
import pytest

from homeroom.clock import Clock
from homeroom.db.bulk import BatchedRead, bulk_tx
from homeroom.db.sqlite import database as database_module
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.db.sqlite.transaction import driver_connection, run_in_connection_thread
from homeroom.db.tx import Row, Tx
from homeroom.errors import Unavailable

pytestmark = pytest.mark.anyio
ENDLESS = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
INSERT = "INSERT INTO pupil (id, name) VALUES (?, ?)"


@pytest.fixture
async def school(db: SqliteDatabase) -> SqliteDatabase:
    async with db.write() as tx:
        await tx.execute("CREATE TABLE pupil (id INTEGER PRIMARY KEY, name TEXT)")
    return db


def _stored(db: SqliteDatabase) -> list[Any]:
    """Return the ids that another process sees."""
    with closing(sqlite3.connect(db.path)) as other:
        return [row[0] for row in other.execute("SELECT id FROM pupil ORDER BY id")]


async def _wait_for(event: threading.Event) -> None:
    """Wait for another thread without blocking the loop."""
    assert await asyncio.to_thread(event.wait, 10)


async def test_the_private_parts_of_aiosqlite_are_as_the_transactions_expect() -> None:
    """``db/sqlite/transaction.py`` uses ``Connection._tx`` and ``Connection._conn``.

    If this fails after an upgrade of aiosqlite, adapt ``driver_connection`` and
    ``run_in_connection_thread``.
    """
    connection = await aiosqlite.connect(":memory:")
    try:
        assert isinstance(connection._tx, SimpleQueue)
        assert isinstance(driver_connection(connection), sqlite3.Connection)
        thread = run_in_connection_thread(connection, threading.get_ident)
        again = run_in_connection_thread(connection, threading.get_ident)
        assert await thread == await again != threading.get_ident()
    finally:
        await connection.close()


def test_only_one_file_uses_the_private_parts_of_aiosqlite() -> None:
    source = Path(database_module.__file__).parents[2]
    private = re.compile(r"connection\w*\._\w|_writer\._\w|reader\._\w")
    users = {path.name for path in source.rglob("sqlite/*.py") if private.search(path.read_text())}
    assert users == {"transaction.py"}


async def test_rows_of_a_transaction_are_stored_when_it_returns(school: SqliteDatabase) -> None:
    async def add(tx: Tx) -> int:
        count = await tx.executemany(INSERT, [(number, "x") for number in range(200)])
        [[seen]] = await tx.fetch("SELECT count(*) FROM pupil")
        found = await tx.fetch_by_keys(
            "SELECT p.id FROM {keys} AS k JOIN pupil AS p ON p.id = k.column1", [(3,), (900,)]
        )
        assert (count, seen, found) == (200, 200, [(3,)])
        by_id = "SELECT p.name FROM {keys} AS k JOIN pupil AS p ON p.id = k.column1"
        reads = [BatchedRead(Row, by_id, keys, list) for keys in ([(3,)], [], [(900,)])]
        assert await bulk_tx(tx).fetch_many(*reads) == [[("x",)], [], []]
        return await tx.execute("UPDATE pupil SET name = ? WHERE id < ?", ("y", 5))

    assert await school.transact(add) == 5
    assert _stored(school) == list(range(200))


async def test_an_error_rolls_everything_back_and_the_next_one_works(
    school: SqliteDatabase,
) -> None:
    async def fail(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        raise LookupError("no such pupil")

    async def add(tx: Tx) -> None:
        await tx.execute(INSERT, (2, "x"))

    with pytest.raises(LookupError):
        await school.transact(fail)
    with pytest.raises(sqlite3.IntegrityError):
        await school.transact(lambda tx: tx.executemany(INSERT, [(3, "x"), (3, "x")]))
    await school.transact(add)
    assert _stored(school) == [2]


async def test_work_that_awaits_something_else_is_refused(school: SqliteDatabase) -> None:
    async def wait(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="await its transaction only"):
        await school.transact(wait)
    assert _stored(school) == []


async def test_callbacks_and_hints_follow_the_commit_on_the_loops_thread(
    school: SqliteDatabase,
) -> None:
    received: list[object] = []
    hinted = asyncio.Event()
    school.subscribe(received.extend)
    school.subscribe(lambda _: hinted.set())

    async def add(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        tx.notify("pupils", "1")
        tx.after_commit(lambda: received.append((threading.current_thread(), _stored(school))))

    await school.transact(add)
    assert received == [(threading.current_thread(), [1])]  # the request is answered before hints
    await asyncio.wait_for(hinted.wait(), 5)
    assert received == [(threading.current_thread(), [1]), ("pupils", "1")]


async def test_nothing_is_called_after_a_transaction_that_failed(school: SqliteDatabase) -> None:
    received: list[object] = []
    school.subscribe(received.extend)

    async def fail(tx: Tx) -> None:
        tx.notify("pupils", "1")
        tx.after_commit(lambda: received.append("called"))
        raise LookupError

    with pytest.raises(LookupError):
        await school.transact(fail)
    assert received == []


async def test_an_interrupt_ends_a_statement_that_would_not_end(school: SqliteDatabase) -> None:
    began = threading.Event()

    async def hang(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        began.set()
        await tx.fetch(ENDLESS)

    running = asyncio.create_task(school.transact(hang))
    await _wait_for(began)
    await school.interrupt()
    with pytest.raises(Unavailable):
        await running
    assert _stored(school) == []


async def test_an_interrupt_between_two_statements_is_not_lost(school: SqliteDatabase) -> None:
    began, go_on = threading.Event(), threading.Event()

    async def pause(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        began.set()
        assert go_on.wait(10)

    running = asyncio.create_task(school.transact(pause))
    await _wait_for(began)
    await school.interrupt()
    go_on.set()
    with pytest.raises(Unavailable):
        await running
    assert _stored(school) == []


async def test_a_cancelled_caller_leaves_the_writer_free_and_nothing_behind(
    school: SqliteDatabase,
) -> None:
    began = threading.Event()

    async def hang(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        began.set()
        await tx.fetch(ENDLESS)

    running = asyncio.create_task(school.transact(hang))
    await _wait_for(began)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await school.transact(lambda tx: tx.execute(INSERT, (2, "x")))
    assert _stored(school) == [2]


async def test_a_cancelled_block_is_rolled_back(school: SqliteDatabase) -> None:
    began = asyncio.Event()

    async def write() -> None:
        async with school.write() as tx:
            await tx.execute(INSERT, (1, "x"))
            began.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(write())
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with school.write() as tx:
        await tx.execute(INSERT, (2, "x"))
    assert _stored(school) == [2]


async def test_a_file_that_another_process_locks_is_unavailable_until_it_is_released(
    database_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 20)
    db = SqliteDatabase(database_file, clock)
    await db.open()
    with closing(sqlite3.connect(database_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            await db.transact(lambda tx: tx.execute("CREATE TABLE pupil (id INTEGER)"))
        with pytest.raises(Unavailable):
            async with db.write() as tx:
                await tx.execute("CREATE TABLE pupil (id INTEGER)")
        other.execute("ROLLBACK")
    await db.transact(lambda tx: tx.execute("CREATE TABLE pupil (id INTEGER)"))
    await db.close()


async def test_rows_that_another_process_writes_between_transactions_are_seen(
    school: SqliteDatabase,
) -> None:
    async def count(tx: Tx) -> int:
        [[found]] = await tx.fetch("SELECT count(*) FROM pupil")
        return int(found)

    assert await school.transact(count) == 0
    with closing(sqlite3.connect(school.path, isolation_level=None)) as other:
        other.execute(INSERT, (1, "x"))
    assert await school.transact(count) == 1


async def test_a_reader_sees_one_snapshot_and_cannot_write(school: SqliteDatabase) -> None:
    async with school.read() as reader:
        assert await reader.fetch("SELECT * FROM pupil") == []
        await school.transact(lambda tx: tx.execute(INSERT, (1, "x")))
        assert await reader.fetch("SELECT * FROM pupil") == []
        with pytest.raises(Unavailable):
            await reader.execute(INSERT, (2, "x"))
    async with school.read() as reader:
        assert await reader.fetch("SELECT id FROM pupil") == [(1,)]


async def test_a_reader_that_takes_too_long_is_ended(
    school: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "READ_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(Unavailable):
        async with school.read() as reader:
            await reader.fetch(ENDLESS)
    async with school.read() as reader:
        assert await reader.fetch("SELECT 1") == [(1,)]


async def test_a_closed_database_is_unavailable(database_file: Path, clock: Clock) -> None:
    db = SqliteDatabase(database_file, clock)
    await db.open()
    await db.close()
    with pytest.raises(Unavailable):
        await db.transact(lambda tx: tx.execute("SELECT 1"))
    with pytest.raises(Unavailable):
        async with db.write():
            pass


async def test_closing_waits_for_the_running_transaction(database_file: Path, clock: Clock) -> None:
    db = SqliteDatabase(database_file, clock)
    await db.open()
    began, go_on = threading.Event(), threading.Event()

    async def slow(tx: Tx) -> None:
        await tx.execute("CREATE TABLE pupil (id INTEGER)")
        began.set()
        assert go_on.wait(10)
        await tx.execute("INSERT INTO pupil VALUES (1)")

    running = asyncio.create_task(db.transact(slow))
    await _wait_for(began)
    closed = asyncio.create_task(db.close())
    go_on.set()
    await asyncio.gather(running, closed)
    assert _stored(db) == [1]


async def test_closing_waits_for_open_readers(database_file: Path, clock: Clock) -> None:
    database = SqliteDatabase(database_file, clock)
    await database.open()
    async with database.read() as tx:
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0)
        assert await tx.fetch("SELECT 1") == [(1,)]
        assert not closing.done()
    await closing
    with pytest.raises(Unavailable, match="closed"):
        async with database.read():
            pass


async def test_a_connection_whose_opening_is_cancelled_is_closed(
    database_file: Path, clock: Clock
) -> None:
    database = SqliteDatabase(database_file, clock)
    for turns in range(4):  # before, while and after its thread opens the file
        opening = asyncio.create_task(database._connect("PRAGMA cache_size=-64;"))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    gc.collect()  # an open one would warn here, and warnings are errors
