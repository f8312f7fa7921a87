"""The commands that judge the database and the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeroom.db.tx import Tx
from homeroom.instant import DAY
from homeroom.partner import store
from homeroom.partner.key_expiry import key_digest


@pytest.fixture
def elsewhere(terminal_on_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the commands at a file that is not there."""
    file = tmp_path / "deep" / "new.db"
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", f"sqlite:///{file}")
    return file


def test_a_database_is_made_once(terminal_on_file: Any, elsewhere: Path) -> None:
    terminal = terminal_on_file
    missing = terminal("db", "check", "--json")
    assert (missing.code, missing.json["ok"], missing.json["exists"]) == (78, False, False)
    assert not elsewhere.exists()
    made = terminal.ok("db", "upgrade", "--json").json
    assert made["before"] is None
    assert made["after"] == missing.json["head"]
    again = terminal.ok("db", "upgrade", "--json").json
    assert again["before"] == again["after"] == made["after"]
    assert terminal.ok("db", "check", "--json").json["ok"] is True
    assert "already" in terminal.ok("db", "upgrade").out


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "list"),
        ("jobs", "stats"),
        ("jobs", "watch", "--once"),
        ("jobs", "retry", "x"),
        ("keys", "list"),
        ("keys", "create", "ci", "--role", "viewer"),
        ("db", "check"),
        ("check",),
    ],
)
def test_a_missing_database_is_reported_with_its_fix(
    terminal_on_file: Any, elsewhere: Path, words: tuple[str, ...]
) -> None:
    ended = terminal_on_file(*words)
    assert ended.code == 78
    assert "homeroom db upgrade" in ended.err + ended.out
    assert str(elsewhere) in ended.err + ended.out
    assert not elsewhere.exists()


@pytest.mark.parametrize("words", [("jobs", "list"), ("db", "check"), ("check",)])
def test_an_old_database_is_reported_with_its_fix(terminal: Any, words: tuple[str, ...]) -> None:
    terminal.rows("UPDATE alembic_version SET version_num = '0001_jobs' RETURNING 1")
    ended = terminal(*words)
    assert ended.code == 78
    assert "0001_jobs" in ended.err + ended.out
    assert "homeroom db upgrade" in ended.err + ended.out


def test_tables_that_somebody_changed_are_found(terminal: Any) -> None:
    terminal.rows("ALTER TABLE person ADD COLUMN shoe_size INTEGER")
    terminal.rows("CREATE TABLE canteen (menu TEXT)")
    terminal.rows("DROP INDEX ix_job_kind")
    ended = terminal("db", "check")
    assert ended.code == 78
    assert "the column person.shoe_size is not Homeroom's" in ended.err
    assert "the table canteen is not Homeroom's" in ended.err
    assert "the index job.ix_job_kind is missing" in ended.err
    assert "Column(" not in ended.err


def test_a_folder_that_cannot_be_made_is_named_by_upgrade_and_server(
    terminal_on_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", f"sqlite:///{tmp_path}/file/deep/new.db")
    # The server upgrades in a process of its own, whose error has to come through.
    for words in (("db", "upgrade"), ("serve", "--port", "0")):
        ended = terminal_on_file(*words)
        assert ended.code == 78
        assert f"{tmp_path}/file/deep" in ended.err
        assert "HOMEROOM_DATA_DIR" in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "words", [("jobs", "list"), ("keys", "list"), ("db", "check"), ("db", "upgrade"), ("check",)]
)
def test_a_file_that_is_no_database_is_said_so(
    terminal_on_file: Any, words: tuple[str, ...]
) -> None:
    terminal = terminal_on_file
    terminal.file.write_text("not a database, but long enough to be read as one" * 100)
    ended = terminal(*words)
    assert ended.code == 3
    assert "file is not a database" in ended.err + ended.out


def test_a_configuration_without_faults_is_ok(terminal: Any) -> None:
    found = terminal.ok("check", "--json").json
    assert found["ok"] is True
    assert {item["subject"]: item["status"] for item in found["items"]} == {
        "settings": "ok",
        "database": "ok",
        "disk": "ok",
    }
    assert "partners: No partner is configured" in terminal.ok("check", "--connect").out


def test_faults_come_first_each_with_how_to_mend_it(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_HR_URL", "https://hr.example/hook")
    monkeypatch.setenv("HOMEROOM_INGEST_MAXQUEUE", "5")
    ended = terminal("check", "--json")
    assert (ended.code, ended.json["ok"]) == (78, False)
    items = ended.json["items"]
    assert [(item["status"], item["subject"]) for item in items] == [
        ("error", "HOMEROOM_WEBHOOK_SECRET"),
        ("warning", "HOMEROOM_INGEST_MAXQUEUE"),
        ("ok", "disk"),
        ("ok", "database"),
    ]
    assert all(item["fix"] for item in items[:2])
    out = terminal("check").out
    assert out.startswith("error    HOMEROOM_WEBHOOK_SECRET: HOMEROOM_HR_URL is set")
    assert "Fix: Make one with" in out


def test_a_warning_alone_leaves_the_exit_code_at_0(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_DIRECTORY_TOKEN", "unused-token")
    ended = terminal.ok("check")
    assert "warning  HOMEROOM_DIRECTORY_TOKEN" in ended.out
    assert "unused-token" not in ended.out


def test_settings_that_cannot_be_read_are_all_named(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_PORT", "eighty")
    monkeypatch.setenv("HOMEROOM_HR_URL", "swordfish")
    ended = terminal("check", "--json")
    assert ended.code == 78
    (item,) = ended.json["items"]
    assert "HOMEROOM_PORT" in item["what"]
    assert "HOMEROOM_HR_URL" in item["what"]
    assert "swordfish" not in ended.out
    assert terminal("jobs", "list").code == 78


def test_check_warns_of_a_key_that_expires(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.ok("db", "upgrade")
    monkeypatch.setenv("HOMEROOM_CREDLY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOMEROOM_CREDLY_ORGANIZATION", "school")
    monkeypatch.setenv("HOMEROOM_CREDLY_TOKEN", "token-of-the-tests")

    def warnings() -> list[str]:
        items = terminal.ok("check", "--json").json["items"]
        return [each["what"] for each in items if each["subject"] == "HOMEROOM_CREDLY_TOKEN"]

    assert warnings() == []
    monkeypatch.setenv("HOMEROOM_CREDLY_TOKEN_EXPIRES_ON", "2026-01-31")
    assert warnings() == ["The key of Credly expired on 2026-01-31."]
    monkeypatch.setenv("HOMEROOM_CREDLY_TOKEN_EXPIRES_ON", "2999-01-31")
    assert warnings() == []
    monkeypatch.delenv("HOMEROOM_CREDLY_TOKEN_EXPIRES_ON")

    async def use_key(tx: Tx) -> None:
        await store.record_success(tx, "credly", key_digest("token-of-the-tests"))
        await tx.execute("UPDATE partner SET key_since = ?", (tx.now - 160 * DAY,))

    terminal.write(use_key)
    [warning] = warnings()
    assert ("in 20 days" in warning or "in 19 days" in warning, "token" in warning) == (True, False)
