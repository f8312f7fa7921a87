"""Consumers of changes miss nothing while many writers and processes complete courses."""

from __future__ import annotations

import random
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.effort import EFFORT
from tests.support.homeroom_process import ADMIN, ADMIN_KEY, clean_environment, homeroom_command

pytestmark = pytest.mark.service
COMPLETIONS = 400 if EFFORT == 1 else 20_000
WRITERS, PROCESSES = 16, 3
MAX_EVENTS = 20
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 120.0
LAST_SECONDS = 10.0
BODY = {
    "title": "Fire",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c", "title": "C"}]}],
}


@contextmanager
def serving(environment: dict[str, str], folder: Path, processes: int) -> Iterator[str]:
    """Run ``homeroom serve`` and yield its URL."""
    command = homeroom_command("serve", "--processes", str(processes))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            yield line.split()[3]
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT_SECONDS)


class Consumer:
    """A thread that follows a feed until it has seen all, or for some time after the end."""

    def __init__(self, url: str, read: Callable[[Consumer], None]) -> None:
        self.client = httpx.Client(base_url=url, headers=ADMIN, timeout=TIMEOUT_SECONDS)
        self.seen: list[str] = []
        self.cursor: str | None = None
        self.newest = "2000-01-01T00:00:00Z"
        self.requests = 0
        self.wake, self.last = threading.Event(), threading.Event()
        self._read = read
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def get(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page; a busy or waiting server is asked again."""
        while True:
            self.requests += 1
            answer = self.client.get(path, params=query)
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                page: dict[str, Any] = answer.json()
                return page

    def _run(self) -> None:
        until: float | None = None
        while until is None or (len(self.seen) < COMPLETIONS and time.monotonic() < until):
            self.wake.wait(POLL_SECONDS)
            self.wake.clear()
            if until is None and self.last.is_set():
                until = time.monotonic() + LAST_SECONDS  # the horizon may be behind for a moment
            self._read(self)

    def finish(self) -> list[str]:
        """Read what is left and return the ids in the order in which they were seen."""
        self.last.set()
        self.wake.set()
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive()
        self.client.close()
        return self.seen


def read_changes(consumer: Consumer) -> None:
    """Read the feed of changes to its end."""
    while True:
        query = {"kinds": "completions", "limit": 50}
        if consumer.cursor is not None:
            query["cursor"] = consumer.cursor
        page = consumer.get("/api/v1/changes", query)
        consumer.cursor = page["nextCursor"]
        consumer.seen += [item["id"] for item in page["items"]]
        if not page["hasMore"]:
            return


def read_since(consumer: Consumer) -> None:
    """Read all completions since the newest ``recordedAt`` that was seen."""
    since, cursor, known = consumer.newest, None, set(consumer.seen)
    while True:
        query: dict[str, Any] = {"since": since, "limit": 1_000}
        if cursor is not None:
            query["cursor"] = cursor
        page = consumer.get("/api/v1/completions", query)
        for item in page["items"]:
            if item["id"] not in known:
                consumer.seen.append(item["id"])
            if micros(item["recordedAt"]) > micros(consumer.newest):
                consumer.newest = item["recordedAt"]
        cursor = page["nextCursor"]
        if cursor is None:
            return


def micros(text: str) -> str:
    """Return a time in a form that sorts: the server leaves out zeros."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<6}"


def listen(url: str, consumer: Consumer, stop: threading.Event) -> None:
    """Wake a consumer by the hints of the server until told to stop."""
    with (
        httpx.Client(base_url=url, headers=ADMIN, timeout=TIMEOUT_SECONDS) as client,
        client.stream("GET", "/api/v1/events") as stream,
    ):
        for line in stream.iter_lines():
            if line.startswith("data:"):
                consumer.wake.set()
            if stop.is_set():
                return


def send(url: str, users: list[str], number: int) -> None:
    """Complete the course for some learners, a few in each request."""
    chance = random.Random(number)
    with httpx.Client(base_url=url, headers=ADMIN, timeout=TIMEOUT_SECONDS) as client:
        while users:
            count = chance.randint(1, MAX_EVENTS)
            batch, users = users[:count], users[count:]
            events = [
                {"id": str(uuid.uuid4()), "userId": user, "courseId": "fire", "chapterId": "c",
                 "eventType": "chapter_complete", "timestamp": "2026-11-20T09:00:00Z"}
                for user in batch
            ]  # fmt: skip
            answer = client.post("/api/progress/enhanced-update", json={"events": events})
            assert answer.status_code == 200, answer.text
            assert answer.json()["accepted"] == len(events)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_completion_is_missed_and_none_is_seen_twice(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environment = clean_environment(
        HOMEROOM_DATA_DIR=str(tmp_path),
        HOMEROOM_PORT="0",
        HOMEROOM_ADMIN_KEY=ADMIN_KEY,
        HOMEROOM_LOG_FORMAT="json",
        TMPDIR=str(tmp_path),
    )
    processes = 1
    if kind == "postgresql":
        environment["HOMEROOM_DATABASE_URL"] = request.getfixturevalue("postgres_url")
        processes = PROCESSES
    with serving(environment, tmp_path, processes) as url:
        httpx.put(f"{url}/api/v1/courses/fire", json=BODY, headers=ADMIN).raise_for_status()
        alone, woken = Consumer(url, read_changes), Consumer(url, read_changes)
        by_time = Consumer(url, read_since)
        stop = threading.Event()
        listener = threading.Thread(target=listen, args=(url, woken, stop))
        listener.start()
        began = time.monotonic()
        users = [f"u{number}" for number in range(COMPLETIONS)]
        with ThreadPoolExecutor(WRITERS) as writers:
            jobs = [
                writers.submit(send, url, users[number::WRITERS], number)
                for number in range(WRITERS)
            ]
            for job in jobs:
                job.result()
        seconds = time.monotonic() - began
        followed = {
            "alone": alone.finish(), "woken": woken.finish(), "since": by_time.finish()
        }  # fmt: skip
        stop.set()
        send(url, ["the-last"], 0)  # wakes the listener
        listener.join(TIMEOUT_SECONDS)
    print(
        f"{kind}: {COMPLETIONS} completions in {seconds:.1f} s by {WRITERS} writers and"
        f" {processes} processes; requests: alone {alone.requests}, woken {woken.requests},"
        f" since {by_time.requests}"
    )
    for name, seen in followed.items():
        assert len(seen) == len(set(seen)), f"{name} saw a completion twice"
        assert len(seen) == COMPLETIONS, f"{name} missed {COMPLETIONS - len(seen)}"
    assert followed["alone"] == followed["woken"]
