"""``homeroom db seed`` makes a school whose jobs a server then finishes."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.condition import until
from tests.support.database import url_of
from tests.support.homeroom_process import ADMIN, CommandLine, server

from homeroom.bootstrap.application import open_application
from homeroom.demo.school_seed import SeedOptions, seed_school
from homeroom.settings import load

pytestmark = pytest.mark.service
_OPEN_STATES = ("waiting", "delayed", "waitingChildren", "active")


def _settings(database: Path | str) -> dict[str, str]:
    return {
        "HOMEROOM_DATABASE_URL": url_of(database),
        "HOMEROOM_CREDENTIAL_ALLOW_HTTP": "true",
    }


def _get(api: httpx.Client, path: str, **query: str) -> Any:
    return api.get(path, params=query).raise_for_status().json()


def _job_counts(api: httpx.Client) -> dict[str, Mapping[str, int]]:
    return {queue["name"]: queue["counts"] for queue in _get(api, "/api/v1/queues")}


def _is_idle(api: httpx.Client) -> bool:
    counts = _job_counts(api).values()
    return not any(each[state] for each in counts for state in _OPEN_STATES)


def test_a_server_finishes_the_jobs_of_a_seeded_school(
    database: Path | str, tmp_path: Path
) -> None:
    run = CommandLine(tmp_path)
    run.environment |= _settings(database)
    made = json.loads(run.ok("db", "seed", "--learners", "25", "--json"))
    assert (made["learners"], made["courses"], made["managers"]) == (25, 2, 1)
    assert made["credentials"] == made["completions"] > 10
    again = run("db", "seed", "--json")
    assert (again.returncode, again.stdout) == (5, "")  # it holds rows now

    with (
        server(tmp_path, _settings(database)) as url,
        httpx.Client(base_url=url, headers=ADMIN) as api,
    ):
        until(lambda: _is_idle(api))
        counts = _job_counts(api)
        assert sum(each["failed"] for each in counts.values()) == 0
        assert counts["credentials"]["completed"] == made["credentials"]
        # What the pages of the console show.
        credentials = _get(api, "/api/v1/credentials", limit="1000")["items"]
        assert len(credentials) == made["credentials"]
        enrolled = {
            course["courseId"]: _get(
                api, f"/api/v1/courses/{course['courseId']}/learners", limit="1000"
            )["items"]
            for course in _get(api, "/api/v1/courses")["items"]
        }
        assert sum(map(len, enrolled.values())) == made["enrolments"]
        statuses = [each["status"] for learners in enrolled.values() for each in learners]
        assert statuses.count("completed") == made["completions"]
        assert statuses.count("in_progress") > 0
        held = _get(api, "/api/v1/progress/quarantine", limit="1000")["items"]
        assert {each["reason"] for each in held} <= {"conflict"}
        _check_weeks(api)
        plan = _get(api, f"/api/v3/workflow/{made['planId']}/step10/status")["data"]
        assert plan["modulesGenerated"] == plan["totalModules"] > 0
        assert _get(api, "/api/v1/people/learner-001")["managerId"] == "mara"


def _check_weeks(api: httpx.Client) -> None:
    """Check the states of six weeks, the current one included, and who is behind."""
    for user_id, states in {
        "ada": ["missed", "submitted", "submitted", "late", "submitted", "open"],
        "ben": ["submitted", "exempt", "submitted", "missed", "submitted", "open"],
        "chen": ["submitted", "submitted", "late", "submitted", "submitted", "submitted"],
    }.items():
        query = {"facilitatorId": user_id, "limit": "100"}
        weeks = _get(api, "/api/v1/log-obligations", **query)["items"]
        weeks.sort(key=lambda each: str(each["week"]))
        assert [each["state"] for each in weeks] == states
    grid = _get(api, "/api/v1/programmes/data-lab/weeks")
    assert [len(each["weeks"]) for each in grid["items"]] == [6] * 3
    team = _get(api, "/api/v1/team", managerId="mara", limit="1000")["items"]
    assert {"ada", "ben", "chen", "learner-001"} <= {each["userId"] for each in team}
    assert any(each["behind"] for each in team)
    assert any(each["courses"] for each in team)


@pytest.mark.anyio
async def test_a_seed_makes_the_same_school_again(migrated_file: Path, tmp_path: Path) -> None:
    made = []
    for name in ("one.db", "two.db"):
        file = Path(shutil.copy(migrated_file, tmp_path / name))
        settings = load(data_dir=tmp_path, database_url=url_of(file))
        async with open_application(settings) as application:
            summary = asdict(await seed_school(application, SeedOptions(12, seed=3)))
            made.append({**summary, "plan_id": ""})
    assert made[0] == made[1]
    assert made[0]["completions"] > 0


def test_a_configured_partner_is_asked_about_first(tmp_path: Path) -> None:
    run = CommandLine(tmp_path)
    run.environment["HOMEROOM_HR_URL"] = "http://127.0.0.1:9/hr"
    refused = run("db", "seed", answer="n\n")
    assert refused.returncode == 1
    assert "HOMEROOM_HR_URL" in refused.stderr
    assert not (tmp_path / "homeroom.db").exists()
