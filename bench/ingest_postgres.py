"""Measure durable ingest on PostgreSQL: ours against an ORM, Express, and a handler that decodes.

The conditions are those of `bench.ingest`: 64 connections, 10 events a body, 1 % of the requests
sent twice, tables filled beforehand, one process each but where two are named. The server is one
of the benchmark's own, on the same machine, with `fsync` and `synchronous_commit` on, and serves
one contender at a time. What was acknowledged is compared with what the tables hold, exactly; a
difference is an error, not a figure.

    python -m bench.ingest_postgres --rounds 5 --seconds 8
"""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import asyncpg
from tools.servers import postgres
from tools.servers.node import installed
from tools.servers.port import free_port
from tools.servers.postgres import Postgres

from bench.filled import SMALL, Size, publish, tables
from bench.sending import (
    EXPRESS_RATE,
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
    served,
)
from bench.server_process import run_server
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.postgres.database import PostgresDatabase

SETTINGS = ("shared_buffers=512MB", "max_wal_size=4GB", "max_connections=100")
"""What an operator would give a server of this size; everything else is as PostgreSQL has it."""
EXPRESS = Path(__file__).parent / "references" / "express"
BUILT = Path(__file__).resolve().parents[1] / "build" / "references"
_LEDGER = "SELECT count(*), sum(time_spent) FROM progress_event"
_OURS = (
    "SELECT (SELECT sum((c.value ->> 1)::bigint)"
    " FROM course_progress, jsonb_each(chapters::jsonb) AS c),"
    " (SELECT sum(time_spent) FROM course_progress)"
)
_THEIRS = "SELECT sum(time_spent) FROM chapter_progress"


def prefill(server: Postgres, size: Size) -> str:
    """Make a database in which every learner has begun every chapter; return its name."""
    name = server.make_database()
    migrate.upgrade(server.url(name))
    asyncio.run(_fill(server.url(name), size))
    return name


async def _fill(url: str, size: Size) -> None:
    await publish(PostgresDatabase(url, Clock()), size.chapters)
    connection = await asyncpg.connect(url)
    for table, columns, rows in tables(size):
        await connection.copy_records_to_table(table, columns=columns, records=rows)
    await connection.execute(
        "SELECT setval(pg_get_serial_sequence('progress_event', 'seq'), max(seq))"
        " FROM progress_event"
    )
    await connection.close()


def _prefill_naive(server: Postgres, size: Size) -> str:
    name = server.make_database()
    make_naive(server.url(name), size)
    return name


def _settle(server: Postgres, name: str) -> None:
    """Leave nothing of the filling to be done while the clock runs."""
    server.run("VACUUM ANALYZE", database=name)
    server.run("CHECKPOINT")


