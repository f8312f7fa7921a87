"""A school whose steps call a real sandbox over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from tests.support.kernel import Kernel

from homeroom.catalogue.api import Catalogue, Course
from homeroom.completion.api import (
    ChapterRecord,
    Completions,
    NewCompletion,
    Step,
    StepContext,
    StepState,
)
from homeroom.credentials.api import (
    Credentials,
    CredlyIssuer,
    HttpLearnerDirectory,
    HttpScoreLookup,
    LearnerDirectory,
    LearnerMessages,
    ScoreLookup,
)
from homeroom.credentials.step import CredentialStep
from homeroom.credentials.store import Credential
from homeroom.db.database import Database
from homeroom.dispatch import store as dispatch_store
from homeroom.dispatch.api import Destination, Dispatch, Dispatches, MessageStep
from homeroom.dispatch.steps import AnalyticsStep, HrStep
from homeroom.jobs.engine import Engine
from homeroom.jobs.job import FixedDelays
from homeroom.notify.api import Notifications
from homeroom.partner.backlog import PartnerBacklogs
from homeroom.partner.client import Partner, bearer_auth_header, open_partner_client
from homeroom.partner.gate import PartnerGate
from homeroom.sandbox.server import environment, serve
from homeroom.sandbox.state import SandboxConfig

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
    """A running sandbox with its control API."""

    url: str
    config: SandboxConfig
    client: httpx.AsyncClient
    mail_port: int = 0

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
    mail_port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(config, started=port.set_result, mail_started=mail_port.set_result, stop=stop)
    )
    started: set[asyncio.Future[int] | asyncio.Future[None]] = {task, port}
    await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
            url = f"http://127.0.0.1:{port.result()}"
            yield Sandbox(url, config, client, mail_port.result())
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_SECONDS)


@dataclass
class School:
    """The packages of the three steps on one database, with a kernel."""

    db: Database
    sandbox: Sandbox
    client: httpx.AsyncClient
    credentials: Credentials
    dispatches: Dispatches
    completions: Completions
    kernel: Kernel
    partners: dict[str, Partner] = field(default_factory=dict)
    """The HTTP clients of the partners by name."""

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
        crossing = NewCompletion(
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
            steps = await self.completions.list_steps(tx, [completion_id])
        return next(step for step in steps[completion_id] if step.name == name)

    async def retry(self, completion_id: str, name: str) -> None:
        async with self.db.write() as tx:
            await self.completions.retry_step(tx, completion_id, name)

    async def credential_of(self, user_id: str) -> list[Credential]:
        async with self.db.read() as tx:
            return await self.credentials.list_newest(tx, user_id, None, 100)

    async def dispatch_of(self, destination: str) -> Dispatch:
        async with self.db.read() as tx:
            [found] = await dispatch_store.list_newest(tx, destination, None, None, 10)
        return found

    async def work(self, *, skip_waits: bool = True) -> None:
        """Run jobs until none is left; the clock jumps over the waits between attempts.

        Without ``skip_waits`` it returns where only waits are left.
        """

        async def skip_an_hour() -> None:
            self.db.clock.advance(timedelta(hours=1))

        await self.kernel.run_jobs(skip_an_hour if skip_waits else None)
        await self.kernel.maintenance.announce_pending()


@asynccontextmanager
async def school(
    db: Database,
    sandbox: Sandbox,
    *,
    directory: LearnerDirectory | None = None,
    assessment: ScoreLookup | None = None,
    issuer: type[CredlyIssuer] | None = CredlyIssuer,
    enabled: bool = True,
    with_dispatch: bool = True,
    patience: timedelta = TIMEOUT,
    only: Sequence[str] = ("credential", "analytics", "hr"),
    engine: Engine | None = None,
    gated: bool = False,
    settings: Mapping[str, str] | None = None,
    retries: Mapping[str, FixedDelays] | None = None,
    notifications: Notifications | None = None,
) -> AsyncIterator[School]:
    """Build the packages of the three steps with a sandbox as the partners.

    With ``gated`` each partner has its circuit breaker, as in a server. ``settings`` come before
    those of the sandbox, ``retries`` before the usual ones of a webhook.
    """

    def gate(name: str) -> PartnerGate | None:
        return PartnerGate(db, name) if gated else None

    client = open_partner_client()
    set_to = {**sandbox.settings, **(settings or {})}
    secret = set_to["HOMEROOM_WEBHOOK_SECRET"]
    credly = None
    if issuer is not None:
        credly = issuer(
            client,
            set_to["HOMEROOM_CREDLY_URL"],
            set_to["HOMEROOM_CREDLY_ORGANIZATION"],
            set_to["HOMEROOM_CREDLY_TOKEN"],
            timeout=patience,
            gate=gate("credly"),
        )

    def partner(name: str, title: str) -> Partner:
        prefix = f"HOMEROOM_{name.upper()}"
        authorization = bearer_auth_header(set_to.get(f"{prefix}_TOKEN"))
        return Partner(
            client,
            title,
            set_to[f"{prefix}_URL"],
            authorization=authorization,
            timeout=patience,
            gate=gate(name),
        )

    partners = {
        "directory": partner("directory", "the directory"),
        "assessment": partner("assessment", "the assessment service"),
    }
    people = directory or HttpLearnerDirectory(partners["directory"])
    messages = None if notifications is None else LearnerMessages(db, notifications, people)
    credentials = Credentials(
        db,
        issuer=credly,
        directory=people,
        assessment=assessment or HttpScoreLookup(partners["assessment"]),
        enabled=enabled,
        messages=messages,
    )
    if credly is not None:
        partners["credly"] = credly.partner

    def to(name: str, title: str) -> Destination | None:
        if not with_dispatch:
            return None
        url = set_to[f"HOMEROOM_{name.upper()}_URL"]
        to = Destination(client, name, title, url, [secret], timeout=patience, gate=gate(name))
        partners[name] = to.partner
        return to

    dispatches = Dispatches(
        db,
        source="https://homeroom.example.org",
        analytics=to("analytics", "analytics"),
        hr=to("hr", "the HR system"),
        credential_url=credentials.find_url,
        retries=retries,
    )
    completions = Completions()
    context = StepContext(
        db,
        client,
        "https://homeroom.example.org",
        people,
        parts={Completions: completions, Credentials: credentials, Dispatches: dispatches},
    )
    steps: list[Step] = [kind(context) for kind in (CredentialStep, AnalyticsStep, HrStep)]
    completions.declare([step.declaration() for step in steps if step.name in only])
    backlogs = PartnerBacklogs(db)
    kernel = Kernel(db, engine, release_held=backlogs.release_partner_jobs if gated else None)
    for step in steps:
        completions.register(kernel.registry, step)
    if notifications is not None and messages is not None:
        messages.register(kernel.registry, completions)
        notifications.register(kernel.registry)
    senders = [step for step in steps if isinstance(step, MessageStep)]
    dispatches.register(kernel.registry, completions, senders)
    yield School(db, sandbox, client, credentials, dispatches, completions, kernel, partners)
    await client.aclose()
