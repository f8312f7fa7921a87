"""One kernel per engine: the suite says what every engine keeps; a new one is a line in ENGINES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.servers.database import DATABASES, database_at
from tests.servers.redis import started

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.jobs import store
from homeroom.jobs.args import JobArgs
from homeroom.jobs.engine import Engine
from homeroom.jobs.engines.bullmq import BullmqEngine
from homeroom.jobs.engines.redis_client import Address
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker

PATIENCE_SECONDS = 20.0
Setup = Callable[[Path | str, Clock], AbstractAsyncContextManager[tuple[Database, Engine]]]


@asynccontextmanager
async def sql(place: Path | str, clock: Clock) -> AsyncIterator[tuple[Database, Engine]]:
    database = database_at(place, clock)
    await database.open()
    yield database, SqlEngine()
    await database.close()


@asynccontextmanager
async def on_bullmq(place: Path | str, clock: Clock) -> AsyncIterator[tuple[Database, Engine]]:
    async with sql(place, clock) as (database, _), bullmq() as engine:
        yield database, engine


@asynccontextmanager
async def bullmq() -> AsyncIterator[Engine]:
    """Open the engine on the Redis of this test process, which is emptied before."""
    started().empty()
    engine = BullmqEngine(Address(started().url))
    await engine.open()
    yield engine
    await engine.close()


ENGINES: dict[str, tuple[str, Setup]] = {
    "sqlite": (DATABASES["sqlite"], sql),
    "sqlite+bullmq": (DATABASES["sqlite"], on_bullmq),
    "postgresql": (DATABASES["postgresql"], sql),
    "postgresql+bullmq": (DATABASES["postgresql"], on_bullmq),
}
"""By an engine's name: the fixture that gives its database, and what opens both."""


class Task(JobArgs, frozen=True, kw_only=True):
    """The job kind that the suite uses unless a test is about kinds."""

    kind = "contract.task"
    queue = "contract"
    timeout = timedelta(seconds=10)

    word: str = ""


class Kernel:
    """A kernel with one queue, and a way to wait for what should become true."""

    def __init__(self, db: Database, engine: Engine, clock: Clock, place: Path | str) -> None:
        self.db, self.engine, self.clock = db, engine, clock
        self.place = place
        """The file or the URL of the database, for other processes."""
        self.registry = Registry()
        self.upkeep = Upkeep(db, self.registry, engine, clock)
        self.ran: list[str] = []
        """The words of the tasks that were started, in order."""
        self.changes: list[tuple[str, JobState]] = []
        """What ``changed`` was told: ids and states, in order."""
        self._stirred = asyncio.Event()
        db.subscribe(lambda topics: self._stirred.set())

    def handle(
        self,
        run: Callable[[JobContext, Any], Awaitable[Outcome]] | None = None,
        args: type[JobArgs] = Task,
    ) -> None:
        """Register a handler; without one, tasks are done at once."""

        async def note(ctx: JobContext, given: Any) -> Outcome:
            self.ran.append(getattr(given, "word", ""))
            return Done() if run is None else await run(ctx, given)

        async def changed(tx: Any, job: Job, given: Any) -> None:
            self.changes.append((job.id, job.state))

        self.registry.add(args, note, changed)

    async def add(self, args: JobArgs | None = None, **options: Any) -> str:
        async with self.db.write() as tx:
            return await enqueue(tx, Task() if args is None else args, **options)

    async def add_words(self, words: Sequence[str], **options: Any) -> list[str]:
        async with self.db.write() as tx:
            return [await enqueue(tx, Task(word=word), **options) for word in words]

    async def job(self, job_id: str) -> Job:
        async with self.db.read() as tx:
            return await store.get(tx, job_id)

    async def attempts(self, job_id: str) -> list[store.Attempt]:
        async with self.db.read() as tx:
            return await store.attempts(tx, job_id)

    async def does(self, act: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Call something that takes a transaction first."""
        async with self.db.write() as tx:
            return await act(tx, *args, **options)

    @asynccontextmanager
    async def worker(self, **options: Any) -> AsyncIterator[Worker]:
        """Run a worker for a while; stop it in good order."""
        worker = Worker(self.db, self.registry, self.engine, **options)
        running = asyncio.create_task(worker.run())
        await worker.started.wait()
        try:
            yield worker
        finally:
            worker.stop()
            await running

    @asynccontextmanager
    async def upkept(self) -> AsyncIterator[None]:
        """Let upkeep run for a while."""
        running = asyncio.create_task(self.upkeep.run())
        try:
            yield
        finally:
            self.upkeep.stop()
            await running

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something holds; look again after every commit, and now and then."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                self._stirred.clear()
                asyncio.get_running_loop().call_later(0.02, self._stirred.set)
                await self._stirred.wait()

    async def reaches(self, job_id: str, state: JobState) -> Job:
        """Wait until a job is in a state, and return it."""

        async def there() -> bool:
            return (await self.job(job_id)).state is state

        await self.until(there)
        return await self.job(job_id)

    async def reaches_when_there(self, job_id: str, state: JobState) -> Job:
        """Wait until a job that somebody else has added is there and in a state."""

        async def there() -> bool:
            async with self.db.read() as tx:
                return (await store.states(tx, [job_id])).get(job_id) is state

        await self.until(there)
        return await self.job(job_id)

    async def happens(self, what: Callable[[], bool]) -> None:
        """Wait until something in memory holds."""

        async def there() -> bool:
            return what()

        await self.until(there)


@pytest.fixture(params=list(ENGINES))
def engine_place(request: pytest.FixtureRequest) -> tuple[Setup, Path | str]:
    """Return how to open an engine, and the file or URL of its fresh database."""
    if "bullmq" in request.param:
        request.getfixturevalue("redis_server")
    fixture, setup = ENGINES[request.param]
    return setup, request.getfixturevalue(fixture)


@pytest.fixture
async def kernel(engine_place: tuple[Setup, Path | str], clock: Clock) -> AsyncIterator[Kernel]:
    setup, place = engine_place
    async with setup(place, clock) as (db, engine):
        yield Kernel(db, engine, clock, place)


@pytest.fixture
def another(
    engine_place: tuple[Setup, Path | str], clock: Clock
) -> Callable[[], AbstractAsyncContextManager[Kernel]]:
    """Return what opens one more kernel on the same database, as another program would."""
    setup, place = engine_place

    @asynccontextmanager
    async def opened() -> AsyncIterator[Kernel]:
        async with setup(place, clock) as (db, engine):
            yield Kernel(db, engine, clock, place)

    return opened


@pytest.fixture
def task() -> type[Task]:
    """The suite's job kind (test files cannot import a conftest)."""
    return Task
