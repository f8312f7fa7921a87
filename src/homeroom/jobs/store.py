"""The job rows: how they are read, added, searched and counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, and_, or_, select

from homeroom.db.tx import Row, Tx
from homeroom.errors import NotFound
from homeroom.jobs import table
from homeroom.jobs.job import Job, JobState

COLUMNS = (
    "id, queue, kind, state, priority, payload, version, attempts, max_attempts, run_at,"
    " created_at, started_at, finished_at, last_error, result, progress, cancel_requested,"
    " worker, lease_until"
)
"""What makes a ``Job``, in the order of ``to_job``."""
WIDTH = COLUMNS.count(",") + 1
_CHUNK = 500  # values in one statement


def marks(count: int) -> str:
    """Return ``count`` placeholders for an IN list."""
    return ", ".join("?" * count)


def _json(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _payload(text: str) -> dict[str, Any]:
    """Read a payload for showing it; one that is not an object is shown under ``raw``."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = text
    return found if isinstance(found, dict) else {"raw": found}


def to_job(row: Row) -> Job:
    """Return a row that was selected as ``COLUMNS`` as a job."""
    return Job(
        id=row[0],
        queue=row[1],
        kind=row[2],
        state=JobState(row[3]),
        priority=row[4],
        payload=_payload(row[5]),
        version=row[6],
        attempts=row[7],
        max_attempts=row[8],
        run_at=row[9],
        created_at=row[10],
        started_at=row[11],
        finished_at=row[12],
        last_error=row[13],
        result=_json(row[14]),
        progress=_json(row[15]),
        cancel_requested=bool(row[16]),
        worker=row[17],
        lease_until=row[18],
    )


@dataclass(frozen=True, slots=True)
class NewJob:
    """A row to add; everything else about it starts at zero."""

    id: str
    keeps_id: bool
    """The id was given, so pruning keeps it."""
    queue: str
    kind: str
    priority: int
    payload: bytes
    version: int
    run_at: int
    allowance: int
    """How many attempts it has."""
    state: JobState
    deps_pending: int
    failed_because: str | None = None


