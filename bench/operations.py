"""Measure what an operator's pages cost with a million jobs and 100,000 learners in a course.

The tables are filled beforehand: three jobs for each of 100,000 completions, else sent messages,
and 10,000 jobs that failed or wait. Each request is sent several times to `homeroom serve
--no-worker`; the figure is the median, of SQLite and of a PostgreSQL server of the benchmark's own.

    python -m bench.operations --jobs 1000000 --learners 100000
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import asyncpg
from tools.servers import postgres

from bench.filled import COURSE, Filled, Size, publish, tables
from bench.server_process import ServerProcess, run_server
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.sqlite.database import SqliteDatabase

_STEPS = (
    ("credentials", "completion.credential", "credential"),
    ("dispatch", "dispatch.analytics", "analytics"),
    ("dispatch", "dispatch.hr", "hr"),
)
_OF_TEN = 4
"""Of ten jobs this many are for completions, while there are any."""
_OPEN_SHARE = 101
"""One job in this many failed, waits, or is delayed."""


@dataclass(frozen=True)
class Scale:
    """Rows of the tables."""

    jobs: int = 1_000_000
    learners: int = 100_000


def _jobs(scale: Scale) -> Iterator[Filled]:
    """Yield completions with their steps, and jobs in the order in which they came."""
    now = time.time_ns() // 1_000
    first = now - scale.jobs * 1_000_000
    completions = [f"completion-{number:06d}" for number in range(scale.learners)]

    def job_rows() -> Iterator[tuple[object, ...]]:
        done = 0
        for number in range(scale.jobs):
            at = first + number * 1_000_000
            if number % 10 < _OF_TEN and done < 3 * scale.learners:
                queue, kind, step = _STEPS[done % 3]
                completion = completions[done // 3]
                id, payload = f"{completion}.{step}", {"completionId": completion}
                done += 1
            else:
                queue, kind = "learner-messages", "notify.send_learner_message"
                id, payload = (
                    f"delivery-{number:07d}.send",
                    {"deliveryId": f"delivery-{number:07d}"},
                )
            state, error = "completed", None
            ended: int | None = at + 40_000
            if number % _OPEN_SHARE == 0:
                state = ("failed", "failed", "waiting", "delayed")[number // _OPEN_SHARE % 4]
                error = f"503 from partner {number % 7}" if state == "failed" else None
                ended = at + 40_000 if state == "failed" else None
            yield (
                id, 1, queue, kind, state, 0, json.dumps(payload), 1, at, at, at + 20_000, ended,
                1, 4, 0, error, 0, 0, 0,
            )  # fmt: skip

    yield Filled(
        "completion",
        ("id", "user_id", "course_id", "attempt", "course_version", "course_title", "completed_at",
         "recorded_at", "score", "time_spent", "chapters"),
        (
            (id, f"learner-{number:06d}", COURSE, 1, 1, "Bench", first + number, first + number,
             90_000, 600, "[]")
            for number, id in enumerate(completions)
        ),
    )  # fmt: skip
    yield Filled(
        "completion_step",
        ("completion_id", "name", "position", "status", "job_id", "runs", "attempts",
         "finished_at"),
        (
            (id, step, position, "completed", f"{id}.{step}", 1, 1, first)
            for id in completions
            for position, (_, _, step) in enumerate(_STEPS)
        ),
    )  # fmt: skip
    yield Filled(
        "job",
        ("id", "keeps_id", "queue", "kind", "state", "priority", "payload", "version", "run_at",
         "created_at", "started_at", "finished_at", "attempts", "max_attempts", "allowance",
         "last_error", "cancel_requested", "deps_pending", "unannounced"),
        job_rows(),
    )  # fmt: skip


def _all_tables(scale: Scale) -> Iterable[Filled]:
    yield from tables(Size(learners=scale.learners, chapters=20, events=2 * scale.learners))
    yield from _jobs(scale)


def _requests(scale: Scale) -> dict[str, str]:
    """Return by name the paths whose cost is measured; each is in the middle of its table."""
    middle = scale.learners // 2
    jobs, rare = "/api/v1/jobs?", {"limit": "50"}

    def search(**query: str) -> str:
        return jobs + urlencode(query | rare)

    return {
        "jobs by id": search(q=f"completion-{middle:06d}.hr"),
        "jobs by name": search(name="completion.credential"),
        "jobs by name and state": search(name="completion.credential", state="waiting"),
        "jobs by learner": search(q=f"learner-{middle:06d}"),
        "jobs by course": search(q=COURSE),
        "failed jobs": search(state="failed"),
        "active jobs": search(state="active"),
        "failed jobs by text": search(state="failed", q="503 from partner 5"),
        "failed or open jobs by text": search(done="false", q="no such text"),
        "queues with counts": "/api/v1/queues",
        "overview": "/api/v1/metrics/summary",
        "readiness": "/readyz",
        "a course's learners": f"/api/v1/courses/{COURSE}/learners?limit=50",
        "a course": f"/api/v1/courses/{COURSE}",
        "completions": "/api/v1/completions?limit=50",
    }


def _measure(server: ServerProcess, scale: Scale, times: int) -> dict[str, Any]:
    """Return the median milliseconds of each request; the first one of each does not count."""
    found = {}
    for name, path in _requests(scale).items():
        seconds = []
        for _ in range(times + 1):
            began = time.perf_counter()
            server.call("GET", path)
            seconds.append(time.perf_counter() - began)
            time.sleep(0.05)
        found[name] = {
            "first_ms": round(1_000 * seconds[0], 1),
            "median_ms": round(1_000 * median(seconds[1:]), 1),
        }
    return found


def _on_sqlite(scale: Scale, times: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "homeroom.db"
        migrate.upgrade(file)
        asyncio.run(publish(SqliteDatabase(file, Clock()), 20))
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN")
            for table, columns, rows in _all_tables(scale):
                names, marks = ", ".join(columns), ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with run_server(Path(folder), "--no-worker") as server:
            return _measure(server, scale, times)


async def _fill_postgres(url: str, scale: Scale) -> None:
    await publish(PostgresDatabase(url, Clock()), 20)
    connection = await asyncpg.connect(url)
    for table, columns, rows in _all_tables(scale):
        await connection.copy_records_to_table(table, columns=columns, records=rows)
    for table in ("progress_event", "job"):
        await connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'seq'), max(seq)) FROM {table}"
        )
    await connection.execute("ANALYZE")
    await connection.close()


def _on_postgres(scale: Scale, times: int) -> dict[str, Any]:
    with postgres.running() as server, tempfile.TemporaryDirectory() as folder:
        name = server.make_database()
        migrate.upgrade(server.url(name))
        asyncio.run(_fill_postgres(server.url(name), scale))
        environment = {"HOMEROOM_DATABASE_URL": server.url(name)}
        with run_server(Path(folder), "--no-worker", environment=environment) as running:
            return _measure(running, scale, times)


ENGINES: dict[str, Callable[[Scale, int], dict[str, Any]]] = {
    "sqlite": _on_sqlite,
    "postgresql": _on_postgres,
}


def measure(scale: Scale | None = None, times: int = 7) -> dict[str, Any]:
    """Return milliseconds by request, of both databases."""
    sizes = scale or Scale()
    found = {engine: run(sizes, times) for engine, run in ENGINES.items()}
    return {
        "jobs": sizes.jobs,
        "learners": sizes.learners,
        "requests": {
            name: {
                f"{engine} {key}": value
                for engine in ENGINES
                for key, value in found[engine][name].items()
            }
            for name in found["sqlite"]
        },
    }


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.operations", description=__doc__)
    parser.add_argument("--jobs", type=int, default=Scale.jobs)
    parser.add_argument("--learners", type=int, default=Scale.learners)
    parser.add_argument("--engine", choices=tuple(ENGINES))
    options = parser.parse_args()
    scale = Scale(options.jobs, options.learners)
    found = ENGINES[options.engine](scale, 5) if options.engine else measure(scale)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
