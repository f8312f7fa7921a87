"""A school for one run: sandbox, server, courses, people, and what happens to them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt

from homeroom.clock import Clock, to_datetime
from homeroom.demo.child import Sandbox, Server, free_port
from homeroom.demo.course import Outline, outline
from homeroom.demo.expect import Expected, expect
from homeroom.demo.found import drained
from homeroom.demo.plan import LATER_CHAPTER, Plan, make
from homeroom.demo.player import Answers, Players
from homeroom.errors import HomeroomError
from homeroom.outgoing import open_client
from homeroom.sandbox.directory import generated_person
from homeroom.tasks import cancel

_AT_ONCE = 8
_TOKEN_LIFETIME = timedelta(hours=2)
REPLAY_SECONDS = 60.0
FAULTS: Sequence[Mapping[str, Any]] = (
    # A few things go wrong at the partners, as they do, and the work must be done all the same,
    # once. No partner fails more often than a job is tried again: even if one job meets all of it.
    {"server": "hr", "mode": "status", "status": 503, "retryAfter": 1, "times": 3},
    {"server": "analytics", "mode": "drop", "times": 1},
    {"server": "analytics", "mode": "drop", "afterWork": True, "times": 2},
    {"server": "credly", "mode": "drop", "afterWork": True, "times": 2},
    {"server": "directory", "mode": "slow", "delayMs": 400, "times": 5},
)


class SetUpFailed(HomeroomError):
    """The school could not be set up."""

    code = "set_up_failed"


@dataclass(frozen=True, slots=True)
class Options:
    """What is played, and where."""

    data_dir: Path
    learners: int = 200
    seed: int = 1
    port: int = 8420
    seconds: float = 18.0
    """How long the six weeks last."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More settings for the server."""


@dataclass(slots=True)
class School:
    """A running school. ``answers`` grows while its class plays."""

    options: Options
    sandbox: Sandbox
    server: Server
    api: httpx.AsyncClient
    """With the admin key."""
    admin_key: str
    jwt_secret: str
    courses: Sequence[Outline]
    plan: Plan
    expected: Expected
    players: Players

    @property
    def answers(self) -> Answers:
        """Return what the players were answered so far."""
        return self.players.answers

    @property
    def database(self) -> Path:
        """Return the server's database file."""
        return self.options.data_dir / "homeroom.db"

    async def load(self) -> None:
        """Publish the courses, store the people, enrol them, and let partners fail a few times."""
        for course in self.courses:
            await put(self.api, f"/api/v1/courses/{course.id}", course.document)
        await _all(self._put_person(each.user_id) for each in self.plan.learners)
        await _all(
            put(self.api, f"/api/v1/courses/{course_id}/enrolments/{each.user_id}", None)
            for each in self.plan.learners
            for course_id in each.courses
        )

    async def _put_person(self, user_id: str) -> None:
        """Tell Homeroom what the sandbox's directory makes up for the same seed."""
        person = generated_person(self.options.seed, user_id)
        del person["id"]
        await put(self.api, f"/api/v1/people/{user_id}", person)

    async def break_partners(self, faults: Sequence[Mapping[str, Any]] = FAULTS) -> None:
        """Tell the sandbox what is to go wrong."""
        for fault in faults:
            answer = await self.api.post(f"{self.sandbox.url}/control/faults", json=fault)
            answer.raise_for_status()

    async def play(self) -> None:
        """Send everything, then teach the catalogue the chapter that some events waited for."""
        await self.players.play(self.plan)
        await self.add_later_chapter()

    async def add_later_chapter(self) -> None:
        """Publish the course with one more chapter, and replay what was held for it."""
        course = next(each for each in self.courses if each.id == self.plan.late_course)
        later = course.with_chapter(LATER_CHAPTER, "Added later: what graduates do with it")
        await put(self.api, f"/api/v1/courses/{course.id}", later)
        answer = await self.api.post("/api/v1/progress/quarantine/replay", params={"limit": "5000"})
        answer.raise_for_status()

    async def settle(self, within_seconds: float = 120.0) -> bool:
        """Wait until nothing is left to do; return False if something still is."""
        return await drained(self.api, within_seconds)

    async def stop(self) -> None:
        """End both programs, the server first: what it still delivers has somebody to go to."""
        await self.server.stop()
        await self.sandbox.stop()


