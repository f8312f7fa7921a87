"""``homeroom serve --processes``: one port, one worker, exact sums, on PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.homeroom_process import ADMIN, ADMIN_KEY, clean_environment, homeroom_command

pytestmark = pytest.mark.service
TIMEOUT_SECONDS = 60.0
COURSE = {
    "title": "Fire",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c", "title": "C"}]}],
}


def test_several_processes_on_sqlite_are_an_error_with_a_fix(tmp_path: Path) -> None:
    ended = subprocess.run(
        homeroom_command("serve", "--processes", "2"),
        env=clean_environment(HOMEROOM_DATA_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert ended.returncode == 78
    assert "HOMEROOM_PROCESSES: 2 processes cannot share a SQLite file" in ended.stderr
    assert "PostgreSQL" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def serving(url: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    environment = clean_environment(
        HOMEROOM_DATABASE_URL=url,
        HOMEROOM_DATA_DIR=str(folder),
        HOMEROOM_DATABASE_CONNECTIONS="8",
        HOMEROOM_PORT="0",
        HOMEROOM_ADMIN_KEY=ADMIN_KEY,
        HOMEROOM_LOG_FORMAT="json",
        TMPDIR=str(folder),
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            homeroom_command("serve", "--processes", "2"),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        yield line.split()[3], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)


def family(text: str, name: str) -> dict[str, float]:
    """Return the samples of a metric by their labels."""
    return {
        labels: float(value)
        for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE)
    }


def test_sums_over_processes_are_exact_though_one_is_killed(
    postgres_url: str, tmp_path: Path
) -> None:
    with serving(postgres_url, tmp_path) as (base, process):
        children = psutil.Process(process.pid).children()
        assert len(children) == 3  # two servers, one worker
        fresh = httpx.Limits(max_keepalive_connections=0)  # a connection per request
        with httpx.Client(
            base_url=base, headers=ADMIN, trust_env=False, timeout=30, limits=fresh
        ) as api:
            api.put("/api/v1/courses/fire", json=COURSE).raise_for_status()

            def send(number: int) -> None:
                event = {
                    "id": f"event-{number}",
                    "userId": f"learner-{number % 20}",
                    "courseId": "fire",
                    "chapterId": "c",
                    "eventType": "chapter_progress",
                    "progress": 50,
                    "timeSpent": 1,
                    "timestamp": "2026-11-22T09:00:00Z",
                }
                body = {"events": [event]}
                while True:  # players retry
                    try:
                        answer = api.post("/api/progress/enhanced-update", json=body)
                    except httpx.HTTPError:
                        continue
                    if answer.status_code == 200:
                        return

            with ThreadPoolExecutor(8) as senders:
                first = list(senders.map(send, range(100)))
                reporting = family(api.get("/metrics").text, "homeroom_process_resident_bytes")
                os.kill(children[0].pid, signal.SIGKILL)
                second = list(senders.map(send, range(100, 200)))
            assert len(first) + len(second) == 200
            assert reporting.keys() == {
                f'process="{name}"' for name in ("api-1", "api-2", "worker")
            }
            spent = [
                api.get("/api/v1/courses/fire/progress", params={"userId": f"learner-{n}"}).json()
                for n in range(20)
            ]
            assert [each["timeSpent"] for each in spent] == [10] * 20
            assert len(api.get("/api/v1/workers").json()) == 1
            summary = api.get("/api/v1/metrics/summary").json()
            assert summary["activeWorkers"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert not any(child.is_running() for child in children)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ended = [line["process"] for line in lines if line["event"] == "process_ended"]
    assert ended == ["api-1"]
    assert list(tmp_path.glob("homeroom-*")) == []
