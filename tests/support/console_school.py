"""A running Homeroom with partners, learners and failed jobs, for the console to show."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.support.condition import PATIENCE_SECONDS
from tests.support.homeroom_process import ADMIN, clean_environment, homeroom_command, server

COURSE_ID = "fire-safety"
COURSE_TITLE = "Fire safety"
JWT_SECRET = "a-secret-of-the-console-tests-of-32-bytes"
_COURSE = {
    "title": COURSE_TITLE,
    "units": [
        {
            "id": "u",
            "title": "Unit",
            "chapters": [
                {"id": "alarm", "title": "The alarm"},
                {"id": "exit", "title": "The exit"},
            ],
        }
    ],
}
ACHIEVEMENTS = ("First course", "Two courses")
COMPLETED = tuple(f"learner-{number:02}" for number in range(1, 7))
HALFWAY = tuple(f"learner-{number:02}" for number in range(7, 10))


@dataclass
class ConsoleSchool:
    """URLs of the server and of the sandbox's control, a client with the admin's key, and the
    data folder.
    """

    url: str
    sandbox: str
    client: httpx.Client
    folder: Path

    def key(self, *roles: str) -> str:
        """Create an API key and return its token."""
        made = self.client.post(
            "/api/v1/keys", json={"name": f"{roles[0]} {time.time_ns()}", "roles": list(roles)}
        )
        assert made.status_code == 201, made.text
        return str(made.json()["token"])

    def refuse_hr(self) -> None:
        """Let HR refuse every message from now on."""
        fault = {"server": "hr", "mode": "status", "status": 422}
        httpx.post(f"{self.sandbox}/control/faults", json=fault).raise_for_status()

    def accept_hr(self) -> None:
        """Let HR accept messages again."""
        httpx.delete(f"{self.sandbox}/control/faults").raise_for_status()

    def jobs(self, state: str) -> list[dict[str, Any]]:
        """Return the jobs of a state."""
        answer = self.client.get("/api/v1/jobs", params={"state": state, "limit": 500})
        return list(answer.raise_for_status().json()["items"])

    def wait_for_failed(self, count: int) -> None:
        """Wait until exactly so many jobs have failed."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.jobs("failed")) != count:
            assert time.monotonic() < deadline, self.jobs("failed")
            time.sleep(0.1)

    def wait_for_alert(self, rule: str) -> dict[str, Any]:
        """Wait until an alert of a rule is open, and return it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = self.client.get("/api/v1/alerts").raise_for_status().json()["items"]
            for alert in answer:
                if alert["rule"] == rule:
                    return dict(alert)
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)

    def send(self, events: list[dict[str, Any]]) -> None:
        """Send progress events; all are accepted."""
        answer = self.client.post("/api/progress/enhanced-update", json={"events": events})
        assert answer.json()["accepted"] == len(events), answer.text

    def play(self) -> None:
        """Publish the course; some complete it, some are half through."""
        self.client.put(f"/api/v1/courses/{COURSE_ID}", json=_COURSE).raise_for_status()
        for count, title in enumerate(ACHIEVEMENTS, 1):
            rule = {"title": title, "condition": {"type": "courses", "count": count}}
            path = f"/api/v1/achievement-rules/courses-{count}"
            self.client.put(path, json=rule).raise_for_status()
        self.send(
            [
                {
                    "id": f"{user_id}-{chapter}",
                    "userId": user_id,
                    "courseId": COURSE_ID,
                    "chapterId": chapter,
                    "eventType": "chapter_complete",
                    "progress": 100,
                    "timeSpent": 300,
                    "timestamp": int(time.time() * 1_000),
                }
                for user_id in (*COMPLETED, *HALFWAY)
                for chapter in ("alarm", "exit")
                if chapter == "alarm" or user_id in COMPLETED
            ]
        )


@contextmanager
def console_school(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[ConsoleSchool]:
    """Serve a school in which HR has refused what was sent about all who completed.

    ``headers`` are those of its client, ``settings`` more of the server's environment.
    """
    own = {"HOMEROOM_JWT_SECRET": JWT_SECRET, "HOMEROOM_ALERT_INTERVAL": "1s"}
    more = {**own, **(settings or {})}
    with _sandbox() as sandbox, server(folder, {**sandbox["environment"], **more}) as url:
        client = httpx.Client(base_url=url, headers={**ADMIN, **(headers or {})}, timeout=30)
        school = ConsoleSchool(url, sandbox["url"], client, folder)
        school.refuse_hr()
        school.play()
        school.wait_for_failed(len(COMPLETED))
        school.wait_for_alert("failed_jobs")
        yield school
        client.close()


@contextmanager
def _sandbox() -> Iterator[dict[str, Any]]:
    """Run the partner systems; yield what the command prints."""
    process = subprocess.Popen(
        homeroom_command("sandbox", "--port", "0", "--json"),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)
