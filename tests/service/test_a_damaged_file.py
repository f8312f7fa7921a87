"""A damaged SQLite file: the start is refused with the remedy, and a running server says so."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.homeroom_process import clean_environment, homeroom_command
from tests.support.populated_school import played_at

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.db.sqlite.quick_check import find_damage
from homeroom.errors import DatabaseDamaged

pytestmark = [pytest.mark.anyio, pytest.mark.service]
CHECK_SECONDS = 60.0


def overwrite_pages(file: Path, table: str) -> None:
    """Overwrite the root page of a table, as a broken disk does."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        [(page,)] = connection.execute(sql, (table,)).fetchall()
    with file.open("r+b") as opened:
        opened.seek((page - 1) * size)
        opened.write(b"\xff" * size)


def overwrite_header(file: Path, _: str) -> None:
    with file.open("r+b") as opened:
        opened.write(b"\xff" * 100)


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("worker",)])
@pytest.mark.parametrize("damage", [overwrite_header, overwrite_pages])
async def test_a_start_on_a_damaged_file_is_refused_with_the_remedy(
    database_file: Path, command: tuple[str, ...], damage: object, tmp_path: Path
) -> None:
    await played_at(database_file)
    assert callable(damage)
    damage(database_file, "person")
    done = run(*command, HOMEROOM_DATABASE_URL=f"sqlite:///{database_file}")
    assert done.returncode == 3, done
    assert "homeroom db restore" in done.stderr
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        homeroom_command(*words),
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("found_by", ["read", "write", "transact", "check"])
async def test_what_a_statement_or_the_daily_check_found_is_a_fault_until_the_end(
    database_file: Path, found_by: str
) -> None:
    await played_at(database_file)
    overwrite_pages(database_file, "person")
    db = SqliteDatabase(database_file, Clock())
    await db.open()
    assert db.faults.current == []
    if found_by == "check":
        await db.check_integrity(CHECK_SECONDS)
    else:
        with pytest.raises(DatabaseDamaged):
            await read_people(db, found_by)
    async with db.write() as tx:
        await tx.execute("UPDATE queue SET paused = paused")
    [fault] = db.faults.current
    assert isinstance(fault, DatabaseDamaged)
    assert "homeroom db restore" in (fault.hint or "")
    await db.close()


async def read_people(db: SqliteDatabase, how: str) -> None:
    sql = "SELECT count(given_name) FROM person"
    if how == "transact":
        await db.transact(lambda tx: tx.fetch(sql))
        return
    async with db.read() if how == "read" else db.write() as tx:
        await tx.fetch(sql)


async def test_the_check_finds_damage_of_a_table(database_file: Path) -> None:
    await played_at(database_file)
    assert find_damage(database_file, CHECK_SECONDS) is None
    overwrite_pages(database_file, "person")
    assert find_damage(database_file, CHECK_SECONDS) is not None
