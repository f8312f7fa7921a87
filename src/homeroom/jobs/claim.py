"""Taking job rows for a worker, and keeping them: the lease. The same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.db.tx import Tx
from homeroom.jobs.job import Job
from homeroom.jobs.store import COLUMNS, WIDTH, lock_rows, marks, to_job


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims: a worker, the kinds that it can run, and how long it holds without renewal."""

    worker: str
    kinds: tuple[str, ...]
    lease: int
    """Microseconds."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker holds until ``lease_until``; only ``token`` can settle it."""

    job: Job
    token: str
    allowance: int


@dataclass(frozen=True, slots=True)
class Gate:
    """What a queue lets through now."""

    open: int
    """How many may start."""
    concurrency: int | None = None
    """How many at once in each worker, where the queue says so itself."""
    opens_in: int | None = None
    """Microseconds until a queue with a rate limit opens its next window."""
    limited: bool = False


_QUEUE = (
    "SELECT paused, concurrency, rate_max, rate_window, window_start, window_count"
    " FROM queue WHERE name = ?"
)


async def _gate(tx: Tx, queue: str, wanted: int, *, claiming: bool = True) -> Gate:
    row = await tx.fetch_one(_QUEUE, (queue,))
    if claiming and row is not None and row[2] is not None and tx.row_lock:
        # Starts are counted after they were taken: until then, nobody else may read the count.
        row = await tx.fetch_one(_QUEUE + tx.row_lock, (queue,))
    if row is None:
        return Gate(wanted)
    paused, concurrency, rate_max, rate_window, start, count = row
    if paused:
        return Gate(0, concurrency)
    if rate_max is None or rate_window is None:
        return Gate(wanted, concurrency)
    end = start + rate_window
    # A worker whose clock is a little behind, or that has waited, counts in the same window.
    used = count if start - rate_window < tx.now < end else 0
    return Gate(
        max(min(wanted, rate_max - used), 0), concurrency, end - tx.now if used else None, True
    )


async def _count(tx: Tx, queue: str, started: int) -> None:
    """Count starts against a queue's rate limit; a window begins with its first start."""
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


_TAKE = (
    "UPDATE job SET state = 'active', attempts = attempts + 1, started_at = ?, worker = ?,"
    " lease_token = ?, lease_until = ? WHERE seq {among}(SELECT seq FROM job WHERE {where}"
    " AND state = 'waiting' AND pruned_at IS NULL AND kind IN ({kinds}){gate}"
    " ORDER BY priority DESC, seq LIMIT ?{end}"
    f" RETURNING {COLUMNS}, seq, allowance,"
    " (SELECT q.concurrency FROM queue AS q WHERE q.name = job.queue)"
)
_UNGATED = (
    " AND NOT EXISTS (SELECT 1 FROM queue AS q WHERE q.name = ?"
    " AND (q.paused = 1 OR q.rate_max IS NOT NULL))"
)
"""The queue is neither paused nor limited, as most are: one statement claims then."""
_AMONG = {
    "sqlite": {"among": "IN ", "end": ")"},
    # An array is made once. A list after IN may be asked for again and again, and each time lock
    # the next rows.
    "postgresql": {"among": "= ANY(ARRAY", "end": " FOR UPDATE SKIP LOCKED))"},
}
"""Workers of PostgreSQL pass over the rows that others are taking at the same moment."""


async def _take(
    tx: Tx,
    holder: Holder,
    token: str,
    where: tuple[str, str],
    limit: int,
    ungated: str | None = None,
) -> tuple[list[Claim], int | None]:
    """Take rows in order; with ``ungated``, only if that queue lets everything through."""
    column, value = where
    sql = _TAKE.format(
        where=f"{column} = ?",
        kinds=marks(len(holder.kinds)),
        gate="" if ungated is None else _UNGATED,
        **_AMONG[tx.dialect],
    )
    gate = () if ungated is None else (ungated,)
    lease_until = tx.now + holder.lease
    rows = await tx.fetch(
        sql,
        (tx.now, holder.worker, token, lease_until, value, *holder.kinds, *gate, limit),
    )
    claims = [(row[WIDTH], Claim(to_job(row), token, row[WIDTH + 1])) for row in rows]
    claims.sort(key=lambda pair: (-pair[1].job.priority, pair[0]))
    return [claim for _, claim in claims], rows[0][WIDTH + 2] if rows else None


async def claim_next(
    tx: Tx, holder: Holder, queue: str, limit: int, token: str
) -> tuple[list[Claim], Gate]:
    """Take up to ``limit`` waiting jobs of a queue, the most urgent and then the oldest first."""
    if not holder.kinds:
        return [], Gate(0)
    where = ("queue", queue)
    claims, concurrency = await _take(tx, holder, token, where, limit, ungated=queue)
    if len(claims) == limit:
        return claims, Gate(limit, concurrency)
    gate = await _gate(tx, queue, limit)
    if gate.limited and gate.open:
        claims, _ = await _take(tx, holder, token, where, gate.open)
        await _count(tx, queue, len(claims))
    return claims, gate


async def claim_one(
    tx: Tx, holder: Holder, queue: str, job_id: str, token: str
) -> tuple[list[Claim], Gate]:
    """Take one waiting job by its id, for an engine that was told elsewhere whose turn it is."""
    gate = await _gate(tx, queue, 1)
    if not gate.open or not holder.kinds:
        return [], gate
    claims, _ = await _take(tx, holder, token, ("id", job_id), 1)
    if gate.limited:
        await _count(tx, queue, len(claims))
    return claims, gate


async def open_rows(tx: Tx, queue: str, kinds: Sequence[str], limit: int) -> tuple[list[str], Gate]:
    """Return the ids of the first rows of a queue that could be claimed now, in their order."""
    gate = await _gate(tx, queue, limit, claiming=False)
    if not gate.open or not kinds:
        return [], gate
    rows = await tx.fetch(
        "SELECT id FROM job WHERE queue = ? AND state = 'waiting' AND pruned_at IS NULL"
        f" AND kind IN ({marks(len(kinds))}) ORDER BY priority DESC, seq LIMIT ?",
        (queue, *kinds, gate.open),
    )
    return [row[0] for row in rows], gate


async def renew(tx: Tx, holder: Holder, held: Sequence[tuple[str, str]]) -> dict[str, bool]:
    """Hold (id, token) pairs for another lease; say for each still held whether to cancel.

    A pair that is missing from the answer is lost.
    """
    if not held:
        return {}
    tokens = dict(held)
    await lock_rows(tx, tokens)
    rows = await tx.fetch(
        "UPDATE job SET lease_until = ? WHERE state = 'active' AND worker = ?"
        f" AND id IN ({marks(len(tokens))}) RETURNING id, lease_token, cancel_requested",
        (tx.now + holder.lease, holder.worker, *tokens),
    )
    return {row[0]: bool(row[2]) for row in rows if row[1] == tokens[row[0]]}


async def cancelled_among(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Return those of some active jobs whose cancellation was asked for."""
    if not ids:
        return []
    rows = await tx.fetch(
        f"SELECT id FROM job WHERE cancel_requested = 1 AND id IN ({marks(len(ids))})", tuple(ids)
    )
    return [row[0] for row in rows]
