"""The commands that back a database up, restore, judge and copy it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.database import url_of

from homeroom.db import migrate


def test_a_backup_is_made_judged_and_restored(terminal: Any, rows: Any, tmp_path: Path) -> None:
    rows.waiting("j-1", "j-2")
    file = str(tmp_path / "one.zip")
    made = terminal.ok("db", "backup", file, "--json").json
    assert (made["tables"]["job"], made["keys"]) == (2, 0)
    assert terminal.ok("db", "verify", file, "--json").json["ok"] is True
    rows.waiting("j-3")
    refused = terminal("db", "restore", file)
    assert refused.code == 5
    assert "--force" in refused.err
    back = terminal.ok("db", "restore", file, "--force", "--json").json
    assert back["tables"] == made["tables"]
    assert set(rows.states()) == {"j-1", "j-2"}
    assert (back["kept"] is not None) == isinstance(terminal.place, Path)
    assert "passed the verification: 2 rows in" in terminal.ok("db", "verify").out
    assert terminal("db", "backup", file).code == 5
    assert terminal("db", "verify", str(tmp_path / "none.zip")).code == 2


def test_an_unsound_database_ends_with_1_and_every_fault_is_a_line(terminal: Any) -> None:
    terminal.rows(
        "INSERT INTO course_progress VALUES ('ada', 'fire', 1, 1, 0, 0, 0, 60, 0, 1, 0, '{}')"
        " RETURNING 1"
    )
    ended = terminal("db", "verify")
    assert ended.code == 1
    assert "Learner ada in course fire: the ledger has 0 s and the course has 60 s." in ended.out
    found = terminal("db", "verify", "--json")
    assert (found.code, found.json["ok"], len(found.json["faults"])) == (1, False, 1)


def test_a_copy_says_what_to_do_next(
    terminal_on_file: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = terminal_on_file
    terminal.rows("INSERT INTO course VALUES ('fire', 1, 'x', NULL) RETURNING 1")
    rehearsed = terminal.ok("db", "copy", "--to", postgres_url, "--rehearse", "--json").json
    assert (rehearsed["rehearsed"], rehearsed["tables"]["course"]) == (True, 1)
    said = terminal.ok("db", "copy", "--to", postgres_url).out
    assert "1 row in" in said
    assert "Set HOMEROOM_DATABASE_URL" in said
    assert f"{terminal.file} is sealed" in said
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", postgres_url)
    back = terminal.file.with_name("back.db")
    terminal.ok("db", "copy", "--to", url_of(back))
    wrong = terminal("db", "copy", "--to", "mysql://x")
    assert (wrong.code, "--to names no database" in wrong.err) == (2, True)
    assert back.exists()


@pytest.mark.parametrize(
    "words", [("backup", "x.zip"), ("verify",), ("copy", "--to", "sqlite:///y")]
)
def test_a_database_that_is_not_there_is_said_so(
    terminal_on_file: Any, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    ended = terminal_on_file("db", *words)
    assert ended.code == 78
    assert "none.db" in ended.err


def test_an_upgrade_says_where_it_has_put_the_backup(terminal_on_file: Any) -> None:
    terminal = terminal_on_file
    for name in terminal.file.parent.glob(f"{terminal.file.name}*"):
        name.unlink()
    migrate.upgrade(terminal.file, "0030_notify")
    ended = terminal.ok("db", "upgrade", "--json")
    assert "Backed up before:" in ended.err
    assert Path(ended.json["backup"]).exists()
    assert terminal.ok("db", "verify", ended.json["backup"], "--json").json["revision"] == (
        "0030_notify"
    )
