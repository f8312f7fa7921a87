"""A Node service shares the queues: the example is installed and run, with Bull Board, for real."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.support.condition import until_async
from tests.support.mail_server import MailServer, mail_server
from tests.support.mail_worker import mail_notifications
from tests.support.partner_school import COURSE, Sandbox, running_sandbox
from tools.servers.redis import RedisServer

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.demo.subprocesses import ChildProcess, ServerProcess, free_port
from homeroom.notify.api import EXAMPLE_PARAMS, Message

pytestmark = [pytest.mark.anyio, pytest.mark.service]
PATIENCE_SECONDS = 60.0
ADMIN = "an-admin-key-for-node"
CREDENTIAL = "completion.credential"


@dataclass
class Platform:
    """Homeroom on Redis (API and worker apart), its partners, and the Node service."""

    folder: Path
    mail: MailServer
    api: httpx.AsyncClient
    board: httpx.AsyncClient
    sandbox: Sandbox
    server: ChildProcess
    worker: ChildProcess
    redis: RedisServer
    node: Path

    async def run(self, *words: str) -> dict[str, Any]:
        """Run a script of the example and return what it prints."""
        process = await asyncio.create_subprocess_exec(
            "node",
            *words,
            cwd=self.node,
            env=_environment(self.redis),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
        assert out, err.decode()
        said: dict[str, Any] = json.loads(out)
        return said

    async def person(self, user_id: str) -> None:
        person = {"givenName": "Ada", "familyName": "L", "email": f"{user_id}@example.org"}
        (await self.api.put(f"/api/v1/people/{user_id}", json=person)).raise_for_status()

    async def finish(self, user_id: str) -> str:
        """Let a learner finish the course; return the completion's id."""
        event = {
            "id": f"{user_id}-1",
            "userId": user_id,
            "courseId": "data",
            "chapterId": "c1",
            "eventType": "chapter_complete",
            "progress": 100,
            "timestamp": "2026-01-02T03:04:05Z",
        }
        answer = await self.api.post("/api/progress/enhanced-update", json={"events": [event]})
        answer.raise_for_status()
        found = await self.api.get("/api/v1/completions", params={"userId": user_id})
        [completion] = found.json()["items"]
        return str(completion["id"])

    async def step(self, completion_id: str) -> dict[str, Any]:
        found = (await self.api.get(f"/api/v1/completions/{completion_id}")).json()
        step: dict[str, Any] = next(s for s in found["steps"] if s["name"] == "credential")
        return step

    async def job(self, job_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/api/v1/jobs/{job_id}")
        found: dict[str, Any] = answer.json()
        return found

    async def listed(self, queue: str, status: str) -> list[dict[str, Any]]:
        """Return what Bull Board lists."""
        query = {"activeQueue": queue, "status": status, "page": 1, "jobsPerPage": 100}
        answer = await self.board.get("/api/queues", params=query)
        answer.raise_for_status()
        [found] = [each for each in answer.json()["queues"] if each["name"] == queue]
        return list(found["jobs"])

    async def press(self, queue: str, *path: str, **body: Any) -> None:
        """Press a button of Bull Board."""
        answer = await self.board.put("/".join(("/api/queues", queue, *path)), json=body)
        assert answer.is_success, answer.text

    async def boards(self) -> dict[str, dict[str, Any]]:
        """Return the queues that Bull Board shows by name."""
        answer = await self.board.get("/api/queues", params={"page": 1, "jobsPerPage": 1})
        return {each["name"]: each for each in answer.json()["queues"]}

    async def queue(self, name: str) -> dict[str, Any]:
        """Return a queue as Homeroom shows it."""
        queues: list[dict[str, Any]] = (await self.api.get("/api/v1/queues")).json()
        return next((each for each in queues if each["name"] == name), {})  # none: never used


def _environment(redis: RedisServer, **more: str) -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOMEROOM_QUEUE_URL": redis.url, **more}


@pytest.fixture
async def platform(
    tmp_path: Path, redis_server: RedisServer, node_service: Path
) -> AsyncIterator[Platform]:
    redis_server.empty()
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox())
        mail = await stack.enter_async_context(mail_server())
        partners = sandbox.settings
        settings = {
            name: value
            for name, value in partners.items()
            if "DIRECTORY" not in name and "ASSESSMENT" not in name
        } | {
            "HOMEROOM_DATA_DIR": str(tmp_path),
            "HOMEROOM_PORT": str(free_port(0)),
            "HOMEROOM_ADMIN_KEY": ADMIN,
            "HOMEROOM_QUEUE_URL": redis_server.url,
            "HOMEROOM_LOG_FORMAT": "json",
            "HOMEROOM_SMTP_URL": f"smtp://127.0.0.1:{mail.port}?tls=none",
            "HOMEROOM_MAIL_FROM": "Homeroom <homeroom@example.org>",
            "HOMEROOM_PUBLIC_URL": "https://homeroom.example.org",
        }
        server = ServerProcess(settings, tmp_path / "server.log", worker=False)
        stack.push_async_callback(server.stop)
        await server.open()
        worker = ChildProcess("worker", ["homeroom", "worker"], settings, tmp_path / "worker.log")
        stack.push_async_callback(worker.stop)
        board = await asyncio.create_subprocess_exec(
            "node",
            "board.mjs",
            cwd=node_service,
            env=_environment(redis_server, PORT="0"),
            stdout=asyncio.subprocess.PIPE,
        )
        stack.push_async_callback(_stopped, board)
        assert board.stdout is not None
        url = json.loads(await asyncio.wait_for(board.stdout.readline(), PATIENCE_SECONDS))["url"]
        headers = {"authorization": f"Bearer {ADMIN}"}
        api = httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30, trust_env=False)
        pages = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)
        for client in (api, pages):
            await stack.enter_async_context(client)
        (await api.put("/api/v1/courses/data", json=COURSE)).raise_for_status()
        yield Platform(
            tmp_path, mail, api, pages, sandbox, server, worker, redis_server, node_service
        )


