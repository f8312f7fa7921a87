"""The write-ahead log stays short without a checkpoint inside any commit."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from homeroom.clock import Clock
from homeroom.db.sqlite import database as database_module
from homeroom.db.sqlite import wal_checkpointer
from homeroom.db.sqlite.database import SqliteDatabase

pytestmark = pytest.mark.anyio
PAGE = 4_096
ROW = "x" * 2_000
PAGES = 400


@pytest.fixture
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_checkpointer, "CHECKPOINT_ROWS", 200)
    monkeypatch.setattr(wal_checkpointer, "WAL_RESTART_PAGES", PAGES)


async def _write(db: SqliteDatabase, commits: int) -> None:
    for _ in range(commits):
        await db.transact(
            lambda tx: tx.executemany("INSERT INTO line (text) VALUES (?)", [(ROW,)] * 100)
        )


def _length_of(database: Path) -> int:
    return Path(f"{database}-wal").stat().st_size


async def test_the_log_is_restarted_under_continuous_writes(
    short_log: None, monkeypatch: pytest.MonkeyPatch, database_file: Path, clock: Clock
) -> None:
    monkeypatch.setattr(database_module, "AUTOCHECKPOINT_PAGES", 1_000_000)  # never reached
    db = SqliteDatabase(database_file, clock)
    await db.open()
    async with db.write() as tx:
        await tx.execute("CREATE TABLE line (id INTEGER PRIMARY KEY, text TEXT)")
    await _write(db, 200)
    length = _length_of(database_file)
    assert db._checkpointer.restarts >= 1
    assert length < 200 * 50 * PAGE / 2, "all written pages are still in the log"
    await db.close()
    with closing(sqlite3.connect(database_file)) as other:
        assert other.execute("SELECT count(*) FROM line").fetchone() == (20_000,)
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_an_open_reader_blocks_neither_the_checkpointer_nor_the_writer(
    short_log: None, db: SqliteDatabase
) -> None:
    async with db.write() as tx:
        await tx.execute("CREATE TABLE line (id INTEGER PRIMARY KEY, text TEXT)")
    async with db.read() as reader:
        assert await reader.fetch("SELECT count(*) FROM line") == [(0,)]
        async with asyncio.timeout(4):
            await _write(db, 30)
        assert await reader.fetch("SELECT count(*) FROM line") == [(0,)]
    async with db.read() as reader:
        assert await reader.fetch("SELECT count(*) FROM line") == [(3_000,)]


async def test_a_checkpointer_that_cannot_connect_does_not_disturb_the_writer(
    short_log: None, db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with db.write() as tx:
        await tx.execute("CREATE TABLE line (id INTEGER PRIMARY KEY, text TEXT)")
    path = db.path
    monkeypatch.setattr(db, "path", path.parent / "nowhere" / "homeroom.db")
    await _write(db, 10)
    monkeypatch.setattr(db, "path", path)
    async with db.write() as tx:
        assert await tx.fetch("SELECT count(*) FROM line") == [(1_000,)]