@dataclass(frozen=True)
class Bench:
    """The server, the filled databases, and how each run goes."""

    server: Postgres
    seconds: float
    size: Size
    ours: str
    """Name of the database that is copied for Homeroom, and for the references:"""
    theirs: str

    @contextlib.contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """Lend a copy of a filled database."""
        name = self.server.make_database(template)
        os.sync()  # what the copy left in memory must not be written while the clock runs
        yield name
        self.server.drop_database(name)

    def homeroom(self, *options: str, processes: int = 1) -> Numbers:
        """Measure one or two `homeroom serve --no-worker`."""
        with self.copy(self.ours) as name, contextlib.ExitStack() as stack:
            before = self._sums(name, _OURS, "chapters", "courses")
            ports, key = [], f"hr_{secrets.token_urlsafe(24)}"
            environment = {
                "HOMEROOM_DATABASE_URL": self.server.url(name),
                "HOMEROOM_ADMIN_KEY": key,
            }
            for _ in range(processes):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                one = run_server(folder, "--no-worker", environment=environment)
                ports.append(stack.enter_context(one).port)
            if processes == 2:
                options = (*options, "--second-port", str(ports[1]))
            found = self._send(ports[0], HOMEROOM_RATE, *options, key=key)
            check("homeroom", found, before, self._sums(name, _OURS, "chapters", "courses"))
        return found

    def naive(self) -> Numbers:
        """Measure the ORM handler, with SQLAlchemy's own pool."""
        with self.copy(self.theirs) as name:
            before = self._sums(name, _THEIRS, "chapters")
            url = self.server.url(name)
            with reference("naive_orm", "--database", url, "--key", KEY) as port:
                found = self._send(port, NAIVE_RATE)
            check("naive", found, before, self._sums(name, _THEIRS, "chapters"))
        return found

    def express(self, folder: Path) -> Numbers:
        """Measure Express and node-postgres, on the tables of the ORM handler."""
        port = free_port()
        with self.copy(self.theirs) as name:
            before = self._sums(name, _THEIRS, "chapters")
            program = str(folder / "server.mjs")
            environment = {**os.environ, "NODE_ENV": "production"}
            with served(
                ["node", program, str(port), self.server.url(name)], port, environment=environment
            ):
                found = self._send(port, EXPRESS_RATE)
            check("express", found, before, self._sums(name, _THEIRS, "chapters"))
        return found

    def _send(self, port: int, requests: int, *options: str, key: str = KEY) -> Numbers:
        return send(port, key, self.seconds, self.size, *rate(requests), *options)

    def _sums(self, name: str, sql: str, *kept: str) -> dict[str, int]:
        """Return the rows of the ledger, and the time spent by it and by what is rolled up."""
        [ledger] = self.server.rows(_LEDGER, name)
        [rolled_up] = self.server.rows(sql, name)
        names = ("events", "ledger", *kept)
        return {
            key: int(value or 0) for key, value in zip(names, (*ledger, *rolled_up), strict=True)
        }


def _contenders(bench: Bench) -> dict[str, Callable[[], Numbers]]:
    express = installed(EXPRESS, BUILT / "express")
    return {
        "bare": partial(bare, bench.seconds, bench.size),
        "homeroom, v7 ids": partial(bench.homeroom, "--ids", "v7"),
        "homeroom, v4 ids": partial(bench.homeroom, "--ids", "v4"),
        "homeroom, v7 ids, two processes": partial(bench.homeroom, "--ids", "v7", processes=2),
        "naive, SQLAlchemy and psycopg": bench.naive,
        "express and node-postgres": partial(bench.express, express),
    }


def measure(rounds: int = 5, seconds: float = 8.0, size: Size | None = None) -> Numbers:
    """Return medians over interleaved rounds by contender, and the ratios that are promised."""
    size = size or Size()
    results: dict[str, list[Numbers]] = {}
    with postgres.running(durable=True, settings=SETTINGS) as server:
        ours, theirs = prefill(server, size), _prefill_naive(server, size)
        for name in (ours, theirs):
            _settle(server, name)
        contenders = _contenders(Bench(server, seconds, size, ours, theirs))
        for _ in range(rounds):
            for contender, run in contenders.items():
                results.setdefault(contender, []).append(run())
        [[postgres_version]] = server.rows("SHOW server_version", "postgres")
    medians = {name: median(found) for name, found in results.items()}
    return {
        "rounds": rounds,
        "seconds": seconds,
        "prefilled": {"chapter rows": size.learners * size.chapters, "events": size.events},
        "versions": _versions() | {"postgresql": postgres_version.split()[0]},
        "medians": medians,
        "ratios": _ratios(medians),
        "sums": "exact in every run",  # check has raised otherwise
    }


def _versions() -> dict[str, str]:
    names = ("homeroom", "uvicorn", "msgspec", "asyncpg", "sqlalchemy", "psycopg")
    packages = json.loads((EXPRESS / "package.json").read_text())["dependencies"]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return {name: version(name) for name in names} | packages | {"node": node.stdout.strip()}


def _ratios(medians: dict[str, Numbers]) -> dict[str, float]:
    ours, two = "homeroom, v7 ids", "homeroom, v7 ids, two processes"
    naive, express = "naive, SQLAlchemy and psycopg", "express and node-postgres"
    return {
        "v7 over bare": over(medians, ours, "bare"),
        "v7 over naive": over(medians, ours, naive),
        "v7 over express": over(medians, ours, express),
        "v4 over naive": over(medians, "homeroom, v4 ids", naive),
        "v4 over express": over(medians, "homeroom, v4 ids", express),
        "two processes over one": over(medians, two, ours),
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
