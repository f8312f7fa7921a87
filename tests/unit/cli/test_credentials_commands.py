"""Credentials from the command line: a preview, a revocation, a new key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader


def test_a_preview_needs_no_database(
    terminal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_ISSUER_NAME", "Example School")
    folder = tmp_path / "preview"
    words = ("credentials", "preview", "--folder", str(folder), "--learner", "Жанна")
    files = [Path(each) for each in terminal.ok(*words, "--json").json["files"]]
    assert [each.name for each in files] == [
        "credential.html",
        "credential.pdf",
        "credential.png",
        "credential.svg",
    ]
    text = PdfReader(files[1]).pages[0].extract_text()
    for part in ("Example School", "Жанна", "Data for everyone"):
        assert part in text
    assert "Жанна" in files[0].read_text(encoding="utf-8")


def test_a_logo_that_is_no_picture_is_named(
    terminal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logo = tmp_path / "logo.png"
    logo.write_text("no picture")
    monkeypatch.setenv("HOMEROOM_ISSUER_LOGO", str(logo))
    ended = terminal("credentials", "preview", "--folder", str(tmp_path))
    assert ended.code == 1
    assert "certificate_failed" in ended.err


def test_a_credential_is_revoked_and_the_key_replaced(terminal: Any) -> None:
    terminal.rows(
        "INSERT INTO credential (id, completion_id, user_id, course_id, attempt, issuer,"
        " template_id, state, external_id, issued_at, created_at) VALUES"
        " ('c1', 'k1', 'ada', 'data', 1, 'homeroom', 'data', 'issued', 'c1', 1, 1)"
    )
    terminal.rows(
        "INSERT INTO credential_status (number, credential_id, issued_at) VALUES (1, 'c1', 1)"
    )
    words = ("credentials", "revoke", "c1", "--reason", "a mistake", "--yes")
    assert terminal.ok(*words, "--json").json == {"id": "c1", "state": "revoked"}
    assert terminal.rows("SELECT revoked_at > 1 FROM credential_status") == [(1,)]
    assert terminal("credentials", "revoke", "c2", "--reason", "a mistake", "--yes").code == 4
    ids = [terminal.ok("credentials", "rotate-key", "-y", "--json").json["keyId"] for _ in "ab"]
    assert terminal.rows("SELECT id, private_key IS NULL FROM credential_key ORDER BY number") == [
        (ids[0], 1),
        (ids[1], 0),
    ]
    assert [action for (action,) in terminal.rows("SELECT action FROM audit ORDER BY id")] == [
        "credential.revoked",
        "credential_key.rotated",
        "credential_key.rotated",
    ]


def test_many_are_listed_by_a_dry_run_and_then_revoked(terminal: Any, tmp_path: Path) -> None:
    for id, user in (("c1", "ada"), ("c2", "bo"), ("c3", "cleo")):
        terminal.rows(
            "INSERT INTO credential (id, completion_id, user_id, course_id, attempt, issuer,"
            " template_id, state, external_id, issued_at, created_at) VALUES"
            f" ('{id}', 'k{id}', '{user}', 'data', 1, 'homeroom', 'data', 'issued', '{id}', 1, 1)"
        )
    words = ("credentials", "revoke-many", "--reason", "a mistake")
    listed = terminal.ok(*words, "--course", "data", "--dry-run", "--json").json
    assert [each["id"] for each in listed["items"]] == ["c1", "c2", "c3"]
    assert terminal.rows("SELECT count(*) FROM credential WHERE state = 'revoked'") == [(0,)]
    file = tmp_path / "ids.txt"
    file.write_text("c1\n\nc3\n")
    assert "c3" in terminal.ok(*words, "--file", str(file), "--yes").out
    assert terminal.rows("SELECT id FROM credential WHERE state = 'revoked' ORDER BY id") == [
        ("c1",),
        ("c3",),
    ]
    assert terminal(*words, "--yes").code == 2
    assert terminal(*words, "--file", str(tmp_path / "none"), "--yes").code == 2
    recent = terminal.ok(*words, "--course", "data", "--since", "7d", "--dry-run", "--json")
    assert recent.json["items"] == []
    assert terminal("credentials", "reissue", "c2", "--yes").code == 5
    assert terminal("credentials", "reissue", "none", "--yes").code == 4