def example_courses() -> list[Outline]:
    """Return the courses of ``examples/courses``, from the clone or as packaged in the wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here / "courses", here.parents[2] / "examples" / "courses"):
        files = sorted(folder.glob("*.json"))
        if files:
            return [outline(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    raise SetUpFailed("The example courses are missing: examples/courses/*.json.")


@asynccontextmanager
async def school(options: Options) -> AsyncIterator[School]:
    """Start sandbox and server with keys made for this run; stop both at the end."""
    options.data_dir.mkdir(parents=True, exist_ok=True)
    if (options.data_dir / "homeroom.db").exists():
        raise SetUpFailed(
            f"There is a database in {options.data_dir} already, and the demo changes none.",
            hint="Name an empty folder with --data-dir, or leave it out.",
        )
    courses = example_courses()
    plan = make(
        courses,
        learners=options.learners,
        seed=options.seed,
        now=to_datetime(Clock().now()).replace(microsecond=0) - timedelta(seconds=1),
    )
    admin_key = f"hr_{secrets.token_urlsafe(32)}"
    jwt_secret = secrets.token_urlsafe(48)
    sandbox = Sandbox(options.data_dir / "sandbox.log", seed=options.seed)
    try:
        partners = await sandbox.open()
        settings = {
            "HOMEROOM_DATA_DIR": str(options.data_dir),
            "HOMEROOM_PORT": str(free_port(options.port)),
            "HOMEROOM_ADMIN_KEY": admin_key,
            "HOMEROOM_JWT_SECRET": jwt_secret,
            "HOMEROOM_LOG_FORMAT": "json",
            # All jobs are kept, so that their number can be compared with what was sent.
            "HOMEROOM_JOBS_KEEP_COMPLETED": "1000000",
            **partners,
            **options.settings,
        }
        server = Server(settings, options.data_dir / "server.log")
        headers = {"authorization": f"Bearer {admin_key}"}
        async with open_client(base_url=server.url, headers=headers, timeout=30) as api:
            try:
                await server.open()
                tokens = {each.user_id: _token(each.user_id, jwt_secret) for each in plan.learners}
                yield School(
                    options,
                    sandbox,
                    server,
                    api,
                    admin_key,
                    jwt_secret,
                    courses,
                    plan,
                    expect(plan, courses),
                    Players(
                        server.url,
                        tokens,
                        await _service_key(api),
                        seconds=options.seconds,
                        seed=options.seed,
                    ),
                )
            finally:
                await server.stop()
    finally:
        await sandbox.stop()


def _token(user_id: str, secret: str) -> str:
    """Return a learner's token, as the learning platform would sign it."""
    expires = to_datetime(Clock().now()) + _TOKEN_LIFETIME
    return jwt.encode({"sub": user_id, "roles": ["learner"], "exp": expires}, secret, "HS256")


async def _service_key(api: httpx.AsyncClient) -> str:
    answer = await api.post("/api/v1/keys", json={"name": "grader", "roles": ["service"]})
    if answer.status_code != httpx.codes.CREATED:
        raise SetUpFailed(f"No API key could be made: {answer.status_code} {answer.text}")
    return str(answer.json()["token"])


async def put(api: httpx.AsyncClient, path: str, body: Any) -> None:
    """Store something; raise ``SetUpFailed`` if it is refused."""
    answer = await (api.put(path) if body is None else api.put(path, json=body))
    if not answer.is_success:
        raise SetUpFailed(f"PUT {path} was answered {answer.status_code}: {answer.text}")


async def _all(works: Iterable[Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(work: Awaitable[None]) -> None:
        async with gate:
            await work

    await asyncio.gather(*(one(work) for work in works))


async def unless_a_child_dies(school: School, work: Callable[[], Awaitable[None]]) -> None:
    """Do something; raise ``ChildFailed`` at once if one of the programs ends meanwhile."""
    doing = asyncio.ensure_future(work())
    dying = [asyncio.ensure_future(each.died()) for each in (school.server, school.sandbox)]
    try:
        done, _ = await asyncio.wait([doing, *dying], return_when=asyncio.FIRST_COMPLETED)
        # Whoever died says more than the players whose connections broke by it.
        for each in (task for task in (*dying, doing) if task in done):
            each.result()
    finally:
        await cancel(doing, *dying)
