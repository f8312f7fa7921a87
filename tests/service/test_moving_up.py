"""``homeroom db copy``: a whole installation from a file to a server, and back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers.database import database_at, url_of
from tests.service.moved_school import answers, change, played_at, rows_of

from homeroom import wiring
from homeroom.db import migrate
from homeroom.db.copy import Copied, Differs
from homeroom.db.copy_end import ServerEnd
from homeroom.db.schema import metadata
from homeroom.errors import BadRequest, ConfigurationError, Conflict, HomeroomError
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.service]


async def copied(source: Path | str, target: Path | str, *, rehearse: bool = False) -> Copied:
    ours, theirs = (load(database_url=url_of(place)) for place in (source, target))
    return await asyncio.to_thread(wiring.copy_database, ours, theirs, rehearse=rehearse)


async def refused(source: Path | str, target: Path | str, kind: type[HomeroomError]) -> str:
    with pytest.raises(kind) as why:
        await copied(source, target)
    return f"{why.value.message} {why.value.hint}"


async def everything(place: Path | str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, as they are."""
    found = {}
    for table in metadata.sorted_tables:
        columns = ", ".join(column.name for column in table.columns)
        rows = await rows_of(place, f"SELECT {columns} FROM {table.name}")
        found[table.name] = sorted(rows, key=repr)
    return found


@asynccontextmanager
async def in_use(place: Path | str) -> AsyncIterator[None]:
    """Keep a database open as an idle server does."""
    db = database_at(place)
    await db.open()
    try:
        await db.ping()
        yield
    finally:
        await db.close()


async def test_all_rows_arrive_and_the_api_says_the_same(
    database_file: Path, postgres_url: str
) -> None:
    await played_at(database_file)
    before, told = await everything(database_file), await answers(database_file)
    done = await copied(database_file, postgres_url)
    assert await everything(postgres_url) == before
    assert await answers(postgres_url) == told
    assert {name: tally.rows for name, tally in done.tables.items()} == {
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


async def test_what_comes_next_gets_a_number_that_nobody_had(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    await played_at(database_file)
    # the newest jobs are gone, and their numbers must not come again
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


async def test_the_way_back_gives_the_same_file_again(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    await played_at(database_file)
    back = tmp_path / "back.db"
    await copied(database_file, postgres_url)
    await copied(postgres_url, back)
    assert await everything(back) == await everything(database_file)
    assert (await asyncio.to_thread(migrate.state, back)).is_current
    assert "there already" in await refused(postgres_url, back, Conflict)
    assert names_in(tmp_path) == ["back.db", "homeroom.db"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_copy_is_done_anew_until_somebody_uses_it(
    database_file: Path, postgres_url: str
) -> None:
    await played_at(database_file)
    await copied(database_file, postgres_url)
    await change(database_file, "UPDATE person SET given_name = 'Augusta'")
    await copied(database_file, postgres_url)
    assert await everything(postgres_url) == await everything(database_file)
    await change(postgres_url, "UPDATE person SET given_name = 'Ada Augusta'")
    said = await refused(database_file, postgres_url, Conflict)
    assert "progress_event (11)" in said
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
        assert "open" in await refused(database_file, postgres_url, Conflict)


async def test_nobody_can_write_to_the_source_while_it_is_copied(
    database_file: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    usual = ServerEnd.go_on_after

    async def try_first(self: ServerEnd, numbers: Any) -> None:
        tried.append(await asyncio.to_thread(write_attempt, database_file))
        await usual(self, numbers)

    monkeypatch.setattr(ServerEnd, "go_on_after", try_first)
    await copied(database_file, postgres_url)
    assert tried == ["sqlite3.OperationalError: database is locked"]


def write_attempt(file: Path) -> str:
    """Let another process try to write, and return how that ends."""
    child = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    )
    words = [sys.executable, "-c", child, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1]


async def test_a_difference_keeps_nothing(
    database_file: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await played_at(database_file)
    usual = ServerEnd.go_on_after

    async def spoil(self: ServerEnd, numbers: Any) -> None:
        await self.connection.execute("UPDATE person SET given_name = 'Eve'")
        await usual(self, numbers)

    monkeypatch.setattr(ServerEnd, "go_on_after", spoil)
    said = await refused(database_file, postgres_url, Differs)
    assert "person (1 rows)" in said
    monkeypatch.undo()
    assert await rows_of(postgres_url, "SELECT count(*) FROM person") == [(0,)]
    await copied(database_file, postgres_url)


def killed_copy(source: Path, target: str) -> subprocess.CompletedProcess[bytes]:
    """Copy in a process that is killed when all rows are sent."""
    child = (
        "import sys, os, signal; from homeroom import wiring; from homeroom.settings import load;"
        "from homeroom.db.copy_end import ServerEnd;"
        "ServerEnd.go_on_after = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "source, target = (load(database_url=url) for url in sys.argv[1:]);"
        "wiring.copy_database(source, target, rehearse=False)"
    )
    words = [sys.executable, "-c", child, url_of(source), target]
    return subprocess.run(words, capture_output=True, check=False)


async def test_a_copy_that_is_killed_leaves_nothing_and_can_be_run_again(
    database_file: Path, postgres_url: str
) -> None:
    await played_at(database_file)
    killed = await asyncio.to_thread(killed_copy, database_file, postgres_url)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert await rows_of(postgres_url, "SELECT count(*) FROM job") == [(0,)]
    await copied(database_file, postgres_url)
    assert await everything(postgres_url) == await everything(database_file)


async def test_a_server_without_tables_gets_them(database_file: Path, postgres: Any) -> None:
    await played_at(database_file)
    name = postgres.make_database()
    await copied(database_file, postgres.url(name))
    assert await everything(postgres.url(name)) == await everything(database_file)
    postgres.drop_database(name)


async def test_two_of_a_kind_and_an_old_schema_are_refused(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    said = await refused(database_file, tmp_path / "other.db", BadRequest)
    assert "homeroom db backup" in said
    old = tmp_path / "old.db"
    await asyncio.to_thread(migrate.upgrade, old, "0008_dispatch")
    assert "homeroom db upgrade" in await refused(old, postgres_url, ConfigurationError)


async def test_text_that_postgresql_cannot_hold_is_made_holdable(
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
