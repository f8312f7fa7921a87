"""The environment of one run: sandbox, server, courses, people and workload."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt

from homeroom.cancellation import cancel_and_wait
from homeroom.clock import Clock
from homeroom.demo.comparison import wait_for_idle_queues
from homeroom.demo.example_school import example_courses
from homeroom.demo.expected import ExpectedResults, compute_expected
from homeroom.demo.player import AnswerTally, Players
from homeroom.demo.subprocesses import SandboxProcess, ServerProcess, free_port
from homeroom.demo.workload import (
    LATER_CHAPTER,
    Outline,
    Workload,
    generate_workload,
)
from homeroom.errors import HomeroomError
from homeroom.http_client import open_http_client
from homeroom.instant import to_datetime
from homeroom.sandbox.directory_and_assessment import generated_person

_CONCURRENCY = 8
_TOKEN_LIFETIME = timedelta(hours=2)
REPLAY_SECONDS = 60.0
SIGNED_COURSE = "site-safety-induction"
"""The course of the demo whose credentials are signed here; Credly issues those of the other."""
PARTNER_FAULTS: Sequence[Mapping[str, Any]] = (
    # All work must be done once in spite of these. No partner fails more often than a job is
    # retried, even if one job meets all of its faults.
    {"server": "hr", "mode": "status", "status": 503, "retryAfter": 1, "times": 3},
    {"server": "analytics", "mode": "drop", "times": 1},
    {"server": "analytics", "mode": "drop", "afterWork": True, "times": 2},
    {"server": "credly", "mode": "drop", "afterWork": True, "times": 2},
    {"server": "directory", "mode": "slow", "delayMs": 400, "times": 5},
)
_DESTINATIONS = ("CREDLY", "ANALYTICS", "HR")
_RETRY_DELAYS = "1s,2s,4s,8s,8s,8s,8s,8s,8s"


class DemoSetupFailed(HomeroomError):
    """The environment of the demo could not be set up."""

    code = "set_up_failed"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Size and place of a run."""

    data_dir: Path
    learners: int = 200
    seed: int = 1
    port: int = 8420
    seconds: float = 18.0
    """Duration of the six weeks."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More settings for the server."""


@dataclass(slots=True)
class DemoEnvironment:
    """A running server and sandbox. ``answers`` grows while the class plays."""

    options: DemoOptions
    sandbox: SandboxProcess
    server: ServerProcess
    api: httpx.AsyncClient
    """With the admin key."""
    admin_key: str
    jwt_secret: str
    courses: Sequence[Outline]
    plan: Workload
    expected: ExpectedResults
    players: Players

    @property
    def answers(self) -> AnswerTally:
        """Return the tally of the server's answers so far."""
        return self.players.answers

    @property
    def database(self) -> Path:
        """Return the server's database file."""
        return self.options.data_dir / "homeroom.db"

    async def load(self) -> None:
        """Publish the courses, store the people and enrol them."""
        for course in self.courses:
            await put_json(self.api, f"/api/v1/courses/{course.id}", course.document)
        await _gather_limited(self._put_person(each.user_id) for each in self.plan.learners)
        await _gather_limited(
            put_json(self.api, f"/api/v1/courses/{course_id}/enrolments/{each.user_id}", None)
            for each in self.plan.learners
            for course_id in each.courses
        )

    async def _put_person(self, user_id: str) -> None:
        """Store the person that the sandbox's directory generates for the same seed."""
        person = generated_person(self.options.seed, user_id)
        del person["id"]
        await put_json(self.api, f"/api/v1/people/{user_id}", person)

    async def inject_partner_faults(
        self, faults: Sequence[Mapping[str, Any]] = PARTNER_FAULTS
    ) -> None:
        """Inject faults into the partner systems of the sandbox."""
        for fault in faults:
            answer = await self.api.post(f"{self.sandbox.url}/control/faults", json=fault)
            answer.raise_for_status()

    async def play(self) -> None:
        """Send all events, then publish the chapter that some of them need."""
        await self.players.play(self.plan)
        await self.add_later_chapter()

    async def add_later_chapter(self) -> None:
        """Publish the course with one more chapter and replay its quarantined events."""
        course = next(each for each in self.courses if each.id == self.plan.late_course)
        later = course.with_chapter(LATER_CHAPTER, "Added later: what graduates do with it")
        await put_json(self.api, f"/api/v1/courses/{course.id}", later)
        answer = await self.api.post("/api/v1/progress/quarantine/replay", params={"limit": "5000"})
        answer.raise_for_status()

    async def settle(self, within_seconds: float = 120.0) -> bool:
        """Wait until no job is unfinished; return False if that takes too long."""
        return await wait_for_idle_queues(self.api, within_seconds)

    async def stop(self) -> None:
        """Stop both processes, the server first, so that it can still deliver."""
        await self.server.stop()
        await self.sandbox.stop()


