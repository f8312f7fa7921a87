"""A school whose steps talk to a real sandbox over real sockets, run by the real worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from homeroom.catalogue.api import Catalogue, Course
from homeroom.completion.api import ChapterRecord, Completions, Crossing, StepState
from homeroom.credentials.api import (
    Assessment,
    CourseScores,
    Credentials,
    CredlyIssuer,
    Directory,
    HttpAssessment,
    HttpDirectory,
)
from homeroom.credentials.store import Credential
from homeroom.db.database import Database
from homeroom.dispatch import store as dispatch_store
from homeroom.dispatch.api import Destination, Dispatch, Dispatches
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.partner import Partner, bearer, open_client
from homeroom.sandbox.server import SandboxConfig, environment, serve

PATIENCE_SECONDS = 20.0
TIMEOUT = timedelta(seconds=1)  # long enough for a busy machine
COURSE = {
    "title": "Data for everyone",
    "badgeTemplateId": "data-basics",
    "validity": "P1Y",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c1", "title": "One"}]}],
}
COMPLETED_AT = 1_795_338_000_123_456


@dataclass
class Sandbox:
    """A running sandbox and how to tell it what to do."""

    url: str
    config: SandboxConfig
    client: httpx.AsyncClient

    @property
    def settings(self) -> dict[str, str]:
        return environment(self.url, self.config)

    async def control(self, path: str, body: Any) -> Any:
        answer = await self.client.post(f"{self.url}/control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def fault(self, server: str, mode: str, **options: Any) -> None:
        await self.control("faults", {"server": server, "mode": mode, **options})

    async def get(self, path: str, **query: str) -> Any:
        answer = await self.client.get(f"{self.url}/control/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def summary(self, server: str) -> Any:
        return (await self.get("summary"))[server]

    async def badges(self) -> list[dict[str, Any]]:
        return list((await self.get("badges"))["items"])

    async def received(self, server: str) -> list[dict[str, Any]]:
        return list((await self.get("received", server=server))["items"])


@asynccontextmanager
async def running_sandbox(config: SandboxConfig | None = None) -> AsyncIterator[Sandbox]:
    """Serve a sandbox on a free port."""
    config = config or SandboxConfig(directory_token="dir-token", assessment_token="mark-token")
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(config, started=port.set_result, stop=stop))
    await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
        yield Sandbox(f"http://127.0.0.1:{port.result()}", config, client)
    stop.set()
    await asyncio.wait_for(task, PATIENCE_SECONDS)


@dataclass
class School:
    """Homeroom's side: everything that wiring would build for the three steps."""

    db: Database
    sandbox: Sandbox
    client: httpx.AsyncClient
    credentials: Credentials
    dispatches: Dispatches
    completions: Completions
    registry: Registry
    upkeep: Upkeep
    runs: int = field(default=0)

    async def publish(self, course_id: str = "data", **changes: Any) -> Course:
        async with self.db.write() as tx:
            draft = await Catalogue().publish(tx, course_id, {**COURSE, **changes})
        return draft.course

    async def complete(
        self,
        course: Course,
        user_id: str = "ada",
        *,
        attempt: int = 1,
        completed_at: int = COMPLETED_AT,
        score: int | None = 8_750,
    ) -> str:
        """Record a completion and return its id."""
        crossing = Crossing(
            user_id,
            course,
            attempt,
            completed_at,
            score,
            5_400,
            (ChapterRecord("c1", 10_000, 5_400, True),),
        )
        async with self.db.write() as tx:
            [recorded] = await self.completions.record(tx, [crossing])
        return recorded.id

    async def step(self, completion_id: str, name: str) -> StepState:
        async with self.db.read() as tx:
            steps = await self.completions.steps_of(tx, [completion_id])
        return next(step for step in steps[completion_id] if step.name == name)

    async def retry(self, completion_id: str, name: str) -> None:
        async with self.db.write() as tx:
            await self.completions.retry_step(tx, completion_id, name)

    async def credential_of(self, user_id: str) -> list[Credential]:
        async with self.db.read() as tx:
            return await self.credentials.newest(tx, user_id, None, 100)

    async def dispatch_of(self, destination: str) -> Dispatch:
        async with self.db.read() as tx:
            [found] = await dispatch_store.newest(tx, destination, None, None, 10)
        return found

    async def open_jobs(self) -> dict[str, int]:
        """Return by state how many jobs are not finished."""
        async with self.db.read() as tx:
            rows = await tx.fetch(
                "SELECT state, COUNT(*) FROM job WHERE state NOT IN ('completed', 'failed')"
                " GROUP BY state"
            )
        return dict(rows)

    async def work(self, *, skip_waits: bool = True) -> None:
        """Run jobs until none is left; the clock jumps over the waits between attempts.

        Without ``skip_waits`` it returns where only waits are left.
        """
        worker = Worker(self.db, self.registry, SqlEngine(), poll=timedelta(seconds=0.05))
        committed = asyncio.Event()
        forget = self.db.subscribe(lambda topics: committed.set())
        task = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    committed.clear()
                    left = await self.open_jobs()
                    if not left or (set(left) == {"delayed"} and not skip_waits):
                        break
                    if set(left) == {"delayed"}:
                        self.db.clock.advance(timedelta(hours=1))
                        await self.upkeep.tick()
                    else:
                        await committed.wait()
            await self.upkeep.announce_owed()
        finally:
            forget()
            worker.stop()
            await task


