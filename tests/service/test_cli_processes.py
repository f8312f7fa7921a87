"""Every command as people run it: a process of its own, with its streams and its exit code."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from tests.support.condition import PATIENCE_SECONDS, until
from tests.support.homeroom_process import CommandLine

pytestmark = pytest.mark.service

ROOT = Path(__file__).resolve().parents[2]
_STATE = "SELECT state FROM job WHERE id = ?"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[CommandLine]:
    opened = CommandLine(tmp_path / "var")
    yield opened
    opened.close()


def test_a_new_machine_gets_from_check_to_courses(shell: CommandLine) -> None:
    missing = shell("check")
    assert missing.returncode == 78
    assert "homeroom db upgrade" in missing.stdout
    refused = shell("db", "check")
    assert (refused.returncode, refused.stdout) == (78, "")
    assert refused.stderr.splitlines()[1] == (
        "Fix: Create it with `homeroom db upgrade`, or name its folder with HOMEROOM_DATA_DIR."
    )
    assert "nothing ->" in shell.ok("db", "upgrade")
    assert "as this release needs" in shell.ok("db", "check")
    assert json.loads(shell.ok("check", "--json"))["ok"] is True
    imported = json.loads(
        shell.ok("courses", "import", str(ROOT / "examples" / "courses"), "--json")
    )
    assert [item["outcome"] for item in imported["items"]] == ["created", "created"]


def test_errors_are_two_sentences_and_an_exit_code(shell: CommandLine) -> None:
    shell.ok("db", "upgrade")
    for words, code in (
        (("jobs", "show", "nothing"), 4),
        (("jobs", "list", "--state", "asleep"), 2),
        (("courses", "import", "nowhere.json"), 2),
        (("sandbox", "--webhook-secret", "plain"), 2),
    ):
        ended = shell(*words)
        assert (ended.returncode, ended.stdout) == (code, ""), ended
        assert "Traceback" not in ended.stderr
        assert "Error: " in ended.stderr


def test_a_key_from_the_command_line_opens_a_running_server_until_it_is_revoked(
    shell: CommandLine,
) -> None:
    shell.environment["HOMEROOM_PORT"] = "0"
    server = shell.start("serve")
    assert server.stdout is not None
    url = server.stdout.readline().split()[3]
    token = shell.ok("keys", "create", "ci", "--role", "viewer").strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        assert client.get("/api/v1/queues").status_code == 200
        (key,) = json.loads(shell.ok("keys", "list", "--json"))["items"]
        assert "Revoked" in shell.ok("keys", "revoke", key["id"])
        until(lambda: client.get("/api/v1/queues").status_code == 401)
    stats = json.loads(shell.ok("jobs", "stats", "--json"))["items"]
    assert {each["workers"] for each in stats} == {1}
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_setting_that_does_not_exist_is_named_in_the_log(
    shell: CommandLine, command: str
) -> None:
    shell.ok("db", "upgrade")
    shell.environment |= {"HOMEROOM_PORT": "0", "HOMEROOM_DATABSE_URL": "postgresql://u:p@db/x"}
    program = shell.start(command)
    assert program.stdout is not None
    program.stdout.readline()  # it runs all the same
    program.send_signal(signal.SIGTERM)
    _, logged = program.communicate(timeout=PATIENCE_SECONDS)
    (warning,) = [line for line in logged.splitlines() if "HOMEROOM_DATABSE_URL" in line]
    assert "There is no such setting" in warning
    assert "Did you mean HOMEROOM_DATABASE_URL?" in warning
    assert "u:p@" not in logged


def test_the_sandbox_prints_settings_that_a_shell_reads_and_check_reaches_it(
    shell: CommandLine,
) -> None:
    sandbox = shell.start("sandbox", "--port", "0", "--directory-token", "let me in")
    assert sandbox.stdout is not None
    lines = [sandbox.stdout.readline() for _ in range(11)]
    script = "".join(lines) + "env\n"
    found = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    settings = dict(
        line.split("=", 1) for line in found.stdout.splitlines() if line.startswith("HOMEROOM_")
    )
    assert settings["HOMEROOM_DIRECTORY_TOKEN"] == "let me in"
    shell.ok("db", "upgrade")
    shell.environment.update(settings)
    reached = json.loads(shell.ok("check", "--connect", "--json"))["items"]
    answering = {item["subject"] for item in reached if item["what"].endswith("responds.")}
    assert answering == {
        f"HOMEROOM_{name}_URL"
        for name in ("DIRECTORY", "ASSESSMENT", "CREDLY", "ANALYTICS", "HR", "SMTP")
    }

    shell.environment |= {"HOMEROOM_DIRECTORY_TOKEN": "wrong", "HOMEROOM_CREDLY_TOKEN": "swordfish"}
    refused = shell("check", "--connect")
    assert refused.returncode == 3
    assert "Fix: Check HOMEROOM_DIRECTORY_TOKEN." in refused.stdout
    assert "Credly answered 401" in refused.stdout
    assert "swordfish" not in refused.stdout + refused.stderr

    sandbox.send_signal(signal.SIGINT)
    assert sandbox.wait(PATIENCE_SECONDS) == 0
    away = shell("check", "--connect", "--json")
    assert away.returncode == 3
    faults = [item for item in json.loads(away.stdout)["items"] if item["status"] == "error"]
    assert len(faults) == 6
    assert all("cannot be reached" in item["what"] for item in faults)


def test_the_sandbox_says_that_its_port_is_taken(shell: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = shell("sandbox", "--json", "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 3
    assert "--port 0" in ended.stderr


def test_a_failed_job_is_found_and_retried_until_it_is_done(shell: CommandLine) -> None:
    shell.environment["HOMEROOM_PORT"] = "0"
    shell.ok("db", "upgrade")
    course = shell.environment["HOMEROOM_DATA_DIR"] + "/fire.json"
    Path(course).write_text(
        json.dumps(
            {
                "title": "Fire",
                "learnerPolicy": "now",
                "units": [{"id": "u", "title": "U", "chapters": [{"id": "c", "title": "C"}]}],
            }
        )
    )
    shell.ok("courses", "import", course)
    Path(course).write_text(Path(course).read_text().replace("Fire", "Fire 2"))
    shell.ok("courses", "import", course)
    (job,) = json.loads(shell.ok("jobs", "list", "--json"))["items"]
    assert (job["name"], job["state"]) == ("progress.move_learners", "waiting")
    assert shell.ok("jobs", "cancel", job["id"]) == f"{job['id']}: failed\n"
    shown = json.loads(shell.ok("jobs", "show", job["id"], "--json"))
    assert shown["failedReason"] == "cancelled"
    asked = shell("jobs", "retry", "--all", "--queue", job["queue"], answer="y\n")
    assert (asked.returncode, asked.stdout) == (0, "Retried 1 job.\n")

    worker = shell.start("worker")
    file = Path(shell.environment["HOMEROOM_DATA_DIR"]) / "homeroom.db"
    with closing(sqlite3.connect(file)) as connection:
        until(lambda: connection.execute(_STATE, (job["id"],)).fetchone() == ("completed",))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_SECONDS) == 0
    assert shell.ok("jobs", "clean", "--queue", job["queue"], "--yes") == "Removed 1 job.\n"
    assert shell.ok("jobs", "list") == "There are no such jobs.\n"


def test_watching_in_a_pipe_ends_with_ctrl_c_and_0(shell: CommandLine) -> None:
    shell.ok("db", "upgrade")
    watching = shell.start("jobs", "watch", "--interval", "0.1")
    assert watching.stdout is not None
    for _ in range(6):  # two looks
        assert "\x1b" not in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE_SECONDS) == 0
    assert watching.stderr is not None
    assert watching.stderr.read() == ""


def test_watching_on_a_terminal_draws_in_place_and_ends_with_ctrl_c(shell: CommandLine) -> None:
    shell.ok("db", "upgrade")
    ours, theirs = pty.openpty()
    shell.environment["TERM"] = "xterm"
    watching = shell.start("jobs", "watch", "--interval", "0.1", stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""

    def drawn_twice() -> bool:
        nonlocal seen
        seen += os.read(ours, 4096)
        return seen.count(b"Ctrl-C ends this") >= 2

    until(drawn_twice)
    assert b"\x1b[" in seen
    watching.send_signal(signal.SIGINT)

    def closed() -> bool:
        try:
            return not select.select([ours], [], [], 0.1)[0] or not os.read(ours, 4096)
        except OSError:  # Linux says EIO once the other side has closed
            return True

    until(lambda: closed() and watching.poll() is not None)
    assert watching.returncode == 0
    os.close(ours)


def test_help_is_plain_in_a_pipe(shell: CommandLine) -> None:
    for words in (("jobs",), ("courses", "import")):
        out = shell.ok(*words, "--help")
        assert out.isascii()
        assert "\x1b" not in out


def test_a_running_server_sends_its_mails(shell: CommandLine) -> None:
    """The whole of it on the loop that it runs on: the mail server sees what came."""
    sandbox = shell.start("sandbox", "--json", "--port", "0")
    assert sandbox.stdout is not None
    found = json.loads(sandbox.stdout.readline())
    shell.environment |= {
        "HOMEROOM_PORT": "0",
        "HOMEROOM_ADMIN_KEY": "the-admin-key-of-the-test",
        "HOMEROOM_SMTP_URL": found["environment"]["HOMEROOM_SMTP_URL"],
        "HOMEROOM_MAIL_FROM": "Homeroom <homeroom@example.org>",
        "HOMEROOM_TEST_CLOCK": "2026-11-23T10:00:00Z",  # a Monday: this week's log is wanted
    }
    server = shell.start("serve")
    assert server.stdout is not None
    url = server.stdout.readline().split()[3]
    headers = {"Authorization": "Bearer the-admin-key-of-the-test"}
    offering = {
        "title": "Art",
        "facilitatorId": "ada",
        "startsOn": "2026-01-01",
        "endsOn": "2026-12-31",
    }
    with httpx.Client(base_url=f"{url}/api/v1", headers=headers, trust_env=False) as client:
        for path, body in (
            (
                "people/ada",
                {"givenName": "Ada", "familyName": "Example", "email": "ada@example.org"},
            ),
            ("programmes/lab", {"title": "The lab", "timeZone": "UTC", "managers": []}),
            ("programmes/lab/offerings/art", offering),
        ):
            assert client.put(path, json=body).status_code == 201, path
        shell.ok("schedules", "run", "reminder.lab")
        mails = until(lambda: httpx.get(f"{found['url']}/control/mail").json()["items"])
        assert [(mail["recipients"], mail["problems"]) for mail in mails] == [
            (["ada@example.org"], [])
        ]
        query = {"channel": "email", "status": "accepted"}
        until(lambda: client.get("deliveries", params=query).json()["items"])
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE_SECONDS) == 0
