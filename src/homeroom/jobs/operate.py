"""What operators and features do to jobs by hand: retry, promote, cancel, remove, clean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from homeroom.db.tx import Tx
from homeroom.errors import Conflict
from homeroom.jobs.ending import CANCELLED
from homeroom.jobs.enqueue import JOBS_TOPIC
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import FINISHED, Job, JobState
from homeroom.jobs.offer import MADE_UP
from homeroom.jobs.settle import JOB_TOPIC, fail_rows, release, told
from homeroom.jobs.store import Filter, get, lock_rows, marks, search

Action = Literal["retry", "promote", "cancel", "remove"]
_UNSTARTED = (JobState.WAITING, JobState.DELAYED, JobState.WAITING_CHILDREN)
_BATCH = 200


async def retry(tx: Tx, registry: Registry | None, job_id: str) -> Job:
    """Let a failed job wait again with a fresh set of attempts.

    It goes on counting its attempts, and waits for no other job any more. Raises ``NotFound``;
    ``Conflict`` unless it has failed and still has its body.
    """
    job = await get(tx, job_id)
    changed = await tx.execute(
        "UPDATE job SET state = 'waiting', run_at = ?, finished_at = NULL, cancel_requested = 0,"
        " max_attempts = attempts + allowance, result = NULL, unannounced = 0"
        " WHERE id = ? AND state = 'failed' AND pruned_at IS NULL",
        (tx.now, job_id),
    )
    if not changed:
        raise Conflict(f"Only a failed job can be retried, while its body is kept; {_is(job)}.")
    return await _told(tx, registry, job_id, wake=job.queue)


async def promote(tx: Tx, registry: Registry | None, job_id: str) -> Job:
    """Let a delayed job run now. Raises ``NotFound``; ``Conflict`` unless it is delayed."""
    job = await get(tx, job_id)
    changed = await tx.execute(
        "UPDATE job SET state = 'waiting', run_at = ? WHERE id = ? AND state = 'delayed'",
        (tx.now, job_id),
    )
    if not changed:
        raise Conflict(f"Only a delayed job can be promoted; {_is(job)}.")
    return await _told(tx, registry, job_id, wake=job.queue)


async def cancel(tx: Tx, registry: Registry | None, job_id: str, reason: str = CANCELLED) -> Job:
    """Cancel a job: at once if it isn't running, else as soon as its worker has seen it.

    Either way it ends as failed, and what waits for it fails unless it says otherwise. Raises
    ``NotFound``; ``Conflict`` for a job that has finished.
    """
    job = await get(tx, job_id, lock=True)
    failed = await fail_rows(tx, registry, [(job_id, reason)], states=_UNSTARTED)
    if failed:
        await release(tx, registry, failed)
        return await get(tx, job_id)
    asked = await tx.execute(
        "UPDATE job SET cancel_requested = 1 WHERE id = ? AND state = 'active'", (job_id,)
    )
    if not asked:
        raise Conflict(f"Only a job that has not finished can be cancelled; {_is(job)}.")
    tx.notify(JOB_TOPIC, job_id)
    return await get(tx, job_id)


async def remove(tx: Tx, job_id: str) -> None:
    """Take a finished job off the lists; an id that was given stays known, so it never runs again.

    Raises ``NotFound``; ``Conflict`` for a job that has not finished.
    """
    job = await get(tx, job_id, lock=True)
    if job.state not in FINISHED:
        raise Conflict(f"Only a finished job can be removed, so cancel it first; {_is(job)}.")
    await prune(tx, [job_id])


async def prune(tx: Tx, ids: Sequence[str]) -> int:
    """Drop the bodies of finished jobs, and the rows of those whose ids were made up here.

    Return how many there were: one that was retried since it was looked up keeps its body.
    """
    pruned = 0
    for start in range(0, len(ids), _BATCH):
        given = ids[start : start + _BATCH]
        rows = await tx.fetch(
            "SELECT id FROM job WHERE state IN ('completed', 'failed')"
            f" AND id IN ({marks(len(given))}) ORDER BY id{tx.row_lock}",
            given,
        )
        if not rows:
            continue
        chunk = tuple(row[0] for row in rows)
        pruned += len(chunk)
        within = f"({marks(len(chunk))})"
        await tx.execute(f"DELETE FROM job_attempt WHERE job IN {within}", chunk)
        await tx.execute(f"DELETE FROM job_log WHERE job IN {within}", chunk)
        await tx.execute(f"DELETE FROM job_dependency WHERE job IN {within}", chunk)
        await tx.execute(f"DELETE FROM job WHERE keeps_id = 0 AND id IN {within}", chunk)
        await tx.execute(
            "UPDATE job SET payload = '{}', result = NULL, progress = NULL, last_error = NULL,"
            f" pruned_at = ? WHERE id IN {within}",
            (tx.now, *chunk),
        )
    return pruned


async def outlived(
    tx: Tx, queue: str, state: JobState, keep: int, before: int, limit: int
) -> list[str]:
    """Return finished jobs of a queue beyond the ``keep`` last, or that ended before an instant.

    A job whose feature was not told yet is kept.
    """
    rows = await tx.fetch(
        "SELECT id FROM (SELECT id, finished_at, unannounced,"
        " ROW_NUMBER() OVER (ORDER BY finished_at DESC, seq DESC) AS place FROM job"
        " WHERE queue = ? AND state = ? AND pruned_at IS NULL) AS kept"
        " WHERE (place > ? OR finished_at < ?) AND unannounced = 0 LIMIT ?",
        (queue, state.value, keep, before, limit),
    )
    return [row[0] for row in rows]


async def forget(tx: Tx, ids: Sequence[str]) -> None:
    """Forget the ids of finished jobs whose cause is gone; added again, they would run again."""
    for start in range(0, len(ids), _BATCH):
        chunk = tuple(ids[start : start + _BATCH])
        await prune(tx, chunk)
        await tx.execute(
            "DELETE FROM job WHERE state IN ('completed', 'failed')"
            f" AND id IN ({marks(len(chunk))})",
            chunk,
        )


async def forget_made_up(tx: Tx, before: int, limit: int) -> int:
    """Forget pruned jobs of other programs that gave them no id; return how many."""
    rows = await tx.fetch(
        "SELECT id FROM job WHERE id >= ? AND id < ? AND pruned_at < ? LIMIT ?",
        (MADE_UP, f"{MADE_UP}\U0010ffff", before, limit),
    )
    await forget(tx, [row[0] for row in rows])
    return len(rows)


async def clean(
    tx: Tx, queue: str, state: JobState, *, before: int | None = None, limit: int = 1_000
) -> int:
    """Remove finished jobs of a queue that ended before an instant; return how many.

    Raises ``Conflict`` for a state in which jobs are not finished.
    """
    if state not in FINISHED:
        raise Conflict("Only completed and failed jobs can be cleaned; cancel the others first.")
    rows = await tx.fetch(
        "SELECT id FROM job WHERE queue = ? AND state = ? AND pruned_at IS NULL"
        " AND unannounced = 0 AND finished_at <= ? ORDER BY finished_at LIMIT ?",
        (queue, state.value, tx.now if before is None else before, limit),
    )
    tx.notify(JOB_TOPIC, queue)
    return await prune(tx, [row[0] for row in rows])


_APPLIES: dict[Action, tuple[JobState, ...]] = {
    "retry": (JobState.FAILED,),
    "promote": (JobState.DELAYED,),
    "cancel": (*_UNSTARTED, JobState.ACTIVE),
    "remove": tuple(FINISHED),
}


@dataclass(frozen=True, slots=True)
class Step:
    """How far an action on many jobs has come; ``before`` None means that it is done."""

    count: int
    before: int | None


async def act(
    tx: Tx, registry: Registry | None, action: Action, wanted: Filter, before: int | None = None
) -> Step:
    """Do something to the jobs of a filter that it applies to, some hundred in one transaction."""
    rows = await search(tx, wanted, limit=_BATCH, before=before)
    await lock_rows(tx, [listed.id for _, listed in rows])
    count = 0
    for _, listed in rows:
        job = await get(tx, listed.id)  # an earlier one of these may have changed it
        if job.state not in _APPLIES[action]:
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
    return Step(count, rows[-1][0] if len(rows) == _BATCH else None)


async def _told(tx: Tx, registry: Registry | None, job_id: str, wake: str) -> Job:
    job = await get(tx, job_id)
    await told(tx, registry, [job])
    tx.notify(JOBS_TOPIC, wake)
    return job


def _is(job: Job) -> str:
    return f"{job.id} is {job.state.value}"
