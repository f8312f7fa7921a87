"""Transactions of PostgreSQL: the statements they send, and conflicts of many writers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import asyncpg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, select

from homeroom.clock import Clock
from homeroom.db.bulk import BatchedRead, bulk_tx
from homeroom.db.database import WriteClass
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.postgres.transaction import (
    COPY_MIN_ROWS,
    MAX_LOCKED_IDS,
    PostgresTx,
    number_placeholders,
)
from homeroom.db.tx import Row, Tx
from homeroom.errors import Unavailable

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 20
PUPIL = Table("pupil", MetaData(), Column("id", Text), Column("points", Integer))
MANY = 3_000


@pytest.fixture
async def school(postgresql: PostgresDatabase) -> PostgresDatabase:
    async with postgresql.write() as tx:
        await tx.execute(
            "CREATE TABLE pupil (seq BIGSERIAL, id TEXT PRIMARY KEY, points INTEGER, photo BYTEA)"
        )
        await tx.executemany(
            "INSERT INTO pupil (id, points) VALUES (?, ?)", [("ada", 1), ("bo", 2)]
        )
    return postgresql


async def points(db: PostgresDatabase) -> dict[str, int]:
    async with db.read() as tx:
        return dict(await tx.fetch("SELECT id, points FROM pupil"))


async def add(tx: Tx, id: str, more: int) -> None:
    await tx.execute("UPDATE pupil SET points = points + ? WHERE id = ?", (more, id))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a = ? AND b = ?", "a = $1 AND b = $2"),
        ("a = '?' AND b = ?", "a = '?' AND b = $1"),
        ("a = 'it''s ?' AND \"odd?\" = ?", "a = 'it''s ?' AND \"odd?\" = $1"),
        ("SELECT 1", "SELECT 1"),
    ],
)
def test_marks_are_numbered_but_not_those_in_literals(sql: str, expected: str) -> None:
    assert number_placeholders(sql) == expected


async def test_rows_changed_are_counted_however_the_statement_is_sent(
    school: PostgresDatabase,
) -> None:
    insert = "INSERT INTO pupil (id, points) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
    rows = [(f"p{number}", number) for number in range(MANY)]
    async with school.write() as tx:
        assert await tx.executemany(insert, [("ada", 9), *rows]) == MANY
        assert await tx.executemany(insert, rows[:2]) == 0
        assert await tx.executemany(insert, []) == 0
        update = "UPDATE pupil SET points = ? WHERE id = ?"
        assert await tx.executemany(update, [(5, "ada"), (6, "missing"), (7, "bo")]) == 2
        assert await tx.execute("DELETE FROM pupil WHERE points >= ?", (10,)) == MANY - 10
        in_order = await tx.fetch("SELECT id FROM pupil WHERE id LIKE 'p%' ORDER BY seq")
    assert in_order == [(id,) for id, _ in rows[:10]]


async def test_many_plain_rows_are_copied_and_equal_single_inserts(
    school: PostgresDatabase,
) -> None:
    insert = "INSERT INTO pupil (id, points, photo) VALUES (?, ?, ?)"
    rows = [(f"p{number}", number or None, b"\x00\xff") for number in range(COPY_MIN_ROWS)]
    async with school.write() as tx:
        assert await tx.executemany(insert, [("cut\x00here", 2**31 - 1, None), *rows]) == 1 + len(
            rows
        )
        stored = await tx.fetch(
            "SELECT id, points, photo FROM pupil WHERE id LIKE 'p%' ORDER BY seq"
        )
        assert await tx.fetch_one("SELECT points FROM pupil WHERE id = ?", ("cut\ufffdhere",))
    assert stored == rows


async def test_copied_rows_with_an_existing_key_fail_and_none_is_stored(
    school: PostgresDatabase,
) -> None:
    insert = "INSERT INTO pupil (id, points) VALUES (?, ?)"
    rows = [*((f"p{number}", number) for number in range(COPY_MIN_ROWS)), ("ada", 9)]
    with pytest.raises(asyncpg.UniqueViolationError):
        async with school.write() as tx:
            await tx.executemany(insert, rows)
    assert await points(school) == {"ada": 1, "bo": 2}


async def test_any_number_of_keys_is_one_statement(school: PostgresDatabase) -> None:
    keys = [("ada", 1), ("bo", 3), *(("x", number) for number in range(MANY))]
    sql = (
        "SELECT p.id, p.photo FROM {keys} AS k JOIN pupil AS p"
        " ON p.id = k.column1 AND p.points = k.column2"
    )
    async with school.read() as tx:
        assert await tx.fetch_by_keys(sql, keys) == [("ada", None)]
        assert await tx.fetch_by_keys(sql, []) == []


@pytest.mark.parametrize("names", [["ada", "bo\x1fb"], ["", "ada"], [""], ["\x1f"]])
async def test_keys_are_found_with_any_text_in_them(
    school: PostgresDatabase, names: list[str]
) -> None:
    async with school.write() as tx:
        for name in {*names} - {"ada"}:
            await tx.execute("INSERT INTO pupil (id, points) VALUES (?, ?)", (name, 7))
    sql = "SELECT p.id FROM {keys} AS k JOIN pupil AS p ON p.id = k.column1 ORDER BY 1"
    keys = [(name,) for name in names]
    async with school.read() as tx:
        assert await tx.fetch_by_keys(sql, keys) == sorted(keys)
        assert await bulk_tx(tx).fetch_batch(BatchedRead(Row, sql, keys, list)) == sorted(keys)


async def test_several_batched_reads_are_one_statement(school: PostgresDatabase) -> None:
    name = 'Zoë, "]\\\n'
    async with school.write() as tx:
        await tx.execute("INSERT INTO pupil (id, points) VALUES (?, ?)", (name, None))
    plain = "SELECT p.id, p.points FROM {keys} AS k JOIN pupil AS p ON p.id = k.column1"
    by_points = (
        "SELECT k.column2 AS wanted, p.points, '{\"a\": [1]}' AS more_json FROM {keys} AS k"
        " JOIN pupil AS p ON p.points = k.column1"
    )
    reads = (
        BatchedRead(Row, plain, [("ada",), (name,), ("missing",)], sorted),
        BatchedRead(Row, plain, [], len),
        BatchedRead(Row, by_points, [(2, "two"), (7, "seven")], list),
    )
    async with school.read() as tx:
        assert isinstance(tx, PostgresTx)
        await tx.fetch_many(*reads)
        trips: list[object] = []
        with tx._connection.query_logger(trips.append):
            results = await tx.fetch_many(*reads)
        assert await tx.fetch_many(reads[1]) == [0]
    assert len(trips) == 1
    assert results == [[(name, None), ("ada", 1)], 0, [("two", 2, {"a": [1]})]]


async def test_values_are_stored_unchanged_except_for_nul(
    school: PostgresDatabase,
) -> None:
    insert = "INSERT INTO pupil (id, points, photo) VALUES (?, ?, ?)"
    async with school.write() as tx:
        await tx.execute(insert, ("Zoë \N{OWL} '?'", None, b"\x00\xff"))
        await tx.executemany(insert, [("cut\x00here", 2**31 - 1, None)])
        statement = select(PUPIL.c.id).where(PUPIL.c.id.in_(["cut\ufffdhere", "bo"]))
        assert await tx.fetch(statement.order_by(PUPIL.c.id)) == [("bo",), ("cut\ufffdhere",)]
        row = await tx.fetch_one("SELECT points, photo FROM pupil WHERE id LIKE 'Zo%'")
    assert row == (None, b"\x00\xff")


async def test_an_error_rolls_back_and_the_connection_remains_usable(
    school: PostgresDatabase,
) -> None:
    async def work(tx: Tx) -> None:
        await add(tx, "ada", 100)
        await tx.execute("INSERT INTO pupil (id) VALUES ('bo')")

    for _ in range(20):  # more often than there are connections
        with pytest.raises(asyncpg.UniqueViolationError):
            await school.transact(work)
    assert await points(school) == {"ada": 1, "bo": 2}


async def test_an_error_that_the_caller_caught_is_not_a_commit(
    school: PostgresDatabase,
) -> None:
    async def careless() -> None:
        async with school.write() as tx:
            await add(tx, "ada", 100)
            with pytest.raises(asyncpg.UndefinedTableError):
                await tx.fetch("SELECT * FROM nothing")

    with pytest.raises(RuntimeError, match="rolled back"):
        await careless()
    assert await points(school) == {"ada": 1, "bo": 2}


async def test_two_transactions_in_a_deadlock_are_both_committed(school: PostgresDatabase) -> None:
    both = asyncio.Barrier(2)
    tries: list[str] = []

    async def give(first: str, second: str) -> None:
        async def work(tx: Tx) -> None:
            tries.append(first)
            await add(tx, first, 10)
            if len(tries) <= 2:
                await both.wait()  # each holds the row that the other needs
            await add(tx, second, 10)

        await school.transact(work)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(give("ada", "bo"), give("bo", "ada"))
    assert len(tries) == 3
    assert await points(school) == {"ada": 21, "bo": 22}


async def test_a_deadlock_without_a_retry_is_unavailable(school: PostgresDatabase) -> None:
    both = asyncio.Barrier(2)

    async def give(first: str, second: str) -> None:
        async with school.write() as tx:
            await add(tx, first, 10)
            await both.wait()
            await add(tx, second, 10)

    async with asyncio.timeout(PATIENCE_SECONDS):
        found = await asyncio.gather(give("ada", "bo"), give("bo", "ada"), return_exceptions=True)
    [error] = [each for each in found if each is not None]
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == 1
    assert await points(school) == {"ada": 11, "bo": 12}


@pytest.mark.parametrize(
    "ids", [["ada"], [f"u{number}" for number in range(MAX_LOCKED_IDS + 1)], None]
)
async def test_a_lock_makes_the_second_read_the_writes_of_the_first(
    school: PostgresDatabase, ids: Sequence[str] | None
) -> None:
    async def count_up(wanted: Sequence[str] | None) -> None:
        async with school.write() as tx:
            await tx.lock("pupil", wanted)
            [[now]] = await tx.fetch("SELECT points FROM pupil WHERE id = 'ada'")
            await tx.execute("UPDATE pupil SET points = ? WHERE id = 'ada'", (now + 1,))

    some = ["ada", "bo"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(count_up(wanted) for wanted in [ids, some] * 10))
    assert (await points(school))["ada"] == 21


async def test_another_lock_does_not_wait(school: PostgresDatabase) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with school.write() as tx, school.write() as other:
            await tx.lock("pupil", ["ada"])
            await other.lock("pupil", ["bo"])
            await other.lock("teacher")


async def test_a_read_is_a_snapshot_that_cannot_write(school: PostgresDatabase) -> None:
    async with school.read() as tx:
        before = await tx.fetch("SELECT sum(points) FROM pupil")
        async with school.write() as writer:
            await add(writer, "ada", 10)
        assert await tx.fetch("SELECT sum(points) FROM pupil") == before
    with pytest.raises(Unavailable):
        async with school.read() as tx:
            await add(tx, "ada", 10)
    assert await points(school) == {"ada": 11, "bo": 2}


async def test_a_read_that_takes_too_long_is_ended(
    school: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.db.postgres.database.READ_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="longer than 5 seconds"):
        async with school.read() as tx:
            await tx.fetch("SELECT pg_sleep(30)")
    monkeypatch.undo()
    assert len(await points(school)) == 2


async def test_a_cancelled_caller_leaves_no_lock(school: PostgresDatabase) -> None:
    began = asyncio.Event()

    async def work(tx: Tx) -> None:
        await add(tx, "ada", 100)
        began.set()
        await tx.fetch("SELECT pg_sleep(30)")

    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(12):  # more often than there are connections
            began.clear()
            running = asyncio.create_task(school.transact(work))
            await began.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        async with school.write() as tx:  # the row is not locked any more
            await add(tx, "ada", 1)
    assert await points(school) == {"ada": 2, "bo": 2}


async def test_an_interrupt_ends_a_statement_of_ingest(school: PostgresDatabase) -> None:
    began = asyncio.Event()

    async def work(tx: Tx) -> None:
        began.set()
        await tx.fetch("SELECT pg_sleep(30)")

    async with asyncio.timeout(PATIENCE_SECONDS):
        await school.interrupt()  # nothing runs: nothing happens
        running = asyncio.create_task(school.transact(work, WriteClass.INGEST))
        await began.wait()
        while not running.done():
            await school.interrupt()
            await asyncio.wait([running], timeout=0.1)
        with pytest.raises(Unavailable):
            await running
    assert len(await points(school)) == 2


async def test_a_connection_that_the_server_ends_is_replaced(school: PostgresDatabase) -> None:
    async def cut_off(tx: Tx) -> None:
        await add(tx, "ada", 100)
        await tx.fetch("SELECT pg_terminate_backend(pg_backend_pid())")

    for _ in range(12):
        with pytest.raises(Unavailable) as refused:
            await school.transact(cut_off)
        assert refused.value.retry_after_seconds == 1
    assert await points(school) == {"ada": 1, "bo": 2}


async def test_two_cancellations_leave_no_unretrieved_error(school: PostgresDatabase) -> None:
    async def hold(began: asyncio.Event) -> None:
        async with school.read():
            began.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_SECONDS):
        for steps in range(8):  # the second one arrives during the rollback
            began = asyncio.Event()
            holding = asyncio.create_task(hold(began))
            await began.wait()
            holding.cancel()
            for _ in range(steps):
                await asyncio.sleep(0)
            holding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await holding
            del holding
            await asyncio.sleep(0.01)
    gc.collect()  # an error that was not retrieved warns when it is collected, and fails this test
    assert len(await points(school)) == 2


async def test_requests_leave_connections_for_ingest_and_jobs(school: PostgresDatabase) -> None:
    enough = asyncio.Event()
    holding: list[int] = []

    async def hold() -> None:
        async with school.write():
            holding.append(1)
            await enough.wait()

    async with asyncio.timeout(PATIENCE_SECONDS):
        requests = [asyncio.create_task(hold()) for _ in range(30)]
        async with school.write(WriteClass.INGEST), school.write(WriteClass.JOBS) as tx:
            await add(tx, "ada", 1)
        assert len(holding) < 30
        enough.set()
        await asyncio.gather(*requests)
    assert (await points(school))["ada"] == 2


async def test_callbacks_run_only_after_a_commit(school: PostgresDatabase) -> None:
    called: list[str] = []

    async def work(tx: Tx) -> None:
        tx.after_commit(lambda: called.append("committed"))
        await add(tx, "ada", 1)
        assert called == []

    await school.transact(work)

    async def fail(tx: Tx) -> None:
        tx.after_commit(lambda: called.append("never"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await school.transact(fail)
    assert called == ["committed"]


async def test_a_closed_database_is_unavailable(postgres_url: str, clock: Clock) -> None:
    db = PostgresDatabase(postgres_url, clock)
    for _ in range(2):
        with pytest.raises(Unavailable, match="closed"):
            async with db.write():
                pass
        with pytest.raises(Unavailable, match="closed"):
            await db.ping()
        await db.open()
        await db.ping()
        await db.close()
