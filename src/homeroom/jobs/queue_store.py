"""Rows of queues and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy import func, select

from homeroom.db.database import Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.errors import Invalid
from homeroom.instant import SECOND, to_microseconds
from homeroom.jobs.enqueue import JOBS_TOPIC
from homeroom.jobs.job import JobReason, JobState
from homeroom.jobs.store import job_table, queue_table, worker_table

_STATE = (
    "CASE WHEN w.heartbeat_at + w.lease > ? THEN 'running'"
    " WHEN w.heartbeat_at + 2 * w.lease > ? THEN 'stale' ELSE 'gone' END"
)
KEEP_COMPLETED, KEEP_FAILED = 100, 200
"""Finished jobs that a queue keeps for inspection, unless its row overrides it."""


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """Limits of a queue for all workers together, set in Redis by another program."""

    concurrency: int | None = None
    """Jobs that run at once."""
    rate_max: int | None = None
    """Jobs that may start within ``rate_window``."""
    rate_window: int | None = None
    """Microseconds."""

    @property
    def rate_window_seconds(self) -> float | None:
        """Return the window in seconds, None without a rate limit."""
        return None if self.rate_window is None else self.rate_window / SECOND


NO_SHARED_LIMITS = SharedLimits()


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The settings of a queue. Spans are microseconds."""

    name: str
    paused: bool = False
    concurrency: int | None = None
    """Jobs that run at once in each worker; None: the worker's own setting."""
    rate_max: int | None = None
    """Jobs that may start within ``rate_window``; None: no limit."""
    rate_window: int | None = None
    keep_completed: int = KEEP_COMPLETED
    keep_failed: int = KEEP_FAILED
    keep_age: int | None = None
    """Longest retention of a finished job; None: only the numbers count."""
    redis_concurrency: int | None = None
    redis_rate_max: int | None = None
    redis_rate_window: int | None = None

    @property
    def rate(self) -> tuple[int, timedelta] | None:
        """Return the rate limit: jobs that may start, and the span."""
        if self.rate_max is None or self.rate_window is None:
            return None
        return self.rate_max, timedelta(microseconds=self.rate_window)

    @property
    def shared_limits(self) -> SharedLimits:
        """Return the limits that were last seen in Redis."""
        return SharedLimits(self.redis_concurrency, self.redis_rate_max, self.redis_rate_window)


async def declare_queues(tx: Tx, names: Sequence[str]) -> None:
    """Add a row for each queue that has none yet."""
    rows = [QueueSettings(name) for name in sorted(names)]
    await tx.insert(queue_table, rows, on_conflict="ignore", window_start=0, window_count=0)


_QUEUES_OF_JOBS = """
WITH RECURSIVE of_jobs (queue) AS (
    SELECT MIN(queue) FROM job WHERE pruned_at IS NULL
    UNION ALL
    SELECT (SELECT MIN(queue) FROM job WHERE pruned_at IS NULL AND queue > of_jobs.queue)
    FROM of_jobs WHERE of_jobs.queue IS NOT NULL
)
SELECT queue FROM of_jobs WHERE queue IS NOT NULL
"""
"""A look at the index for each queue, where DISTINCT would read all jobs."""


async def queues(tx: Tx) -> list[QueueSettings]:
    """Return all queues: those with a row, and those that only have jobs."""
    rows = await tx.fetch_into(QueueSettings, "SELECT * FROM queue ORDER BY name")
    queue_by_name = {queue.name: queue for queue in rows}
    for (name,) in await tx.fetch(_QUEUES_OF_JOBS):
        queue_by_name.setdefault(name, QueueSettings(name))
    return [queue_by_name[name] for name in sorted(queue_by_name)]


async def paused_queues(tx: Tx) -> set[str]:
    """Return the names of the queues that are paused."""
    return {name for (name,) in await tx.fetch("SELECT name FROM queue WHERE paused = 1")}


async def find_queue(tx: Tx, name: str) -> QueueSettings:
    """Return a queue; one without a row has the defaults."""
    rows = await tx.fetch_into(QueueSettings, "SELECT * FROM queue WHERE name = ?", (name,))
    return rows[0] if rows else QueueSettings(name)


async def pause(tx: Tx, name: str) -> None:
    """Stop starting jobs of a queue, in every process, until it is resumed."""
    await set_paused(tx, name, True)


async def resume(tx: Tx, name: str) -> None:
    """Start jobs of a paused queue again."""
    await set_paused(tx, name, False)


async def set_paused(tx: Tx, name: str, paused: bool) -> bool:
    """Pause or resume a queue; return whether that changed it."""
    await declare_queues(tx, [name])
    changed = await tx.execute(
        "UPDATE queue SET paused = ? WHERE name = ? AND paused <> ?",
        (int(paused), name, int(paused)),
    )
    tx.notify(JOBS_TOPIC, name)
    return bool(changed)


