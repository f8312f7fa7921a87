"""``homeroom db copy``: a whole installation from a file to a server, and back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.database import database_at, url_of
from tests.support.populated_school import answers, change, played_at, rows_of

from homeroom.backup.copy import CopyMismatch, CopyResult
from homeroom.backup.copy_endpoint import PostgresEndpoint, ordered_tables
from homeroom.bootstrap import database_commands
from homeroom.db import migrate
from homeroom.db.seal import InstallationSealed
from homeroom.errors import BadRequest, ConfigurationError, Conflict, HomeroomError
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.service]


async def copied(source: Path | str, target: Path | str, *, rehearse: bool = False) -> CopyResult:
    ours, theirs = (load(database_url=url_of(place)) for place in (source, target))
    return await asyncio.to_thread(database_commands.copy_database, ours, theirs, rehearse=rehearse)


async def refused(source: Path | str, target: Path | str, kind: type[HomeroomError]) -> str:
    with pytest.raises(kind) as error:
        await copied(source, target)
    return f"{error.value.message} {error.value.hint}"


async def everything(place: Path | str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables that are copied."""
    found = {}
    for table in ordered_tables():
        columns = ", ".join(column.name for column in table.columns)
        rows = await rows_of(place, f"SELECT {columns} FROM {table.name}")
        found[table.name] = sorted(rows, key=repr)
    return found


async def unseal(place: Path | str) -> None:
    """Let a copied source run again."""
    settings = load(database_url=url_of(place))
    await asyncio.to_thread(database_commands.unseal_database, settings, "a test")


@asynccontextmanager
async def in_use(place: Path | str) -> AsyncIterator[None]:
    """Open a database as an idle server does."""
    db = database_at(place)
    await db.open()
    try:
        await db.ping()
        yield
    finally:
        await db.close()


