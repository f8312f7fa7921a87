"""Claim job rows for a worker and renew their leases; the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.db.tx import Tx
from homeroom.jobs.job import Job
from homeroom.jobs.store import JOB_COLUMNS, fetch_jobs_with, lock_jobs, placeholders

_SELECT_QUEUE = "SELECT * FROM queue WHERE name = ?"
_CLAIM_ROWS = (
    "UPDATE job SET state = 'active', attempts = attempts + 1, started_at = ?, worker = ?,"
    " lease_token = ?, lease_until = ? WHERE {among_rows}"
    f" RETURNING {JOB_COLUMNS}, seq,"
    " (SELECT q.concurrency FROM queue AS q WHERE q.name = job.queue) AS queue_concurrency"
)
_SELECT_ROWS = (
    "SELECT seq FROM job WHERE {where} AND state = 'waiting' AND pruned_at IS NULL"
    " AND alone_from IS {alone} AND kind IN ({kinds}){condition}"
    " ORDER BY priority DESC, seq LIMIT ?"
)
_UNRESTRICTED_QUEUE = (
    " AND NOT EXISTS (SELECT 1 FROM queue AS q WHERE q.name = ?"
    " AND (q.paused = 1 OR q.rate_max IS NOT NULL))"
)
"""Condition that the queue is neither paused nor limited: then one statement claims."""


@dataclass(frozen=True, slots=True)
class LeaseOwner:
    """The id of a worker that claims, its job kinds, and the length of its leases."""

    worker: str
    kinds: tuple[str, ...]
    lease: int
    """Microseconds."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker holds until ``lease_until``; only ``token`` can settle it."""

    job: Job
    token: str


@dataclass(frozen=True, slots=True)
class QueueCapacity:
    """The number of jobs that a queue allows to start now."""

    available: int
    concurrency: int | None = None
    """The queue's own limit of jobs that run at once in each worker."""
    window_reset_in: int | None = None
    """Microseconds until the next window of a queue with a rate limit."""
    is_rate_limited: bool = False


@dataclass(frozen=True, slots=True)
class _QueueLimits:
    paused: bool
    concurrency: int | None
    rate_max: int | None
    rate_window: int | None
    window_start: int
    window_count: int


@dataclass(frozen=True, slots=True)
class _ClaimedRow:
    seq: int
    queue_concurrency: int | None


def among_unlocked(dialect: str, select_seq: str) -> str:
    """Return the condition that a row is among those that a SELECT of ``seq`` finds.

    On PostgreSQL the SELECT locks its rows and skips those that others are updating. An array is
    evaluated once; a subquery after IN may be evaluated many times, and lock rows beyond its limit.
    """
    if dialect == "sqlite":
        return f"seq IN ({select_seq})"
    return f"seq = ANY(ARRAY({select_seq} FOR UPDATE SKIP LOCKED))"


async def claim_next(
    tx: Tx, owner: LeaseOwner, queue: str, limit: int, token: str
) -> tuple[list[Claim], QueueCapacity]:
    """Claim up to ``limit`` waiting jobs of a queue, by priority and then by age."""
    if not owner.kinds:
        return [], QueueCapacity(0)
    where = ("queue", queue)
    claims, concurrency = await _claim_rows(
        tx, owner, token, where, limit, unrestricted_queue=queue
    )
    if len(claims) == limit:
        return claims, QueueCapacity(limit, concurrency)
    capacity = await _queue_capacity(tx, queue, limit)
    if capacity.is_rate_limited and capacity.available:
        claims, _ = await _claim_rows(tx, owner, token, where, capacity.available)
        await _count_starts(tx, queue, len(claims))
    return claims, capacity


async def claim_one(
    tx: Tx, owner: LeaseOwner, queue: str, job_id: str, token: str, *, alone: bool = False
) -> tuple[list[Claim], QueueCapacity]:
    """Claim one waiting job by its id, for an engine whose own store orders the jobs.

    With ``alone`` the job is one that has to run alone; without, one that has not.
    """
    capacity = await _queue_capacity(tx, queue, 1)
    if not capacity.available or not owner.kinds:
        return [], capacity
    claims, _ = await _claim_rows(tx, owner, token, ("id", job_id), 1, alone=alone)
    if capacity.is_rate_limited:
        await _count_starts(tx, queue, len(claims))
    return claims, capacity


async def claimable_ids(
    tx: Tx, queue: str, kinds: Sequence[str], limit: int
) -> tuple[list[str], QueueCapacity]:
    """Return the ids of a queue's first rows that could be claimed now, in order."""
    capacity = await _queue_capacity(tx, queue, limit, claiming=False)
    if not capacity.available or not kinds:
        return [], capacity
    rows = await tx.fetch(
        "SELECT id FROM job WHERE queue = ? AND state = 'waiting' AND pruned_at IS NULL"
        f" AND alone_from IS NULL AND kind IN ({placeholders(len(kinds))})"
        " ORDER BY priority DESC, seq LIMIT ?",
        (queue, *kinds, capacity.available),
    )
    return [job_id for (job_id,) in rows], capacity


