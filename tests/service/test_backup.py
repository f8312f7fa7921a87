"""``homeroom db backup``, ``restore`` and ``verify``, on files and on a server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from tests.service.test_moving_up import everything, in_use
from tests.support.database import url_of
from tests.support.homeroom_process import clean_environment, homeroom_command
from tests.support.populated_school import answers, change, played_at, rows_of
from tools.servers.postgres import Postgres

from homeroom.backup import archive, backup_and_restore, postgres_dump, sqlite_file
from homeroom.backup.archive import BackupDamaged, BackupManifest
from homeroom.bootstrap import database_commands
from homeroom.db import migrate
from homeroom.errors import BadRequest, ConfigurationError, Conflict, HomeroomError, Unavailable
from homeroom.settings import Settings, load

pytestmark = [pytest.mark.anyio, pytest.mark.service]
PATIENCE_SECONDS = 60.0
SOME_TABLES = {"progress_event": 11, "course_progress": 4, "link_key": 1}


def at(place: Path | str, folder: Path) -> Settings:
    return load(database_url=url_of(place), data_dir=folder)


@pytest.fixture
def settings(database: Path | str, tmp_path: Path) -> Settings:
    """Return the settings of an installation of each kind that has a secret file."""
    key = tmp_path / "keys" / "signing" / "2026.pem"
    key.parent.mkdir(parents=True)
    key.write_text("a private key")
    return at(database, tmp_path)


async def backed_up(settings: Settings, file: Path) -> BackupManifest:
    return await asyncio.to_thread(database_commands.back_up_database, settings, file)


async def restored(
    settings: Settings, file: Path, *, force: bool = False
) -> backup_and_restore.RestoreResult:
    return await asyncio.to_thread(database_commands.restore_database, settings, file, force=force)


async def verified(
    settings: Settings, file: Path | None = None
) -> backup_and_restore.VerificationResult:
    return await asyncio.to_thread(database_commands.verify_database, settings, file)


async def test_a_backup_of_a_database_in_use_restores_all_of_it(
    settings: Settings, database: Path | str, tmp_path: Path
) -> None:
    await played_at(database)
    before, answers_before = await everything(database), await answers(database)
    file = tmp_path / "monday.zip"
    async with in_use(database):
        made = await backed_up(settings, file)
    assert {name: made.tables[name] for name in SOME_TABLES} == SOME_TABLES
    assert made.totals == {"ledger seconds": 277, "course seconds": 277}
    assert is_private(file)
    found = await verified(settings, file)
    assert (found.faults, found.made_at) == ([], made.made_at)
    (tmp_path / "keys" / "signing" / "2026.pem").unlink()
    await change(database, "DELETE FROM progress_event", "UPDATE person SET given_name = 'Eve'")
    with pytest.raises(Conflict, match="holds rows already"):
        await restored(settings, file)
    done = await restored(settings, file, force=True)
    assert await everything(database) == before
    assert await answers(database) == answers_before
    assert (tmp_path / "keys" / "signing" / "2026.pem").read_text() == "a private key"
    assert (await asyncio.to_thread(migrate.schema_state, database)).is_current
    if done.previous is not None:
        assert await rows_of(done.previous, "SELECT given_name FROM person") == [("Eve",)]
    assert hidden_in(tmp_path) == []


def is_private(path: Path) -> bool:
    return path.stat().st_mode & 0o777 == 0o600


def text_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def spoil(path: Path, end: int) -> None:
    """Overwrite 300 bytes of a file with random ones."""
    content = bytearray(path.read_bytes())
    content[end - 300 : end] = os.urandom(300)
    path.write_bytes(content)


def moved_to(disk: Path, file: Path) -> Path:
    """Move a file to another folder and leave a link in its place."""
    disk.mkdir()
    real = file.rename(disk / "real.db")
    file.symlink_to(real)
    return real


def is_dumping(url: str) -> bool:
    """Return whether a ``pg_dump`` of a database runs on this machine."""
    return any(
        f"--dbname={url}" in (each.info["cmdline"] or ())
        for each in psutil.process_iter(["cmdline"])
    )


def is_link(path: Path) -> bool:
    return path.is_symlink()


def names_in(folder: Path, like: str = "*") -> list[str]:
    return [path.name for path in folder.glob(like)]


def hidden_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


async def test_rows_written_after_a_restore_get_new_numbers(
    settings: Settings, database: Path | str, tmp_path: Path
) -> None:
    await played_at(database)
    await backed_up(settings, tmp_path / "one.zip")
    await restored(settings, tmp_path / "one.zip", force=True)
    assert (await verified(settings)).faults == []
    [(last,)] = await rows_of(database, "SELECT max(seq) FROM job")
    await change(
        database,
        "INSERT INTO job (id, keeps_id, queue, kind, state, priority, payload, version, run_at,"
        " created_at, attempts, max_attempts, allowance, cancel_requested, deps_pending,"
        " unannounced) SELECT 'next', 1, queue, kind, 'waiting', 0, payload, 1, 5, 5, 0, 3, 3, 0,"
        " 0, 0 FROM job WHERE id = 'job-0'",
    )
    assert await rows_of(database, "SELECT seq FROM job WHERE id = 'next'") == [(last + 1,)]


async def test_a_database_in_use_is_not_replaced(
    settings: Settings, database: Path | str, tmp_path: Path
) -> None:
    await played_at(database)
    await backed_up(settings, tmp_path / "one.zip")
    before = await everything(database)
    async with in_use(database):
        with pytest.raises(Conflict) as refused:
            await restored(settings, tmp_path / "one.zip", force=True)
        assert "homeroom serve" in str(refused.value.hint)
    assert await everything(database) == before
    assert not (tmp_path / "one.zip.erasures").exists()


async def test_a_backup_does_not_overwrite_another(settings: Settings, tmp_path: Path) -> None:
    await backed_up(settings, tmp_path / "one.zip")
    with pytest.raises(Conflict, match="is there already"):
        await backed_up(settings, tmp_path / "one.zip")
    with pytest.raises(BadRequest, match="no folder"):
        await backed_up(settings, tmp_path / "nowhere" / "one.zip")


async def test_a_backup_of_the_other_kind_is_refused_with_a_hint_to_db_copy(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    file, server = at(database_file, tmp_path), at(postgres_url, tmp_path)
    await backed_up(file, tmp_path / "file.zip")
    await backed_up(server, tmp_path / "server.zip")
    for into, name in ((server, "file.zip"), (file, "server.zip")):
        with pytest.raises(BadRequest) as refused:
            await restored(into, tmp_path / name, force=True)
        assert "homeroom db copy" in str(refused.value.hint)


async def test_damage_of_any_kind_is_found_and_nothing_is_replaced(
    settings: Settings, database: Path | str, tmp_path: Path
) -> None:
    await played_at(database)
    good = tmp_path / "good.zip"
    await backed_up(settings, good)
    before = await everything(database)
    whole = good.read_bytes()
    with zipfile.ZipFile(good) as found:
        parts = {name: found.read(name) for name in found.namelist()}
        data = found.infolist()[1]
    spots = {"cut off": whole[: len(whole) // 2], "not a backup": b"PK\x03\x04" * 100}
    at_data = data.header_offset + data.compress_size // 2
    spots["a byte"] = whole[:at_data] + bytes([whole[at_data] ^ 0xFF]) + whole[at_data + 1 :]
    manifest = json.loads(parts["manifest.json"])
    manifest["tables"]["person"] = 2
    for name, content in spots.items():
        (tmp_path / f"{name}.zip").write_bytes(content)
    write_archive(tmp_path / "counts.zip", {**parts, "manifest.json": json.dumps(manifest)})
    manifest["files"][0]["name"] = "../elsewhere"
    write_archive(tmp_path / "name.zip", {**parts, "manifest.json": json.dumps(manifest)})
    write_archive(tmp_path / "newer.zip", {**parts, "manifest.json": '{"format": 2}'})
    for name in [*spots, "counts", "name", "newer"]:
        with pytest.raises((BackupDamaged, BadRequest)):
            await restored(settings, tmp_path / f"{name}.zip", force=True)
    counted = await verified(settings, tmp_path / "counts.zip")
    assert any("rows of person: 2 and 1" in fault for fault in counted.faults)
    assert await everything(database) == before


def write_archive(file: Path, parts: dict[str, Any]) -> None:
    with zipfile.ZipFile(file, "w") as into:
        for name, content in parts.items():
            into.writestr(name, content)


async def test_a_different_key_is_not_replaced_without_force(
    settings: Settings, tmp_path: Path
) -> None:
    await backed_up(settings, tmp_path / "one.zip")
    key = tmp_path / "keys" / "signing" / "2026.pem"
    key.write_text("another key")
    with pytest.raises(Conflict, match="another file"):
        await restored(settings, tmp_path / "one.zip")
    assert key.read_text() == "another key"
    await restored(settings, tmp_path / "one.zip", force=True)
    assert key.read_text() == "a private key"
    assert is_private(key)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE course_progress SET time_spent = time_spent + 1 WHERE user_id = 'ada'", "ada"),
        (
            "UPDATE progress_event SET previous = 1"
            " WHERE seq = (SELECT max(seq) FROM progress_event)",
            "row ",
        ),
        ("UPDATE course_progress SET last_seq = 1 WHERE user_id = 'bo'", "bo"),
        ("DELETE FROM progress_event WHERE id = 'ada-2'", "ada"),
        ("DELETE FROM course_progress WHERE user_id = 'ada'", "ada"),
    ],
)
async def test_verify_compares_the_ledger_with_the_courses(
    settings: Settings, database: Path | str, statement: str, named: str
) -> None:
    await played_at(database)
    assert (await verified(settings)).faults == []
    await change(database, statement)
    faults = (await verified(settings)).faults
    assert any(named in fault for fault in faults), faults


async def test_a_file_whose_pages_are_damaged_is_found(database_file: Path, tmp_path: Path) -> None:
    await played_at(database_file)
    settings = at(database_file, tmp_path)
    file = tmp_path / "good.zip"
    await backed_up(settings, file)
    with closing(sqlite3.connect(database_file)) as opened:
        [(page,)] = opened.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'uq_progress_event_id'"
            " OR name = 'sqlite_autoindex_progress_event_1'"
        ).fetchall()
        [(size,)] = opened.execute("PRAGMA page_size").fetchall()
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(database_file, page * size)
    assert (await verified(settings)).faults
    with pytest.raises(HomeroomError):
        await backed_up(settings, tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()
    done = await restored(settings, file, force=True)
    assert (await verified(settings)).faults == []
    assert done.previous is not None
    kept = await verified(at(done.previous, tmp_path))
    assert kept.faults, "the damaged file is preserved"


async def test_a_restore_on_a_new_machine_creates_the_database(
    database_file: Path, tmp_path: Path
) -> None:
    await played_at(database_file)
    await backed_up(at(database_file, tmp_path), tmp_path / "one.zip")
    fresh = tmp_path / "fresh" / "homeroom.db"
    done = await restored(at(fresh, fresh.parent), tmp_path / "one.zip")
    assert done.previous is None
    assert await everything(fresh) == await everything(database_file)


async def test_a_restore_on_a_new_server_creates_the_tables(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    await played_at(postgres_url)
    await backed_up(at(postgres_url, tmp_path), tmp_path / "one.zip")
    name = postgres.make_database()
    done = await restored(at(postgres.url(name), tmp_path), tmp_path / "one.zip")
    assert done.erased is None, "a new server has no record of erasures"
    assert await everything(postgres.url(name)) == await everything(postgres_url)
    postgres.drop_database(name)


async def test_a_restore_replaces_the_target_of_a_link(database_file: Path, tmp_path: Path) -> None:
    await played_at(database_file)
    await backed_up(at(database_file, tmp_path), tmp_path / "one.zip")
    real = moved_to(tmp_path / "large disk", database_file)
    await change(database_file, "DELETE FROM progress_event")
    done = await restored(at(database_file, tmp_path), tmp_path / "one.zip", force=True)
    assert is_link(database_file)
    assert done.previous is not None
    assert done.previous.parent == real.parent
    assert await rows_of(real, "SELECT count(*) FROM progress_event") != [(0,)]


async def test_an_upgrade_that_changes_nothing_makes_no_backup(
    database_file: Path, tmp_path: Path
) -> None:
    await change(database_file, "UPDATE alembic_version SET version_num = '9999_later'")
    assert (
        await asyncio.to_thread(database_commands.upgrade_database, at(database_file, tmp_path))
        is None
    )
    assert names_in(database_file.parent, "*.zip") == []


async def test_a_terminated_backup_leaves_no_files(postgres_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(postgres_url)
    watcher = await asyncpg.connect(postgres_url)  # a transaction would see no new rows
    dumping = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'"

    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
            child = await asyncio.create_subprocess_exec(
                *homeroom_command("db", "backup", str(tmp_path / "one.zip")),
                env=clean_environment(
                    HOMEROOM_DATABASE_URL=postgres_url, HOMEROOM_DATA_DIR=str(tmp_path)
                ),
            )
            async with asyncio.timeout(PATIENCE_SECONDS):
                # Only the server knows.
                while not await watcher.fetchval(dumping):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert is_dumping(postgres_url)
            child.terminate()
            assert await child.wait() == 128 + signal.SIGTERM
            assert not is_dumping(postgres_url)
    finally:
        await connection.close()
        await watcher.close()
    assert names_in(tmp_path) == []


async def test_the_log_of_a_killed_server_is_not_applied_to_the_restored_file(
    database_file: Path, tmp_path: Path
) -> None:
    await played_at(database_file)
    settings = at(database_file, tmp_path)
    await backed_up(settings, tmp_path / "one.zip")
    before = await everything(database_file)
    child = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
        "db.execute(\"UPDATE person SET given_name = 'Eve'\"); db.commit();"
        "os.kill(os.getpid(), 9)"
    )
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", child, str(database_file)], check=False
    )
    assert database_file.with_name("homeroom.db-wal").stat().st_size > 0
    done = await restored(settings, tmp_path / "one.zip", force=True)
    assert await everything(database_file) == before
    assert done.previous is not None
    assert await rows_of(done.previous, "SELECT given_name FROM person") == [("Eve",)]


async def test_a_restore_drops_the_tables_of_a_later_release(
    postgres_url: str, tmp_path: Path
) -> None:
    await played_at(postgres_url)
    settings = at(postgres_url, tmp_path)
    await backed_up(settings, tmp_path / "one.zip")
    await change(
        postgres_url,
        "CREATE TABLE invented (id integer)",
        "ALTER TABLE person ADD COLUMN shoe_size integer",
        "UPDATE alembic_version SET version_num = '9999_later'",
    )
    await restored(settings, tmp_path / "one.zip", force=True)
    assert (await asyncio.to_thread(migrate.schema_state, postgres_url)).is_current


async def test_a_failed_restore_leaves_the_server_unchanged(
    postgres: Postgres, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await played_at(postgres_url)
    settings = at(postgres_url, tmp_path)
    await backed_up(settings, tmp_path / "one.zip")
    before = await everything(postgres_url)
    original = postgres_dump.replace_database

    def miscounted(
        tools: Any, url: str, dump: Path, row_counts: dict[str, int], statements: list[str]
    ) -> None:
        original(tools, url, dump, {**row_counts, "person": 99}, statements)

    monkeypatch.setattr(postgres_dump, "replace_database", miscounted)
    with pytest.raises(Unavailable, match="person has 1 rows and should have 99"):
        await restored(settings, tmp_path / "one.zip", force=True)
    assert await everything(postgres_url) == before


async def test_the_list_of_processes_shows_no_password(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_password = postgres_url.replace("homeroom@", "homeroom:sword%3Afish@")
    seen, environment = postgres_dump.split_password(with_password + "?sslmode=disable")
    assert seen == postgres_url + "?sslmode=disable"
    assert environment["PGPASSWORD"] == "sword:fish"
    seen, environment = postgres_dump.split_password(
        "postgresql:///db?host=/run/pg&user=u&password=x"
    )
    assert seen == "postgresql:///db?host=%2Frun%2Fpg&user=u"
    assert environment["PGPASSWORD"] == "x"
    monkeypatch.setenv("PGPASSWORD", "of the environment")
    assert postgres_dump.split_password(with_password)[1]["PGPASSWORD"] == "sword:fish"
    assert postgres_dump.split_password(postgres_url)[0] == postgres_url
    assert postgres_dump.split_password(postgres_url)[1]["PGPASSWORD"] == "of the environment"
    made = await backed_up(at(with_password, tmp_path), tmp_path / "one.zip")
    assert made.kind == "postgresql"


def test_missing_and_old_tools_are_reported_with_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as missing:
        postgres_dump.find_tools(17, path=str(tmp_path), debian=tmp_path)
    assert "not installed" in missing.value.message
    assert "apt install postgresql-client-17" in str(missing.value.hint)
    for major in (14, 16, 18):
        make_tools(tmp_path / str(major) / "bin", major)
    found = [
        postgres_dump.find_tools(server, path="", debian=tmp_path).major for server in (0, 14, 15)
    ]
    assert found == [18, 14, 16]
    with pytest.raises(ConfigurationError, match="too old for the server, which is PostgreSQL 19"):
        postgres_dump.find_tools(19, path="", debian=tmp_path)


def make_tools(folder: Path, major: int) -> None:
    """Create programs that print their version."""
    folder.mkdir(parents=True)
    for name in ("pg_dump", "pg_restore", "psql"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {major}.2'\n")
        (folder / name).chmod(0o755)


async def test_a_later_commit_is_neither_in_a_dump_nor_in_its_counts(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await played_at(postgres_url)
    settings = at(postgres_url, tmp_path)
    original = postgres_dump.dump_database

    def commit_first(*arguments: Any) -> None:
        asyncio.run(change(postgres_url, "DELETE FROM person"))
        original(*arguments)

    def in_thread(*arguments: Any) -> None:
        with ThreadPoolExecutor(1) as thread:  # this thread has a running loop
            thread.submit(commit_first, *arguments).result()

    monkeypatch.setattr(postgres_dump, "dump_database", in_thread)
    made = await backed_up(settings, tmp_path / "one.zip")
    assert made.tables["person"] == 1
    assert (await verified(settings, tmp_path / "one.zip")).faults == []
    assert await rows_of(postgres_url, "SELECT count(*) FROM person") == [(0,)]


def test_a_temporary_path_has_the_id_of_the_process(tmp_path: Path) -> None:
    path = archive.temporary_path_beside(tmp_path / "a.db", "part")
    assert path.parent == tmp_path
    assert str(os.getpid()) in path.name
    assert not sqlite_file.file_has_rows(tmp_path / "a.db")


async def test_a_missing_database_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no database"):
        await backed_up(at(tmp_path / "none.db", tmp_path), tmp_path / "one.zip")


HOSTILE_FILES = {
    "trigger": "CREATE TRIGGER t AFTER INSERT ON job BEGIN DELETE FROM audit; END",
    "view": "CREATE VIEW job_view AS SELECT * FROM job",
    "table": "CREATE TABLE extra (id INTEGER)",
    "index": "CREATE INDEX ix_extra ON job (lower(kind))",
    "default": "ALTER TABLE person ADD COLUMN more TEXT DEFAULT 'x'",
    "check": "ALTER TABLE person ADD COLUMN more TEXT CHECK (length(more) < random())",
    "generated": "ALTER TABLE person ADD COLUMN more TEXT AS (upper(given_name))",
    "missing": "DROP INDEX ix_person_manager_id",
}


@pytest.mark.parametrize("what", HOSTILE_FILES)
async def test_a_file_with_another_schema_is_refused(
    database_file: Path, tmp_path: Path, what: str
) -> None:
    with closing(sqlite3.connect(database_file)) as connection:
        connection.execute(HOSTILE_FILES[what])
    settings, file = at(database_file, tmp_path), tmp_path / "hostile.zip"
    await backed_up(settings, file)
    [fault, *_] = (await verified(settings, file)).faults
    assert any(name in fault for name in ("t ", "job_view", "extra", "person"))
    target = at(tmp_path / "new" / "homeroom.db", tmp_path / "new")
    with pytest.raises(BackupDamaged):
        await restored(target, file, force=True)
    assert not (tmp_path / "new" / "homeroom.db").exists()
    if what in ("trigger", "view"):
        assert not (await asyncio.to_thread(migrate.schema_state, database_file)).is_current


async def test_an_altered_default_of_an_existing_column_is_refused(
    database_file: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(database_file)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'given_name TEXT NOT NULL',"
            " 'given_name TEXT DEFAULT ''Eve'' NOT NULL') WHERE name = 'person'"
        )
        connection.commit()
    settings, file = at(database_file, tmp_path), tmp_path / "hostile.zip"
    await backed_up(settings, file)
    faults = (await verified(settings, file)).faults
    assert ["table person differs" in fault for fault in faults] == [True]


async def test_a_backup_of_an_earlier_release_has_the_schema_of_its_revision(
    tmp_path: Path,
) -> None:
    old = tmp_path / "old.db"
    await asyncio.to_thread(migrate.upgrade, old, "0038_reason_codes")
    settings, file = at(old, tmp_path), tmp_path / "old.zip"
    await backed_up(settings, file)
    assert (await verified(settings, file)).faults == []


HOSTILE_SERVERS = {
    "trigger": "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    "CREATE TRIGGER t BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION f()",
    "view": "CREATE VIEW job_view AS SELECT * FROM job",
    "rule": "CREATE RULE r AS ON INSERT TO job DO ALSO DELETE FROM audit",
    "table": "CREATE TABLE extra (id integer)",
    "index": "CREATE INDEX ix_extra ON job (lower(kind))",
    "partial index": "CREATE INDEX ix_extra ON job (kind) WHERE length(kind) > 3",
    "default": "ALTER TABLE person ALTER COLUMN given_name SET DEFAULT 'Eve'",
    "function default": "ALTER TABLE person ALTER COLUMN given_name SET DEFAULT version()",
    "check": "ALTER TABLE person ADD CHECK (length(given_name) < 1000)",
    "generated": "ALTER TABLE person ADD more text GENERATED ALWAYS AS (upper(given_name)) STORED",
    "policy": "ALTER TABLE job ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON job USING (true)",
    "missing": "DROP INDEX ix_person_manager_id",
}


@pytest.mark.parametrize("what", HOSTILE_SERVERS)
async def test_a_dump_with_another_schema_is_refused(
    postgres_url: str, tmp_path: Path, what: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(HOSTILE_SERVERS[what])
    await connection.close()
    settings, file = at(postgres_url, tmp_path), tmp_path / "hostile.zip"
    await backed_up(settings, file)
    faults = (await verified(settings, file)).faults
    assert faults
    with pytest.raises(BackupDamaged):
        await restored(settings, file, force=True)
    if what in ("trigger", "rule", "check", "policy"):
        assert not (await asyncio.to_thread(migrate.schema_state, postgres_url)).is_current
