"""``homeroom plans``: from a file to lesson plans and out again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Terminal

from homeroom.db.tx import Tx
from homeroom.jobs import queue_store

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/curricula"
EXAMPLE, TABLE = str(EXAMPLES / "data-skills.yaml"), str(EXAMPLES / "first-aid.csv")


def test_the_example_is_generated_by_one_command(terminal: Terminal) -> None:
    ended = terminal.ok("plans", "create", EXAMPLE)
    assert "Status: complete, 100 %" in ended.out
    assert "Modules: 8 of 8; lessons: 100; contact hours: 150" in ended.out
    assert "Module 1 of 8" in ended.err, "how far it is goes beside what was asked for"
    assert terminal.rows("SELECT COUNT(*) FROM worker") == [(0,)], "its worker is gone"


def test_a_plan_is_imported_started_and_shown(terminal: Terminal) -> None:
    imported = terminal.ok("plans", "import", TABLE, EXAMPLE, "--json").json["items"]
    assert [item["file"] for item in imported] == [TABLE, EXAMPLE]
    id = imported[0]["workflowId"]
    assert terminal.ok("plans", "status", id, "--json").json["status"] == "pending"
    queued = terminal.ok("plans", "start", id, "--no-wait", "--json").json
    assert (queued["status"], queued["progress"]) == ("in_progress", 0)
    again = terminal.ok("plans", "start", id, "--json").json
    assert (again["status"], again["totalContactHours"], again["totalLessons"]) == (
        "complete", 6, 6,
    )  # fmt: skip
    shown = terminal.ok("plans", "show", id).out
    assert "Perform chest compressions on a manikin" in shown
    lesson = terminal.ok("plans", "show", id, "--lesson", "2.1").out
    assert lesson.startswith("2.1 ")
    assert "Facilitator: add the content and one worked example." in lesson
    assert terminal("plans", "show", id, "--lesson", "9.9").code == 4
    listed = terminal.ok("plans", "status").out
    assert "complete" in listed
    assert "pending" in listed
    whole = terminal.ok("plans", "show", id, "--json").json
    assert whole["generator"] == "rule-based"


def test_a_plan_is_cancelled_and_goes_on(terminal: Terminal) -> None:
    terminal.ok("plans", "create", TABLE, "--title", "First aid", "--no-wait")
    assert "1 job told to stop" in terminal.ok("plans", "cancel", "last").out
    stopped = terminal.ok("plans", "status", "last", "--watch").out
    assert "First aid" in stopped
    assert "Status: cancelled" in stopped
    assert terminal("plans", "cancel", "last").code == 5
    assert "Status: complete" in terminal.ok("plans", "retry", "last").out
    assert terminal("plans", "retry", "last").code == 5


def test_a_plan_is_exported_to_a_file(terminal: Terminal, tmp_path: Path) -> None:
    terminal.ok("plans", "create", TABLE, "--title", "First aid")
    path = tmp_path / "out.imscc"
    ended = terminal.ok("plans", "export", "last", "-f", "imscc", "-o", str(path))
    assert ended.out == f"{path}\n"
    assert "imsmanifest.xml" in zipfile.ZipFile(path).namelist()
    printed = terminal.ok("plans", "export", "last", "-f", "json", "-o", "-").out
    assert json.loads(printed)["title"] == "First aid"
    assert terminal("plans", "export", "last", "-f", "exe").code == 2
    missing = str(tmp_path / "nowhere" / "x.md")
    assert terminal("plans", "export", "last", "-f", "md", "-o", missing).code == 2


def test_an_export_does_not_write_over_what_is_there_unless_it_is_named(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal.ok("plans", "create", TABLE, "--title", "Основы данных")
    name = terminal.ok("plans", "export", "last", "-f", "md").out.strip()
    assert name == "основы-данных.md"
    Path(name).write_text("a teacher's own words")
    refused = terminal("plans", "export", "last", "-f", "md")
    assert refused.code == 5
    assert f"-o {name}" in refused.err
    assert Path(name).read_text() == "a teacher's own words"
    terminal.ok("plans", "export", "last", "-f", "md", "-o", name)
    assert "Основы данных" in Path(name).read_text()


def test_faulty_files_are_all_named_and_nothing_is_stored(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text('{"title": "", "modules": []}')
    (tmp_path / "bad.csv").write_text("module,hours,outcome\nA,x,One\n")
    files = [str(tmp_path / name) for name in ("bad.json", "bad.csv", "gone.yaml", "odd.docx")]
    (tmp_path / "odd.docx").write_text("")
    ended = terminal("plans", "import", EXAMPLE, *files)
    assert ended.code == 2
    assert "bad.json: #/title: must be text that is not blank" in ended.err
    assert "bad.csv: line 2: hours: 'x' is not a number" in ended.err
    assert "gone.yaml: #: No such file or directory" in ended.err
    assert "odd.docx: #: is none of .json" in ended.err
    assert terminal.rows("SELECT COUNT(*) FROM lesson_plan") == [(0,)]
    listed = terminal("plans", "import", *files, "--json").json
    assert len(listed["errors"]) >= 5


@pytest.mark.parametrize("words", [["show", "last"], ["status", "nothing"], ["start", "nothing"]])
def test_a_plan_that_is_not_there_is_said_so(terminal: Terminal, words: list[str]) -> None:
    assert terminal("plans", *words).code == 4


def test_a_worker_that_died_does_not_keep_the_command_waiting(terminal: Terminal) -> None:
    async def leave(tx: Tx) -> None:
        tx.now -= 60_000_000
        await queue_store.heartbeat(tx, "gone", "host", 1, {})

    terminal.write(leave)
    assert "Status: complete" in terminal.ok("plans", "create", TABLE).out
