"""CSV files imported from the command line, as people keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
COMMANDS = {
    "people": (("people", "import"), 3),
    "enrolments": (("courses", "enrol"), 2),
    "programmes": (("programmes", "import-csv"), 1),
    "offerings": (("programmes", "import-csv", "--offerings"), 1),
}


def test_the_examples_are_imported_in_order_after_a_dry_run(terminal_on_file: Any) -> None:
    terminal = terminal_on_file
    terminal.ok("courses", "import", str(EXAMPLES / "courses"))
    for name, (command, rows) in COMMANDS.items():
        file = str(EXAMPLES / "imports" / f"{name}.csv")
        dry = terminal.ok(*command, file, "--dry-run")
        assert f"{rows} would be added" in dry.out
        assert "Nothing was written." in dry.out
        assert terminal.ok(*command, file, "--json").json["added"] == rows
        assert f"0 added, 0 changed, {rows} unchanged." in terminal.ok(*command, file).out
    assert terminal.rows("SELECT count(*) FROM person") == [(3,)]
    assert terminal.rows("SELECT count(*) FROM enrolment") == [(2,)]
    [[actor]] = terminal.rows("SELECT actor FROM audit WHERE action = 'people.imported'")
    assert actor.startswith("cli")


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_faults_are_printed_by_line_and_nothing_is_stored(
    terminal_on_file: Any, tmp_path: Path, dry_run: tuple[str, ...]
) -> None:
    terminal = terminal_on_file
    file = tmp_path / "people.csv"
    file.write_text("userId,givenName,familyName,email\nada,Ada,Love,\nben,Ben,,ben\n")
    ended = terminal("people", "import", str(file), *dry_run)
    assert ended.code == 2
    assert f"{file}:3: email: " in ended.err
    assert f"{file}:3: familyName: " in ended.err
    assert terminal.rows("SELECT count(*) FROM person") == [(0,)]
    assert terminal("people", "import", str(tmp_path / "none.csv")).code == 2


def test_people_and_courses_are_listed_suspended_archived_and_ended(terminal_on_file: Any) -> None:
    terminal = terminal_on_file
    terminal.ok("courses", "import", str(EXAMPLES / "courses"))
    for name in ("people", "enrolments"):
        terminal.ok(*COMMANDS[name][0], str(EXAMPLES / "imports" / f"{name}.csv"))
    found = terminal.ok("people", "list", "love", "--manager", "mara", "--json").json["items"]
    assert [(each["userId"], each["email"]) for each in found] == [("ada", "a***@school.example")]
    terminal.ok("people", "suspend", "ada")
    assert "suspended" in terminal.ok("people", "list", "--group", "night-shift").out
    terminal.ok("people", "resume", "ada")
    terminal.ok("courses", "unenrol", "data-foundations", "ada")
    terminal.ok("courses", "archive", "data-foundations")
    again = terminal("courses", "enrol", str(EXAMPLES / "imports" / "enrolments.csv"), "--dry-run")
    assert again.code == 2
    assert ":2: courseId: " in again.err  # ada's ended one; ben's stays
    assert ":3: " not in again.err
    terminal.ok("courses", "unarchive", "data-foundations")
    file = str(EXAMPLES / "imports" / "enrolments.csv")
    assert "1 changed" in terminal.ok("courses", "enrol", file).out
    for command in (
        ("people", "suspend", "none"),
        ("courses", "archive", "none"),
        ("courses", "unenrol", "none", "ada"),
    ):
        assert terminal(*command).code == 4
