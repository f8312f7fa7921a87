"""Measure durable ingest on SQLite against a naive ORM handler and a bare decoding handler.

One process each, 64 connections, 10 events a body, 1 % of the requests sent twice, tables filled
beforehand. Homeroom is the real `homeroom serve --no-worker`: key checked, ledger, chapters and
course roll-ups in one commit, `synchronous=FULL`. What was acknowledged is compared with what the
files hold, exactly; a difference is an error, not a figure.

    python -m bench.ingest --rounds 5 --seconds 8
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.house import end, free_port, running, wait_for
from homeroom.catalogue.api import Catalogue
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.sqlite import SqliteDatabase

Numbers = dict[str, Any]
WARMUP_SECONDS = 1.0
COURSE = "course-000"
SPREAD_MS = 5_000
HOUSE_RATE, NAIVE_RATE, BARE_RATE = 14_000, 400, 4_000
"""Requests a second that are built for a run; a run that used all of them is refused."""
KEY = "hr_bench"


@dataclass(frozen=True)
class Size:
    """What the tables hold before the clock starts."""

    learners: int = 10_000
    chapters: int = 50
    """Each learner has a row in each chapter."""
    events: int = 1_000_000
    """Ledger rows, with random ids."""


SMALL = Size(learners=200, chapters=20, events=5_000)


async def _publish(file: Path, chapters: int) -> None:
    db = SqliteDatabase(file, Clock())
    await db.open()
    parts = [{"id": f"chapter-{each:03d}", "title": f"Chapter {each}"} for each in range(chapters)]
    body = {"title": "Bench", "units": [{"id": "unit", "title": "Unit", "chapters": parts}]}
    async with db.write() as tx:
        await Catalogue().publish(tx, COURSE, body)
    await db.close()


def prefill(file: Path, size: Size) -> None:
    """Make a file in which every learner has begun every chapter, and the ledger is long."""
    migrate.upgrade(file)
    asyncio.run(_publish(file, size.chapters))
    draw, at = random.Random(7), time.time_ns() // 1_000
    learners = [f"learner-{each:06d}" for each in range(size.learners)]
    chapters = [f"chapter-{each:03d}" for each in range(size.chapters)]

    def fill(table: str, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
        marks = ", ".join("?" * len(columns.split(", ")))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # constants only
        connection.executemany(statement, rows)

    key = "user_id, course_id, attempt"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        fill(
            "enrolment",
            f"{key}, version, status, enrolled_at, opened_at, approved",
            ((user, COURSE, 1, 1, "in_progress", at, 0, 0) for user in learners),
        )
        begun = json.dumps({chapter: [1_000, 60, None, None, 1] for chapter in chapters})
        fill(
            "course_progress",
            f"{key}, version, weighted_sum, required_satisfied, satisfied, time_spent,"
            " unattributed, last_at, last_seq, chapters",
            (
                (user, COURSE, 1, 1, size.chapters * 10_000 * 1_000, 0, 0, size.chapters * 60, 0,
                 1, 0, begun)
                for user in learners
            ),
        )  # fmt: skip
        fill(
            "progress_event",
            "id, user_id, course_id, chapter_id, type, progress, time_spent, occurred_at,"
            " received_at, course_version, attempt, body_hash, flags",
            (
                (
                    str(uuid.UUID(int=draw.getrandbits(128), version=4)), draw.choice(learners),
                    COURSE, draw.choice(chapters), "chapter_progress", 1_000, 3, at, at, 1, 1,
                    draw.randbytes(16), 0,
                )
                for _ in range(size.events)
            ),
        )  # fmt: skip
        connection.execute(  # each learner's rows are a chain, as ingest makes it
            "UPDATE progress_event SET previous = linked.previous FROM (SELECT seq, lag(seq) OVER"
            " (PARTITION BY user_id ORDER BY seq) AS previous FROM progress_event) AS linked"
            " WHERE linked.seq = progress_event.seq"
        )
        connection.execute(
            "UPDATE course_progress SET last_seq = latest.seq FROM (SELECT user_id,"
            " max(seq) AS seq FROM progress_event GROUP BY user_id) AS latest"
            " WHERE latest.user_id = course_progress.user_id"
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_LEDGER = {
    "events": ("count(*)", "progress_event"),
    "ledger": ("sum(time_spent)", "progress_event"),
}


def _totals(file: Path, wanted: dict[str, tuple[str, str]]) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return {
            name: int(connection.execute(f"SELECT {what} FROM {of}").fetchone()[0] or 0)
            for name, (what, of) in wanted.items()  # constants only
        }


def _sums(file: Path) -> dict[str, int]:
    """Return the rows of the ledger, and the time spent by it, its chapters and its courses."""
    return _totals(
        file,
        {
            **_LEDGER,
            "chapters": ("sum(c.value ->> 1)", "course_progress, json_each(chapters) AS c"),
            "courses": ("sum(time_spent)", "course_progress"),
        },
    )


def _send(port: int, key: str, seconds: float, size: Size, *options: str) -> Numbers:
    """Run the load in a process of its own and return its report."""
    flags = {
        "--port": port,
        "--key": key,
        "--learners": size.learners,
        "--chapters": size.chapters,
        "--seconds": seconds,
        "--warmup-seconds": WARMUP_SECONDS,
    }
    words = [str(word) for pair in flags.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", *words, *options],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120 + 10 * seconds,
    )
    found: Numbers = json.loads(done.stdout)
    if found["exhausted"]:
        raise RuntimeError("the load ran out of requests: the figure would be too low")
    return found


def _check(name: str, found: Numbers, before: dict[str, int], after: dict[str, int]) -> None:
    """Raise unless what was stored is exactly what was acknowledged."""
    expected = {"events": found["events"]["accepted"]}
    for kept in before.keys() - {"events"}:
        expected[kept] = found["timeSpentAcknowledged"]
    stored = {key: after[key] - before[key] for key in before}
    if stored != expected or found["errors"]:
        raise RuntimeError(f"{name}: stored {stored}, acknowledged {expected}, {found['errors']}")


def _house(template: Path, seconds: float, size: Size, *options: str) -> Numbers:
    """Measure `homeroom serve --no-worker` on a copy of the filled file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = Path(shutil.copy(template, folder / "homeroom.db"))
        before = _sums(file)
        os.sync()  # what the copy left in memory must not be written while the clock runs
        with running(folder, "--no-worker") as house:
            found = _send(house.port, house.key, seconds, size, *_rate(HOUSE_RATE), *options)
        _check("homeroom", found, before, _sums(file))
    return found


