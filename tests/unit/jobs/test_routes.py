"""The kernel over HTTP: lists, actions and roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.support.asgi_server import MAX_BODY_BYTES, serving

from homeroom.access import store as audit
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Unauthenticated
from homeroom.http.app import create_app
from homeroom.identity import Identity, Role
from homeroom.jobs import job_actions, schedule_store, store
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import FINISHED, Job, JobArgs
from homeroom.jobs.outcome import Done
from homeroom.jobs.routes import router
from homeroom.jobs.worker import Worker
from homeroom.web.identity import Auth

pytestmark = pytest.mark.anyio


class SendEmail(JobArgs, frozen=True, kw_only=True):
    """A job with secrets in its arguments."""

    kind = "routes.send"
    queue = "routes"
    max_retries = 0
    address: str = "anna@school.example"
    access_token: str = "hunter2"
    fails: bool = False


async def _identify(header: str | None, cookie: str | None) -> Identity:
    """Read the token as a role; tokens belong to another package."""
    if header is None:
        raise Unauthenticated
    role = Role(header.removeprefix("Bearer "))
    return Identity(role.value, frozenset({role}), "key")


async def _no_ingest(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("no event is ingested here")


def _as(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {role}"}


OPERATOR, VIEWER = _as("operator"), _as("viewer")


@pytest.fixture
def registry() -> Registry:
    found = Registry()

    async def run(ctx: Any, args: SendEmail) -> Any:
        await ctx.log("wrote to anna@school.example")
        if args.fails:
            raise ConnectionError("refused: token=hunter2")
        return Done({"sent": 1})

    found.add(SendEmail, run)
    return found


@pytest.fixture
async def client(db: Database, registry: Registry) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        [router(db, Auth(_identify), registry, audit.record_audit)],
        ingest=_no_ingest,
        max_body_bytes=MAX_BODY_BYTES,
    )
    async with serving(app) as client:
        yield client


async def _add(db: Database, *jobs: SendEmail, **options: Any) -> list[str]:
    async with db.write() as tx:
        return [await enqueue(tx, job, **options) for job in jobs]


async def _audited(db: Database) -> list[tuple[str, str, str, Any]]:
    """Return the actor, action, subject and details of audit lines, the oldest first."""
    async with db.read() as tx:
        lines = await audit.list_audit(tx, 100)
    return [(line.actor, line.action, line.subject, line.details) for line in reversed(lines)]


@asynccontextmanager
async def _run_jobs(db: Database, registry: Registry, ids: list[str]) -> AsyncIterator[None]:
    """Run jobs to their ends; the worker runs until the end of the block."""
    worker = Worker(db, registry, SqlEngine(), worker_id="east")
    running = asyncio.create_task(worker.run())
    changed = asyncio.Event()
    unsubscribe = db.subscribe(lambda topics: changed.set())
    try:
        async with asyncio.timeout(20):
            while True:
                changed.clear()
                async with db.read() as tx:
                    states = await store.states(tx, ids)
                if all(state in FINISHED for state in states.values()):
                    break
                await changed.wait()
        yield
    finally:
        unsubscribe()
        worker.stop()
        await running


async def test_queues_show_counts_and_statistics(
    client: httpx.AsyncClient, db: Database, registry: Registry
) -> None:
    ids = await _add(db, SendEmail(), SendEmail(fails=True))
    async with _run_jobs(db, registry, ids):
        await _add(db, SendEmail(), delay=timedelta(hours=1))
        (queue,) = (await client.get("/api/v1/queues", headers=VIEWER)).json()
        (worker,) = (await client.get("/api/v1/workers", headers=VIEWER)).json()
    assert queue["counts"] == {
        "waiting": 0,
        "delayed": 1,
        "waitingChildren": 0,
        "active": 0,
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
    }
    assert queue["redisLimits"] is None
    assert queue["stats"] == {
        "queueLength": 0,
        "activeJobs": 0,
        "failedJobs": 1,
        "processing": False,
    }
    assert (queue["name"], queue["paused"], queue["concurrency"]) == ("routes", False, 3)
    assert (queue["workers"], queue["oldestWaitingSeconds"]) == (1, None)
    assert (worker["id"], worker["queues"]) == ("east", {"routes": 3})


async def test_a_job_is_shown_with_everything_but_its_secrets(
    client: httpx.AsyncClient, db: Database, registry: Registry
) -> None:
    (job_id,) = await _add(db, SendEmail(fails=True))
    async with _run_jobs(db, registry, [job_id]):
        answer = await client.get(f"/api/v1/jobs/{job_id}", headers=VIEWER)
    job = answer.json()
    assert "hunter2" not in answer.text
    assert "anna@school.example" not in answer.text
    assert job["data"] == {
        "address": "a***@school.example",
        "accessToken": "[hidden]",
        "fails": True,
    }
    assert (job["name"], job["state"], job["attemptsMade"]) == ("routes.send", "failed", 1)
    assert job["failedReason"].startswith("ConnectionError: refused")
    assert job["reasonCode"] == "attempts_exhausted"
    assert "Traceback" in job["attempts"][0]["traceback"]
    assert [line["line"] for line in job["logs"]] == ["wrote to a***@school.example"]
    assert job["createdAt"].endswith("Z")


async def test_jobs_are_listed_page_by_page_and_found_by_filter(
    client: httpx.AsyncClient, db: Database
) -> None:
    ids = await _add(db, *(SendEmail() for _ in range(5)))
    (special,) = await _add(db, SendEmail(), id="special.one", delay=timedelta(hours=1))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        body = (await client.get("/api/v1/jobs", params=params, headers=VIEWER)).json()
        seen += [job["id"] for job in body["items"]]
        cursor = body["nextCursor"]
        if cursor is None:
            break
    assert seen == [special, *reversed(ids)]
    for params in ({"q": "special"}, {"state": "delayed"}, {"state": "delayed", "q": "cial.o"}):
        body = (await client.get("/api/v1/jobs", params=params, headers=VIEWER)).json()
        assert [job["id"] for job in body["items"]] == [special]
    body = (await client.get("/api/v1/jobs", params={"name": "other"}, headers=VIEWER)).json()
    assert body == {"items": [], "nextCursor": None}


async def test_a_cancelled_job_does_not_count_as_failed(
    client: httpx.AsyncClient, db: Database
) -> None:
    (job_id,) = await _add(db, SendEmail(), delay=timedelta(hours=1))
    await client.post(f"/api/v1/jobs/{job_id}/cancel", headers=OPERATOR)
    (queue,) = (await client.get("/api/v1/queues", headers=VIEWER)).json()
    assert (queue["counts"]["failed"], queue["counts"]["cancelled"]) == (0, 1)
    assert queue["stats"]["failedJobs"] == 0
    await client.post(f"/api/v1/jobs/{job_id}/retry", headers=OPERATOR)
    (queue,) = (await client.get("/api/v1/queues", headers=VIEWER)).json()
    assert (queue["counts"]["cancelled"], queue["counts"]["waiting"]) == (0, 1)


async def test_actions_on_one_job(client: httpx.AsyncClient, db: Database) -> None:
    (job_id,) = await _add(db, SendEmail(), delay=timedelta(hours=1))
    for action, status, state in (
        ("promote", 200, "waiting"),
        ("promote", 409, None),
        ("cancel", 200, "failed"),
        ("cancel", 409, None),
        ("retry", 200, "waiting"),
        ("retry", 409, None),
    ):
        answer = await client.post(f"/api/v1/jobs/{job_id}/{action}", headers=OPERATOR)
        assert answer.status_code == status, (action, answer.text)
        if state is None:
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            assert answer.json()["state"] == state
            assert answer.json()["reasonCode"] == ("cancelled" if state == "failed" else None)
    answer = await client.post("/api/v1/jobs/unknown/retry", headers=OPERATOR)
    assert answer.status_code == 404
    assert await _audited(db) == [
        ("operator", "job.promoted", job_id, {}),
        ("operator", "job.cancelled", job_id, {}),
        ("operator", "job.retried", job_id, {}),
    ]


async def test_an_action_on_many_needs_a_filter(client: httpx.AsyncClient, db: Database) -> None:
    await _add(db, *(SendEmail() for _ in range(3)))
    body: dict[str, Any] = {"action": "cancel"}
    for empty in ({}, {"queue": None}, {"state": None, "name": None, "q": None}):
        body["filter"] = empty
        answer = await client.post("/api/v1/jobs/bulk", json=body, headers=OPERATOR)
        assert answer.status_code == 422, empty
    body["filter"] = {"queue": "routes", "q": "anna@school.example"}
    answer = await client.post("/api/v1/jobs/bulk", json=body, headers=OPERATOR)
    assert answer.json() == {"count": 3}
    answer = await client.post("/api/v1/jobs/bulk", json=body, headers=OPERATOR)
    assert answer.json() == {"count": 0}
    details = {"filter": {"queue": "routes", "q": "a***@school.example"}, "count": 3}
    assert await _audited(db) == [("operator", "jobs.cancelled", "routes", details)]


async def test_a_part_of_what_is_hidden_finds_no_job(
    client: httpx.AsyncClient, db: Database
) -> None:
    await _add(db, SendEmail(address="none", access_token=""), SendEmail())
    for text, count in (
        ("hunter2", 0),
        ("hunt", 0),
        ("nna@school", 0),
        ("anna", 0),
        ("nna@school.example", 0),
        ("Anna@school.example", 1),
        ("@school.example", 1),
        ("none", 1),
        ("accessToken", 2),
    ):
        params: dict[str, Any] = {"q": text, "limit": 1}
        found, pages = [], 0
        while pages == 0 or "cursor" in params:
            page = (await client.get("/api/v1/jobs", params=params, headers=VIEWER)).json()
            found, pages = found + page["items"], pages + 1
            params = {**params, "cursor": page["nextCursor"]} if page["nextCursor"] else {}
        assert (len(found), pages) == (count, max(count, 1)), text
    body = {"action": "cancel", "filter": {"q": "hunter2"}}
    answer = await client.post("/api/v1/jobs/bulk", json=body, headers=OPERATOR)
    assert answer.json() == {"count": 0}


async def test_an_action_on_many_passes_over_a_job_that_was_removed_meanwhile(
    client: httpx.AsyncClient, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, removed, _ = await _add(db, *(SendEmail() for _ in range(3)))
    search = job_actions.search

    async def search_then_remove(tx: Tx, *args: Any, **options: Any) -> list[tuple[int, Job]]:
        rows = await search(tx, *args, **options)
        await tx.execute("DELETE FROM job WHERE id = ?", (removed,))
        return rows

    monkeypatch.setattr(job_actions, "search", search_then_remove)
    body = {"action": "cancel", "filter": {"queue": "routes"}}
    answer = await client.post("/api/v1/jobs/bulk", json=body, headers=OPERATOR)
    assert (answer.status_code, answer.json()) == (200, {"count": 2})


async def test_a_queue_is_paused_resumed_and_cleaned(
    client: httpx.AsyncClient, db: Database, registry: Registry
) -> None:
    ids = await _add(db, SendEmail(), SendEmail(fails=True))
    async with _run_jobs(db, registry, ids):
        pass

    async def paused() -> bool:
        (queue,) = (await client.get("/api/v1/queues", headers=VIEWER)).json()
        return bool(queue["paused"])

    for action, then in (("pause", True), ("resume", False)):
        answer = await client.post(f"/api/v1/queues/routes/{action}", headers=OPERATOR)
        assert answer.status_code == 204
        assert await paused() is then
    answer = await client.post("/api/v1/queues/routes/clean", headers=OPERATOR)
    assert answer.json() == {"count": 1}
    body = {"state": "failed", "olderThanSeconds": 3_600}
    answer = await client.post("/api/v1/queues/routes/clean", json=body, headers=OPERATOR)
    assert answer.json() == {"count": 0}
    async with db.write() as tx:  # something waits for it
        await tx.execute("UPDATE job SET outstanding = 1 WHERE state = 'failed'")
    counts = []
    for body in ({"state": "failed"}, {"state": "failed", "outstanding": True}):
        answer = await client.post("/api/v1/queues/routes/clean", json=body, headers=OPERATOR)
        counts.append(answer.json()["count"])
    assert counts == [0, 1]
    details = {"state": "completed", "olderThanSeconds": 0, "count": 1}
    said = {"state": "failed", "olderThanSeconds": 0, "outstanding": True, "count": 1}
    assert await _audited(db) == [
        ("operator", "queue.paused", "routes", {}),
        ("operator", "queue.resumed", "routes", {}),
        ("operator", "queue.cleaned", "routes", details),
        ("operator", "queue.cleaned", "routes", said),
    ]
    for action in ("pause", "resume", "clean"):
        answer = await client.post(f"/api/v1/queues/nowhere/{action}", headers=OPERATOR)
        assert answer.status_code == 404


async def test_the_limits_of_a_queue_are_set_as_a_whole(
    client: httpx.AsyncClient, db: Database
) -> None:
    path, none = "/api/v1/queues/routes", {"rateMax": None, "rateWindowSeconds": None}
    assert (await client.put(path, json={}, headers=OPERATOR)).status_code == 404
    await _add(db, SendEmail())
    limits = {"concurrency": 2, "rateMax": 100, "rateWindowSeconds": 60.0}
    answer = await client.put(path, json=limits, headers=OPERATOR)
    assert (answer.status_code, answer.json()["limits"]) == (200, limits)
    assert answer.json()["concurrency"] == 2
    for half in ({"rateMax": 3}, {"rateWindowSeconds": 3}, {"concurrency": 0}, {"rateMax": "3"}):
        assert (await client.put(path, json=half, headers=OPERATOR)).status_code == 422
    (queue,) = (await client.get("/api/v1/queues", headers=VIEWER)).json()
    assert queue["limits"] == limits
    answer = await client.put(path, json={"concurrency": 1}, headers=OPERATOR)
    assert answer.json()["limits"] == {"concurrency": 1, **none}
    assert (await client.put(path, json={}, headers=VIEWER)).status_code == 403
    assert await _audited(db) == [
        ("operator", "queue.limited", "routes", limits),
        ("operator", "queue.limited", "routes", {"concurrency": 1, **none}),
    ]


async def test_schedules_are_shown_with_their_next_slot(
    client: httpx.AsyncClient, db: Database
) -> None:
    async with db.write() as tx:
        await schedule_store.declare_schedule(
            tx, "weekly", "0 9 * * 1", "Europe/Berlin", SendEmail()
        )
    (schedule,) = (await client.get("/api/v1/schedules", headers=VIEWER)).json()
    assert (schedule["name"], schedule["jobName"]) == ("weekly", "routes.send")
    assert schedule["catchUpSeconds"] == 3_600
    assert schedule["nextAt"] is not None


READS = ["queues", "jobs", "jobs/x", "workers", "schedules"]
WRITES = [
    "jobs/x/retry",
    "jobs/x/promote",
    "jobs/x/cancel",
    "jobs/bulk",
    "queues/x/pause",
    "queues/x/resume",
    "queues/x/clean",
]


async def test_a_job_completed_by_an_earlier_release_has_no_reason_code(
    client: httpx.AsyncClient, db: Database
) -> None:
    (job_id,) = await _add(db, SendEmail())
    async with db.write() as tx:
        await tx.execute(
            "UPDATE job SET state = 'completed', reason_code = 'timed_out', finished_at = ?",
            (tx.now,),
        )
    body = (await client.get(f"/api/v1/jobs/{job_id}", headers=VIEWER)).json()
    assert (body["state"], body["reasonCode"]) == ("completed", None)


@pytest.mark.parametrize("path", READS)
async def test_viewers_read_and_learners_do_not(client: httpx.AsyncClient, path: str) -> None:
    url = f"/api/v1/{path}"
    assert (await client.get(url)).status_code == 401
    assert (await client.get(url, headers=_as("learner"))).status_code == 403
    assert (await client.get(url, headers=VIEWER)).status_code in (200, 404)


@pytest.mark.parametrize("path", WRITES)
async def test_viewers_change_nothing(client: httpx.AsyncClient, path: str) -> None:
    url = f"/api/v1/{path}"
    assert (await client.post(url)).status_code == 401
    assert (await client.post(url, headers=VIEWER)).status_code == 403
    assert (await client.post(url, headers=OPERATOR)).status_code in (404, 422)
