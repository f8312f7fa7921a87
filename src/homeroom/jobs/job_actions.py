"""Retry, promote, cancel, remove, clean and prune jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from homeroom.db.tx import Tx
from homeroom.errors import Conflict
from homeroom.jobs.enqueue import GENERATED_ID_PREFIX, JOBS_TOPIC
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import FINISHED, Job, JobReason, JobState
from homeroom.jobs.job_search import JobQuery, search
from homeroom.jobs.outcome import CANCELLED
from homeroom.jobs.settle import JOB_TOPIC, fail_jobs, notify_changed, release_dependents
from homeroom.jobs.store import (
    JOB_COLUMNS,
    fetch_jobs_with,
    get,
    placeholders,
    states,
)

JobAction = Literal["retry", "promote", "cancel", "remove"]
_UNSTARTED = (JobState.WAITING, JobState.DELAYED, JobState.WAITING_CHILDREN)
_BATCH = 200
_CLEANABLE = (
    "queue = ? AND state = ? AND pruned_at IS NULL AND unannounced = 0 AND finished_at <= ?"
)
_NOT_OUTSTANDING = " AND (outstanding IS NULL OR state <> 'failed')"


async def retry(tx: Tx, registry: Registry | None, job_id: str) -> Job:
    """Retry a failed job with a fresh set of attempts.

    Its attempts are counted on, and it waits for no other job. Raises ``NotFound``; ``Conflict``
    unless it has failed and was not pruned.
    """
    job = await get(tx, job_id)
    changed = await tx.execute(
        "UPDATE job SET state = 'waiting', run_at = ?, finished_at = NULL, cancel_requested = 0,"
        " max_attempts = attempts + allowance, result = NULL, reason_code = NULL, unannounced = 0,"
        " outstanding = NULL, alone_from = CASE WHEN alone_from IS NULL THEN NULL ELSE attempts END"
        " WHERE id = ? AND state = 'failed' AND pruned_at IS NULL",
        (tx.now, job_id),
    )
    if not changed:
        raise Conflict(
            f"Only a failed job that was not pruned can be retried; {_describe_state(job)}."
            " Retry what it was for instead, such as the step of a completion: that adds a new job."
        )
    return await _announce_and_wake(tx, registry, job_id, queue=job.queue)


async def promote(tx: Tx, registry: Registry | None, job_id: str) -> Job:
    """Run a delayed job now; raise ``NotFound``, ``Conflict`` unless it is delayed."""
    job = await get(tx, job_id)
    changed = await tx.execute(
        "UPDATE job SET state = 'waiting', run_at = ?, held_by = NULL"
        " WHERE id = ? AND state = 'delayed'",
        (tx.now, job_id),
    )
    if not changed:
        raise Conflict(f"Only a delayed job can be promoted; {_describe_state(job)}.")
    return await _announce_and_wake(tx, registry, job_id, queue=job.queue)


async def cancel(tx: Tx, registry: Registry | None, job_id: str, reason: str = CANCELLED) -> Job:
    """Cancel a job: at once, or an active one when its worker sees the request.

    Either way it fails, and so do its dependents unless they were enqueued with
    ``if_fails="run"``. Raises ``NotFound``; ``Conflict`` for a job that has finished.
    """
    job = await get(tx, job_id, lock=True)
    failed = await fail_jobs(
        tx, registry, [(job_id, reason)], JobReason.CANCELLED, states=_UNSTARTED
    )
    if failed:
        await release_dependents(tx, registry, failed)
        return await get(tx, job_id)
    requested = await tx.execute(
        "UPDATE job SET cancel_requested = 1 WHERE id = ? AND state = 'active'", (job_id,)
    )
    if not requested:
        raise Conflict(
            f"Only a job that has not finished can be cancelled; {_describe_state(job)}."
        )
    tx.notify(JOB_TOPIC, job_id)
    return await get(tx, job_id)


async def remove(tx: Tx, job_id: str) -> None:
    """Remove a finished job; a natural id stays known, so it never runs again.

    Raises ``NotFound``; ``Conflict`` for a job that has not finished, or that something waits for.
    """
    job = await get(tx, job_id, lock=True)
    if await outstanding_ids(tx, [job_id]):
        raise Conflict(
            f"Something still waits for {job_id}. Retry it, or remove it with the others of its"
            " queue: homeroom jobs clean --state failed --outstanding."
        )
    if job.state not in FINISHED:
        raise Conflict(
            f"Only a finished job can be removed; {_describe_state(job)}. Cancel it first."
        )
    await prune(tx, [job_id])


async def outstanding_ids(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Return those of some jobs that failed and that something waits for."""
    rows = await tx.fetch(
        "SELECT id FROM job WHERE state = 'failed' AND outstanding = 1 AND pruned_at IS NULL"
        f" AND id IN ({placeholders(len(ids))})",
        tuple(ids),
    )
    return {job_id for (job_id,) in rows}


