"""Metrics, health, settings and hints over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import jwt
import pytest
from tests.service.operations_house import ADMIN, JWT_SECRET, House, house

from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.fixture
async def home(db: Database) -> AsyncIterator[House]:
    async with house(db) as found:
        yield found


def learner(subject: str) -> dict[str, str]:
    claims = {"sub": subject, "roles": ["learner"], "exp": time.time() + 60}
    return {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, 'HS256')}"}


async def test_a_living_server_says_so_to_anybody(home: House) -> None:
    answer = await home.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readiness_names_every_check(home: House) -> None:
    async def no_worker() -> str:
        return "No worker has been heard of for 90 seconds."

    answer = await home.client.get("/readyz")
    assert answer.json() == {
        "status": "ok",
        "checks": {
            "database": {"status": "ok", "detail": None},
            "migrations": {"status": "ok", "detail": None},
        },
    }
    home.health.add("workers", no_worker)
    answer = await home.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["workers"]["status"] == "degraded"


async def test_without_current_migrations_the_server_is_not_ready_but_alive(home: House) -> None:
    async with home.db.write() as tx:
        await tx.execute("UPDATE alembic_version SET version_num = '0001_jobs'")
    answer = await home.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["checks"]["migrations"]["status"] == "failed"
    assert (await home.client.get("/healthz")).status_code == 200


async def test_metrics_are_for_staff_and_count_requests(home: House) -> None:
    assert (await home.client.get("/metrics")).status_code == 401
    assert (await home.client.get("/metrics", headers=learner("ada"))).status_code == 403
    viewer = await home.key("viewer")
    answer = await home.client.get("/metrics", headers=viewer)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'homeroom_http_requests_total{method="GET",route="/metrics",status="401"} 1.0' in (
        answer.text
    )
    assert 'homeroom_jobs{queue="partners",state="waiting"} 2.0' in answer.text
    assert "homeroom_process_resident_bytes" in answer.text


async def test_the_summary_is_what_the_hook_reads(home: House) -> None:
    home.metrics.events("accepted", 30)
    home.metrics.commit(30, 0.002)
    answer = await home.client.get("/api/v1/metrics/summary", headers=await home.key("operator"))
    found = answer.json()
    assert found["eventsPerSecond"] > 0
    assert found["averageProcessingMs"] == 2
    assert found["memoryMb"] > 20
    assert found["activeWorkers"] == 1
    assert found["jobs"] == {"partners": {"waiting": 2}}
    assert {"queueSize", "errorRate", "uptimeSeconds"} <= set(found)


async def test_settings_are_shown_without_secrets(home: House) -> None:
    rows = (await home.client.get("/api/v1/settings", headers=ADMIN)).json()
    by_name = {row["name"]: row for row in rows}
    assert by_name["HOMEROOM_PORT"]["value"] == "8420"
    assert by_name["HOMEROOM_ADMIN_KEY"]["secret"] is True
    assert (await home.client.get("/api/v1/settings", headers=learner("ada"))).status_code == 403


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


async def until_listening(home: House, count: int) -> None:
    for _ in range(1_000):
        if home.hints.listening == count:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(f"{home.hints.listening} streams are open, not {count}")


async def test_hints_reach_staff_and_the_learner_they_are_about(home: House) -> None:
    client = home.client
    async with (
        client.stream("GET", "/api/v1/events", headers=ADMIN) as staff,
        client.stream("GET", "/api/v1/events", headers=learner("ada")) as ada,
    ):
        assert staff.headers["content-type"].startswith("text/event-stream")
        await until_listening(home, 2)
        async with home.db.write() as tx:
            tx.notify("jobs", "partners")
            tx.notify("progress", "bob/course")
            tx.notify("progress", "ada/course")
        assert await hints_of(ada, 1) == [("progress", "ada/course")]
        assert await hints_of(staff, 3) == [
            ("jobs", "partners"),
            ("progress", "bob/course"),
            ("progress", "ada/course"),
        ]
    await until_listening(home, 0)  # who left is forgotten
    assert (await client.get("/api/v1/events")).status_code == 401


async def test_a_stop_does_not_wait_for_open_streams(db: Database) -> None:
    async with house(db) as home:
        stream = home.client.stream("GET", "/api/v1/events", headers=ADMIN)
        await stream.__aenter__()
        await until_listening(home, 1)
        began = time.monotonic()
    assert time.monotonic() - began < 3
