"""A job kernel (registry, worker, maintenance) on each database and each engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, TypedDict, TypeVar, Unpack

from tests.support.database import DATABASES, database_at
from tests.support.effort import EFFORT
from tests.support.redis_server import started

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.jobs import store
from homeroom.jobs.engine import Engine, SqlEngine
from homeroom.jobs.engines.bullmq import BullmqEngine, RedisAddress
from homeroom.jobs.enqueue import OnDependencyFailure, enqueue
from homeroom.jobs.handler import JobContext, Registry
from homeroom.jobs.job import Job, JobArgs, JobState
from homeroom.jobs.maintenance import JobMaintenance, MaintenanceStep, OnSlotsMissed
from homeroom.jobs.outcome import Done, Outcome
from homeroom.jobs.run_observation import ObserveRun
from homeroom.jobs.worker import Worker

PATIENCE_SECONDS = 60.0 * EFFORT
POLL = timedelta(milliseconds=50)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Setup = Callable[[Path | str, Clock], AbstractAsyncContextManager[tuple[Database, Engine]]]


@asynccontextmanager
async def sql(database: Path | str, clock: Clock) -> AsyncIterator[tuple[Database, Engine]]:
    db = database_at(database, clock)
    await db.open()
    yield db, SqlEngine()
    await db.close()


@asynccontextmanager
async def on_bullmq(database: Path | str, clock: Clock) -> AsyncIterator[tuple[Database, Engine]]:
    async with sql(database, clock) as (db, _), bullmq() as engine:
        yield db, engine


@asynccontextmanager
async def bullmq() -> AsyncIterator[Engine]:
    """Open the engine on the Redis of this test process, emptied first."""
    started().empty()
    engine = BullmqEngine(RedisAddress(started().url))
    await engine.open()
    yield engine
    await engine.close()


ENGINES: dict[str, tuple[str, Setup]] = {
    "sqlite": (DATABASES["sqlite"], sql),
    "sqlite+bullmq": (DATABASES["sqlite"], on_bullmq),
    "postgresql": (DATABASES["postgresql"], sql),
    "postgresql+bullmq": (DATABASES["postgresql"], on_bullmq),
}
"""The fixture of the database and the function that opens both, by an engine's name."""


class Task(JobArgs, frozen=True, kw_only=True):
    """The job kind of the suite, unless a test is about kinds."""

    kind: ClassVar[str] = "contract.task"
    queue: ClassVar[str] = "contract"
    timeout: ClassVar[timedelta] = timedelta(seconds=10)

    word: str = ""


class JobOptions(TypedDict, total=False):
    """The options of ``enqueue``."""

    id: str | None
    priority: int | None
    delay: timedelta | None
    after: Sequence[str]
    if_fails: OnDependencyFailure
    max_retries: int | None


class WorkerOptions(TypedDict, total=False):
    """The options of ``Worker``."""

    clock: Clock | None
    concurrency: Mapping[str, int] | int
    lease: timedelta
    grace: timedelta
    worker_id: str | None
    poll: timedelta
    on_stuck: Callable[[str], None] | None
    observe: ObserveRun | None
    queues: Collection[str] | None


