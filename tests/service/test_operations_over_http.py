"""Metrics, health, settings and change hints over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import jwt
import pytest
from tests.support.operations_app import ADMIN, JWT_SECRET, OperationsApp, operations_app

from homeroom.access.stream_ticket import prune_stream_tickets
from homeroom.clock import Clock
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.fixture
async def app(db: Database) -> AsyncIterator[OperationsApp]:
    async with operations_app(db) as found:
        yield found


def learner(subject: str) -> dict[str, str]:
    claims = {"sub": subject, "roles": ["learner"], "exp": time.time() + 60}
    return {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, 'HS256')}"}


async def test_liveness_needs_no_token(app: OperationsApp) -> None:
    answer = await app.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readiness_names_every_check(app: OperationsApp) -> None:
    async def no_worker() -> str:
        return "No worker is alive."

    answer = await app.client.get("/readyz")
    assert answer.json() == {
        "status": "ok",
        "checks": {
            "database": {"status": "ok", "detail": None},
            "migrations": {"status": "ok", "detail": None},
        },
    }
    app.health.add("workers", no_worker)
    answer = await app.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["workers"]["status"] == "degraded"


async def test_without_current_migrations_the_server_is_not_ready_but_alive(
    app: OperationsApp,
) -> None:
    async with app.db.write() as tx:
        await tx.execute("UPDATE alembic_version SET version_num = '0001_jobs'")
    answer = await app.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["checks"]["migrations"]["status"] == "failed"
    assert (await app.client.get("/healthz")).status_code == 200


async def test_metrics_are_for_staff_and_count_requests(app: OperationsApp) -> None:
    assert (await app.client.get("/metrics")).status_code == 401
    assert (await app.client.get("/metrics", headers=learner("ada"))).status_code == 403
    viewer = await app.key("viewer")
    answer = await app.client.get("/metrics", headers=viewer)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'homeroom_http_requests_total{method="GET",route="/metrics",status="401"} 1.0' in (
        answer.text
    )
    assert 'homeroom_jobs{queue="partners",state="waiting"} 2.0' in answer.text
    assert 'homeroom_completion_steps{status="failed",step="hr"} 3.0' in answer.text
    assert 'homeroom_completion_step_oldest_seconds{step="hr"} 90.0' in answer.text
    assert "homeroom_process_resident_bytes" in answer.text


async def test_the_summary_has_the_fields_of_the_hook(app: OperationsApp) -> None:
    app.metrics.count_events("accepted", 30)
    app.metrics.observe_commit(30, 0.002)
    answer = await app.client.get("/api/v1/metrics/summary", headers=await app.key("operator"))
    found = answer.json()
    assert found["eventsPerSecond"] > 0
    assert found["averageProcessingMs"] == 2
    assert found["memoryMb"] > 20
    assert found["activeWorkers"] == 1
    assert found["jobs"] == {"partners": {"waiting": 2}}
    assert found["steps"] == {"hr": {"failed": 3}}
    assert {"queueSize", "errorRate", "uptimeSeconds"} <= set(found)


async def test_settings_are_shown_without_secrets(app: OperationsApp) -> None:
    rows = (await app.client.get("/api/v1/settings", headers=ADMIN)).json()
    by_name = {row["name"]: row for row in rows}
    assert by_name["HOMEROOM_PORT"]["value"] == "8420"
    assert by_name["HOMEROOM_ADMIN_KEY"]["secret"] is True
    assert (await app.client.get("/api/v1/settings", headers=learner("ada"))).status_code == 403


async def hints_of(stream: httpx.Response, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(5):
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                hint = json.loads(line.removeprefix("data:"))
                found.append((hint["topic"], hint["id"]))
                if len(found) == count:
                    break
    return found


async def until_streaming(app: OperationsApp, count: int) -> None:
    for _ in range(1_000):
        if app.hints.stream_count == count:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(f"{app.hints.stream_count} streams are open, not {count}")


async def test_hints_reach_staff_and_the_learner_they_are_about(app: OperationsApp) -> None:
    client = app.client
    async with (
        client.stream("GET", "/api/v1/events", headers=ADMIN) as staff,
        client.stream("GET", "/api/v1/events", headers=learner("ada")) as ada,
    ):
        assert staff.headers["content-type"].startswith("text/event-stream")
        await until_streaming(app, 2)
        async with app.db.write() as tx:
            tx.notify("jobs", "partners")
            tx.notify("progress", "bob/course")
            tx.notify("progress", "ada/course")
        assert await hints_of(ada, 1) == [("progress", "ada/course")]
        assert await hints_of(staff, 3) == [
            ("jobs", "partners"),
            ("progress", "bob/course"),
            ("progress", "ada/course"),
        ]
    await until_streaming(app, 0)  # closed streams are not counted
    assert (await client.get("/api/v1/events")).status_code == 401


async def test_a_stop_does_not_wait_for_open_streams(db: Database) -> None:
    async with operations_app(db) as app:
        stream = app.client.stream("GET", "/api/v1/events", headers=ADMIN)
        await stream.__aenter__()
        await until_streaming(app, 1)
        began = time.monotonic()
    assert time.monotonic() - began < 3


async def test_a_ticket_opens_one_stream_with_the_rights_of_its_caller(
    app: OperationsApp, clock: Clock
) -> None:
    async def ticket(who: dict[str, str]) -> str:
        made = await app.client.post("/api/v1/events/ticket", headers=who)
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        return str(made.json()["ticket"])

    mine = await ticket(learner("ada"))
    async with app.client.stream("GET", f"/api/v1/events?ticket={mine}") as ada:
        assert ada.status_code == 200
        await until_streaming(app, 1)
        async with app.db.write() as tx:
            tx.notify("progress", "bob/course")
            tx.notify("progress", "ada/course")
        assert await hints_of(ada, 1) == [("progress", "ada/course")]
        used = await app.client.get(f"/api/v1/events?ticket={mine}", headers=learner("ada"))
        assert used.status_code == 401
    late = await ticket(learner("ada"))
    clock.advance(timedelta(seconds=61))
    assert (await app.client.get(f"/api/v1/events?ticket={late}")).status_code == 401
    assert (await app.client.get("/api/v1/events?ticket=once_made-up")).status_code == 401
    assert (await app.client.post("/api/v1/events/ticket")).status_code == 401

    key = (
        await app.client.post(
            "/api/v1/keys", json={"name": "k", "roles": ["viewer"]}, headers=ADMIN
        )
    ).json()
    of_key = await ticket({"Authorization": f"Bearer {key['token']}"})
    await app.client.delete(f"/api/v1/keys/{key['id']}", headers=ADMIN)
    assert (await app.client.get(f"/api/v1/events?ticket={of_key}")).status_code == 401
    for _ in range(20):
        await ticket(learner("bob"))
    many = await app.client.post("/api/v1/events/ticket", headers=learner("bob"))
    assert (many.status_code, many.headers["retry-after"]) == (429, "60")
    async with app.db.write() as tx:
        assert mine not in repr(await tx.fetch("SELECT * FROM stream_ticket"))
        clock.advance(timedelta(seconds=61))
    async with app.db.write() as tx:
        assert await prune_stream_tickets(tx) == 22
