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
    assert "Perform chest compressions on a" in shown
    lesson = terminal.ok("plans", "show", id, "--lesson", "2.1").out
    assert lesson.startswith("2.1 ")
    assert "[add: materials and copies that this lesson needs]" in lesson
    assert terminal("plans", "show", id, "--lesson", "9.9").code == 4
    listed = terminal.ok("plans", "status").out
    assert "complete" in listed
    assert "pending" in listed
    whole = terminal.ok("plans", "show", id, "--json").json
    assert whole["generator"] == "rule-based"


def test_a_plan_is_cancelled_and_goes_on(terminal: Terminal) -> None:
    terminal.ok("plans", "create", TABLE, "--title", "First aid", "--no-wait")
    assert "Cancelled 1 job" in terminal.ok("plans", "cancel", "last").out
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
    assert "bad.json: line 1, column 2: title must not be empty" in ended.err
    assert "bad.csv: line 2, column 2: module 1: hours must be a number of hours" in ended.err
    assert "gone.yaml: cannot be read: No such file or directory" in ended.err
    assert "odd.docx: is not DOCX" in ended.err
    assert terminal.rows("SELECT COUNT(*) FROM lesson_plan") == [(0,)]
    listed = terminal("plans", "import", *files, "--json").json
    assert len(listed["errors"]) >= 5


@pytest.mark.parametrize("words", [["show", "last"], ["status", "nothing"], ["start", "nothing"]])
def test_a_plan_that_is_not_there_is_said_so(terminal: Terminal, words: list[str]) -> None:
    assert terminal("plans", *words).code == 4


def test_a_worker_that_died_does_not_keep_the_command_waiting(terminal: Terminal) -> None:
    async def leave(tx: Tx) -> None:
        tx.now -= 60_000_000
        await queue_store.record_heartbeat(tx, "gone", "host", 1, {}, 30_000_000)

    terminal.write(leave)
    assert "Status: complete" in terminal.ok("plans", "create", TABLE).out


def test_a_template_is_written_and_a_table_gets_the_options_it_cannot_hold(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert terminal.ok("plans", "template").out == "curriculum.xlsx\n"
    assert terminal("plans", "template").code == 5, "it may be filled in"
    assert terminal("plans", "template", "-f", "exe").code == 2
    assert terminal("plans", "template", "--language", "fr").code == 2
    heading = terminal.ok("plans", "template", "-f", "csv", "-o", "-").out
    assert heading.lstrip("\ufeff").startswith("module,hours,outcome,")
    words = "--lesson-minutes 30 --weekdays mo,WE --material Manikin --material Mat"
    terminal.ok("plans", "import", TABLE, *words.split())
    [(curriculum,)] = terminal.rows("SELECT curriculum FROM lesson_plan")
    preferences = json.loads(curriculum)["preferences"]
    assert preferences["lessonMinutes"] == 30
    assert preferences["weekdays"] == ["MO", "WE"]
    assert preferences["materials"] == ["Manikin", "Mat"]
    refused = terminal("plans", "import", TABLE, "--start-time", "25:00")
    assert refused.code == 2
    assert "the command line: preferences: startTime" in refused.err


def test_a_lesson_is_edited_and_a_plan_deleted(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal.ok("plans", "create", TABLE)
    assert "No model was called" in terminal.ok("plans", "calls", "last").out
    assert terminal.ok("plans", "calls", "last", "--json").json == {"items": []}

    monkeypatch.setenv("EDITOR", "sed -i 's/^title: .*/title: Help is near/'")
    assert "revision" in terminal.ok("plans", "edit", "last", "1.1").out
    assert "Help is near" in terminal.ok("plans", "show", "last", "--lesson", "1.1").out
    assert "Nothing was changed" in terminal.ok("plans", "edit", "last", "1.1").out
    monkeypatch.setenv("EDITOR", "sed -i '/^notes:/,$d'")
    terminal.ok("plans", "edit", "last", "1.1")
    (body,) = terminal.rows("SELECT body FROM lesson_plan_lesson WHERE idx = 0")[0]
    assert json.loads(body).get("notes") is None

    monkeypatch.setenv("EDITOR", "sed -i 's/minutes: [0-9]*/minutes: 1/'")
    refused = terminal("plans", "edit", "last", "1.1")
    assert refused.code == 2
    kept = tmp_path / "lesson-1.1.yaml"
    assert "minutes: 1\n" in kept.read_text()
    assert terminal("plans", "edit", "last", "1.1", "--from", str(kept)).code == 2
    (tmp_path / "bad.yaml").write_text("title: [")
    ended = terminal("plans", "edit", "last", "1.1", "--from", "bad.yaml")
    assert ended.code == 2
    assert "line 2, column 1" in ended.err or "line 1" in ended.err
    assert terminal("plans", "edit", "last", "9.9").code == 4

    assert terminal("plans", "delete", "last", answer="n\n").code == 1
    terminal.ok("plans", "delete", "last", "--yes")
    for table in ("lesson_plan", "lesson_plan_module", "lesson_plan_lesson"):
        assert terminal.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)]
    terminal.ok("plans", "create", TABLE, "--no-wait")
    assert terminal("plans", "delete", "last", "--yes").code == 5, "it is being generated"


