"""Measure no-op jobs on servers: ours on PostgreSQL, and with BullMQ on Redis, beside others.

Ours keeps every job as a row of PostgreSQL, on either engine, so that it is added in the commit of
its cause and survives Redis. Plain `bullmq` keeps it in Redis alone, whose log is written to disk
every second, or at every command as the row is. `procrastinate` and `pgqueuer` have rows of
PostgreSQL too. All run in one process, one after the other in every round; each job is added by
itself, and counts once its end is recorded. The servers are the benchmark's own, on this machine.

    python -m bench.jobs_shared --rounds 5
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bullmq
import procrastinate
import structlog
import uvloop
from tools.servers import postgres, redis
from tools.servers.postgres import Postgres
from tools.servers.redis import RedisServer

from bench.drain import Meter, Numbers, drain, medians
from bench.ingest_postgres import BUILT, SETTINGS
from bench.jobs import Noop, homeroom
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.jobs.engine import Dispatcher, Engine, SqlEngine
from homeroom.jobs.engines.bullmq import BullmqEngine, RedisAddress
from homeroom.jobs.engines.payload import REDIS_KEY_PREFIX
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.worker import DEFAULT_CONCURRENCY

EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
PGQUEUER = Path(__file__).parent / "references" / "pgqueuer.txt"
WAITING = 1_000
"""Jobs of which is asked how much of Redis's memory they take."""
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Bench:
    """The servers, and how much each run does."""

    server: Postgres
    redis: RedisServer
    packages: Path
    """Where pgqueuer is installed."""
    jobs: int
    picks: int
    made: dict[str, str] = field(default_factory=dict)
    """Databases with tables and no jobs, which are copied; by whose tables they are."""

    def make_databases(self) -> None:
        """Make a database for each that keeps jobs in rows."""
        for name, make in (
            ("homeroom", migrate.upgrade),
            ("procrastinate", lambda url: asyncio.run(_procrastinate_tables(url))),
            ("pgqueuer", lambda url: self._run_pgqueuer(url, "--install")),
        ):
            self.made[name] = self.server.make_database()
            make(self.server.url(self.made[name]))

    def ours(self, engine: Callable[[], Engine], concurrency: int) -> Numbers:
        """Measure our kernel on PostgreSQL with an engine."""

        def run(url: str) -> Numbers:
            db = PostgresDatabase(url, Clock())
            return uvloop.run(homeroom(db, engine(), self.jobs, self.picks, concurrency))

        return self._on_postgres("homeroom", run)

    def on_redis(self) -> Engine:
        """Return our engine on Redis, which is emptied."""
        self.redis.empty()
        return BullmqEngine(RedisAddress(self.redis.url))

    def plain(self, concurrency: int, fsync: str) -> Numbers:
        """Measure BullMQ by itself; ``fsync`` is how often Redis writes its log to disk."""
        self.redis.empty()
        self.redis.ask("CONFIG", "SET", "appendfsync", fsync)
        try:
            return uvloop.run(_plain(self.redis.url, self.jobs, self.picks, concurrency))
        finally:
            self.redis.ask("CONFIG", "SET", "appendfsync", "everysec")

    def procrastinate(self, concurrency: int) -> Numbers:
        """Measure procrastinate."""
        return self._on_postgres(
            "procrastinate",
            lambda url: uvloop.run(_procrastinate(url, self.jobs, self.picks, concurrency)),
        )

    def pgqueuer(self, batch: int) -> Numbers:
        """Measure pgqueuer, in a process with packages of its own."""
        flags = {"--jobs": self.jobs, "--picks": self.picks, "--batch": batch}
        words = [str(word) for pair in flags.items() for word in pair]

        def run(url: str) -> Numbers:
            found: Numbers = json.loads(self._run_pgqueuer(url, *words))
            return found

        return self._on_postgres("pgqueuer", run)

    def _run_pgqueuer(self, url: str, *words: str) -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "bench.references.pgqueuer_jobs", "--database", url, *words],
            env={**os.environ, "PYTHONPATH": str(self.packages)},
            stdout=subprocess.PIPE,
            check=True,
        )
        return done.stdout

    def _on_postgres(self, whose: str, run: Callable[[str], Numbers]) -> Numbers:
        """Run on a copy of a database; add what a job made the server write to its log."""
        name = self.server.make_database(self.made[whose])
        before = self._log_bytes()
        found = run(self.server.url(name))
        found["log_bytes_per_job"] = (self._log_bytes() - before) / (self.jobs + self.picks)
        self.server.drop_database(name)
        return found

    def _log_bytes(self) -> int:
        [[size]] = self.server.rows(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint", "postgres"
        )
        return int(size)


