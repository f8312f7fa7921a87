"""SQLite's transactions: all or nothing, whoever is cancelled, interrupted or locked out."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from homeroom.clock import Clock
from homeroom.db import sqlite
from homeroom.db.sqlite import SqliteDatabase
from homeroom.db.tx import Question, Row, Tx
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
    """Return what another process would see."""
    with closing(sqlite3.connect(db.path)) as other:
        return [row[0] for row in other.execute("SELECT id FROM pupil ORDER BY id")]


async def _set(event: threading.Event) -> None:
    """Wait for what another thread says, without holding the loop up."""
    assert await asyncio.to_thread(event.wait, 10)


async def test_what_a_transaction_did_is_there_when_it_returns(school: SqliteDatabase) -> None:
    async def add(tx: Tx) -> int:
        count = await tx.executemany(INSERT, [(number, "x") for number in range(200)])
        [[seen]] = await tx.fetch("SELECT count(*) FROM pupil")
        found = await tx.fetch_keyed(
            "SELECT p.id FROM {keys} AS k JOIN pupil AS p ON p.id = k.column1", [(3,), (900,)]
        )
        assert (count, seen, found) == (200, 200, [(3,)])
        by_id = "SELECT p.name FROM {keys} AS k JOIN pupil AS p ON p.id = k.column1"
        questions = [Question(Row, by_id, keys, list) for keys in ([(3,)], [], [(900,)])]
        assert await tx.ask_all(*questions) == [[("x",)], [], []]
        return await tx.execute("UPDATE pupil SET name = ? WHERE id < ?", ("y", 5))

    assert await school.transact(add) == 5
    assert _stored(school) == list(range(200))


async def test_an_error_undoes_everything_and_the_next_one_works(school: SqliteDatabase) -> None:
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


async def test_work_that_waits_for_something_else_is_refused(school: SqliteDatabase) -> None:
    async def wait(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="await its transaction only"):
        await school.transact(wait)
    assert _stored(school) == []


async def test_calls_and_hints_come_after_the_commit_on_the_loops_thread(
    school: SqliteDatabase,
) -> None:
    heard: list[object] = []
    told = asyncio.Event()
    school.subscribe(heard.extend)
    school.subscribe(lambda _: told.set())

    async def add(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        tx.notify("pupils", "1")
        tx.after_commit(lambda: heard.append((threading.current_thread(), _stored(school))))

    await school.transact(add)
    assert heard == [(threading.current_thread(), [1])]  # the request is answered before hints go
    await asyncio.wait_for(told.wait(), 5)
    assert heard == [(threading.current_thread(), [1]), ("pupils", "1")]


async def test_nothing_is_called_after_a_transaction_that_failed(school: SqliteDatabase) -> None:
    heard: list[object] = []
    school.subscribe(heard.extend)

    async def fail(tx: Tx) -> None:
        tx.notify("pupils", "1")
        tx.after_commit(lambda: heard.append("called"))
        raise LookupError

    with pytest.raises(LookupError):
        await school.transact(fail)
    assert heard == []


async def test_an_interrupt_ends_a_statement_that_would_not_end(school: SqliteDatabase) -> None:
    began = threading.Event()

    async def hang(tx: Tx) -> None:
        await tx.execute(INSERT, (1, "x"))
        began.set()
        await tx.fetch(ENDLESS)

    running = asyncio.create_task(school.transact(hang))
    await _set(began)
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
    await _set(began)
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
    await _set(began)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await school.transact(lambda tx: tx.execute(INSERT, (2, "x")))
    assert _stored(school) == [2]


async def test_a_block_that_is_cancelled_is_undone(school: SqliteDatabase) -> None:
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


async def test_a_file_that_another_process_holds_is_unavailable_and_then_is_not(
    database_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
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


async def test_what_another_process_writes_between_transactions_is_seen(
    school: SqliteDatabase,
) -> None:
    async def count(tx: Tx) -> int:
        [[found]] = await tx.fetch("SELECT count(*) FROM pupil")
        return int(found)

    assert await school.transact(count) == 0
    with closing(sqlite3.connect(school.path, isolation_level=None)) as other:
        other.execute(INSERT, (1, "x"))
    assert await school.transact(count) == 1


async def test_a_reader_sees_one_moment_and_cannot_write(school: SqliteDatabase) -> None:
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
    monkeypatch.setattr(sqlite, "READ_LIMIT_SECONDS", 0.05)
    with pytest.raises(Unavailable):
        async with school.read() as reader:
            await reader.fetch(ENDLESS)
    async with school.read() as reader:
        assert await reader.fetch("SELECT 1") == [(1,)]


async def test_a_closed_database_says_so(database_file: Path, clock: Clock) -> None:
    db = SqliteDatabase(database_file, clock)
    await db.open()
    await db.close()
    with pytest.raises(Unavailable):
        await db.transact(lambda tx: tx.execute("SELECT 1"))
    with pytest.raises(Unavailable):
        async with db.write():
            pass


async def test_closing_waits_for_what_is_being_written(database_file: Path, clock: Clock) -> None:
    db = SqliteDatabase(database_file, clock)
    await db.open()
    began, go_on = threading.Event(), threading.Event()

    async def slow(tx: Tx) -> None:
        await tx.execute("CREATE TABLE pupil (id INTEGER)")
        began.set()
        assert go_on.wait(10)
        await tx.execute("INSERT INTO pupil VALUES (1)")

    running = asyncio.create_task(db.transact(slow))
    await _set(began)
    closed = asyncio.create_task(db.close())
    go_on.set()
    await asyncio.gather(running, closed)
    assert _stored(db) == [1]


async def test_closing_waits_for_who_still_reads(database_file: Path, clock: Clock) -> None:
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