HOLIDAYS = b"""BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//tests//EN\r
BEGIN:VEVENT\r
UID:1@tests\r
DTSTAMP:20260101T000000Z\r
DTSTART;VALUE=DATE:20270329\r
DTEND;VALUE=DATE:20270410\r
SUMMARY:Easter\r
END:VEVENT\r
BEGIN:VEVENT\r
UID:2@tests\r
DTSTAMP:20260101T000000Z\r
DTSTART:20270112T090000Z\r
SUMMARY:A meeting\r
END:VEVENT\r
END:VCALENDAR\r
"""


def test_a_plan_gets_days_and_breaks_and_becomes_a_course(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal.ok("plans", "create", TABLE)
    assert "no first day" in terminal.ok("plans", "schedule", "last").out
    assert terminal("plans", "export", "last", "-f", "ics", "-o", "-").code == 5
    (tmp_path / "holidays.ics").write_bytes(HOLIDAYS)
    words = "--starts-on 2027-03-26 --break 2027-04-12..2027-04-13=Trip --holidays holidays.ics"
    shown = terminal.ok("plans", "schedule", "last", *words.split()).out
    assert "from 2027-03-26 to" in shown
    assert "No lessons from 2027-04-12 to 2027-04-13: Trip" in shown
    assert "No lessons from 2027-03-29 to 2027-04-09: Easter" in shown
    plan = terminal.ok("plans", "schedule", "last", "--json").json
    assert (plan["revision"], len(plan["breaks"])) == (1, 2)
    assert terminal("plans", "schedule", "last", "--starts-on", "soon").code == 2
    (tmp_path / "holidays.ics").write_bytes(
        HOLIDAYS.replace(b"SUMMARY", b"RRULE:FREQ=YEARLY\r\nSUMMARY")
    )
    assert terminal("plans", "schedule", "last", "--holidays", "holidays.ics").code == 2
    terminal.ok("plans", "schedule", "last", "--starts-on", "none")

    assert terminal("plans", "publish", "last").code == 2, "no course is named"
    assert (
        "draft course aid, version 1"
        in terminal.ok("plans", "publish", "last", "--course", "aid").out
    )
    again = terminal.ok("plans", "publish", "last", "--course", "aid", "--json").json
    assert (again["changed"], again["version"]) == (False, 1)


def test_a_section_is_regenerated_and_the_difference_is_shown(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal.ok("plans", "create", TABLE)
    terminal.ok("plans", "export", "last", "-f", "json", "-o", "before.json")
    assert "do not differ" in terminal.ok("plans", "diff", "last", "before.json").out
    lesson = terminal.ok("plans", "show", "last", "--json").json["modules"][1]["lessons"][0]
    edited = {name: lesson[name] for name in ("title", "activities", "assessments")}
    Path("lesson.yaml").write_text(json.dumps({**edited, "notes": "By hand."}))
    terminal.ok("plans", "edit", "last", "2.1", "--from", "lesson.yaml")
    shown = terminal.ok("plans", "diff", "last", "before.json").out
    assert "2.1 " in shown
    assert "  - By hand." in shown
    assert "1 lesson of the plans differ" in shown
    [changed] = terminal.ok("plans", "diff", "last", "before.json", "--json").json["items"]
    assert "homework" in [each["path"] for each in changed["changes"]]
    other = terminal.ok("plans", "diff", "last", "before.json", "--lesson", "1.1")
    assert "do not differ" in other.out

    for words in ([], ["2.1", "--module", "m"], ["--module", "m", "--section", "overview"]):
        assert terminal("plans", "regenerate", "last", *words).code == 2, words
    assert terminal("plans", "regenerate", "last", "2.1").code == 5, "a person has edited it"
    assert terminal("plans", "regenerate", "last", "--fill").code == 5, "there is no model"
    assert terminal("plans", "regenerate", "last", "2.1", "--section", "poems").code == 2
    words = ["plans", "regenerate", "last", "2.1", "--section", "support"]
    terminal.ok(*words, "--overwrite-edits")
    after = terminal.ok("plans", "show", "last", "--json").json["modules"][1]["lessons"][0]
    assert after["homework"] == lesson["homework"]
    assert after["notes"] == lesson["notes"]
    assert after["editedParts"], "other sections are still a person's"
    assert terminal("plans", "diff", "last", "nothing").code == 4
    assert terminal("plans", "diff", "last", "lesson.yaml").code == 2


def test_what_is_open_is_listed(terminal: Terminal) -> None:
    terminal.ok("plans", "create", TABLE)
    listed = terminal.ok("plans", "checklist", "last")
    items = terminal.ok("plans", "checklist", "last", "--json").json["items"]
    assert listed.out.count("- [ ] ") == len(items) > 0
    assert items[0]["field"]


def test_tables_of_plans_fit_80_columns(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.cli.terminal._shows_all_columns", False)
    terminal.ok("plans", "create", EXAMPLE, "--title", "A long title " * 10)
    for words in (["status"], ["show", "last"]):
        lines = terminal.ok("plans", *words).out.splitlines()
        assert max(map(len, lines)) <= 80, words
    wide = terminal.ok("--wide", "plans", "show", "last").out.splitlines()
    assert max(map(len, wide)) > 80
