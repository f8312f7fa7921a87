"""``homeroom`` processes of one staged fault, and what the instruments say of it."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from tests.support.condition import PATIENCE_SECONDS
from tests.support.homeroom_process import ADMIN, ADMIN_KEY, clean_environment, homeroom_command

from homeroom.progress.event import EventType

_URL_LINE = "Homeroom serves on "


class StagedServer:
    """A data folder, and the processes that use it."""

    def __init__(self, folder: Path, logs: Path, **settings: str) -> None:
        """Use a data folder; logs are kept elsewhere, as its disk may be full."""
        self.folder, self.logs = folder, logs
        self.environment = clean_environment(
            HOMEROOM_DATA_DIR=str(folder),
            HOMEROOM_PORT="0",
            HOMEROOM_ADMIN_KEY=ADMIN_KEY,
            HOMEROOM_LOG_LEVEL="warning",
            **settings,
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        self.client = httpx.AsyncClient(timeout=15, headers=ADMIN)

    @property
    def database(self) -> Path:
        return self.folder / "homeroom.db"

    def _spawn(self, *words: str, descriptors: int | None = None) -> subprocess.Popen[bytes]:
        def limit() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        name = self.logs / f"{len(self.processes)}-{words[0]}"
        with name.with_suffix(".out").open("wb") as out, name.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                homeroom_command(*words),
                env=self.environment,
                stdout=out,
                stderr=log,
                preexec_fn=limit,
            )
        self.processes.append(process)
        return process

    async def serve(self, *options: str, descriptors: int | None = None) -> None:
        """Start a server and wait until it answers."""
        process = self._spawn("serve", *options, descriptors=descriptors)
        out = self.logs / f"{len(self.processes) - 1}-serve.out"
        self.client.base_url = httpx.URL(await self._line(process, out, _URL_LINE))

    async def work(self) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it runs."""
        process = self._spawn("worker")
        out = self.logs / f"{len(self.processes) - 1}-worker.out"
        await self._line(process, out, "The worker is running")
        return process

    async def _line(self, process: subprocess.Popen[bytes], out: Path, start: str) -> str:
        """Return the word after the start of a line that a process prints."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for line in _lines(out):
                if line.startswith(start):
                    return (line.removeprefix(start).split() or [""])[0]
            assert process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            await asyncio.sleep(0.05)

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Run a command to its end; return its exit code, output and errors."""
        process = await asyncio.create_subprocess_exec(
            *homeroom_command(*words),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def stop(self) -> None:
        """Stop all processes, frozen ones too."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            await asyncio.to_thread(process.wait, 40)

    async def close(self) -> None:
        """Kill what is left."""
        await self.client.aclose()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            await asyncio.to_thread(process.wait)

    def text(self) -> str:
        """Return all logs, for the message of a test that failed."""
        return "\n".join(path.read_text() for path in sorted(self.logs.iterdir()))

    def events(self) -> set[str]:
        """Return what the logs say at WARNING and above: event, and cause or resource."""
        found = set()
        for path in self.logs.glob("*.log"):
            for line in path.read_text().splitlines():
                with suppress(ValueError):
                    event: dict[str, Any] = json.loads(line)
                    what = event.get("cause") or event.get("resource") or ""
                    found.add(f"{event['event']} {what}".strip())
        return found

    async def readiness(self) -> str:
        """Return the status of ``/readyz``, and the parts that are not ok."""
        answer = await self.client.get("/readyz")
        body = answer.json()
        status = body["status"] if answer.status_code == 200 else str(answer.status_code)
        checks = sorted(name for name, check in body["checks"].items() if check["status"] != "ok")
        return f"{status}: {', '.join(checks)}" if checks else str(status)

    async def metrics(self) -> set[str]:
        """Return the samples of ``/metrics``, without their zeroes."""
        text = (await self.client.get("/metrics")).text
        return {line.removesuffix(".0") for line in text.splitlines() if not line.startswith("#")}

    async def check(self, *options: str) -> str:
        """Return what ``homeroom check`` finds: status and subject."""
        _, out, err = await self.run("check", "--json", *options)
        assert out, err
        items = json.loads(out)["items"]
        found = sorted({f"{i['status']} {i['subject']}" for i in items if i["status"] != "ok"})
        return ", ".join(found) or "ok"

    async def send_events(self, size: int = 100) -> httpx.Response:
        """Send a batch of events, large enough to need room."""
        events = [
            {
                "id": f"{time.time_ns()}-{number}",
                "userId": "u-1",
                "courseId": "c-1",
                "chapterId": "a",
                "eventType": EventType.CHAPTER_PROGRESS,
                "progress": 10,
                "timestamp": int(time.time() * 1_000),
                "metadata": {"note": "x" * 2_000},
            }
            for number in range(size)
        ]
        return await self.client.post("/api/progress/enhanced-update", json={"events": events})

    async def complete_course(self, user_ids: Sequence[str]) -> None:
        """Publish a course of one chapter, and let learners complete it."""
        unit = {"id": "u", "title": "Unit", "chapters": [{"id": "a", "title": "Chapter"}]}
        course = {"title": "Fire safety", "units": [unit]}
        answer = await self.client.put("/api/v1/courses/c-1", json=course)
        assert answer.status_code in (200, 201), answer.text
        events = [
            {
                "id": f"{user_id}-done",
                "userId": user_id,
                "courseId": "c-1",
                "chapterId": "a",
                "eventType": EventType.CHAPTER_COMPLETE,
                "progress": 100,
                "timestamp": int(time.time() * 1_000),
            }
            for user_id in user_ids
        ]
        answer = await self.client.post("/api/progress/enhanced-update", json={"events": events})
        assert answer.json()["accepted"] == len(events), answer.text

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until a condition holds; show the logs if it does not."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_true():
            assert time.monotonic() < deadline, self.text()
            await asyncio.sleep(0.1)

    async def until_ready(self, *expected: str) -> None:
        """Wait until ``/readyz`` says one of some texts."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := await self.readiness()) not in expected:
            assert time.monotonic() < deadline, f"{found}\n{self.text()}"
            await asyncio.sleep(0.2)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
