"""A sandbox on a real socket, and what a well-behaved sender sends it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from homeroom.sandbox.server import environment, serve
from homeroom.sandbox.state import SandboxConfig

# Far more than a healthy answer takes, so that only a hang ends here.
PATIENCE_SECONDS = 10.0


@dataclass
class Partner:
    """One running sandbox and a client that knows its keys."""

    config: SandboxConfig
    url: str
    client: httpx.AsyncClient

    @property
    def settings(self) -> dict[str, str]:
        return environment(self.url, self.config)

    @property
    def badges(self) -> str:
        return f"{self.url}/credly/v1/organizations/{self.config.organization}/badges"

    async def control(self, path: str, body: Any) -> Any:
        answer = await self.client.post(f"{self.url}/control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def received(self, **query: str) -> list[dict[str, Any]]:
        answer = await self.client.get(f"{self.url}/control/received", params=query)
        return list(answer.json()["items"])

    async def counts(self, server: str) -> dict[str, Any]:
        answer = await self.client.get(f"{self.url}/control/summary")
        return dict(answer.json()[server])

    async def issue(self, order: dict[str, Any], **options: Any) -> httpx.Response:
        options.setdefault("auth", (self.config.credly_token, ""))
        return await self.client.post(self.badges, json=order, **options)

    async def deliver(
        self,
        server: str,
        body: dict[str, Any] | bytes,
        webhook_id: str,
        *,
        secret: str | None = None,
        age: timedelta = timedelta(0),
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        at = datetime.now(UTC) - age
        signature = Webhook(secret or self.config.webhook_secret).sign(
            webhook_id, at, content.decode()
        )
        sent = {
            "content-type": "application/cloudevents+json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signature,
        }
        for name, value in (headers or {}).items():
            sent[name] = value
        sent = {name: value for name, value in sent.items() if value}
        return await self.client.post(
            f"{self.url}/{server}", content=content, headers=sent, **options
        )


@pytest.fixture
async def start_partner() -> AsyncIterator[Any]:
    """Start sandboxes with a configuration of the test's own; stop them when it is over."""
    stops: list[tuple[asyncio.Event, asyncio.Task[None], httpx.AsyncClient]] = []

    async def start(config: SandboxConfig) -> Partner:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        task = asyncio.create_task(serve(config, started=port.set_result, stop=stop))
        await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
        client = httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False)
        stops.append((stop, task, client))
        return Partner(config, f"http://127.0.0.1:{port.result()}", client)

    yield start
    for stop, task, client in stops:
        await client.aclose()
        stop.set()
        await asyncio.wait_for(task, PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def process_url() -> Iterator[str]:
    """Run one sandbox in a process of its own, with the settings that it has by default."""
    child = subprocess.Popen(
        [sys.executable, "-m", "homeroom.sandbox"], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["url"]
        child.terminate()


@pytest.fixture
async def partner(process_url: str) -> AsyncIterator[Partner]:
    """Return that sandbox, emptied of what an earlier test left in it."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
        partner = Partner(SandboxConfig(), process_url, client)
        await partner.control("reset", {})
        yield partner


@pytest.fixture
def order() -> dict[str, Any]:
    """Return an order that Credly would take."""
    return {
        "recipient_email": "ada@example.org",
        "issued_to_first_name": "Ada",
        "issued_to_last_name": "Okafor",
        "badge_template_id": "data-basics",
        "issued_at": "2026-11-22 09:41:00 -0500",
        "issuer_earner_id": "u1",
    }


@pytest.fixture
def completed() -> dict[str, Any]:
    """Return an event that analytics takes."""
    return {
        "specversion": "1.0",
        "id": "e1",
        "source": "https://homeroom.example.org",
        "type": "org.homeroom.course.completed",
        "time": "2026-11-22T09:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "userId": "u1",
            "courseId": "data-101",
            "courseVersion": 1,
            "attempt": 1,
            "completedAt": "2026-11-22T09:00:00.000000Z",
            "score": 0,
            "timeSpent": 3600,
            "chapters": [
                {"chapterId": "c1", "progress": 99.5, "timeSpent": 3600, "completed": True}
            ],
        },
    }


@pytest.fixture
def recorded() -> dict[str, Any]:
    """Return an event that HR takes."""
    return {
        "specversion": "1.0",
        "id": "e2",
        "source": "https://homeroom.example.org",
        "type": "org.homeroom.training.recorded",
        "data": {
            "employeeId": "u1",
            "givenName": "Ada",
            "familyName": "Okafor",
            "courseId": "data-101",
            "courseTitle": "Data for everyone",
            "completedAt": "2026-11-22T09:00:00Z",
            "score": None,
            "hours": 1.5,
            "validUntil": None,
            "credentialUrl": None,
        },
    }