async def test_all_rows_are_copied_and_the_api_answers_the_same(
    database_file: Path, postgres_url: str
) -> None:
    await played_at(database_file)
    before, answers_before = await everything(database_file), await answers(database_file)
    done = await copied(database_file, postgres_url)
    assert await everything(postgres_url) == before
    assert await answers(postgres_url) == answers_before
    assert {name: digest.rows for name, digest in done.tables.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    assert len(before["progress_event"]) == 11
    assert done.totals == {"ledger seconds": 277, "course seconds": 277}
    states = await rows_of(postgres_url, "SELECT state FROM job WHERE queue = 'chores'")
    assert {state for (state,) in states} == {
        "waiting",
        "delayed",
        "active",
        "failed",
        "completed",
    }


async def test_the_next_row_gets_an_unused_number(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    await played_at(database_file)
    # the numbers of deleted jobs must not be generated again
    [(last,)] = await rows_of(database_file, "SELECT max(seq) FROM job")
    await change(database_file, "DELETE FROM job WHERE id = 'job-4'")
    back = tmp_path / "back.db"
    await copied(database_file, postgres_url)
    await copied(postgres_url, back)
    added = (
        "INSERT INTO job (id, keeps_id, queue, kind, state, priority, payload, version, run_at,"
        " created_at, attempts, max_attempts, allowance, cancel_requested, deps_pending,"
        " unannounced) SELECT 'next', 1, queue, kind, 'waiting', 0, payload, 1, 5, 5, 0, 3, 3, 0,"
        " 0, 0 FROM job WHERE id = 'job-0'"
    )
    for place in (postgres_url, back):
        await change(place, added)
        assert await rows_of(place, "SELECT seq FROM job WHERE id = 'next'") == [(last + 1,)]


async def test_a_copy_back_gives_the_same_file(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    await played_at(database_file)
    back = tmp_path / "back.db"
    await copied(database_file, postgres_url)
    await copied(postgres_url, back)
    assert await everything(back) == await everything(database_file)
    assert (await asyncio.to_thread(migrate.schema_state, back)).is_current
    assert "there already" in await refused(postgres_url, back, Conflict)
    assert names_in(tmp_path) == ["back.db", "homeroom.db"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_copy_is_replaced_until_it_is_used(database_file: Path, postgres_url: str) -> None:
    await played_at(database_file)
    await copied(database_file, postgres_url)
    await unseal(database_file)
    await change(database_file, "UPDATE person SET given_name = 'Augusta'")
    await copied(database_file, postgres_url)
    assert await everything(postgres_url) == await everything(database_file)
    await unseal(database_file)
    await change(postgres_url, "UPDATE person SET given_name = 'Ada Augusta'")
    message = await refused(database_file, postgres_url, Conflict)
    assert "progress_event (11)" in message
    assert await rows_of(postgres_url, "SELECT given_name FROM person") == [("Ada Augusta",)]


async def test_a_source_in_use_is_refused_and_may_be_rehearsed(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    await played_at(database_file)
    async with in_use(database_file):
        assert "homeroom serve" in await refused(database_file, postgres_url, Conflict)
        rehearsed = await copied(database_file, postgres_url, rehearse=True)
        assert rehearsed.rehearsed
        assert rehearsed.rows > 40
    assert await rows_of(postgres_url, "SELECT count(*) FROM progress_event") == [(0,)]
    await copied(database_file, postgres_url)
    async with in_use(postgres_url):
        back = tmp_path / "back.db"
        assert "homeroom worker" in await refused(postgres_url, back, Conflict)
        assert (await copied(postgres_url, back, rehearse=True)).rows == rehearsed.rows
        assert not back.exists()
        await unseal(database_file)
        assert "open" in await refused(database_file, postgres_url, Conflict)


def homeroom(place: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a database."""
    return subprocess.run(
        [sys.executable, "-m", "homeroom", *words],
        env={**os.environ, "HOMEROOM_DATABASE_URL": url_of(place)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_a_copied_source_runs_nothing_until_it_is_unsealed(
    database_file: Path, postgres_url: str
) -> None:
    await played_at(database_file)
    await copied(database_file, postgres_url, rehearse=True)
    assert homeroom(database_file, "db", "check").returncode == 0  # a rehearsal seals nothing
    await copied(database_file, postgres_url)
    for words in (
        ("serve", "--port", "0"),
        ("serve", "--port", "0", "--no-worker"),
        ("worker",),
        ("jobs", "retry", "--all", "--yes"),
        ("db", "check"),
        ("check",),
    ):
        done = homeroom(database_file, *words)
        assert done.returncode == 78, (words, done)
        assert "homeroom db unseal" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert homeroom(postgres_url, "db", "check").returncode == 0
    other = await refused(database_file, postgres_url, InstallationSealed)
    assert "postgresql://" in other
    assert homeroom(database_file, "db", "unseal").returncode == 2  # the question gets no answer
    assert homeroom(database_file, "db", "check").returncode == 78
    assert homeroom(database_file, "db", "unseal", "--yes").returncode == 0
    assert homeroom(database_file, "db", "check").returncode == 0
    assert "not sealed" in homeroom(database_file, "db", "unseal").stdout
    query = "SELECT action FROM audit WHERE action = 'installation.unseal'"
    assert len(await rows_of(database_file, query)) == 1


async def test_a_sealed_source_is_not_copied_to_a_second_target(
    database_file: Path, postgres_url: str, postgres: Any, migrated_database: str
) -> None:
    await played_at(database_file)
    await copied(database_file, postgres_url)
    name = postgres.make_database(migrated_database)
    await refused(database_file, postgres.url(name), InstallationSealed)
    assert await rows_of(postgres.url(name), "SELECT count(*) FROM job") == [(0,)]
    postgres.drop_database(name)


async def test_a_backup_of_a_sealed_source_is_sealed(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    await played_at(database_file)
    await copied(database_file, postgres_url)
    backup = tmp_path / "sealed.zip"
    assert homeroom(database_file, "db", "backup", str(backup)).returncode == 0
    restored = tmp_path / "restored.db"
    done = homeroom(restored, "db", "restore", str(backup))
    assert done.returncode == 0, done
    assert homeroom(restored, "serve", "--port", "0").returncode == 78


async def test_no_process_can_write_to_the_source_during_a_copy(
    database_file: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []
    original = PostgresEndpoint.continue_numbers_after

    async def try_first(self: PostgresEndpoint, numbers: Any) -> None:
        attempts.append(await asyncio.to_thread(write_attempt, database_file))
        await original(self, numbers)

    monkeypatch.setattr(PostgresEndpoint, "continue_numbers_after", try_first)
    await copied(database_file, postgres_url)
    assert attempts == ["sqlite3.OperationalError: database is locked"]


def write_attempt(file: Path) -> str:
    """Write in another process, and return its error."""
    child = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    )
    words = [sys.executable, "-c", child, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1]


async def test_a_difference_rolls_the_copy_back(
    database_file: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await played_at(database_file)
    original = PostgresEndpoint.continue_numbers_after

    async def spoil(self: PostgresEndpoint, numbers: Any) -> None:
        await self.connection.execute("UPDATE person SET given_name = 'Eve'")
        await original(self, numbers)

    monkeypatch.setattr(PostgresEndpoint, "continue_numbers_after", spoil)
    message = await refused(database_file, postgres_url, CopyMismatch)
    assert "person (1 rows)" in message
    monkeypatch.undo()
    assert await rows_of(postgres_url, "SELECT count(*) FROM person") == [(0,)]
    await copied(database_file, postgres_url)


def killed_copy(source: Path, target: str) -> subprocess.CompletedProcess[bytes]:
    """Copy in a process that is killed once all rows are sent."""
    child = (
        "import sys, os, signal; from homeroom.bootstrap import database_commands;"
        "from homeroom.settings import load;"
        "from homeroom.backup.copy_endpoint import PostgresEndpoint;"
        "PostgresEndpoint.continue_numbers_after = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "source, target = (load(database_url=url) for url in sys.argv[1:]);"
        "database_commands.copy_database(source, target, rehearse=False)"
    )
    words = [sys.executable, "-c", child, url_of(source), target]
    return subprocess.run(words, capture_output=True, check=False)


async def test_a_killed_copy_leaves_no_rows_and_can_be_run_again(
    database_file: Path, postgres_url: str
) -> None:
    await played_at(database_file)
    killed = await asyncio.to_thread(killed_copy, database_file, postgres_url)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert await rows_of(postgres_url, "SELECT count(*) FROM job") == [(0,)]
    await copied(database_file, postgres_url)
    assert await everything(postgres_url) == await everything(database_file)


async def test_a_copy_creates_missing_tables(database_file: Path, postgres: Any) -> None:
    await played_at(database_file)
    name = postgres.make_database()
    await copied(database_file, postgres.url(name))
    assert await everything(postgres.url(name)) == await everything(database_file)
    postgres.drop_database(name)


async def test_two_databases_of_a_kind_and_an_old_schema_are_refused(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    message = await refused(database_file, tmp_path / "other.db", BadRequest)
    assert "homeroom db backup" in message
    old = tmp_path / "old.db"
    await asyncio.to_thread(migrate.upgrade, old, "0008_dispatch")
    assert "homeroom db upgrade" in await refused(old, postgres_url, ConfigurationError)


async def test_nul_in_text_is_replaced_for_postgresql(
    database_file: Path, postgres_url: str
) -> None:
    await played_at(database_file)
    await change(database_file, "UPDATE person SET given_name = 'A' || char(0) || '\\x00'")
    await copied(database_file, postgres_url)
    assert await rows_of(postgres_url, "SELECT given_name FROM person") == [("A\ufffd\\x00",)]


async def test_a_value_of_the_wrong_kind_is_named(database_file: Path, postgres_url: str) -> None:
    await played_at(database_file)
    await change(database_file, "UPDATE link_key SET created_at = 'yesterday'")
    assert "link_key" in await refused(database_file, postgres_url, HomeroomError)
    assert await rows_of(postgres_url, "SELECT count(*) FROM job") == [(0,)]