async def _stopped(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


async def test_node_adds_a_credential_and_homeroom_issues_it_once(platform: Platform) -> None:
    await platform.person("ada")
    completion = await platform.finish("ada")
    payload = json.dumps({"completionId": completion})
    first, second = (
        asyncio.create_task(platform.run("add.mjs", CREDENTIAL, payload, *id))
        for id in ((), ("mine",))
    )
    await until_async(lambda: _lists(platform, "credentials", "prioritized", 3))
    await platform.worker.start()
    results = [await first, await second]
    step = await platform.step(completion)
    assert step["status"] == "completed"
    assert [said["result"] for said in results] == [{"externalId": step["externalId"]}] * 2
    assert len(await platform.sandbox.badges()) == 1
    jobs = (await platform.api.get("/api/v1/jobs", params={"queue": "credentials"})).json()["items"]
    assert [job["id"] for job in jobs] == [step["jobId"]], "one row, however often it was added"


async def test_node_adds_a_job_of_its_own_and_its_id_is_the_rows(platform: Platform) -> None:
    await platform.worker.start()
    add = ("add.mjs", "progress.replay_quarantine", '{"courseId": "data"}', "node.replay.1")
    said = await platform.run(*add)
    assert said["id"] == "node.replay.1"
    job = await platform.job("node.replay.1")
    assert (job["state"], job["priority"]) == ("completed", 5)
    assert (await platform.run(*add))["result"] == said["result"], "again it is the same job"
    assert (await platform.job("node.replay.1"))["attempts"] == job["attempts"]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ('{"completionID": "c"}', "missing required field `completionId`"),
        ('{"completionId": 7}', "Expected `str`, got `int`"),
        ('{"completionId": "unknown"}', "no completion"),
    ],
)
async def test_a_job_that_cannot_be_done_fails_in_node_with_the_reason(
    platform: Platform, payload: str, why: str
) -> None:
    await platform.worker.start()
    said = await platform.run("add.mjs", CREDENTIAL, payload)
    assert why in said["failed"]
    [failed] = await platform.listed("credentials", "failed")
    assert why in failed["failedReason"]


async def test_bull_board_sees_retries_and_cleans_what_homeroom_adds(platform: Platform) -> None:
    completion = await platform.finish("bob")  # whom the directory does not know yet
    [waiting] = await until_async(lambda: _lists(platform, "credentials", "prioritized", 1))
    step = await platform.step(completion)
    assert (waiting["id"], waiting["name"]) == (step["jobId"], CREDENTIAL)
    assert waiting["data"]["args"] == {"completionId": completion}
    # Removed there, it is not lost: the row waits, and is dispatched again.
    await platform.press("credentials", waiting["id"], "clean")
    await platform.worker.start()
    [failed] = await until_async(lambda: _lists(platform, "credentials", "failed", 1))
    assert "the directory does not know the learner bob" in failed["failedReason"]
    assert (await platform.step(completion))["status"] == "failed"

    await platform.person("bob")
    await platform.press("credentials", failed["id"], "retry")
    await until_async(lambda: _is(platform, completion, "completed"))
    await until_async(lambda: _lists(platform, "credentials", "failed", 0))
    assert len(await platform.sandbox.badges()) == 1
    job = await platform.job(step["jobId"])
    assert any("Bull Board" in line["line"] for line in job["logs"])

    cleaned = await platform.finish("cy")
    await until_async(lambda: _lists(platform, "credentials", "failed", 1))
    await until_async(lambda: _cleaned(platform, "credentials"))
    assert (await platform.step(cleaned))["status"] == "failed", "the row is kept"
    await platform.person("cy")
    path = f"/api/v1/completions/{cleaned}/steps/credential/retry"
    (await platform.api.post(path)).raise_for_status()
    await until_async(lambda: _is(platform, cleaned, "completed"))