def _signed_here(course: Outline) -> Outline:
    """Return the signed course without its template, and others as they are."""
    if course.id != SIGNED_COURSE:
        return course
    document = {name: each for name, each in course.document.items() if name != "badgeTemplateId"}
    return replace(course, document=document)


@asynccontextmanager
async def open_environment(options: DemoOptions) -> AsyncIterator[DemoEnvironment]:
    """Start sandbox and server with keys made for this run; stop both at the end."""
    options.data_dir.mkdir(parents=True, exist_ok=True)
    if (options.data_dir / "homeroom.db").exists():
        raise DemoSetupFailed(
            f"There is a database in {options.data_dir} already; the demo needs a new one.",
            hint="Choose an empty folder with --data-dir, or leave it out.",
        )
    courses = [_signed_here(each) for each in example_courses()]
    plan = generate_workload(
        courses,
        learners=options.learners,
        seed=options.seed,
        now=to_datetime(Clock().now()).replace(microsecond=0) - timedelta(seconds=1),
    )
    admin_key = f"hr_{secrets.token_urlsafe(32)}"
    jwt_secret = secrets.token_urlsafe(48)
    sandbox = SandboxProcess(options.data_dir / "sandbox.log", seed=options.seed)
    try:
        partners = await sandbox.open()
        settings = {
            "HOMEROOM_DATA_DIR": str(options.data_dir),
            "HOMEROOM_PORT": str(free_port(options.port)),
            "HOMEROOM_ADMIN_KEY": admin_key,
            "HOMEROOM_JWT_SECRET": jwt_secret,
            "HOMEROOM_LOG_FORMAT": "json",
            # No job is pruned, so that their number can be compared with the workload.
            "HOMEROOM_JOBS_KEEP_COMPLETED": "1000000",
            # One course has no template at Credly: its credentials are signed here.
            "HOMEROOM_CREDENTIAL_WITHOUT_TEMPLATE": "sign",
            "HOMEROOM_CREDENTIAL_ALLOW_HTTP": "true",
            "HOMEROOM_ISSUER_NAME": "The demo school",
            # The sandbox fails often, and a viewer waits no five minutes for a retry.
            **{f"HOMEROOM_{name}_RETRY_DELAYS": _RETRY_DELAYS for name in _DESTINATIONS},
            **partners,
            **options.settings,
        }
        server = ServerProcess(settings, options.data_dir / "server.log")
        headers = {"authorization": f"Bearer {admin_key}"}
        async with open_http_client(base_url=server.url, headers=headers, timeout=30) as api:
            try:
                await server.open()
                tokens = {
                    each.user_id: _learner_token(each.user_id, jwt_secret) for each in plan.learners
                }
                yield DemoEnvironment(
                    options,
                    sandbox,
                    server,
                    api,
                    admin_key,
                    jwt_secret,
                    courses,
                    plan,
                    compute_expected(plan, courses),
                    Players(
                        server.url,
                        tokens,
                        await _create_service_key(api),
                        seconds=options.seconds,
                        seed=options.seed,
                    ),
                )
            finally:
                await server.stop()
    finally:
        await sandbox.stop()


def _learner_token(user_id: str, secret: str) -> str:
    """Return a learner's token, as the learning platform would sign it."""
    expires = to_datetime(Clock().now()) + _TOKEN_LIFETIME
    return jwt.encode({"sub": user_id, "roles": ["learner"], "exp": expires}, secret, "HS256")


async def _create_service_key(api: httpx.AsyncClient) -> str:
    answer = await api.post("/api/v1/keys", json={"name": "grader", "roles": ["service"]})
    if answer.status_code != httpx.codes.CREATED:
        raise DemoSetupFailed(f"No API key could be created: {answer.status_code} {answer.text}")
    return str(answer.json()["token"])


async def put_json(api: httpx.AsyncClient, path: str, body: Any) -> None:
    """Put a JSON body; raise ``DemoSetupFailed`` if it is refused."""
    answer = await (api.put(path) if body is None else api.put(path, json=body))
    if not answer.is_success:
        raise DemoSetupFailed(f"PUT {path} was answered {answer.status_code}: {answer.text}")


async def _gather_limited(requests: Iterable[Awaitable[None]]) -> None:
    semaphore = asyncio.Semaphore(_CONCURRENCY)

    async def send_one(request: Awaitable[None]) -> None:
        async with semaphore:
            await request

    await asyncio.gather(*(send_one(request) for request in requests))


async def run_supervised(environment: DemoEnvironment, work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work``; raise ``ChildProcessFailed`` at once if a process ends."""
    working = asyncio.ensure_future(work())
    exits = [
        asyncio.ensure_future(each.wait_for_exit())
        for each in (environment.server, environment.sandbox)
    ]
    try:
        done, _ = await asyncio.wait([working, *exits], return_when=asyncio.FIRST_COMPLETED)
        # The exit of a process says more than the broken connections of the players.
        for each in (task for task in (*exits, working) if task in done):
            each.result()
    finally:
        await cancel_and_wait(working, *exits)