async def _plain(url: str, jobs: int, picks: int, concurrency: int) -> Numbers:
    meter = Meter()
    queue = bullmq.Queue("bench", {"connection": url})

    async def noop(job: Any, token: str) -> None:
        meter.count()

    async def unfinished() -> bool:
        counts = await queue.getJobCounts("waiting", "active", "prioritized")
        return any(counts.values())

    @asynccontextmanager
    async def working() -> AsyncIterator[None]:
        worker = bullmq.Worker("bench", noop, {"connection": url, "concurrency": concurrency})
        yield
        await worker.close()

    found = await drain(
        meter,
        jobs,
        picks,
        add=lambda number: queue.add("noop", {"number": number}, {"removeOnComplete": True}),
        working=working(),
        unfinished=unfinished,
    )
    await queue.close()
    return found


async def _procrastinate_tables(url: str) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def _procrastinate(url: str, jobs: int, picks: int, concurrency: int) -> Numbers:
    meter = Meter()
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="noop", queue="bench")
    async def noop(number: int) -> None:
        meter.count()

    async def unfinished() -> bool:
        row = await app.connector.execute_query_one_async(
            "SELECT count(*) AS open FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
        )
        return bool(row["open"])

    @asynccontextmanager
    async def working() -> AsyncIterator[None]:
        task = asyncio.create_task(
            app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)
        )
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async with app.open_async():
        return await drain(
            meter,
            jobs,
            picks,
            add=lambda number: noop.defer_async(number=number),
            working=working(),
            unfinished=unfinished,
        )


def _pgqueuer_packages() -> Path:
    """Install pgqueuer apart from everything else, once: bullmq pins an older croniter."""
    folder, wanted = BUILT / "pgqueuer", PGQUEUER.read_text()
    done = folder / ".installed"
    if not done.exists() or done.read_text() != wanted:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        options = ["--upgrade", "--target", str(folder), "--require-hashes", "-r", str(PGQUEUER)]
        said = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
        if said.returncode:
            raise RuntimeError(f"pip could not install pgqueuer: {said.stderr[-2000:]}")
        done.write_text(wanted)
    return folder


def _contenders(bench: Bench, concurrency: int) -> dict[str, Callable[[], Numbers]]:
    default = DEFAULT_CONCURRENCY
    return {
        f"homeroom, {default} at once (its default)": lambda: bench.ours(SqlEngine, default),
        f"homeroom, {concurrency} at once": lambda: bench.ours(SqlEngine, concurrency),
        f"homeroom with BullMQ, {default} at once": lambda: bench.ours(bench.on_redis, default),
        f"homeroom with BullMQ, {concurrency} at once": lambda: bench.ours(
            bench.on_redis, concurrency
        ),
        f"bullmq, {concurrency} at once": lambda: bench.plain(concurrency, "everysec"),
        f"bullmq, {concurrency} at once, appendfsync always": lambda: bench.plain(
            concurrency, "always"
        ),
        f"procrastinate, {concurrency} at once": lambda: bench.procrastinate(concurrency),
        "pgqueuer, 10 a batch (its default)": lambda: bench.pgqueuer(10),
        f"pgqueuer, {concurrency} a batch": lambda: bench.pgqueuer(concurrency),
    }


