"""Programmes out of files, schedules by hand, and what became of messages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from homeroom.activity.obligation_rules import Obligation, ObligationState, week_at
from homeroom.activity.obligation_store import add_obligations
from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    DisabledSender,
    Message,
    MessageTemplates,
    Notifications,
)
from homeroom.notify.message import Channel
from homeroom.people import api as people
from homeroom.people.api import Person

DAY_US = 86_400_000_000
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
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"managers": "mara"}, "managers"),
        ({"colour": "red"}, "colour"),
        ({"id": "x" * 65}, ", id: "),
        ({"targetWeek": "next"}, "targetWeek"),
        ({"logUrl": "https://ada:secret@logs.example"}, "logUrl"),
        ({"timeZone": "localtime"}, "timeZone"),
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


def test_all_faults_of_all_files_are_named_at_once(terminal: Any, file: Path) -> None:
    other = file.with_name("other.json")
    file.write_text(json.dumps([PROGRAMME, {**PROGRAMME, "timeZone": "x", "graceMinutes": -1}]))
    offering = {**PROGRAMME["offerings"][0], "endsOn": "2019-12-31"}
    other.write_text(json.dumps({**PROGRAMME, "offerings": [offering], "title": "\u200b"}))
    told = terminal("programmes", "import", str(file), str(other)).err
    for place in ("entry 2, timeZone", "entry 2, graceMinutes", "entry 1, offerings.0", ", title"):
        assert place in told
    assert "4 faults" in told
    assert "secret" not in told


def test_a_schedule_is_dry_run_run_paused_resumed_and_changed(terminal: Any, file: Path) -> None:
    terminal.ok("programmes", "import", str(file))
    refused = terminal("schedules", "run", "open_week.lab", "--dry-run")
    assert refused.code == 5
    found = terminal.ok("schedules", "run", "report.lab", "--dry-run", "--json").json
    assert found["preview"]["others"] == [
        {"userId": "mara", "reason": "there is nothing to report"}
    ]
    assert "nothing was written" in terminal.ok("schedules", "run", "report.lab", "--dry-run").err
    coming = terminal.ok("schedules", "next").out
    assert [line for line in coming.splitlines() if line.endswith("would send:")] != []
    assert "there is nothing to report" in " ".join(coming.split())
    [slot] = terminal.ok("schedules", "next", "report.lab", "--json").json["items"]
    assert slot["slot"].endswith("T10:00[Europe/Berlin]")
    assert terminal("schedules", "next", "open_week.lab").code == 5
    assert terminal("schedules", "next", "none").code == 4
    assert "Added the job" in terminal.ok("schedules", "run", "report.lab").out
    assert terminal.rows("SELECT kind FROM job") == [("activity.report",)]
    assert "Paused" in terminal.ok("schedules", "pause", "report.lab").out
    assert "report.lab: paused." in terminal.ok("schedules", "next", "report.lab").out
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


@pytest.mark.parametrize("type", EXAMPLE_PARAMS)
def test_every_type_has_a_preview_in_text_html_and_json(terminal: Any, type: str) -> None:
    text = terminal.ok("notify", "preview", type).out
    assert text.startswith("Subject: ")
    assert "<html" in terminal.ok("notify", "preview", type, "--html", "--locale", "de").out
    assert terminal.ok("notify", "preview", type, "--json").json["title"] in text


def test_a_preview_has_the_data_of_a_programme_and_the_language_of_a_person(
    terminal: Any, file: Path
) -> None:
    terminal.ok("programmes", "import", str(file))

    async def add_people(tx: Any) -> None:
        await people.put(tx, Person("ada", "ada@example.org", "Ada", "Example", locale="fr-CA"))
        await people.put(tx, Person("mara", "mara@example.org", "Mara", "Example"))

    terminal.write(add_people)

    def preview(type: str, user: str, *more: str) -> Any:
        words = ("--programme", "lab", "--user", user, *more)
        return terminal("notify", "preview", type, *words)

    text = preview("log_reminder", "ada").out
    assert text.startswith("Subject: The lab : le journal du ")
    assert "Bonjour Ada," in text
    assert "- Art\n" in text
    page = preview("deadline_warning", "ada", "--locale", "en", "--side-by-side").out
    assert "<pre>Hello Ada,\n" in page
    assert 'srcdoc="&lt;' in page
    report = preview("manager_report", "mara", "--json").json
    assert report["title"].startswith("The lab: ")
    assert terminal.rows("SELECT * FROM notification") == []
    for type, user in (
        ("log_reminder", "mara"),
        ("late_log", "mara"),
        ("compliance_warning", "mara"),
        ("compliance_copy", "ada"),
        ("schedule_missed", "mara"),
        ("log_reminder", "nobody"),
    ):
        assert preview(type, user).code == 4
    assert terminal("notify", "preview", "late_log", "--user", "mara").code == 2
    assert "Ben Li" in terminal.ok("notify", "preview", "late_log", "--programme", "lab").out

    async def miss_two_weeks_and_be_late_in_one(tx: Any) -> None:
        current = week_at(tx.now, ZoneInfo("Europe/Berlin"))
        for back, state in ((1, "late"), (2, "missed"), (3, "missed")):
            week = current.shifted(-back)
            opens_at, deadline_at = (tx.now - days * DAY_US for days in (7 * back + 7, 7 * back))
            row = Obligation(
                "art", "Art", week.key, "ada", "lab", opens_at, deadline_at, ObligationState(state)
            )
            satisfied_at = deadline_at + 1 if state == "late" else None
            await add_obligations(tx, [replace(row, satisfied_at=satisfied_at)])

    terminal.write(miss_two_weeks_and_be_late_in_one)
    assert "Ada Example" in preview("late_log", "mara").out
    assert "Ada Example" in preview("compliance_warning", "mara").out
    assert "Bonjour Ada," in preview("compliance_copy", "ada").out
    assert "Late\n- Ada Example: Art" in preview("manager_report", "mara").out


def test_a_test_mail_needs_a_mail_server(terminal: Any) -> None:
    ended = terminal("notify", "send-test", "ada@example.org")
    assert ended.code == 5
    assert "HOMEROOM_SMTP_URL is not set" in ended.err
    assert terminal("notify", "send-test", "ada", "--channel", "pigeon").code == 2
    assert terminal("notify", "preview", "gossip").code == 2
    assert terminal("notify", "send-test", "ada@example.org", "--type", "gossip").code == 2
    assert terminal("notify", "send-test", "ada@example.org", "--user", "ada").code == 2


def test_deliveries_are_listed_shown_and_sent_again_for_a_reason(terminal: Any) -> None:
    async def work(tx: Any) -> None:
        await people.put(tx, Person("ada", "ada@example.org", "Ada", "Example"))
        off = {channel: DisabledSender("off") for channel in Channel}
        room = Notifications(
            tx,
            channel_senders=off,
            templates=MessageTemplates(),
            public_url="",
            text_retention=timedelta(days=180),
        )
        await room.send(tx, [Message("k", "log_reminder", "ada", EXAMPLE_PARAMS["log_reminder"])])
        await tx.execute("UPDATE delivery SET status = 'unknown' WHERE channel = 'email'")

    terminal.write(work)
    assert "log_reminder" in terminal.ok("notify", "deliveries", "--user", "ada").out
    [item] = terminal.ok("notify", "deliveries", "--status", "unknown", "--json").json["items"]
    assert item["reasonCode"] == "channel_off"
    assert "There was no attempt yet." in terminal.ok("notify", "deliveries", item["id"]).out
    assert "will be sent again" in terminal.ok("notify", "resend", item["id"], "--why", "lost").out
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
    assert terminal.ok("notify", "bounce", str(mail)).out == ""  # an alias takes any mail
    assert terminal("notify", "bounce", str(tmp_path / "none.eml")).code == 2
    mail.write_text(
        "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\nUser-Agent: x\n"
    )
    assert "does not refer to a mail" in terminal.ok("notify", "bounce", str(mail)).err
    assert "complaint" in terminal.ok("notify", "unmatched").out
    mail.write_text("From: MAILER-DAEMON@x\nSubject: Delayed\n\nDelivery is delayed.\n")
    counts = terminal.ok("notify", "bounce", str(mail), "--json").json
    assert counts == {"known": 0, "unknown": 0, "ignored": 1}
    assert "No address" in terminal.ok("notify", "suppressions").out

    async def suppress(tx: Any) -> None:
        await tx.execute(
            "INSERT INTO suppression VALUES ('s1', 'email', 'ada@example.org', 'global', 'hard',"
            " '550', 1, NULL)"
        )

    terminal.write(suppress)
    assert "a***@example.org" in terminal.ok("notify", "suppressions").out
    terminal.ok("notify", "lift", "s1")
    assert terminal("notify", "lift", "s1").code == 4


def test_a_bounce_that_cannot_be_recorded_now_is_kept_by_the_mail_server(
    terminal_on_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = tmp_path / "returned.eml"
    mail.write_text("From: MAILER-DAEMON@x\nSubject: failure notice\n\n550 5.1.1 no such user\n")
    terminal_on_file.ok("notify", "bounce", str(mail))
    for url in ("postgresql://homeroom@127.0.0.1:1/homeroom", "mysql://nothing"):
        monkeypatch.setenv("HOMEROOM_DATABASE_URL", url)
        assert terminal_on_file("notify", "bounce", str(mail)).code == 75
        assert terminal_on_file("notify", "unmatched").code in (3, 78)