@asynccontextmanager
async def school(
    db: Database,
    sandbox: Sandbox,
    *,
    directory: Directory | None = None,
    assessment: Assessment | None = None,
    issuer: type[CredlyIssuer] | None = CredlyIssuer,
    enabled: bool = True,
    with_dispatch: bool = True,
    patience: timedelta = TIMEOUT,
    only: Sequence[str] = ("credential", "analytics", "hr"),
) -> AsyncIterator[School]:
    """Build Homeroom's side against a sandbox."""
    client = open_client()
    set_to = sandbox.settings
    secret = set_to["HOMEROOM_WEBHOOK_SECRET"]
    people = directory or HttpDirectory(
        Partner(
            client,
            "the directory",
            set_to["HOMEROOM_DIRECTORY_URL"],
            authorization=bearer(set_to.get("HOMEROOM_DIRECTORY_TOKEN")),
            timeout=patience,
        )
    )
    credentials = Credentials(
        db,
        issuer=issuer
        and issuer(
            client,
            set_to["HOMEROOM_CREDLY_URL"],
            set_to["HOMEROOM_CREDLY_ORGANIZATION"],
            set_to["HOMEROOM_CREDLY_TOKEN"],
            timeout=patience,
        ),
        directory=people,
        assessment=assessment
        or HttpAssessment(
            Partner(
                client,
                "the assessment service",
                set_to["HOMEROOM_ASSESSMENT_URL"],
                authorization=bearer(set_to.get("HOMEROOM_ASSESSMENT_TOKEN")),
                timeout=patience,
            )
        ),
        enabled=enabled,
    )

    def to(name: str, title: str) -> Destination | None:
        if not with_dispatch:
            return None
        url = set_to[f"HOMEROOM_{name.upper()}_URL"]
        return Destination(client, name, title, url, secret, timeout=patience)

    dispatches = Dispatches(
        db,
        source="https://homeroom.example.org",
        analytics=to("analytics", "analytics"),
        hr=to("hr", "the HR system"),
        directory=people,
        credential_url=credentials.url_of,
    )
    steps = [credentials.step(), *dispatches.steps()]
    completions = Completions([step for step in steps if step.name in only])
    registry = Registry()
    credentials.register(registry, completions)
    dispatches.register(registry, completions)
    upkeep = Upkeep(db, registry, SqlEngine())
    yield School(db, sandbox, client, credentials, dispatches, completions, registry, upkeep)
    await client.aclose()


__all__ = ["COMPLETED_AT", "CourseScores", "Sandbox", "School", "running_sandbox", "school"]