def measure(jobs: int = 2_000, picks: int = 20, rounds: int = 5, concurrency: int = 64) -> Any:
    """Return medians over interleaved rounds, what our row costs, and what 1,000 jobs weigh."""
    results: dict[str, list[Numbers]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(postgres.running(durable=True, settings=SETTINGS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log_written = stack.enter_context(redis.running(folder, *EVERY_SECOND))
        bench = Bench(server, log_written, _pgqueuer_packages(), jobs, picks)
        bench.make_databases()
        contenders = _contenders(bench, concurrency)
        for _ in range(rounds):
            for name, run in contenders.items():
                results.setdefault(name, []).append(run())
                gc.collect()
        url = server.url(server.make_database(bench.made["homeroom"]))
        weight = asyncio.run(_weight(url))
        versions = {
            "postgresql": server.rows("SHOW server_version", "postgres")[0][0].split()[0],
            "redis": log_written.info("redis_version"),
        }
    found = medians(results)
    names = ("homeroom", "bullmq", "procrastinate")
    return {
        "jobs": jobs,
        "pick_ups": picks,
        "rounds": rounds,
        "versions": {name: version(name) for name in names} | _pgqueuer_version() | versions,
        "medians": found,
        "what our row costs": _row_costs(found, concurrency),
        "redis, 1,000 waiting jobs": weight,
    }


def _pgqueuer_version() -> dict[str, str]:
    pinned = [line for line in PGQUEUER.read_text().splitlines() if line.startswith("pgqueuer==")]
    return {"pgqueuer": pinned[0].split()[0].removeprefix("pgqueuer==")}


def _row_costs(found: dict[str, Numbers], concurrency: int) -> dict[str, float]:
    """Return how much longer a job takes with BullMQ because it is a row too."""
    ours = found[f"homeroom with BullMQ, {concurrency} at once"]
    costs = {}
    for how in ("", ", appendfsync always"):
        theirs = found[f"bullmq, {concurrency} at once{how}"]
        for key in ("added", "drained", "both"):
            more = 1_000 / ours[f"{key}_per_second"] - 1_000 / theirs[f"{key}_per_second"]
            costs[f"{key}, ms a job over plain bullmq{how}"] = more
    return costs


async def _weight(url: str) -> dict[str, float]:
    """Return the memory in MiB by which Redis grows for waiting jobs, ours and plain ones.

    Ours are dispatched as in every process that works; Redis holds no more of them, however many
    wait. Its log is off here: its buffers would count.
    """
    with tempfile.TemporaryDirectory() as folder, redis.running(Path(folder)) as server:

        async def grown(fill: Callable[[], Any]) -> float:
            server.empty()
            before = int(server.info("used_memory"))
            await fill()
            return (int(server.info("used_memory")) - before) / _MIB

        async def plain() -> None:
            queue = bullmq.Queue("bench", {"connection": server.url})
            for number in range(WAITING):
                await queue.add("noop", {"number": number}, {"removeOnComplete": True})
            await queue.close()

        return {
            "homeroom with BullMQ, MiB": await grown(lambda: _dispatched(url, server)),
            "bullmq, MiB": await grown(plain),
        }


async def _dispatched(url: str, server: RedisServer) -> None:
    """Add rows, and dispatch them to Redis without a worker."""
    db, engine, registry = (
        PostgresDatabase(url, Clock()),
        BullmqEngine(RedisAddress(server.url)),
        Registry(),
    )
    registry.add(Noop, _never)
    await db.open()
    async with db.write() as tx:
        for number in range(WAITING):
            await enqueue(tx, Noop(number=number))
    await Dispatcher(db, registry, engine).dispatch(Noop.queue)
    queue = bullmq.Queue(Noop.queue, {"connection": server.url, "prefix": REDIS_KEY_PREFIX})
    waiting = sum((await queue.getJobCounts("waiting", "prioritized")).values())
    if waiting != WAITING:
        raise RuntimeError(f"{waiting} of {WAITING} jobs were dispatched")
    await queue.close()
    await engine.close()
    await db.close()


async def _never(ctx: Any, args: Noop) -> Any:
    raise RuntimeError("no worker runs here")


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--picks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = measure(given.jobs, given.picks, given.rounds, given.concurrency)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
