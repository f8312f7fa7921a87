"""From the terminal: the learners without a credential, the reason, and the retry."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Catalogue, Enrolment
from homeroom.completion.api import Completions, CompletionStep, NewCompletion, SkipReason
from homeroom.credentials.jobs import IssueCredential
from homeroom.db.tx import Tx
from homeroom.dispatch.jobs import SendAnalytics
from homeroom.jobs import api as jobs

COURSE = {
    "title": "Fire safety",
    "badgeTemplateId": "template-1",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "a", "title": "A"}]}],
}
LEARNERS = ("u-1041", "u-1042", "u-1043")


@pytest.fixture
def ids(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return three completions: the credential of two has failed, one waits."""
    monkeypatch.setenv("HOMEROOM_CREDLY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOMEROOM_CREDLY_ORGANIZATION", "school")
    monkeypatch.setenv("HOMEROOM_CREDLY_TOKEN", "token-of-the-tests")
    no_url = SkipReason("no_url", "HOMEROOM_ANALYTICS_URL is not set")
    completions = Completions(
        [
            CompletionStep("credential", lambda id: IssueCredential(completion_id=id)),
            CompletionStep(
                "analytics", lambda id: SendAnalytics(completion_id=id), lambda *_: no_url
            ),
        ]
    )

    async def complete(tx: Tx) -> list[str]:
        course = (await Catalogue().publish(tx, "fire-safety", COURSE)).course
        await catalogue.add_enrolments(
            tx, [Enrolment(user, course.id, 1, 1, "in_progress", 1, 0) for user in LEARNERS]
        )
        new = [NewCompletion(user, course, 1, 1_000_000, 0, 60, ()) for user in LEARNERS]
        made = [each.id for each in await completions.record(tx, new)]
        for completion_id in made[:2]:
            job_id = f"{completion_id}.credential"
            await tx.execute(
                "UPDATE job SET state = 'failed', finished_at = 5, attempts = 4, last_error ="
                " 'Credly answered 503 for bo@school.example', reason_code = 'attempts_exhausted'"
                " WHERE id = ?",
                (job_id,),
            )
            job = (await jobs.find(tx, [job_id]))[job_id]
            update = completions.step_updater("credential")
            await update(tx, job, IssueCredential(completion_id=completion_id))
        return made

    made: list[str] = terminal.write(complete)
    return made


def test_one_command_tells_who_got_no_credential_and_why(terminal: Any, ids: list[str]) -> None:
    said = terminal.ok("completions", "list", "--step", "credential", "--status", "failed").out
    header, *lines = said.splitlines()
    assert header.split() == ["LEARNER", "COURSE", "STEP", "STATUS", "AGE", "TRIES", "REASON"]
    assert [line.split()[0] for line in lines] == ["u-1042", "u-1041"]
    for line in lines:
        assert "fire-safety" in line
        assert "attempts_exhausted: Credly answered 503" in line
        assert "bo@school" not in line
    owed = terminal.ok("completions", "list", "--step", "credential", "--outstanding", "--json")
    assert [item["userId"] for item in owed.json["items"]] == ["u-1043", "u-1042", "u-1041"]
    assert {item["completionId"] for item in owed.json["items"]} == set(ids)
    assert owed.json["items"][1]["reasonCode"] == "attempts_exhausted"


def test_what_is_outstanding_is_listed_by_learner_and_course(terminal: Any, ids: list[str]) -> None:
    one = terminal.ok("completions", "list", "--outstanding", "--user", "u-1042", "--json").json
    assert [(item["step"], item["status"]) for item in one["items"]] == [("credential", "failed")]
    skipped = terminal.ok("completions", "list", "--reason", "no_url", "--limit", "2", "--json")
    assert len(skipped.json["items"]) == 2
    assert skipped.json["more"]
    assert "There are none." in terminal.ok("completions", "list", "--course", "other").out
    all_steps = terminal.ok("completions", "list", "--since", "1d", "--json").json["items"]
    assert len(all_steps) == 6
    assert terminal("completions", "list", "--step", "credentials").code == 2
    assert terminal("completions", "list", "--outstanding", "--status", "failed").code == 2


def test_a_completion_is_shown_by_id_or_by_learner_and_course(
    terminal: Any, ids: list[str]
) -> None:
    by_id = terminal.ok("completions", "show", ids[0]).out
    named = ("--user", "u-1041", "--course", "fire-safety")
    assert terminal.ok("completions", "show", *named).out == by_id
    assert "credential: failed" in by_id
    assert "no_url: HOMEROOM_ANALYTICS_URL is not set" in by_id
    found = terminal.ok("completions", "show", *named, "--json").json
    assert (found["userId"], found["steps"][0]["reasonCode"]) == ("u-1041", "attempts_exhausted")
    assert terminal("completions", "show", "none").code == 4
    assert terminal("completions", "show", "--user", "u-1", "--course", "fire-safety").code == 4
    assert terminal("completions", "show", "--user", "u-1041").code == 2


def test_all_failed_steps_are_retried_with_one_command(terminal: Any, ids: list[str]) -> None:
    all_failed = ("completions", "retry", "--all", "--step", "credential")
    assert "Would retry" in terminal.ok(*all_failed, "--dry-run").out
    assert terminal(*all_failed, answer="n\n").code == 1
    assert "2 completions" in terminal.ok(*all_failed, answer="y\n").out
    assert terminal.ok(*all_failed, "--yes", "--json").json == {"count": 0}
    waiting = terminal.rows("SELECT COUNT(*) FROM job WHERE state = 'waiting'")
    assert waiting == [(3,)]
    [(subject,)] = terminal.rows("SELECT subject FROM audit WHERE action = 'steps.retried'")
    assert subject == "credential"


def test_a_step_of_one_completion_is_retried(terminal: Any, ids: list[str]) -> None:
    command = ("completions", "retry", "--step", "credential")
    assert "1 completion." in terminal.ok(*command, ids[0]).out
    assert terminal(*command, ids[0]).code == 5
    assert terminal(*command, "none").code == 4
    assert terminal(*command).code == 2
    assert terminal(*command, ids[0], "--all").code == 2
    assert terminal("completions", "retry", "--all", "--step", "nope").code == 2


def test_jobs_are_found_by_their_learner(terminal: Any, ids: list[str]) -> None:
    found = terminal.ok("jobs", "list", "--name", "completion.credential", "--text", "u-1042")
    [line] = found.out.splitlines()[1:]
    assert line.startswith(f"{ids[1]}.credential")
    assert "u-1042 fire-safety" in line
    shown = terminal.ok("jobs", "show", f"{ids[1]}.credential").out
    assert "learner     u-1042" in shown
    as_json = terminal.ok("jobs", "list", "--text", "u-1042", "--json").json["items"]
    assert [(item["userId"], item["completionId"]) for item in as_json] == [("u-1042", ids[1])]
    retried = terminal.ok("jobs", "retry", "--all", "--text", "u-1042", "--yes", "--json").json
    assert retried == {"count": 1}
