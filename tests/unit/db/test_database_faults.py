"""Faults of a database have a cause, are logged once, and end with a write that is stored."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from homeroom import errors, machine
from homeroom.clock import Clock
from homeroom.db.database import Database, WriteClass
from homeroom.db.group_commit import GroupCommit
from homeroom.db.postgres.driver import asyncpg, translate_postgres_errors
from homeroom.db.sqlite import database as database_module
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.db.sqlite.reserve import RESERVE_BYTES, release_reserve_if_full
from homeroom.db.sqlite.transaction import translate_sqlite_errors
from homeroom.db.tx import Tx
from homeroom.machine import DiskSpace

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_FULL", errors.StorageFull),
        ("SQLITE_IOERR_WRITE", errors.StorageFailing),
        ("SQLITE_IOERR_SHMSIZE", errors.StorageFull),
        ("SQLITE_READONLY_DBMOVED", errors.StorageReadOnly),
        ("SQLITE_CANTOPEN", errors.StorageFailing),
        ("SQLITE_CORRUPT_INDEX", errors.DatabaseDamaged),
        ("SQLITE_NOTADB", errors.DatabaseDamaged),
        ("SQLITE_NOMEM", errors.OutOfMemory),
        ("SQLITE_BUSY_SNAPSHOT", errors.Unavailable),
    ],
)
def test_errors_of_sqlite_have_a_cause(name: str, kind: type[errors.Unavailable]) -> None:
    error = sqlite3.OperationalError("of the disk")
    error.sqlite_errorname = name
    with pytest.raises(errors.Unavailable) as raised, translate_sqlite_errors():
        raise error
    assert type(raised.value) is kind
    assert raised.value.status == 503
    assert raised.value.retry_after_seconds
    assert raised.value.hint or kind is errors.Unavailable


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", errors.StorageFull),
        ("53200", errors.OutOfMemory),
        ("53300", errors.TooManyConnections),
        ("25006", errors.StorageReadOnly),
        ("58030", errors.StorageFailing),
        ("57P01", errors.DatabaseUnreachable),
        ("08006", errors.DatabaseUnreachable),
        ("XX001", errors.DatabaseDamaged),
        ("57014", errors.Unavailable),
        ("55P03", errors.Unavailable),
    ],
)
def test_errors_of_postgresql_have_a_cause(state: str, kind: type[errors.Unavailable]) -> None:
    error = asyncpg.PostgresError("of the server")
    error.sqlstate = state
    with pytest.raises(errors.Unavailable) as raised, translate_postgres_errors():
        raise error
    assert type(raised.value) is kind


def test_a_server_that_refuses_connections_is_unreachable() -> None:
    with pytest.raises(errors.DatabaseUnreachable), translate_postgres_errors():
        raise ConnectionRefusedError(111, "refused")


@pytest.fixture
async def full(sqlite: SqliteDatabase) -> SqliteDatabase:
    """Return a database whose file may not grow, so that SQLite itself says that it is full."""
    async with sqlite.write() as tx:
        await tx.execute("CREATE TABLE pupil (name TEXT)")
    async with sqlite._exclusive() as writer:
        await writer.execute("PRAGMA max_page_count=1")
    return sqlite


async def _fill(tx: Tx) -> None:
    await tx.executemany("INSERT INTO pupil (name) VALUES (?)", [("x" * 4_000,)] * 200)


async def test_a_full_disk_is_logged_once_and_ends_with_a_stored_write(
    full: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as log:
        for _ in range(3):
            with pytest.raises(errors.StorageFull):
                await full.transact(_fill)
        with pytest.raises(errors.StorageFull):
            async with full.write() as tx:
                await _fill(tx)
        assert [fault.code for fault in full.faults.current] == ["storage_full"]
        assert full.faults.failures["storage_full"] == 4
        async with full.write() as tx:
            await tx.execute("DELETE FROM pupil WHERE name = 'none'")
        assert full.faults.current, "an empty transaction ends no fault"
        async with full.read() as tx:
            assert await tx.fetch("SELECT count(*) FROM pupil") == [(0,)]
        monkeypatch.setattr(database_module, "disk_space", lambda _: DiskSpace(0, 10))
        with pytest.raises(errors.StorageFull):
            await full.probe_write()
        assert full.faults.current, "a small write may succeed on a full disk"
        monkeypatch.undo()
        async with full._exclusive() as writer:
            await writer.execute("PRAGMA max_page_count=100000")
        await full.probe_write()
        assert full.faults.current == []
        await full.transact(_fill)
    assert [(line["event"], line["log_level"], line["cause"]) for line in log] == [
        ("database_fault_began", "error", "storage_full"),
        ("database_fault_ended", "warning", "storage_full"),
    ]
    assert log[1]["failures"] == 4


async def test_a_disk_that_fails_is_named_full_or_read_only(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Tx) -> None:
        raise errors.StorageFailing from sqlite3.OperationalError("disk I/O error")

    with pytest.raises(errors.StorageFailing):
        await sqlite.transact(fail)
    monkeypatch.setattr(database_module, "is_read_only", lambda _: True)
    with pytest.raises(errors.StorageReadOnly, match="disk I/O error"):
        await sqlite.transact(fail)
    monkeypatch.undo()
    monkeypatch.setattr(database_module, "disk_space", lambda _: DiskSpace(0, 10))
    with pytest.raises(errors.StorageFull):
        await sqlite.transact(fail)


async def test_damage_lasts_as_long_as_the_process(db: Database) -> None:
    db.faults.record(errors.DatabaseDamaged())
    db.faults.record(errors.DatabaseUnreachable())
    await db.probe_write()
    assert [fault.code for fault in db.faults.current] == ["database_damaged"]


async def test_a_commit_for_which_there_is_no_room_is_not_tried_again(
    full: SqliteDatabase,
) -> None:
    tries = 0

    async def apply(tx: Tx, items: Any) -> list[None]:
        nonlocal tries
        tries += 1
        await _fill(tx)
        return [None for _ in items]

    writer = GroupCommit[str, None](full, WriteClass.INGEST, apply, name="test")
    running = asyncio.ensure_future(writer.run())
    with capture_logs() as log, pytest.raises(errors.StorageFull):
        await writer.put("event")
    writer.close()
    await running
    assert tries == 1
    assert [line["event"] for line in log] == ["database_fault_began"]


async def test_a_file_is_opened_on_a_full_disk_with_its_reserve(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = sqlite.path.with_name(f"{sqlite.path.name}-reserve")
    sqlite.keep_reserve()
    assert reserve.stat().st_size == RESERVE_BYTES
    assert reserve.stat().st_mode & 0o077 == 0
    assert not release_reserve_if_full(sqlite.path)
    monkeypatch.setattr("homeroom.db.sqlite.reserve.disk_space", lambda _: DiskSpace(0, 10))
    assert release_reserve_if_full(sqlite.path)
    assert not reserve.exists()
    assert not release_reserve_if_full(sqlite.path)
    sqlite.keep_reserve()
    assert not reserve.exists(), "there is no room for it"


async def test_a_file_that_cannot_be_opened_for_descriptors_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not machine.descriptors_are_exhausted()
    monkeypatch.setattr("homeroom.db.sqlite.transaction.descriptors_are_exhausted", lambda: True)
    with pytest.raises(errors.TooManyOpenFiles):
        await SqliteDatabase(tmp_path / "missing" / "file.db", Clock()).open()
    # aiosqlite ends its thread without waiting for it, and the loop must not close before that.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 10)
