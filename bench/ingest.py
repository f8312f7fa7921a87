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
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench.filled import SMALL, Size, publish, tables
from bench.sending import (
    HOMEROOM_RATE,
    KEY,
    NAIVE_RATE,
    Numbers,
    bare,
    check,
    make_naive,
    median,
    over,
    rate,
    reference,
    send,
)
from bench.server_process import run_server
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.sqlite.database import SqliteDatabase

SPREAD_MS = 5_000


def prefill(file: Path, size: Size) -> None:
    """Make a file in which every learner has begun every chapter, and the ledger is long."""
    migrate.upgrade(file)
    asyncio.run(publish(SqliteDatabase(file, Clock()), size.chapters))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        for table, columns, rows in tables(size):
            marks = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows
            )  # constants only
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


def _measure_homeroom(template: Path, seconds: float, size: Size, *options: str) -> Numbers:
    """Measure `homeroom serve --no-worker` on a copy of the filled file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = Path(shutil.copy(template, folder / "homeroom.db"))
        before = _sums(file)
        os.sync()  # what the copy left in memory must not be written while the clock runs
        with run_server(folder, "--no-worker") as server:
            found = send(server.port, server.key, seconds, size, *rate(HOMEROOM_RATE), *options)
        check("homeroom", found, before, _sums(file))
    return found


def _naive(template: Path, seconds: float, size: Size, pool: str) -> Numbers:
    """Measure the ORM handler on a copy of its own filled file."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(shutil.copy(template, Path(name) / "naive.db"))
        before = _naive_sums(file)
        os.sync()
        with reference("naive_orm", "--database", _url(file), "--key", KEY, "--pool", pool) as port:
            found = send(port, KEY, seconds, size, *rate(NAIVE_RATE))
        check(f"naive, pool {pool}", found, before, _naive_sums(file))
    return found


def _url(file: Path) -> str:
    return f"sqlite:///{file}"


def _naive_sums(file: Path) -> dict[str, int]:
    """Leave the courses out: its tables begin without any, so no difference can be told."""
    return _totals(file, {**_LEDGER, "chapters": ("sum(time_spent)", "chapter_progress")})


def _make_naive(file: Path, size: Size) -> None:
    make_naive(_url(file), size)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _contenders(folder: Path, seconds: float, size: Size) -> dict[str, Callable[[], Numbers]]:
    ours, naive = folder / "homeroom.db", folder / "naive.db"
    prefill(ours, size)
    _make_naive(naive, size)
    homeroom = partial(_measure_homeroom, ours, seconds, size)
    return {
        "bare": partial(bare, seconds, size),
        "homeroom, v7 ids": partial(homeroom, "--ids", "v7"),
        "homeroom, v4 ids": partial(homeroom, "--ids", "v4"),
        "homeroom, v7 ids of the last 5 s": partial(homeroom, "--id-spread-ms", str(SPREAD_MS)),
        "homeroom, v7 ids, a learner an event": partial(homeroom, "--relay"),
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
    medians = {name: median(found) for name, found in results.items()}
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


def _ratios(medians: dict[str, Numbers]) -> dict[str, float]:
    """Return our rate over theirs; the naive one counts with its better pool too."""
    default, one = "naive, SQLAlchemy's default pool", "naive, one connection"
    return {
        "v7 over bare": over(medians, "homeroom, v7 ids", "bare"),
        "v7 over naive, default pool": over(medians, "homeroom, v7 ids", default),
        "v7 over naive, one connection": over(medians, "homeroom, v7 ids", one),
        "v4 over naive, default pool": over(medians, "homeroom, v4 ids", default),
        "v4 over naive, one connection": over(medians, "homeroom, v4 ids", one),
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
