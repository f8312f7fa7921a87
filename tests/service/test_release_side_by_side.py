"""This release on the schema of the next one: it starts, stays ready, and does its work.

The next release's schema is this one's with what a release may add (UPGRADE.md): a table, a column
that may be empty or has a default, an index.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from tests.support.condition import until
from tests.support.homeroom_process import ADMIN, CommandLine
from tools.servers.postgres import Postgres

pytestmark = pytest.mark.service
EXPANDED = """
    ALTER TABLE job ADD COLUMN next_colour TEXT;
    ALTER TABLE progress_event ADD COLUMN next_source TEXT NOT NULL DEFAULT 'player';
    CREATE TABLE next_room (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE INDEX next_index ON completion (user_id, completed_at);
    UPDATE alembic_version SET version_num = '9999_next_release';
"""
COURSE = {
    "title": "Fire",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c", "title": "C"}]}],
}


def upgraded_by_the_next_release(file: Path) -> None:
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        connection.executescript(EXPANDED)


@contextmanager
def serving(shell: CommandLine) -> Iterator[httpx.Client]:
    shell.environment |= {"HOMEROOM_PORT": "0", "HOMEROOM_ADMIN_KEY": ADMIN["Authorization"][7:]}
    server = shell.start("serve")
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line, server.communicate()
    with httpx.Client(base_url=line.split()[3], headers=ADMIN, trust_env=False) as client:
        yield client
    server.terminate()
    assert server.wait(60) == 0


def finish_a_course(api: httpx.Client, learner: str) -> None:
    api.put("/api/v1/courses/fire", json=COURSE).raise_for_status()
    event = {
        "id": f"event-of-{learner}",
        "userId": learner,
        "courseId": "fire",
        "chapterId": "c",
        "eventType": "chapter_complete",
        "timestamp": "2026-11-22T09:00:00Z",
    }
    sent = api.post("/api/progress/enhanced-update", json={"events": [event]})
    assert sent.json()["accepted"] == 1, sent.text

    def ended() -> bool:
        found = api.get("/api/v1/completions", params={"userId": learner}).json()["items"]
        return bool(found) and all(step["status"] == "skipped" for step in found[0]["steps"])

    until(ended)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[CommandLine]:
    opened = CommandLine(tmp_path / "var")
    yield opened
    opened.close()


def test_a_running_server_stays_ready_while_the_next_release_upgrades_the_database(
    shell: CommandLine, tmp_path: Path
) -> None:
    with serving(shell) as api:
        finish_a_course(api, "ada")
        upgraded_by_the_next_release(tmp_path / "var" / "homeroom.db")
        assert api.get("/readyz").json()["checks"]["migrations"]["status"] == "ok"
        finish_a_course(api, "bo")


def test_it_starts_again_on_the_next_releases_schema_and_leaves_it_alone(
    shell: CommandLine, tmp_path: Path
) -> None:
    shell.ok("db", "upgrade")
    file = tmp_path / "var" / "homeroom.db"
    upgraded_by_the_next_release(file)
    for words in (("db", "upgrade"), ("db", "check")):
        assert "9999_next_release, of a later release" in shell.ok(*words)
    found = json.loads(shell.ok("check", "--json"))["items"]
    assert [each["status"] for each in found if each["subject"] == "database"] == ["warning"]
    with serving(shell) as api:
        finish_a_course(api, "ada")
        assert api.get("/readyz").status_code == 200
    with closing(sqlite3.connect(file)) as connection:
        [(revision,)] = connection.execute("SELECT version_num FROM alembic_version")
    assert revision == "9999_next_release"


def test_on_postgresql_it_starts_on_the_next_releases_schema_and_does_its_work(
    shell: CommandLine, postgres: Postgres, postgres_url: str
) -> None:
    database = postgres_url.rpartition("/")[2]
    statements = [each.strip() for each in EXPANDED.split(";") if each.strip()]
    postgres.run(*statements, database=database)
    shell.environment["HOMEROOM_DATABASE_URL"] = postgres_url
    assert "9999_next_release, of a later release" in shell.ok("db", "upgrade")
    with serving(shell) as api:
        finish_a_course(api, "ada")
        assert api.get("/readyz").status_code == 200
    found = postgres.rows("SELECT version_num FROM alembic_version", database)
    assert found == [("9999_next_release",)]


def test_a_worker_runs_beside_it_and_answers_probes_and_metrics_where_it_is_told_to(
    shell: CommandLine, tmp_path: Path
) -> None:
    shell.ok("db", "upgrade")
    upgraded_by_the_next_release(tmp_path / "var" / "homeroom.db")
    token = shell.ok("keys", "create", "prometheus", "--role", "viewer").strip()
    worker = shell.start("worker", "--port", "0")
    assert worker.stdout is not None
    url = worker.stdout.readline().split()[-1]
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        assert until(lambda: client.get("/readyz").json()["status"] == "ok")
        assert client.get("/metrics").status_code == 401
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
        assert "homeroom_job_attempts" in answer.text
        assert client.post("/api/progress/enhanced-update").status_code == 404
    worker.terminate()
    assert worker.wait(60) == 0