_INSERT = (
    "INSERT INTO job (id, keeps_id, queue, kind, state, priority, payload, version, run_at,"
    " created_at, finished_at, attempts, max_attempts, allowance, last_error, cancel_requested,"
    " deps_pending, unannounced)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)


def _values(tx: Tx, job: NewJob) -> tuple[object, ...]:
    failed = job.failed_because is not None
    return (
        job.id,
        int(job.keeps_id),
        job.queue,
        job.kind,
        job.state.value,
        job.priority,
        job.payload.decode(),
        job.version,
        job.run_at,
        tx.now,
        tx.now if failed else None,
        0,
        job.allowance,
        job.allowance,
        job.failed_because,
        0,
        job.deps_pending,
        int(failed),
    )


async def insert(tx: Tx, job: NewJob) -> bool:
    """Add a job unless its id is known; say whether it was added."""
    return await tx.execute(_INSERT, _values(tx, job)) == 1


async def insert_many(tx: Tx, jobs: Sequence[NewJob]) -> int:
    """Add jobs whose ids are not known yet; return how many."""
    return await tx.executemany(_INSERT, [_values(tx, job) for job in jobs])


async def lock_rows(tx: Tx, ids: Collection[str]) -> None:
    """Keep other transactions from changing some jobs until this one ends.

    In the order of their ids, as everywhere: two that lock the same ones never wait for each other.
    """
    if tx.row_lock and ids:
        await tx.fetch(
            f"SELECT 1 FROM job WHERE id IN ({marks(len(ids))}) ORDER BY id{tx.row_lock}",
            sorted(ids),
        )


async def get(tx: Tx, job_id: str, *, lock: bool = False) -> Job:
    """Return a job, a pruned one too; raise ``NotFound``.

    With ``lock`` nobody else changes it before this transaction ends.
    """
    ending = tx.row_lock if lock else ""
    row = await tx.fetch_one(f"SELECT {COLUMNS} FROM job WHERE id = ?{ending}", (job_id,))
    if row is None:
        raise NotFound(f"There is no job with the id {job_id!r}.")
    return to_job(row)


async def states(tx: Tx, ids: Sequence[str], *, lock: bool = False) -> dict[str, JobState]:
    """Return the states of those jobs that exist; pruned ones are still known by their state.

    With ``lock`` nobody changes them before this transaction ends.
    """
    if lock:
        await lock_rows(tx, ids)
    found: dict[str, JobState] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        rows = await tx.fetch(
            f"SELECT id, state FROM job WHERE id IN ({marks(len(chunk))})", tuple(chunk)
        )
        found.update((row[0], JobState(row[1])) for row in rows)
    return found


async def find(tx: Tx, ids: Sequence[str]) -> dict[str, Job]:
    """Return those jobs that exist by their ids."""
    found: dict[str, Job] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        rows = await tx.fetch(
            f"SELECT {COLUMNS} FROM job WHERE id IN ({marks(len(chunk))})", tuple(chunk)
        )
        found.update((row[0], to_job(row)) for row in rows)
    return found


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs are meant; None means any. Pruned jobs are never listed."""

    queue: str | None = None
    state: JobState | None = None
    kind: str | None = None
    text: str | None = None
    """A part of the id, the payload or the last error; case does not matter."""


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    job = table.job.c
    found: list[ColumnElement[bool]] = [job.pruned_at.is_(None)]
    if wanted.queue is not None:
        found.append(job.queue == wanted.queue)
    if wanted.state is not None:
        found.append(job.state == wanted.state.value)
    if wanted.kind is not None:
        found.append(job.kind == wanted.kind)
    if wanted.text is not None:
        part = wanted.text
        found.append(
            or_(
                job.id.icontains(part, autoescape=True),
                job.payload.icontains(part, autoescape=True),
                job.last_error.icontains(part, autoescape=True),
            )
        )
    return found


_SELECTED = [table.job.c[name.strip()] for name in COLUMNS.split(",")]


async def search(
    tx: Tx, wanted: Filter, *, limit: int, before: int | None = None
) -> list[tuple[int, Job]]:
    """Return jobs with their sequence numbers, newest first, those below ``before`` only."""
    conditions = _conditions(wanted)
    if before is not None:
        conditions.append(table.job.c.seq < before)
    statement = (
        select(*_SELECTED, table.job.c.seq)
        .where(and_(*conditions))
        .order_by(table.job.c.seq.desc())
        .limit(limit)
    )
    return [(row[WIDTH], to_job(row)) for row in await tx.fetch(statement)]


async def counts(tx: Tx, queue: str | None = None) -> dict[str, dict[JobState, int]]:
    """Return how many jobs each queue has by state; pruned ones are not counted."""
    where, values = ("", ()) if queue is None else (" AND queue = ?", (queue,))
    rows = await tx.fetch(
        "SELECT queue, state, COUNT(*) FROM job WHERE pruned_at IS NULL"
        f"{where} GROUP BY queue, state",
        values,
    )
    found: dict[str, dict[JobState, int]] = {}
    for name, state, number in rows:
        found.setdefault(name, dict.fromkeys(JobState, 0))[JobState(state)] = number
    return found


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ended attempt of a job. Instants are microseconds UTC."""

    number: int
    started_at: int
    finished_at: int
    outcome: Literal["done", "retry", "fail", "cancel", "lost"]
    error: str | None
    traceback: str | None
    worker: str | None


async def attempts(tx: Tx, job_id: str) -> list[Attempt]:
    """Return the ended attempts of a job, oldest first."""
    rows = await tx.fetch(
        "SELECT number, started_at, finished_at, outcome, error, traceback, worker"
        " FROM job_attempt WHERE job = ? ORDER BY number",
        (job_id,),
    )
    return [Attempt(*row) for row in rows]


async def logs(tx: Tx, job_id: str, limit: int = 1_000) -> list[tuple[int, str]]:
    """Return the last lines of a job's log with their instants, oldest first."""
    rows = await tx.fetch(
        "SELECT at, line FROM job_log WHERE job = ? ORDER BY id DESC LIMIT ?", (job_id, limit)
    )
    return [(row[0], row[1]) for row in reversed(rows)]


async def add_log(tx: Tx, job_id: str, line: str) -> None:
    """Add a line to a job's log."""
    await tx.execute("INSERT INTO job_log (job, at, line) VALUES (?, ?, ?)", (job_id, tx.now, line))


async def waits_for(tx: Tx, job_id: str) -> list[str]:
    """Return the ids of the jobs that this one was told to wait for."""
    rows = await tx.fetch(
        "SELECT waits_for FROM job_dependency WHERE job = ? ORDER BY waits_for", (job_id,)
    )
    return [row[0] for row in rows]
