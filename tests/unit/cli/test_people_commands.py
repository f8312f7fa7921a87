"""What is kept of a person, handed over and erased from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def enrolled(terminal: Any) -> None:
    terminal.rows(
        "INSERT INTO person VALUES"
        " ('ada', 'ada@school.example', 'Ada', 'Love', NULL, NULL, NULL, '[]', 1, 1, '[]', NULL)"
    )


def test_an_export_goes_to_standard_output_or_into_a_file_of_its_own(
    terminal: Any, tmp_path: Path
) -> None:
    enrolled(terminal)
    found = json.loads(terminal.ok("people", "export", "ada").out)
    assert found["userId"] == "ada"
    assert found["records"]["person"][0]["email"] == "ada@school.example"
    file = tmp_path / "ada.json"
    said = terminal.ok("people", "export", "ada", "--to", str(file))
    assert said.out == ""
    assert "2 rows of 2 tables" in said.err  # the audit line of the first export is hers, too
    assert json.loads(file.read_text())["records"].keys() == {"person", "audit"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert terminal("people", "export", "ada", "--to", str(file)).code == 5


def test_who_is_erased_is_gone_and_only_once(terminal: Any) -> None:
    enrolled(terminal)
    refused = terminal("people", "erase", "ada")
    assert refused.code != 0
    assert terminal.rows("SELECT count(*) FROM person") == [(1,)]
    assert terminal.ok("people", "erase", "ada", "--yes").out == "Erased ada: 1 row of 1 table.\n"
    assert terminal.rows("SELECT count(*) FROM person") == [(0,)]
    again = terminal("people", "erase", "ada", "--yes")
    assert again.code == 4
    assert "Homeroom holds no data about this person." in again.err
    [(actor, action, subject)] = terminal.rows("SELECT actor, action, subject FROM audit")
    assert actor.startswith("cli")
    assert (action, subject == "ada") == ("person.erased", False)
