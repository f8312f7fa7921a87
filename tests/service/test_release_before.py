"""The commit before "One language" and this one work on one database, side by side.

The earlier code comes out of the repository's history, so that the real thing runs and not a model
of it. A checkout without that history skips the test, and fails where ``CI`` is set.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.condition import until
from tests.support.homeroom_process import ADMIN, CommandLine
from tools.servers.postgres import Postgres

from homeroom.db import migrate

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("release_before")]
ROOT = Path(__file__).resolve().parents[2]
EARLIER = "5851339af243fd7d9082bb1ddbfffccf02bafadc"
LEARNERS = 12
COURSE = {
    "title": "Data for everyone",
    "badgeTemplateId": "data-basics",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c", "title": "C"}]}],
}
PROGRAMME = {"title": "Data lab", "timeZone": "Europe/Berlin", "managers": ["mara"]}
OFFERING = {
    "title": "Statistics",
    "facilitatorId": "ada",
    "startsOn": "2026-01-05",
    "endsOn": "2036-12-31",
}
UNFINISHED = ("waiting", "delayed", "active", "waiting-children")


@pytest.fixture(scope="module")
def earlier_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder ``src`` of the earlier commit."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", EARLIER, "src"], capture_output=True, check=False
    )
    if packed.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"the history lacks {EARLIER}: {packed.stderr.decode()}")
        pytest.skip(f"the history lacks {EARLIER}")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


@contextmanager
def sandbox() -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """Run partner systems; yield a client of their control API and the settings to reach them."""
    child = subprocess.Popen(
        [sys.executable, "-m", "homeroom.sandbox", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    line = json.loads(child.stdout.readline())
    try:
        with httpx.Client(base_url=line["url"], trust_env=False) as client:
            yield client, line["environment"]
    finally:
        child.stdin.close()
        child.wait(30)
        child.stdout.close()


class Release:
    """One release's commands on the shared database."""

    def __init__(self, folder: Path, source: Path | None, settings: Mapping[str, str]) -> None:
        self.shell = CommandLine(folder)
        self.shell.environment |= {
            **settings,
            "HOMEROOM_PORT": "0",
            "HOMEROOM_ADMIN_KEY": ADMIN["Authorization"][7:],
            "HOMEROOM_LOG_LEVEL": "warning",
        }
        if source is not None:
            self.shell.environment["PYTHONPATH"] = str(source)

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command until the block ends; it stops in good order then."""
        child = self.shell.start(*words, stderr=sys.stderr)
        yield child  # a test that fails leaves it to the shell, which kills it
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        assert child.returncode == 0

    @contextmanager
    def serving(self) -> Iterator[httpx.Client]:
        """Serve the API alone and yield a client of it."""
        with self.running("serve", "--no-worker") as child:
            assert child.stdout is not None
            url = child.stdout.readline().split()[3]
            with httpx.Client(base_url=url, headers=ADMIN, trust_env=False, timeout=60) as client:
                yield client

    def job_states(self) -> dict[str, dict[str, int]]:
        """Return how many jobs each queue has, by state."""
        found = json.loads(self.shell.ok("jobs", "stats", "--json"))["items"]
        return {each["name"]: each["counts"] for each in found}


def finish(api: httpx.Client, prefix: str) -> list[str]:
    """Let learners finish the course; return who."""
    learners = [f"{prefix}-{number}" for number in range(LEARNERS)]
    events = [
        {
            "id": f"event-of-{learner}",
            "userId": learner,
            "courseId": "data",
            "chapterId": "c",
            "eventType": "chapter_complete",
            "timestamp": "2026-11-22T09:00:00Z",
        }
        for learner in learners
    ]
    sent = api.post("/api/progress/enhanced-update", json={"events": events})
    assert sent.json()["accepted"] == LEARNERS, sent.text
    return learners


def step_states(api: httpx.Client) -> dict[str, dict[str, str]]:
    """Return by learner the status of each step."""
    items = api.get("/api/v1/completions", params={"limit": 500}).raise_for_status().json()["items"]
    return {
        item["userId"]: {step["name"]: step["status"] for step in item["steps"]} for item in items
    }


def all_steps(api: httpx.Client, name: str, status: str, learners: list[str]) -> bool:
    found = step_states(api)
    return all(found[learner][name] == status for learner in learners)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return what names an empty database, which the earlier release makes."""
    if request.param == "sqlite":
        return {}
    server: Postgres = request.getfixturevalue("postgres")
    return {"HOMEROOM_DATABASE_URL": server.url(server.make_database())}


