"""Tables of the job kernel; rows of jobs, their attempts, logs and dependencies.

Times are microseconds UTC, flags are 0 or 1, JSON is text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from homeroom.db.tables import SEQUENCE_TYPE, metadata, record_reader
from homeroom.db.tx import Row, Statement, Tx
from homeroom.errors import NotFound
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.outcome import AttemptOutcome

job_table = Table(
    "job",
    metadata,
    Column("seq", SEQUENCE_TYPE, primary_key=True, autoincrement=True),  # first in, first out
    Column("id", Text, nullable=False, unique=True),
    Column("keeps_id", Integer, nullable=False),  # the id was given: pruning keeps it
    Column("queue", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("payload", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("run_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("allowance", Integer, nullable=False),  # attempts that a retry by hand grants
    Column("result", Text),
    Column("progress", Text),
    Column("last_error", Text),
    Column("reason_code", Text),  # a JobReason; null in rows of releases before 0038
    Column("held_by", Text),  # the gate that a delayed job waits for, such as a partner
    Column("cancel_requested", Integer, nullable=False),
    Column("worker", Text),
    Column("lease_token", Text),
    Column("lease_until", BigInteger),
    Column("deps_pending", Integer, nullable=False),
    Column("unannounced", Integer, nullable=False),  # Handler.changed was not called yet
    Column("pruned_at", BigInteger),
    Column("alone_from", Integer),  # after this attempt it runs alone in its process
    Column("outstanding", Integer),  # 1: failed, and a record of its feature waits for it
    Column("trace_context", Text),  # W3C traceparent of what added it, while traces are on
    sqlite_autoincrement=True,
)
for _name, _columns, _where in (
    (
        "ix_job_listed",
        (job_table.c.queue, job_table.c.state, job_table.c.priority.desc(), job_table.c.seq),
        "pruned_at IS NULL",
    ),
    ("ix_job_due", (job_table.c.run_at,), "state = 'delayed'"),
    (
        "ix_job_held",
        (job_table.c.held_by, job_table.c.seq),
        "state = 'delayed' AND held_by IS NOT NULL",
    ),
    ("ix_job_lease", (job_table.c.lease_until,), "state = 'active'"),
    ("ix_job_unannounced", (job_table.c.seq,), "unannounced = 1"),
    (
        "ix_job_prunable",
        (
            job_table.c.queue,
            job_table.c.state,
            job_table.c.finished_at.desc(),
            job_table.c.seq.desc(),
        ),
        "state = 'failed' AND pruned_at IS NULL AND outstanding IS NULL",
    ),
    ("ix_job_outstanding", (job_table.c.seq,), "outstanding = 1"),
    ("ix_job_alone", (job_table.c.seq,), "alone_from IS NOT NULL AND state = 'waiting'"),
    # What an operator looks at is found among a few thousand rows, however many are completed.
    (
        "ix_job_unfinished",
        (job_table.c.seq, job_table.c.state, job_table.c.queue),
        "state <> 'completed' AND pruned_at IS NULL",
    ),
    ("ix_job_kind", (job_table.c.kind, job_table.c.seq), "pruned_at IS NULL"),
):
    Index(_name, *_columns, sqlite_where=text(_where), postgresql_where=text(_where))

job_attempt_table = Table(
    "job_attempt",
    metadata,
    Column("job", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),  # an AttemptOutcome
    Column("error", Text),
    Column("traceback", Text),
    Column("worker", Text),
)

job_log_table = Table(
    "job_log",
    metadata,
    Column("id", SEQUENCE_TYPE, primary_key=True, autoincrement=True),
    Column("job", Text, nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("line", Text, nullable=False),
    sqlite_autoincrement=True,
)

job_dependency_table = Table(
    "job_dependency",
    metadata,
    Column("job", Text, primary_key=True),
    Column("waits_for", Text, primary_key=True, index=True),
    Column("if_fails", Text, nullable=False),  # fail or run
    Column("met", Integer, nullable=False),
)

queue_table = Table(
    "queue",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused", Integer, nullable=False),
    Column("concurrency", Integer),  # at once in each worker; null: the worker's own setting
    Column("rate_max", Integer),  # starts in a window; null: no limit
    Column("rate_window", BigInteger),  # microseconds
    Column("window_start", BigInteger, nullable=False),
    Column("window_count", Integer, nullable=False),
    Column("keep_completed", Integer, nullable=False),
    Column("keep_failed", Integer, nullable=False),
    Column("keep_age", BigInteger),  # microseconds after the end; null: by number only
    Column("redis_concurrency", BigInteger),  # at once in all workers, as set in Redis
    Column("redis_rate_max", BigInteger),
    Column("redis_rate_window", BigInteger),  # microseconds
)

worker_table = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("queues", Text, nullable=False),  # JSON: queue name -> how many at once
    Column("lease", BigInteger, nullable=False, server_default=text("30000000")),
    Column("flagged", Text, nullable=False, server_default=text("''")),  # the state in the log
)

schedule_table = Table(
    "schedule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cron", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("paused", Integer, nullable=False),
    Column("catch_up", BigInteger, nullable=False),  # microseconds
    Column("last_slot_at", BigInteger, nullable=False),
    Column("next_slot_at", BigInteger),
)

schedule_slot_table = Table(
    "schedule_slot",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("slot_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # fired or missed
    Column("late", BigInteger, nullable=False),  # microseconds
    Column("fired_at", BigInteger, nullable=False),
    Column("job", Text),
    Column("reported_at", BigInteger),  # when people were told of a missed slot
)

uptime_table = Table(
    "uptime",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1: there is one row
    Column("alive_at", BigInteger, nullable=False),
    Column("latest_at", BigInteger, nullable=False),  # the latest of all clocks, right or wrong
)

downtime_table = Table(
    "downtime",
    metadata,
    Column("started_at", BigInteger, primary_key=True, autoincrement=False),
    Column("ended_at", BigInteger, nullable=False),
)


Extra = TypeVar("Extra")
JOB_FIELDS = [field.name for field in dataclass_fields(Job)]
JOB_COLUMNS = ", ".join(JOB_FIELDS)
"""The columns of a ``Job`` for a SELECT or RETURNING."""
_IDS_PER_STATEMENT = 500  # values in one statement


def placeholders(count: int) -> str:
    """Return the ``?`` marks of an IN list."""
    return ", ".join("?" * count)


async def fetch_jobs(tx: Tx, statement: Statement, values: Sequence[Any] = ()) -> list[Job]:
    """Run a statement that returns ``JOB_COLUMNS``, and return its rows as jobs."""
    columns, rows = await tx.fetch_named(statement, values)
    if not rows:
        return []
    read = record_reader(Job, columns)
    return [_read_job(read, columns, row) for row in rows]


async def fetch_jobs_with(
    tx: Tx, extra: type[Extra], statement: Statement, values: Sequence[Any] = ()
) -> list[tuple[Job, Extra]]:
    """Return the rows of a statement as jobs with records of further columns."""
    columns, rows = await tx.fetch_named(statement, values)
    if not rows:
        return []
    read, read_extra = record_reader(Job, columns), record_reader(extra, columns)
    return [(_read_job(read, columns, row), read_extra(row)) for row in rows]


def _read_job(read: Callable[[Row], Job], columns: tuple[str, ...], row: Row) -> Job:
    try:
        return read(row)
    except msgspec.DecodeError:
        # A payload that is no JSON object fails its job; until then it is listed under ``raw``.
        index = columns.index("payload")
        return read((*row[:index], _wrap_payload(row[index]), *row[index + 1 :]))


def _wrap_payload(text: str) -> str:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    return msgspec.json.encode({"raw": value}).decode()


@dataclass(frozen=True, slots=True)
class NewJobRow:
    """A row to add; what it does not name starts at zero."""

    id: str
    keeps_id: bool
    """The id was given, so pruning keeps it."""
    queue: str
    kind: str
    priority: int
    payload: str
    version: int
    run_at: int
    allowance: int
    """Attempts that a round has."""
    max_attempts: int
    state: JobState
    deps_pending: int = 0
    finished_at: int | None = None
    last_error: str | None = None
    reason_code: str | None = None
    unannounced: bool = False
    outstanding: bool | None = None
    trace_context: str | None = None


async def insert_jobs(tx: Tx, jobs: Sequence[NewJobRow]) -> int:
    """Add jobs whose ids are not known yet; return their number."""
    added = await tx.insert(
        job_table,
        jobs,
        on_conflict="ignore",
        created_at=tx.now,
        attempts=0,
        cancel_requested=0,
    )
    for (queue, kind), number in Counter((job.queue, job.kind) for job in jobs).items():
        # Which of several kinds were known is not read for a counter: each gets its share.
        tx.count("jobs_enqueued", queue, kind, amount=number * added / len(jobs))
    return added


async def lock_jobs(tx: Tx, ids: Collection[str]) -> None:
    """Lock the rows of some jobs until this transaction ends.

    Rows are locked in the order of their ids everywhere, so two transactions cannot deadlock.
    """
    if tx.row_lock and ids:
        await tx.fetch(
            f"SELECT 1 FROM job WHERE id IN ({placeholders(len(ids))}) ORDER BY id{tx.row_lock}",
            sorted(ids),
        )


async def get(tx: Tx, job_id: str, *, lock: bool = False) -> Job:
    """Return a job, a pruned one too; raise ``NotFound``.

    With ``lock`` no other transaction changes it before this one ends.
    """
    ending = tx.row_lock if lock else ""
    jobs = await fetch_jobs(tx, f"SELECT {JOB_COLUMNS} FROM job WHERE id = ?{ending}", (job_id,))
    if not jobs:
        raise NotFound(f"There is no job with the id {job_id!r}.")
    return jobs[0]


async def states(tx: Tx, ids: Sequence[str], *, lock: bool = False) -> dict[str, JobState]:
    """Return the states of the jobs that exist, pruned ones included.

    With ``lock`` no other transaction changes them before this one ends.
    """
    if lock:
        await lock_jobs(tx, ids)
    state_by_id: dict[str, JobState] = {}
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        chunk = ids[start : start + _IDS_PER_STATEMENT]
        rows = await tx.fetch(
            f"SELECT id, state FROM job WHERE id IN ({placeholders(len(chunk))})", tuple(chunk)
        )
        state_by_id.update((job_id, JobState(state)) for job_id, state in rows)
    return state_by_id


async def find(tx: Tx, ids: Sequence[str]) -> dict[str, Job]:
    """Return the jobs that exist, by id."""
    job_by_id: dict[str, Job] = {}
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        chunk = ids[start : start + _IDS_PER_STATEMENT]
        jobs = await fetch_jobs(
            tx, f"SELECT {JOB_COLUMNS} FROM job WHERE id IN ({placeholders(len(chunk))})", chunk
        )
        job_by_id.update((job.id, job) for job in jobs)
    return job_by_id


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One ended attempt of a job. Instants are microseconds UTC."""

    number: int
    started_at: int
    finished_at: int
    outcome: AttemptOutcome
    error: str | None
    traceback: str | None
    worker: str | None


async def attempts(tx: Tx, job_id: str) -> list[JobAttempt]:
    """Return the ended attempts of a job, oldest first."""
    return await tx.fetch_into(
        JobAttempt, "SELECT * FROM job_attempt WHERE job = ? ORDER BY number", (job_id,)
    )


async def logs(tx: Tx, job_id: str, limit: int = 1_000) -> list[tuple[int, str]]:
    """Return the last lines of a job's log with their instants, oldest first."""
    rows = await tx.fetch(
        "SELECT at, line FROM job_log WHERE job = ? ORDER BY id DESC LIMIT ?", (job_id, limit)
    )
    return [(at, line) for at, line in reversed(rows)]


async def add_log_line(tx: Tx, job_id: str, line: str) -> None:
    """Add a line to a job's log."""
    await tx.execute("INSERT INTO job_log (job, at, line) VALUES (?, ?, ?)", (job_id, tx.now, line))


async def dependencies_of(tx: Tx, job_id: str) -> list[str]:
    """Return the ids of the jobs that this one waits or waited for."""
    rows = await tx.fetch(
        "SELECT waits_for FROM job_dependency WHERE job = ? ORDER BY waits_for", (job_id,)
    )
    return [waits_for for (waits_for,) in rows]
