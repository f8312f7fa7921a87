"""The rows of queues and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from homeroom.clock import microseconds
from homeroom.db.tx import Row, Tx
from homeroom.errors import Invalid
from homeroom.jobs.enqueue import JOBS_TOPIC

KEEP_COMPLETED, KEEP_FAILED = 100, 200
"""How many finished jobs a queue keeps for inspection, unless its row says otherwise."""
_COLUMNS = "name, paused, concurrency, rate_max, rate_window, keep_completed, keep_failed, keep_age"


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's own settings. Spans are microseconds."""

    name: str
    paused: bool = False
    concurrency: int | None = None
    """How many at once in each worker; None: the worker's own setting."""
    rate_max: int | None = None
    """How many may start within ``rate_window``; None: no limit."""
    rate_window: int | None = None
    keep_completed: int = KEEP_COMPLETED
    keep_failed: int = KEEP_FAILED
    keep_age: int | None = None
    """How long a finished job is kept at most; None: by number only."""


def _to_queue(row: Row) -> Queue:
    return Queue(row[0], bool(row[1]), *row[2:])


async def declare(tx: Tx, names: Sequence[str]) -> None:
    """Make a row for each queue that has none yet."""
    await tx.executemany(
        "INSERT INTO queue (name, paused, window_start, window_count, keep_completed, keep_failed)"
        " VALUES (?, 0, 0, 0, ?, ?) ON CONFLICT (name) DO NOTHING",
        [(name, KEEP_COMPLETED, KEEP_FAILED) for name in sorted(names)],
    )


async def queues(tx: Tx) -> list[Queue]:
    """Return all queues: those with a row, and those that only have jobs."""
    rows = await tx.fetch(f"SELECT {_COLUMNS} FROM queue ORDER BY name")
    found = {row[0]: _to_queue(row) for row in rows}
    for (name,) in await tx.fetch("SELECT DISTINCT queue FROM job WHERE pruned_at IS NULL"):
        found.setdefault(name, Queue(name))
    return [found[name] for name in sorted(found)]


async def queue(tx: Tx, name: str) -> Queue:
    """Return a queue's settings; those of a new one if it has no row."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM queue WHERE name = ?", (name,))
    return Queue(name) if row is None else _to_queue(row)


async def pause(tx: Tx, name: str) -> None:
    """Let no job of a queue start, in any process, until it is resumed."""
    await declare(tx, [name])
    await tx.execute("UPDATE queue SET paused = 1 WHERE name = ?", (name,))
    tx.notify(JOBS_TOPIC, name)


async def resume(tx: Tx, name: str) -> None:
    """Let jobs of a paused queue start again."""
    await declare(tx, [name])
    await tx.execute("UPDATE queue SET paused = 0 WHERE name = ?", (name,))
    tx.notify(JOBS_TOPIC, name)


async def limit(
    tx: Tx,
    name: str,
    *,
    concurrency: int | None = None,
    rate: tuple[int, timedelta] | None = None,
) -> None:
    """Set how many jobs run at once in each worker, and how many may start within a time.

    None takes the limit away. Raises ``Invalid`` for a number below 1 or an empty span.
    """
    if concurrency is not None and concurrency < 1:
        raise Invalid("A queue runs at least one job at once; pause it to run none.")
    if rate is not None and (rate[0] < 1 or rate[1] <= timedelta()):
        raise Invalid("A rate limit lets at least one job start within a span above zero.")
    await declare(tx, [name])
    await tx.execute(
        "UPDATE queue SET concurrency = ?, rate_max = ?, rate_window = ?,"
        " window_start = 0, window_count = 0 WHERE name = ?",
        (
            concurrency,
            None if rate is None else rate[0],
            None if rate is None else microseconds(rate[1]),
            name,
        ),
    )
    tx.notify(JOBS_TOPIC, name)


async def keep(
    tx: Tx, name: str, *, completed: int, failed: int, age: timedelta | None = None
) -> None:
    """Set how many finished jobs a queue keeps, and for how long at most."""
    if completed < 0 or failed < 0:
        raise Invalid("A queue keeps no fewer than zero jobs.")
    await declare(tx, [name])
    await tx.execute(
        "UPDATE queue SET keep_completed = ?, keep_failed = ?, keep_age = ? WHERE name = ?",
        (completed, failed, None if age is None else microseconds(age), name),
    )


async def oldest_waiting(tx: Tx) -> dict[str, int]:
    """Return by queue since when its oldest waiting job could have run, in microseconds UTC."""
    rows = await tx.fetch(
        "SELECT queue, MIN(run_at) FROM job WHERE state = 'waiting' AND pruned_at IS NULL"
        " GROUP BY queue"
    )
    return {row[0]: row[1] for row in rows}


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker that gave a sign of life. Instants are microseconds UTC."""

    id: str
    host: str
    pid: int
    started_at: int
    heartbeat_at: int
    queues: Mapping[str, int]
    """How many jobs of each queue it runs at once."""
    active: int
    """How many jobs it holds."""


async def heartbeat(tx: Tx, worker_id: str, host: str, pid: int, sizes: Mapping[str, int]) -> None:
    """Say that a worker is alive and what it runs."""
    await tx.execute(
        "INSERT INTO worker (id, host, pid, started_at, heartbeat_at, queues)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " heartbeat_at = excluded.heartbeat_at, queues = excluded.queues",
        (worker_id, host, pid, tx.now, tx.now, msgspec.json.encode(dict(sizes)).decode()),
    )


async def forget_worker(tx: Tx, worker_id: str) -> None:
    """Take a worker off the list."""
    await tx.execute("DELETE FROM worker WHERE id = ?", (worker_id,))


async def forget_silent_workers(tx: Tx, before: int) -> None:
    """Take workers off the list that gave their last sign before an instant."""
    await tx.execute("DELETE FROM worker WHERE heartbeat_at < ?", (before,))


async def workers(tx: Tx) -> list[WorkerRow]:
    """Return the workers that are known to live, by id."""
    active: dict[str, int] = dict(
        await tx.fetch("SELECT worker, COUNT(*) FROM job WHERE state = 'active' GROUP BY worker")
    )
    rows = await tx.fetch(
        "SELECT id, host, pid, started_at, heartbeat_at, queues FROM worker ORDER BY id"
    )
    return [
        WorkerRow(
            id=row[0],
            host=row[1],
            pid=row[2],
            started_at=row[3],
            heartbeat_at=row[4],
            queues=msgspec.json.decode(row[5], type=dict[str, int]),
            active=active.get(row[0], 0),
        )
        for row in rows
    ]