def test_no_job_is_lost_or_run_twice_while_both_releases_work(
    earlier_source: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    with sandbox() as (control, partners):
        folder = tmp_path / "var"
        earlier = Release(folder, earlier_source, {**settings, **partners})
        later = Release(folder, None, {**settings, **partners})
        with closing(earlier.shell), closing(later.shell):
            work_with_both(earlier, later, control)


def work_with_both(earlier: Release, later: Release, control: httpx.Client) -> None:
    curriculum = ROOT / "examples" / "curricula" / "data-skills.yaml"
    earlier.shell.ok("db", "upgrade")
    assert "0037" in earlier.shell.ok("db", "check")
    with earlier.serving() as api:
        api.put("/api/v1/courses/data", json=COURSE).raise_for_status()
        api.put("/api/v1/programmes/lab", json=PROGRAMME).raise_for_status()
        api.put("/api/v1/programmes/lab/offerings/stats", json=OFFERING).raise_for_status()
        learners = finish(api, "failed")
        # HR refuses what the first learners finished, and analytics is out of order meanwhile.
        for server, status in (("hr", 400), ("analytics", 503)):
            fault = {"server": server, "mode": "status", "status": status}
            control.post("/control/faults", json=fault).raise_for_status()
        with earlier.running("worker"):
            until(lambda: all_steps(api, "hr", "failed", learners))
            until(lambda: all_steps(api, "credential", "completed", learners))
            until(lambda: unsuccessful(earlier) > LEARNERS)  # those of HR, and one of analytics
        control.delete("/control/faults").raise_for_status()
        learners += finish(api, "waiting")
        plan = earlier.shell.ok("plans", "import", str(curriculum)).strip()
        api.post(f"/api/v3/workflow/{plan}/step10").raise_for_status()
        with earlier.running("worker"):
            until(lambda: modules_done(api, plan))
        half = modules_done(api, plan)

        assert migrate.head_revision() in later.shell.ok("db", "upgrade")
        with later.serving() as new_api, earlier.running("worker"), later.running("worker"):
            learners += finish(api, "old") + finish(new_api, "new")
            later.shell.ok("jobs", "retry", "--all", "--state", "failed", "--yes")
            for name in ("credential", "analytics"):
                until(lambda name=name: all_steps(new_api, name, "completed", learners))
            # The earlier release wakes no step that waits for the credential (UPGRADE.md).
            words = ("--all", "--step", "hr", "--status", "waiting", "--yes")
            later.shell.ok("completions", "retry", *words)
            until(lambda: all_steps(new_api, "hr", "completed", learners))
            assert step_states(api) == step_states(new_api)
            until(lambda: status_of(new_api, plan)["status"] == "complete")
            for each in (api, new_api):
                run = each.post("/api/v1/schedules/reminder.lab/run")
                assert run.status_code in {200, 202}, run.text
            until(lambda: not unfinished(later))
    counts = later.job_states()
    assert {queue: states["failed"] for queue, states in counts.items() if states["failed"]} == {}
    summary = control.get("/control/summary").json()
    for name in ("analytics", "hr"):
        told = summary[name]
        assert (told["subjects"], told["doubled"]) == (len(learners), {})
    badges = control.get("/control/badges").json()["items"]
    assert len(badges) == len(learners)
    assert len({badge["recipient_email"] for badge in badges}) == len(learners)
    assert 0 < half < 8, "the plan was half made when the releases met"


def status_of(api: httpx.Client, plan: str) -> dict[str, Any]:
    answer = api.get(f"/api/v3/workflow/{plan}/step10/status").raise_for_status()
    return dict(answer.json()["data"])


def modules_done(api: httpx.Client, plan: str) -> int:
    """Return how many of a plan's eight modules are written."""
    return int(status_of(api, plan)["modulesGenerated"])


def unsuccessful(release: Release) -> int:
    """Return how many jobs failed or wait for a retry; on a slow machine no retry is left."""
    return sum(states["delayed"] + states["failed"] for states in release.job_states().values())


def unfinished(release: Release) -> int:
    """Return how many jobs are still to run, but for retries that wait for their time."""
    return sum(
        states.get(state, 0) for states in release.job_states().values() for state in UNFINISHED
    )