def _naive(template: Path, seconds: float, size: Size, pool: str) -> Numbers:
    """Measure the ORM handler on a copy of its own filled file."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(shutil.copy(template, Path(name) / "naive.db"))
        before = _naive_sums(file)
        os.sync()
        with _reference("naive_orm", "--database", str(file), "--key", KEY, "--pool", pool) as port:
            found = _send(port, KEY, seconds, size, *_rate(NAIVE_RATE))
        _check(f"naive, pool {pool}", found, before, _naive_sums(file))
    return found


def _naive_sums(file: Path) -> dict[str, int]:
    """Leave the courses out: its tables begin without any, so no difference can be told."""
    return _totals(file, {**_LEDGER, "chapters": ("sum(time_spent)", "chapter_progress")})


def _bare(seconds: float, size: Size) -> Numbers:
    with _reference("bare") as port:
        return _send(port, KEY, seconds, size, *_rate(BARE_RATE), "--recycle")


@contextlib.contextmanager
def _reference(module: str, *options: str, wait: float = 60.0) -> Iterator[int]:
    """Run a reference server until the block ends; yield its port."""
    port = free_port()
    command = [sys.executable, "-m", f"bench.references.{module}", "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process, wait)
        yield port
    finally:
        end(process)


def _rate(requests: int) -> tuple[str, str]:
    return "--highest-rate", str(requests)


def _make_naive(file: Path, size: Size) -> None:
    options = {"--learners": size.learners, "--chapters": size.chapters, "--events": size.events}
    words = [str(word) for pair in options.items() for word in pair]
    with _reference("naive_orm", "--database", str(file), "--key", KEY, *words, wait=900):
        pass
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _contenders(folder: Path, seconds: float, size: Size) -> dict[str, Callable[[], Numbers]]:
    ours, naive = folder / "homeroom.db", folder / "naive.db"
    prefill(ours, size)
    _make_naive(naive, size)
    house = partial(_house, ours, seconds, size)
    return {
        "bare": partial(_bare, seconds, size),
        "homeroom, v7 ids": partial(house, "--ids", "v7"),
        "homeroom, v4 ids": partial(house, "--ids", "v4"),
        "homeroom, v7 ids of the last 5 s": partial(house, "--id-spread-ms", str(SPREAD_MS)),
        "homeroom, v7 ids, a learner an event": partial(house, "--relay"),
        "naive, SQLAlchemy's default pool": partial(_naive, naive, seconds, size, "default"),
        "naive, one connection": partial(_naive, naive, seconds, size, "one"),
    }


def measure(rounds: int = 5, seconds: float = 8.0, size: Size | None = None) -> Numbers:
    """Return medians over interleaved rounds by contender, and the ratios that are promised."""
    size = size or Size()
    results: dict[str, list[Numbers]] = {}
    with tempfile.TemporaryDirectory() as name:
        contenders = _contenders(Path(name), seconds, size)
        for _ in range(rounds):
            for contender, run in contenders.items():
                results.setdefault(contender, []).append(run())
    medians = {name: _median(found) for name, found in results.items()}
    return {
        "rounds": rounds,
        "seconds": seconds,
        "prefilled": {"chapter rows": size.learners * size.chapters, "events": size.events},
        "versions": {
            name: version(name) for name in ("homeroom", "uvicorn", "msgspec", "sqlalchemy")
        }
        | {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version},
        "medians": medians,
        "ratios": _ratios(medians),
        "sums": "exact in every run",  # _check has raised otherwise
    }


def _median(found: list[Numbers]) -> Numbers:
    rates = [one["eventsPerSecond"] for one in found]
    return {
        "events_per_second": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        **{
            f"{name}_ms": statistics.median(one["latencyMs"][name] for one in found)
            for name in ("p50", "p99", "max")
        },
        "cpu_share_of_the_load": statistics.median(one["cpuShare"] for one in found),
    }


def _ratios(medians: dict[str, Numbers]) -> dict[str, float]:
    """Return our rate over theirs; the naive one counts with its better pool too."""

    def over(ours: str, theirs: str) -> float:
        return float(medians[ours]["events_per_second"] / medians[theirs]["events_per_second"])

    default, one = "naive, SQLAlchemy's default pool", "naive, one connection"
    return {
        "v7 over bare": over("homeroom, v7 ids", "bare"),
        "v7 over naive, default pool": over("homeroom, v7 ids", default),
        "v7 over naive, one connection": over("homeroom, v7 ids", one),
        "v4 over naive, default pool": over("homeroom, v4 ids", default),
        "v4 over naive, one connection": over("homeroom, v4 ids", one),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--quick", action="store_true", help="small tables, one round, one second")
    options = parser.parse_args()
    if options.quick:
        found = measure(rounds=1, seconds=1.0, size=SMALL)
    else:
        found = measure(options.rounds, options.seconds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