async def set_shared_limits(tx: Tx, name: str, limits: SharedLimits) -> bool:
    """Record the limits that a queue has in Redis; return whether they are new."""
    await declare_queues(tx, [name])
    if (await find_queue(tx, name)).shared_limits == limits:
        return False
    await tx.execute(
        "UPDATE queue SET redis_concurrency = ?, redis_rate_max = ?, redis_rate_window = ?"
        " WHERE name = ?",
        (limits.concurrency, limits.rate_max, limits.rate_window, name),
    )
    return True


async def forget_shared_limits(tx: Tx) -> None:
    """Remove limits that were set in Redis, for workers that claim from the table."""
    await tx.execute(
        "UPDATE queue SET redis_concurrency = NULL, redis_rate_max = NULL, redis_rate_window = NULL"
        " WHERE redis_concurrency IS NOT NULL OR redis_rate_max IS NOT NULL"
    )


def rate_limit(maximum: int | None, window_seconds: float | None) -> tuple[int, timedelta] | None:
    """Return a rate limit for ``set_queue_limits``; raise ``Invalid`` for half."""
    if (maximum is None) is not (window_seconds is None):
        raise Invalid("A rate limit needs both its number of jobs and its span in seconds.")
    if maximum is None or window_seconds is None:
        return None
    return maximum, timedelta(seconds=window_seconds)


async def set_queue_limits(
    tx: Tx,
    name: str,
    *,
    concurrency: int | None = None,
    rate: tuple[int, timedelta] | None = None,
) -> None:
    """Limit the jobs that run at once in each worker, or start within a span.

    None removes the limit. Raises ``Invalid`` for a number below 1 or an empty span.
    """
    if concurrency is not None and concurrency < 1:
        raise Invalid("The concurrency of a queue is at least 1. Pause the queue to run no jobs.")
    if rate is not None and (rate[0] < 1 or rate[1] <= timedelta()):
        raise Invalid("A rate limit is at least 1 job within a span longer than zero.")
    await declare_queues(tx, [name])
    await tx.execute(
        "UPDATE queue SET concurrency = ?, rate_max = ?, rate_window = ?,"
        " window_start = 0, window_count = 0 WHERE name = ?",
        (
            concurrency,
            None if rate is None else rate[0],
            None if rate is None else to_microseconds(rate[1]),
            name,
        ),
    )
    tx.notify(JOBS_TOPIC, name)


async def set_queue_retention(
    tx: Tx, name: str, *, completed: int, failed: int, age: timedelta | None = None
) -> None:
    """Set the number of finished jobs that a queue keeps, and their retention."""
    if completed < 0 or failed < 0:
        raise Invalid("The number of finished jobs to keep is at least 0.")
    await declare_queues(tx, [name])
    await tx.execute(
        "UPDATE queue SET keep_completed = ?, keep_failed = ?, keep_age = ? WHERE name = ?",
        (completed, failed, None if age is None else to_microseconds(age), name),
    )


COUNTED_STATES = (*JobState, "cancelled")
"""What jobs are counted by. A cancelled job is ``failed`` in its row, but has not failed."""


_UNFINISHED = "FROM job WHERE state <> 'completed' AND pruned_at IS NULL"
"""Ordered by ``seq`` it is read by the index of unfinished jobs; SQLite would else read all."""


async def counts(
    tx: Tx, queue: str | None = None, *, completed: Mapping[str, int] | None = None
) -> dict[str, dict[str, int]]:
    """Return the number of jobs by queue and ``COUNTED_STATES``, without pruned ones.

    Completed jobs are not counted where their number by queue is given: they may be a million.
    """
    where, values = ("", ()) if queue is None else (" AND queue = ?", (queue,))
    if completed is None:
        completed = await count_completed(tx)
    rows = await tx.fetch(
        f"SELECT queue, state, COUNT(*) FROM (SELECT queue, state {_UNFINISHED}{where}"
        " ORDER BY seq) AS unfinished GROUP BY queue, state",
        values,
    )
    rows += [
        (name, JobState.COMPLETED.value, number)
        for name, number in completed.items()
        if queue in {None, name}
    ]
    counts_by_queue: dict[str, dict[str, int]] = {}
    for name, state, number in rows:
        counts_by_queue.setdefault(name, dict.fromkeys(COUNTED_STATES, 0))[state] = number
    cancelled = await tx.fetch(
        f"SELECT queue, COUNT(*) FROM (SELECT queue {_UNFINISHED}{where} AND state = 'failed'"
        " AND reason_code = ? ORDER BY seq) AS cancelled GROUP BY queue",
        (*values, JobReason.CANCELLED.value),
    )
    for name, number in cancelled:
        counts_by_queue[name]["cancelled"] = number
        counts_by_queue[name][JobState.FAILED] -= number
    return counts_by_queue