async def prune(tx: Tx, ids: Sequence[str]) -> int:
    """Delete the bodies of finished jobs, and the rows of those with generated ids.

    Returns the number of pruned jobs; one that was retried in the meantime is left alone.
    """
    pruned = 0
    for start in range(0, len(ids), _BATCH):
        chunk = ids[start : start + _BATCH]
        rows = await tx.fetch(
            "SELECT id FROM job WHERE state IN ('completed', 'failed')"
            f" AND id IN ({placeholders(len(chunk))}) ORDER BY id{tx.row_lock}",
            chunk,
        )
        if not rows:
            continue
        chunk = tuple(job_id for (job_id,) in rows)
        pruned += len(chunk)
        within = f"({placeholders(len(chunk))})"
        await tx.execute(f"DELETE FROM job_attempt WHERE job IN {within}", chunk)
        await tx.execute(f"DELETE FROM job_log WHERE job IN {within}", chunk)
        await tx.execute(f"DELETE FROM job_dependency WHERE job IN {within}", chunk)
        await tx.execute(f"DELETE FROM job WHERE keeps_id = 0 AND id IN {within}", chunk)
        await tx.execute(
            "UPDATE job SET payload = '{}', result = NULL, progress = NULL, last_error = NULL,"
            f" reason_code = NULL, outstanding = NULL, pruned_at = ? WHERE id IN {within}",
            (tx.now, *chunk),
        )
    return pruned


_PRUNABLE_STATEMENT = (
    "SELECT id FROM (SELECT id, finished_at, unannounced,"
    " ROW_NUMBER() OVER (ORDER BY finished_at DESC, seq DESC) AS place FROM job"
    " WHERE queue = ? AND {} AND pruned_at IS NULL) AS kept"
    " WHERE (place > ? OR finished_at < ?) AND unannounced = 0 LIMIT ?"
)
PRUNABLE_STATEMENTS = {
    JobState.COMPLETED: _PRUNABLE_STATEMENT.format("state = 'completed'"),
    JobState.FAILED: _PRUNABLE_STATEMENT.format("state = 'failed' AND outstanding IS NULL"),
}
"""The states are text and no parameters, so that SQLite uses the index of prunable failed jobs."""


async def prunable_ids(
    tx: Tx, queue: str, state: JobState, keep: int, before: int, limit: int
) -> list[str]:
    """Return finished jobs beyond the last ``keep``, or that ended before an instant.

    A job whose feature was not notified yet is kept, and so is a failed job that something waits
    for: it neither counts nor ends.
    """
    rows = await tx.fetch(PRUNABLE_STATEMENTS[state], (queue, keep, before, limit))
    return [job_id for (job_id,) in rows]


@dataclass(frozen=True, slots=True)
class _Sequence:
    seq: int


async def list_outstanding(
    tx: Tx, kinds: Sequence[str], after: int, limit: int
) -> list[tuple[int, Job]]:
    """Return failed jobs of some kinds that something may wait for, by their seq."""
    if not kinds:
        return []
    rows = await fetch_jobs_with(
        tx,
        _Sequence,
        f"SELECT {JOB_COLUMNS}, seq FROM job WHERE outstanding = 1 AND state = 'failed'"
        f" AND unannounced = 0 AND seq > ? AND kind IN ({placeholders(len(kinds))})"
        " ORDER BY seq LIMIT ?",
        (after, *kinds, limit),
    )
    return [(sequence.seq, job) for job, sequence in rows]


async def release_outstanding(tx: Tx, jobs: Sequence[Job]) -> None:
    """Record that nothing waits for some failed jobs, unless they ran again since."""
    await tx.executemany(
        "UPDATE job SET outstanding = NULL WHERE id = ? AND state = 'failed' AND finished_at = ?",
        [(job.id, job.finished_at) for job in sorted(jobs, key=lambda job: job.id)],
    )


async def delete_finished_jobs(tx: Tx, ids: Sequence[str]) -> None:
    """Delete finished jobs with their ids, once their cause is gone.

    A job that is added again under such an id runs again.
    """
    for start in range(0, len(ids), _BATCH):
        chunk = tuple(ids[start : start + _BATCH])
        await prune(tx, chunk)
        await tx.execute(
            "DELETE FROM job WHERE state IN ('completed', 'failed')"
            f" AND id IN ({placeholders(len(chunk))})",
            chunk,
        )