async def next_alone(tx: Tx, kinds: Sequence[str]) -> tuple[str, str] | None:
    """Return queue and id of the first job that waits to run alone, None without one."""
    rows = await tx.fetch(
        "SELECT queue, id FROM job WHERE alone_from IS NOT NULL AND state = 'waiting'"
        f" AND pruned_at IS NULL AND kind IN ({placeholders(len(kinds))})"
        " AND NOT EXISTS (SELECT 1 FROM queue AS q WHERE q.name = job.queue AND q.paused = 1)"
        " ORDER BY priority DESC, seq LIMIT 1",
        kinds,
    )
    return rows[0] if rows else None


async def _claim_rows(
    tx: Tx,
    owner: LeaseOwner,
    token: str,
    where: tuple[str, str],
    limit: int,
    unrestricted_queue: str | None = None,
    *,
    alone: bool = False,
) -> tuple[list[Claim], int | None]:
    """Claim rows in order; return them with the queue's own concurrency.

    With ``unrestricted_queue`` rows are claimed only if that queue is not paused or limited.
    """
    column, value = where
    select = _SELECT_ROWS.format(
        where=f"{column} = ?",
        kinds=placeholders(len(owner.kinds)),
        alone="NOT NULL" if alone else "NULL",
        condition="" if unrestricted_queue is None else _UNRESTRICTED_QUEUE,
    )
    sql = _CLAIM_ROWS.format(among_rows=among_unlocked(tx.dialect, select))
    condition_values = () if unrestricted_queue is None else (unrestricted_queue,)
    lease_until = tx.now + owner.lease
    rows = await fetch_jobs_with(
        tx,
        _ClaimedRow,
        sql,
        (tx.now, owner.worker, token, lease_until, value, *owner.kinds, *condition_values, limit),
    )
    rows.sort(key=_claim_order)
    claims = [Claim(job, token) for job, _ in rows]
    return claims, next((claimed.queue_concurrency for _, claimed in rows), None)


def _claim_order(row: tuple[Job, _ClaimedRow]) -> tuple[int, int]:
    job, claimed = row
    return -job.priority, claimed.seq


async def _queue_capacity(
    tx: Tx, queue: str, requested: int, *, claiming: bool = True
) -> QueueCapacity:
    limits = await tx.fetch_one_into(_QueueLimits, _SELECT_QUEUE, (queue,))
    if claiming and limits is not None and limits.rate_max is not None and tx.row_lock:
        # Starts are counted after the claim: until then no other worker may read the count.
        limits = await tx.fetch_one_into(_QueueLimits, _SELECT_QUEUE + tx.row_lock, (queue,))
    if limits is None:
        return QueueCapacity(requested)
    if limits.paused:
        return QueueCapacity(0, limits.concurrency)
    if limits.rate_max is None or limits.rate_window is None:
        return QueueCapacity(requested, limits.concurrency)
    start, end = limits.window_start, limits.window_start + limits.rate_window
    # A worker whose clock is a little behind, or that has waited, counts in the same window.
    used = limits.window_count if start - limits.rate_window < tx.now < end else 0
    return QueueCapacity(
        max(min(requested, limits.rate_max - used), 0),
        limits.concurrency,
        end - tx.now if used else None,
        is_rate_limited=True,
    )


async def _count_starts(tx: Tx, queue: str, started: int) -> None:
    """Count starts against a rate limit; a window begins with its first start."""
    if not started:
        return
    await tx.execute(
        "UPDATE queue SET"
        " window_count = CASE WHEN window_start - rate_window < ?"
        " AND ? < window_start + rate_window THEN window_count + ? ELSE ? END,"
        " window_start = CASE WHEN window_start - rate_window < ?"
        " AND ? < window_start + rate_window THEN window_start ELSE ? END"
        " WHERE name = ? AND rate_max IS NOT NULL AND rate_window IS NOT NULL",
        (tx.now, tx.now, started, started, tx.now, tx.now, tx.now, queue),
    )


async def renew_leases(
    tx: Tx, owner: LeaseOwner, leases: Sequence[tuple[str, str]]
) -> dict[str, bool]:
    """Renew the leases of (id, token) pairs; return by id whether to cancel the job.

    A pair that is missing from the result is lost.
    """
    if not leases:
        return {}
    tokens = dict(leases)
    await lock_jobs(tx, tokens)
    rows = await tx.fetch(
        "UPDATE job SET lease_until = ? WHERE state = 'active' AND worker = ?"
        f" AND id IN ({placeholders(len(tokens))}) RETURNING id, lease_token, cancel_requested",
        (tx.now + owner.lease, owner.worker, *tokens),
    )
    return {
        job_id: bool(cancel_requested)
        for job_id, token, cancel_requested in rows
        if token == tokens[job_id]
    }


async def cancel_requested_ids(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Return those of some jobs whose cancellation was requested."""
    if not ids:
        return []
    rows = await tx.fetch(
        f"SELECT id FROM job WHERE cancel_requested = 1 AND id IN ({placeholders(len(ids))})",
        tuple(ids),
    )
    return [job_id for (job_id,) in rows]
