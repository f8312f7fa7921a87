"""Programmes out of files, schedules by hand, and what became of messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homeroom.notify.api import EXAMPLES, Message, NoCarrier, Notifications, Templates
from homeroom.notify.kind import Channel
from homeroom.people import api as people
from homeroom.people.api import Person

PROGRAMME = {
    "id": "lab",
    "title": "The lab",
    "timeZone": "Europe/Berlin",
    "managers": ["mara"],
    "offerings": [
        {
            "id": "art",
            "title": "Art",
            "facilitatorId": "ada",
            "startsOn": "2020-01-01",
            "endsOn": "2060-12-31",
        }
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "programmes.json"
    path.write_text(json.dumps([PROGRAMME]))
    return path


def test_a_programme_is_imported_again_and_again(terminal: Any, file: Path) -> None:
    first = terminal.ok("programmes", "import", str(file), "--json").json
    assert first == {"items": [{"id": "lab", "created": True, "offerings": 1}]}
    assert "updated" in terminal.ok("programmes", "import", str(file)).out
    assert "The lab" in terminal.ok("programmes", "list").out
    names = [item["name"] for item in terminal.ok("schedules", "list", "--json").json["items"]]
    assert names == ["deadline_warning.lab", "open_week.lab", "reminder.lab", "report.lab"]
    audited = terminal.rows("SELECT action FROM audit")
    assert ("programme.put",) in audited


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"timeZone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"managers": "mara"}, "managers"),
        ({"colour": "red"}, "colour"),
        ({"id": "x" * 65}, "1 to 64"),
        ({"targetWeek": "next"}, "targetWeek"),
    ],
)
def test_a_faulty_file_imports_nothing_and_says_where(
    terminal: Any, file: Path, change: dict[str, Any], told: str
) -> None:
    file.write_text(json.dumps([PROGRAMME, {**PROGRAMME, "id": "other", **change}]))
    ended = terminal("programmes", "import", str(file))
    assert ended.code == 2
    assert "entry 2" in ended.err
    assert told in ended.err
    assert terminal.rows("SELECT * FROM programme") == []


def test_a_schedule_is_dry_run_run_paused_resumed_and_changed(terminal: Any, file: Path) -> None:
    terminal.ok("programmes", "import", str(file))
    refused = terminal("schedules", "run", "open_week.lab", "--dry-run")
    assert refused.code == 5
    found = terminal.ok("schedules", "run", "report.lab", "--dry-run", "--json").json
    assert found["preview"]["others"] == [
        {"userId": "mara", "reason": "there is nothing to report"}
    ]
    assert "nothing was written" in terminal.ok("schedules", "run", "report.lab", "--dry-run").err
    assert "Added the job" in terminal.ok("schedules", "run", "report.lab").out
    assert terminal.rows("SELECT kind FROM job") == [("activity.report",)]
    assert "Paused" in terminal.ok("schedules", "pause", "report.lab").out
    assert "paused" in terminal.ok("schedules", "list").out
    assert "Resumed" in terminal.ok("schedules", "resume", "report.lab").out
    changed = terminal.ok(
        "schedules", "change", "report.lab", "--cron", "0 7 * * 2", "--catch-up", "2d", "--json"
    ).json
    assert (changed["cron"], changed["catchUpSeconds"]) == ("0 7 * * 2", 172_800)
    assert terminal("schedules", "pause", "none").code == 4
    assert terminal("schedules", "change", "report.lab", "--cron", "soon").code == 2
    nothing = terminal("schedules", "change", "report.lab", "--cron", "")
    assert (nothing.code, "--catch-up" in nothing.err) == (2, True)


def test_compliance_is_a_table_csv_and_json(terminal: Any, file: Path) -> None:
    terminal.ok("programmes", "import", str(file))
    assert "ada" in terminal.ok("programmes", "compliance", "lab").out
    lines = terminal.ok("programmes", "compliance", "lab", "--csv").out.splitlines()
    assert lines[0].startswith("userId,name,")
    assert lines[1].startswith("ada,ada,")
    [row] = terminal.ok("programmes", "compliance", "lab", "--json").json["rows"]
    # Who joins after Thursday is exempt, and today may be any day.
    assert list(row["weeks"].values())[-1] in {"open", "exempt"}
    assert terminal("programmes", "compliance", "lab", "--from", "soon").code == 2
    assert terminal("programmes", "compliance", "none").code == 4


@pytest.mark.parametrize("type", EXAMPLES)
def test_every_type_has_a_preview_in_text_html_and_json(terminal: Any, type: str) -> None:
    text = terminal.ok("notify", "preview", type).out
    assert text.startswith("Subject: ")
    assert "<html" in terminal.ok("notify", "preview", type, "--html", "--locale", "de").out
    assert terminal.ok("notify", "preview", type, "--json").json["title"] in text


def test_a_test_mail_needs_a_mail_server(terminal: Any) -> None:
    ended = terminal("notify", "send-test", "ada@example.org")
    assert ended.code == 5
    assert "HOMEROOM_SMTP_URL is not set" in ended.err
    assert terminal("notify", "send-test", "ada", "--channel", "pigeon").code == 2
    assert terminal("notify", "preview", "gossip").code == 2


def test_deliveries_are_listed_shown_and_sent_again_for_a_reason(terminal: Any) -> None:
    async def work(tx: Any) -> None:
        await people.put(tx, Person("ada", "ada@example.org", "Ada", "Example"))
        off = {channel: NoCarrier("off") for channel in Channel}
        room = Notifications(tx, carriers=off, templates=Templates(), public_url="")
        await room.send(tx, [Message("k", "log_reminder", "ada", EXAMPLES["log_reminder"])])
        await tx.execute("UPDATE delivery SET status = 'unknown' WHERE channel = 'email'")

    terminal.write(work)
    assert "log_reminder" in terminal.ok("notify", "deliveries", "--user", "ada").out
    [item] = terminal.ok("notify", "deliveries", "--status", "unknown", "--json").json["items"]
    assert "It was not tried yet." in terminal.ok("notify", "deliveries", item["id"]).out
    assert "waits to be sent" in terminal.ok("notify", "resend", item["id"], "--why", "lost").out
    assert terminal("notify", "resend", item["id"], "--why", "again").code == 5
    assert terminal("notify", "resend", "none", "--why", "x").code == 4
    wrong = terminal("notify", "deliveries", "--status", "gone")
    assert (wrong.code, "accepted" in wrong.err) == (2, True)
    assert "in_app" in terminal("notify", "deliveries", "--channel", "fax").err
    assert ("delivery.resent",) in terminal.rows("SELECT action FROM audit")


def test_a_mail_that_came_back_is_read_from_a_file_and_addresses_are_lifted(
    terminal: Any, tmp_path: Path
) -> None:
    mail = tmp_path / "returned.eml"
    mail.write_text("Subject: hello\n\nnothing to see")
    assert terminal("notify", "bounce", str(mail)).code == 2
    assert terminal("notify", "bounce", str(tmp_path / "none.eml")).code == 2
    mail.write_text(
        "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\nUser-Agent: x\n"
    )
    assert "no mail of ours" in terminal.ok("notify", "bounce", str(mail)).err
    assert "No address" in terminal.ok("notify", "suppressions").out

    async def suppress(tx: Any) -> None:
        await tx.execute(
            "INSERT INTO suppression VALUES ('s1', 'email', 'ada@example.org', 'global', 'hard',"
            " '550', 1)"
        )

    terminal.write(suppress)
    assert "a***@example.org" in terminal.ok("notify", "suppressions").out
    terminal.ok("notify", "lift", "s1")
    assert terminal("notify", "lift", "s1").code == 4