async def delete_generated_ids(tx: Tx, before: int, limit: int) -> int:
    """Delete pruned external jobs with generated ids; return their number."""
    rows = await tx.fetch(
        "SELECT id FROM job WHERE id >= ? AND id < ? AND pruned_at < ? LIMIT ?",
        (GENERATED_ID_PREFIX, f"{GENERATED_ID_PREFIX}\U0010ffff", before, limit),
    )
    await delete_finished_jobs(tx, [job_id for (job_id,) in rows])
    return len(rows)


async def clean(
    tx: Tx,
    queue: str,
    state: JobState,
    *,
    before: int | None = None,
    limit: int = 1_000,
    outstanding: bool = False,
) -> int:
    """Remove a queue's finished jobs that ended before an instant; return the number.

    Failed jobs that something waits for are removed only with ``outstanding``. Raises ``Conflict``
    for a state that is not final.
    """
    if state not in FINISHED:
        raise Conflict("Only completed and failed jobs can be cleaned. Cancel the others first.")
    rows = await tx.fetch(
        f"SELECT id FROM job WHERE {_CLEANABLE}"
        f"{'' if outstanding else _NOT_OUTSTANDING} ORDER BY finished_at LIMIT ?",
        (queue, state.value, tx.now if before is None else before, limit),
    )
    tx.notify(JOB_TOPIC, queue)
    return await prune(tx, [job_id for (job_id,) in rows])


async def count_cleanable(
    tx: Tx, queue: str, state: JobState, before: int, *, outstanding: bool = False
) -> tuple[int, int]:
    """Return how many jobs ``clean`` removes, and how many it keeps as outstanding."""
    [(all_of_them,)] = await tx.fetch(
        f"SELECT COUNT(*) FROM job WHERE {_CLEANABLE}", (queue, state.value, before)
    )
    if outstanding:
        return all_of_them, 0
    [(removed,)] = await tx.fetch(
        f"SELECT COUNT(*) FROM job WHERE {_CLEANABLE}{_NOT_OUTSTANDING}",
        (queue, state.value, before),
    )
    return removed, all_of_them - removed


_ACTION_STATES: dict[JobAction, tuple[JobState, ...]] = {
    "retry": (JobState.FAILED,),
    "promote": (JobState.DELAYED,),
    "cancel": (*_UNSTARTED, JobState.ACTIVE),
    "remove": tuple(FINISHED),
}


@dataclass(frozen=True, slots=True)
class BulkActionProgress:
    """Progress of an action on many jobs."""

    count: int
    """Jobs that this transaction changed."""
    before: int | None
    """Sequence number below which to continue; None: the action is done."""


async def apply_bulk_action(
    tx: Tx,
    registry: Registry | None,
    action: JobAction,
    query: JobQuery,
    before: int | None = None,
) -> BulkActionProgress:
    """Apply an action to the next 200 jobs of a filter, where their states allow it."""
    rows = await search(tx, query, limit=_BATCH, before=before)
    stored = await states(tx, [listed.id for _, listed in rows], lock=True)
    kept: set[str] = set()
    if action == "remove" and rows:
        kept = await outstanding_ids(tx, [listed.id for _, listed in rows])
    count = 0
    for _, listed in rows:
        if listed.id not in stored:  # removed while this transaction waited for its row
            continue
        job = await get(tx, listed.id)  # an action on an earlier one may have changed it
        if job.state not in _ACTION_STATES[action] or job.id in kept:
            continue
        if action == "remove":
            await remove(tx, job.id)
        elif action == "cancel":
            await cancel(tx, registry, job.id)
        elif action == "promote":
            await promote(tx, registry, job.id)
        else:
            await retry(tx, registry, job.id)
        count += 1
    lowest = min((seq for seq, _ in rows), default=None)
    return BulkActionProgress(count, lowest if len(rows) == _BATCH else None)


async def _announce_and_wake(tx: Tx, registry: Registry | None, job_id: str, queue: str) -> Job:
    job = await get(tx, job_id)
    await notify_changed(tx, registry, [job])
    tx.notify(JOBS_TOPIC, queue)
    return job


def _describe_state(job: Job) -> str:
    return f"{job.id} is {job.state.value}"


class AuditRecorder(Protocol):
    """Write an audit line; ``access``, a higher layer, passes its function."""

    def __call__(
        self,
        tx: Tx,
        actor: str,
        action: str,
        subject: str,
        details: Mapping[str, Any] | None = None,
    ) -> Awaitable[None]:
        """Record the actor, the action and its subject."""