QUEUES = {
    "activity",
    "credentials",
    "deadline-warnings",
    "dispatch",
    "facilitator-reminders",
    "learner-messages",
    "lessonplans",
    "manager-alerts",
    "progress",
    "upkeep",
}


async def test_bull_board_shows_all_queues_with_their_workers(platform: Platform) -> None:
    async def have_workers(expected: bool) -> bool:
        shown = await platform.boards()
        return {name: each["hasWorkers"] for name, each in shown.items()} == dict.fromkeys(
            QUEUES, expected
        )

    await until_async(lambda: have_workers(False))
    await platform.worker.start()
    await until_async(lambda: have_workers(True))
    assert {each["name"] for each in (await platform.api.get("/api/v1/queues")).json()} == QUEUES
    answer = await platform.board.get("/api/queues/credentials/workers")
    [worker] = answer.json()["workers"]
    assert "homeroom." in json.dumps(worker)


async def test_a_process_has_at_most_twelve_connections_to_redis(platform: Platform) -> None:
    """One for each queue waits for jobs; there were 27 of a worker that was busy."""
    await platform.worker.start()
    most = {"server": 0, "worker": 0}
    for number in range(40):
        await platform.finish(f"learner-{number}")
        for child in (platform.server, platform.worker):
            most[child.name] = max(most[child.name], _connections(child, platform.redis.port))
    # All queues wait at last; the steps of the courses have run, or failed, meanwhile.
    await until_async(lambda: _has_connections(platform, len(QUEUES) + 1))
    assert most["server"] <= 2, most
    assert most["worker"] <= 12, most


def _connections(child: ChildProcess, port: int) -> int:
    """Count the connections of a process to a port of loopback."""
    assert child.pid is not None
    found = psutil.Process(child.pid).net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == port for each in found)


async def _has_connections(platform: Platform, least: int) -> bool:
    return least <= _connections(platform.worker, platform.redis.port) <= 12


async def test_a_pause_on_either_side_is_seen_on_both(platform: Platform) -> None:
    async def are_paused(expected: bool) -> bool:
        here = (await platform.queue("credentials")).get("paused")
        there = (await platform.boards())["credentials"]["isPaused"]
        return bool(here == there == expected)

    await platform.person("ada")
    await platform.worker.start()
    await platform.press("credentials", "pause")
    await until_async(lambda: are_paused(True))
    completion = await platform.finish("ada")
    (await platform.api.post("/api/v1/queues/credentials/resume")).raise_for_status()
    await until_async(lambda: _is(platform, completion, "completed"))
    await until_async(lambda: are_paused(False))
    (await platform.api.post("/api/v1/queues/credentials/pause")).raise_for_status()
    await until_async(lambda: are_paused(True))
    await platform.press("credentials", "resume")
    await until_async(lambda: are_paused(False))


async def test_a_limit_that_is_set_in_bull_board_is_shown_by_homeroom(platform: Platform) -> None:
    async def shows(expected: Any) -> bool:
        return bool((await platform.queue("dispatch")).get("redisLimits") == expected)

    await platform.press("dispatch", "concurrency", concurrency=2)
    await platform.press("dispatch", "rate-limit", max=10, duration=1000)
    limits = {"concurrency": 2, "rateMax": 10, "rateWindowSeconds": 1.0}
    await until_async(lambda: shows(limits))
    await platform.press("dispatch", "concurrency", concurrency=0)
    await platform.press("dispatch", "rate-limit", max=None)
    await until_async(lambda: shows(None))


async def test_a_failed_mail_is_seen_in_bull_board(platform: Platform) -> None:
    await platform.person("ada")
    platform.mail.plan("end", "554 5.6.0 message refused", times=1)
    db = SqliteDatabase(platform.folder / "homeroom.db", Clock())
    await db.open()
    try:
        message = Message("node 1", "deadline_warning", "ada", EXAMPLE_PARAMS["deadline_warning"])
        async with db.write() as tx:
            await mail_notifications(db, platform.mail.port).send(tx, [message])
    finally:
        await db.close()
    await platform.worker.start()
    [failed] = await until_async(lambda: _lists(platform, "deadline-warnings", "failed", 1))
    assert "554" in failed["failedReason"]
    found = (await platform.api.get("/api/v1/deliveries", params={"status": "failed"})).json()
    assert [each["reasonCode"] for each in found["items"]] == ["message_refused"]


async def _cleaned(platform: Platform, queue: str) -> bool:
    """Press `Clean`, which leaves what failed within the last five seconds."""
    await platform.press(queue, "clean", "failed")
    return await platform.listed(queue, "failed") == []


async def _is(platform: Platform, completion_id: str, status: str) -> bool:
    return bool((await platform.step(completion_id))["status"] == status)


async def _lists(platform: Platform, queue: str, status: str, count: int) -> list[Any] | bool:
    found = await platform.listed(queue, status)
    if len(found) != count:
        return False
    return found or True