async def count_completed(tx: Tx) -> dict[str, int]:
    """Return the number of completed jobs by queue, without pruned ones."""
    return dict(
        await tx.fetch(
            "SELECT queue, COUNT(*) FROM job WHERE state = 'completed' AND pruned_at IS NULL"
            " GROUP BY queue"
        )
    )


async def oldest_waiting(tx: Tx) -> dict[str, int]:
    """Return by queue the ``run_at`` of its oldest waiting job, in microseconds UTC."""
    rows = await tx.fetch(
        f"SELECT queue, MIN(run_at) FROM (SELECT queue, run_at {_UNFINISHED}"
        " AND state = 'waiting' ORDER BY seq)"
        " AS waiting GROUP BY queue"
    )
    return dict(rows)


async def failed_since(tx: Tx, queues: Sequence[str], since: int) -> dict[str, int]:
    """Return by queue the jobs that failed since an instant, without cancelled ones."""
    job = job_table.c
    rows = await tx.fetch(
        select(job.queue, func.count())
        .where(
            job.queue.in_(list(queues)),
            job.state == JobState.FAILED.value,
            job.pruned_at.is_(None),
            job.finished_at >= since,
            func.coalesce(job.reason_code, "") != JobReason.CANCELLED.value,
        )
        .group_by(job.queue)
    )
    return dict(rows)


async def active_by_worker(tx: Tx) -> dict[tuple[str, str], int]:
    """Return the number of running jobs by their worker and queue."""
    rows = await tx.fetch(
        "SELECT worker, queue, COUNT(*) FROM job WHERE state = 'active' GROUP BY worker, queue"
    )
    return {(worker, queue): number for worker, queue, number in rows}


WorkerState = Literal["running", "stale", "gone"]
"""``stale`` is a worker without a heartbeat for one lease, ``gone`` for two."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker with its last heartbeat. Instants are microseconds UTC."""

    id: str
    host: str
    pid: int
    started_at: int
    heartbeat_at: int
    queues: Mapping[str, int]
    """Concurrency by queue."""
    lease: int
    """Microseconds; a worker records a heartbeat three times within its lease."""
    flagged: str = ""
    """The state that was logged since its last heartbeat, if any."""
    active: int = 0
    """Jobs that it has claimed."""
    state: WorkerState = "running"


async def record_heartbeat(
    tx: Tx, worker_id: str, host: str, pid: int, concurrency: Mapping[str, int], lease: int
) -> None:
    """Record that a worker is alive, with its concurrency by queue and its lease."""
    row = WorkerRow(worker_id, host, pid, tx.now, tx.now, concurrency, lease)
    await tx.insert(worker_table, [row], on_conflict="update", keep=("started_at",))


async def is_first_worker(tx: Tx, worker_id: str, queue: str, since: int) -> bool:
    """Return whether a worker is the first by id that is alive and serves a queue."""
    alive = await tx.fetch_into(
        WorkerRow, "SELECT * FROM worker WHERE heartbeat_at >= ? ORDER BY id", (since,)
    )
    return next((each.id for each in alive if queue in each.queues), None) == worker_id


async def remove_worker(tx: Tx, worker_id: str) -> None:
    """Remove a worker from the list."""
    await tx.execute("DELETE FROM worker WHERE id = ?", (worker_id,))


async def remove_silent_workers(tx: Tx, before: int) -> None:
    """Remove workers that are silent since an instant, and for four leases."""
    await tx.execute(
        "DELETE FROM worker WHERE heartbeat_at < ? AND heartbeat_at + 4 * lease < ?",
        (before, tx.now),
    )


async def workers(tx: Tx) -> list[WorkerRow]:
    """Return all workers that have not stopped, silent ones too, by id."""
    return await tx.fetch_into(
        WorkerRow,
        f"SELECT w.*, {_STATE} AS state, COALESCE(a.active, 0) AS active FROM worker AS w LEFT JOIN"
        " (SELECT worker, COUNT(*) AS active FROM job WHERE state = 'active' GROUP BY worker) AS a"
        " ON a.worker = w.id ORDER BY w.id",
        (tx.now, tx.now),
    )


async def running_workers(tx: Tx) -> list[WorkerRow]:
    """Return the workers whose last heartbeat is not older than their lease."""
    return [worker for worker in await workers(tx) if worker.state == "running"]


async def flag_silent_workers(db: Database) -> list[WorkerRow]:
    """Mark workers as stale or gone; return those that this call has marked.

    A worker is marked once for each state by all processes together.
    """
    async with db.read() as tx:
        silent = [
            worker
            for worker in await workers(tx)
            if worker.state != "running" and worker.flagged != worker.state
        ]
    if not silent:
        return []
    async with db.write(WriteClass.JOBS) as tx:
        return [
            worker
            for worker in silent
            if await tx.execute(
                "UPDATE worker SET flagged = ? WHERE id = ? AND flagged = ? AND heartbeat_at = ?",
                (worker.state, worker.id, worker.flagged, worker.heartbeat_at),
            )
        ]
