"""What operators do to jobs from the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeroom.jobs.job import JobArgs


def test_a_list_is_empty_in_words_and_in_json(terminal: Any) -> None:
    assert terminal.ok("jobs", "list").out == "There are no such jobs.\n"
    misspelt = terminal.ok("jobs", "list", "--queue", "dispatsh")
    assert "There is no queue 'dispatsh'; there are " in misspelt.err
    assert "dispatch" in misspelt.err
    assert terminal.ok("jobs", "list", "--json").json == {"items": [], "more": False}


def test_a_list_can_be_narrowed_by_each_option(terminal: Any, rows: Any, attic: JobArgs) -> None:
    rows.waiting("w1", "w2")
    rows.ended("f1")
    rows.waiting("a1", args=attic)

    def ids(*options: str) -> list[str]:
        found = terminal.ok("jobs", "list", "--json", *options).json
        return [item["id"] for item in found["items"]]

    assert ids() == ["a1", "f1", "w2", "w1"]
    assert ids("--state", "failed") == ["f1"]
    assert ids("--queue", "attic") == ["a1"]
    assert ids("--name", "chores.sweep", "--state", "waiting") == ["w2", "w1"]
    assert ids("--text", "broom") == ["f1"]
    few = terminal.ok("jobs", "list", "--json", "--limit", "3").json
    assert [item["id"] for item in few["items"]] == ["a1", "f1", "w2"]
    assert few["more"] is True
    assert "--limit" in terminal.ok("jobs", "list", "--limit", "3").err


def test_a_list_in_a_pipe_is_one_plain_line_a_job(terminal: Any, rows: Any) -> None:
    rows.ended("f1", "f2")
    lines = terminal.ok("jobs", "list").out.splitlines()
    assert lines[0].split()[:4] == ["ID", "NAME", "QUEUE", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == ["f2", "f1"]
    assert not set("\x1b│╭─") & set("".join(lines))


def test_secrets_and_addresses_are_shown_nowhere(terminal: Any, rows: Any) -> None:
    rows.ended("f1")
    for words in (("list",), ("list", "--json"), ("show", "f1"), ("show", "f1", "--json")):
        out = terminal.ok("jobs", *words).out
        assert "swordfish" not in out
        assert "ada@school.example" not in out
        assert "bo@school.example" not in out
    assert "[hidden]" in terminal.ok("jobs", "show", "f1").out


def test_a_job_is_shown_with_its_attempts(terminal: Any, rows: Any) -> None:
    rows.ended("f1")
    shown = terminal.ok("jobs", "show", "f1", "--json").json
    assert shown["state"] == "failed"
    assert shown["data"]["room"] == "hall"
    assert shown["attemptsMade"] == 4
    assert shown["createdAt"].endswith("Z")
    assert [each["outcome"] for each in shown["attempts"]] == ["fail"]
    out = terminal.ok("jobs", "show", "f1").out
    assert "attempt 4: fail" in out
    assert "took 1.500 s" in out
    assert "    Traceback:" in out


def test_text_in_a_job_cannot_steer_the_terminal(terminal: Any, rows: Any) -> None:
    rows.ended("f1")
    terminal.rows("UPDATE job SET last_error = 'gone\x1b[2J' RETURNING id")
    for words in (("list",), ("show", "f1"), ("watch", "--once")):
        out = terminal.ok("jobs", *words).out
        assert "\x1b" not in out
        assert "gone\\x1b[2J" in out


def test_a_job_that_is_not_there_ends_with_4(terminal: Any) -> None:
    for action in ("show", "retry", "cancel"):
        ended = terminal("jobs", action, "nothing")
        assert ended.code == 4
        assert "'nothing'" in ended.err


def test_a_queue_that_is_not_there_ends_with_4(terminal: Any) -> None:
    for action in ("retry", "cancel"):
        ended = terminal("jobs", action, "--all", "--queue", "nothing")
        assert ended.code == 4
        assert "'nothing'" in ended.err
        assert "credentials" in ended.err
    assert terminal.ok("jobs", "retry", "--all", "--queue", "credentials").code == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--state", "faild"), "'--state': 'faild' is not one of 'waiting'"),
        (("--limit", "many"), "'--limit': must be a valid integer"),
        (("--limit", "0"), "'--limit': must be greater than or equal to 1"),
    ],
)
def test_a_wrong_option_is_worded_without_the_validator(
    terminal: Any, words: tuple[str, str], text: str
) -> None:
    ended = terminal("jobs", "list", *words)
    assert ended.code == 2
    assert text in ended.err
    assert "Input should" not in ended.err
    assert "Value error" not in ended.err


def test_a_state_that_does_not_allow_it_ends_with_5(terminal: Any, rows: Any) -> None:
    rows.waiting("w1")
    rows.ended("f1")
    assert terminal("jobs", "retry", "w1").code == 5
    assert terminal("jobs", "cancel", "f1").code == 5
    assert rows.states() == {"w1": "waiting", "f1": "failed"}


def test_named_jobs_are_retried_though_one_of_them_cannot_be(terminal: Any, rows: Any) -> None:
    rows.ended("f1", "f2")
    ended = terminal("jobs", "retry", "f1", "nothing", "f2")
    assert ended.code == 4
    assert ended.out == "f1: waiting\nf2: waiting\n"
    assert rows.states() == {"f1": "waiting", "f2": "waiting"}


def test_many_are_retried_only_after_a_yes(terminal: Any, rows: Any, attic: JobArgs) -> None:
    rows.ended("f1", "f2")
    rows.ended("a1", args=attic)
    words = ("jobs", "retry", "--queue", "chores", "--state", "failed", "--all")
    refused = terminal(*words, answer="n\n")
    assert refused.code == 1
    assert "Retry 2 jobs?" in refused.err
    assert refused.out == ""
    silent = terminal(*words)
    assert silent.code == 2
    assert "--yes" in silent.err
    assert set(rows.states().values()) == {"failed"}
    assert terminal.ok(*words, answer="y\n").out == "Retried 2 jobs.\n"
    assert rows.states() == {"f1": "waiting", "f2": "waiting", "a1": "failed"}
    assert terminal.ok(*words, "--yes", "--json").json == {"count": 0}


def test_more_jobs_than_one_transaction_takes_are_all_cancelled(terminal: Any, rows: Any) -> None:
    rows.waiting(*(f"w{number}" for number in range(450)))
    rows.ended("done", state="completed")
    assert terminal.ok("jobs", "cancel", "--all", "--yes").out == "Cancelled 450 jobs.\n"
    states = rows.states()
    assert states.pop("done") == "completed"
    assert set(states.values()) == {"failed"}
    reasons = terminal.rows("SELECT DISTINCT last_error FROM job WHERE id <> 'done'")
    assert reasons == [("cancelled",)]


def test_an_active_job_is_left_to_its_worker_to_cancel(terminal: Any, rows: Any) -> None:
    rows.ended("busy", state="active")
    assert "its worker was asked to cancel it" in terminal.ok("jobs", "cancel", "busy").out
    assert rows.states() == {"busy": "active"}


@pytest.mark.parametrize(
    "words",
    [
        ("retry",),
        ("retry", "--queue", "chores"),
        ("retry", "f1", "--all"),
        ("cancel", "f1", "--state", "waiting"),
        ("retry", "--all", "--state", "waiting"),
        ("clean", "--state", "active"),
        ("clean", "--older-than", "7"),
        ("list", "--limit", "0"),
        ("list", "--state", "asleep"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(terminal: Any, rows: Any, words: list[str]) -> None:
    rows.ended("f1")
    assert terminal("jobs", *words).code == 2
    assert rows.states() == {"f1": "failed"}


def test_only_old_finished_jobs_are_cleaned(terminal: Any, rows: Any, attic: JobArgs) -> None:
    rows.ended("old", days_ago=8)
    rows.ended("new", days_ago=6)
    rows.ended("done", state="completed", days_ago=8)
    rows.ended("far", args=attic, days_ago=8)
    rows.waiting("w1")
    words = ("jobs", "clean", "--queue", "chores", "--state", "failed", "--older-than", "7d")
    asked = terminal(*words, answer="n\n")
    assert (asked.code, "Remove 1 failed job?" in asked.err) == (1, True)
    assert terminal.ok(*words, "--yes", "--json").json == {"count": 1}
    assert set(rows.states()) == {"new", "done", "far", "w1"}
    assert terminal.ok("jobs", "clean", "--state", "failed", "-y").out == "Removed 2 jobs.\n"
    assert set(rows.states()) == {"done", "w1"}
    assert terminal("jobs", "clean", "--queue", "cellar").code == 4


def test_failed_jobs_that_something_waits_for_are_cleaned_only_if_said(
    terminal: Any, rows: Any
) -> None:
    rows.ended("owed", "other", days_ago=8)

    async def mark(tx: Any) -> None:
        await tx.execute("UPDATE job SET outstanding = 1 WHERE id = 'owed'")

    rows.terminal.write(mark)
    words = ("jobs", "clean", "--state", "failed", "--yes")
    cleaned = terminal.ok(*words)
    assert cleaned.out == "Removed 1 job.\n"
    assert "--outstanding" in cleaned.err
    assert set(rows.states()) == {"owed"}
    assert terminal.ok(*words, "--outstanding", "--json").json == {"count": 1}
    assert rows.states() == {}


def test_statistics_have_the_names_of_the_api(terminal: Any, rows: Any) -> None:
    rows.waiting("w1", "w2")
    rows.ended("f1")
    (chores,) = terminal.ok("jobs", "stats", "--json").json["items"]
    assert chores["name"] == "chores"
    assert chores["counts"] == {
        "waiting": 2,
        "delayed": 0,
        "waitingChildren": 0,
        "active": 0,
        "completed": 0,
        "failed": 1,
        "cancelled": 0,
    }
    assert chores["stats"] == {
        "queueLength": 2,
        "activeJobs": 0,
        "failedJobs": 1,
        "processing": False,
    }
    line = terminal.ok("jobs", "stats").out.splitlines()[1]
    assert line.split()[:6] == ["chores", "no", "worker", "2", "0", "0"]


def test_one_look_shows_queues_running_and_failed_jobs(terminal: Any, rows: Any) -> None:
    rows.ended("f1")
    rows.ended("busy", state="active")
    out = terminal.ok("jobs", "watch", "--once").out
    running, failed = out.index("\nRunning\n"), out.index("\nFailed, newest first\n")
    assert out.index("chores") < running < out.index("busy") < failed < out.index("f1")


def test_json_is_one_line_of_ascii_in_a_pipe(terminal: Any, rows: Any) -> None:
    rows.waiting("wäsche")
    out = terminal.ok("jobs", "list", "--json").out
    assert out.isascii()
    assert out.count("\n") == 1
    assert json.loads(out)["items"][0]["id"] == "wäsche"


def test_what_is_done_to_jobs_leaves_audit_lines(terminal: Any, rows: Any) -> None:
    rows.ended("f1", "f2")
    rows.waiting("w1")
    terminal("jobs", "retry", "f1", "nothing")
    terminal.ok("jobs", "cancel", "w1")
    many = ("--all", "--queue", "chores", "--state", "failed", "--text", "ada@school.example")
    terminal.ok("jobs", "retry", *many, "--yes")
    terminal.ok("jobs", "cancel", "--all", "--yes")
    rows.ended("c1", state="completed")
    terminal.ok("jobs", "clean", "--yes")
    lines = terminal.rows("SELECT actor, action, subject, details FROM audit ORDER BY at, id")
    assert all(line[0].startswith("cli") for line in lines)
    wanted = {"queue": "chores", "state": "failed", "q": "a***@school.example"}
    assert [(line[1], line[2], json.loads(line[3])) for line in lines] == [
        ("job.retried", "f1", {}),
        ("job.cancelled", "w1", {}),
        ("jobs.retried", "chores", {"filter": wanted, "count": 2}),
        ("jobs.cancelled", "jobs", {"filter": {}, "count": 3}),
        ("queue.cleaned", "chores", {"state": "completed", "olderThan": "0s", "count": 1}),
    ]
