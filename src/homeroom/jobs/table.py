"""The kernel's tables. Times are microseconds UTC, flags are 0 or 1, JSON is text."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from homeroom.db.schema import SEQ, metadata

job = Table(
    "job",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),  # first in, first out
    Column("id", Text, nullable=False, unique=True),
    Column("keeps_id", Integer, nullable=False),  # the id was given, so it outlives the body
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
    Column("cancel_requested", Integer, nullable=False),
    Column("worker", Text),
    Column("lease_token", Text),
    Column("lease_until", BigInteger),
    Column("deps_pending", Integer, nullable=False),
    Column("unannounced", Integer, nullable=False),  # Handler.changed is still owed a call
    Column("pruned_at", BigInteger),
    sqlite_autoincrement=True,
)
for _name, _columns, _where in (
    (
        "ix_job_listed",
        (job.c.queue, job.c.state, job.c.priority.desc(), job.c.seq),
        "pruned_at IS NULL",
    ),
    ("ix_job_due", (job.c.run_at,), "state = 'delayed'"),
    ("ix_job_lease", (job.c.lease_until,), "state = 'active'"),
    ("ix_job_unannounced", (job.c.seq,), "unannounced = 1"),
):
    Index(_name, *_columns, sqlite_where=text(_where), postgresql_where=text(_where))

attempt = Table(
    "job_attempt",
    metadata,
    Column("job", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),  # done, retry, fail, cancel, lost
    Column("error", Text),
    Column("traceback", Text),
    Column("worker", Text),
)

log = Table(
    "job_log",
    metadata,
    Column("id", SEQ, primary_key=True, autoincrement=True),
    Column("job", Text, nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("line", Text, nullable=False),
    sqlite_autoincrement=True,
)

dependency = Table(
    "job_dependency",
    metadata,
    Column("job", Text, primary_key=True),
    Column("waits_for", Text, primary_key=True, index=True),
    Column("if_fails", Text, nullable=False),  # fail or run
    Column("met", Integer, nullable=False),
)

queue = Table(
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
)

worker = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("queues", Text, nullable=False),  # JSON: queue name -> how many at once
)

schedule = Table(
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

slot = Table(
    "schedule_slot",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("slot_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # fired or missed
    Column("late", BigInteger, nullable=False),  # microseconds
    Column("fired_at", BigInteger, nullable=False),
    Column("job", Text),
)