class Kernel:
    """Registry, engine and maintenance on a database, with functions that wait for conditions."""

    def __init__(
        self,
        db: Database,
        engine: Engine | None = None,
        *,
        database: Path | str = "",
        registry: Registry | None = None,
        missed: OnSlotsMissed | None = None,
        records_uptime: bool = False,
        release_held: MaintenanceStep | None = None,
    ) -> None:
        self.db, self.engine, self.clock = db, engine or SqlEngine(), db.clock
        self.database = database
        """The file or the URL of the database, for other processes."""
        self.registry = registry or Registry()
        self.maintenance = JobMaintenance(
            db,
            self.registry,
            self.engine,
            missed=missed,
            records_uptime=records_uptime,
            release_held=release_held,
        )
        self.ran: list[str] = []
        """The words of the tasks that were started, in order."""
        self.changes: list[tuple[str, JobState]] = []
        """The calls of ``changed``: ids and states, in order."""
        self._committed = asyncio.Event()
        db.subscribe(lambda topics: self._committed.set())

    def handle(
        self,
        run: Callable[[JobContext, Any], Awaitable[Outcome]] | None = None,
        args: type[JobArgs] = Task,
    ) -> None:
        """Register a handler; without one, jobs are done at once."""

        async def note(ctx: JobContext, given: JobArgs) -> Outcome:
            self.ran.append(getattr(given, "word", ""))
            return Done() if run is None else await run(ctx, given)

        async def changed(tx: Tx, job: Job, given: JobArgs) -> None:
            self.changes.append((job.id, job.state))

        self.registry.add(args, note, changed)

    async def add(self, args: JobArgs | None = None, **options: Unpack[JobOptions]) -> str:
        async with self.db.write() as tx:
            return await enqueue(tx, Task() if args is None else args, **options)

    async def add_words(self, words: Sequence[str], **options: Unpack[JobOptions]) -> list[str]:
        async with self.db.write() as tx:
            return [await enqueue(tx, Task(word=word), **options) for word in words]

    async def job(self, job_id: str) -> Job:
        async with self.db.read() as tx:
            return await store.get(tx, job_id)

    async def attempts(self, job_id: str) -> list[store.JobAttempt]:
        async with self.db.read() as tx:
            return await store.attempts(tx, job_id)

    async def call(
        self,
        function: Callable[Concatenate[Tx, Parameters], Awaitable[Result]],
        *args: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Result:
        """Call a function that takes a transaction first."""
        async with self.db.write() as tx:
            return await function(tx, *args, **options)

    @asynccontextmanager
    async def worker(self, **options: Unpack[WorkerOptions]) -> AsyncIterator[Worker]:
        """Run a worker for the length of a block, and shut it down gracefully."""
        worker = Worker(self.db, self.registry, self.engine, **options)
        running = asyncio.create_task(worker.run())
        await worker.started.wait()
        try:
            yield worker
        finally:
            worker.stop()
            await running

    @asynccontextmanager
    async def running_maintenance(self) -> AsyncIterator[None]:
        """Run maintenance for the length of a block."""
        running = asyncio.create_task(self.maintenance.run())
        try:
            yield
        finally:
            self.maintenance.stop()
            await running

    async def open_jobs(self) -> dict[JobState, int]:
        """Return by state how many jobs are not finished."""
        async with self.db.read() as tx:
            rows = await tx.fetch(
                "SELECT state, COUNT(*) FROM job WHERE state NOT IN ('completed', 'failed')"
                " GROUP BY state"
            )
        return {JobState(state): count for state, count in rows}

    async def run_jobs(self, skip_wait: Callable[[], Awaitable[None]] | None = None) -> None:
        """Run a worker until no job can run.

        Delayed jobs are left, unless ``skip_wait`` moves the clock to one of them.
        """

        async def none_can_run() -> bool:
            states = set(await self.open_jobs())
            if states == {JobState.DELAYED} and skip_wait is not None:
                await skip_wait()
                await self.maintenance.tick()
                return False
            return states <= {JobState.DELAYED}

        async with self.worker(poll=POLL):
            await self.wait_until(none_can_run)

    async def wait_until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until a condition holds; check it after every commit and every 20 ms."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                self._committed.clear()
                asyncio.get_running_loop().call_later(0.02, self._committed.set)
                await self._committed.wait()

    async def wait_for_state(self, job_id: str, state: JobState) -> Job:
        """Wait until a job is in a state, and return it."""

        async def there() -> bool:
            return (await self.job(job_id)).state is state

        await self.wait_until(there)
        return await self.job(job_id)

    async def wait_for_added_job(self, job_id: str, state: JobState) -> Job:
        """Wait until another program's job has a row in a state, and return it."""

        async def there() -> bool:
            async with self.db.read() as tx:
                return (await store.states(tx, [job_id])).get(job_id) is state

        await self.wait_until(there)
        return await self.job(job_id)

    async def wait_until_true(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition in memory holds."""

        async def there() -> bool:
            return condition()

        await self.wait_until(there)
