"""Ending runs in the database: the row, the record of the attempt, what waits for the job."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from homeroom.db.tx import Row, Tx
from homeroom.errors import Unavailable
from homeroom.jobs import args as job_args
from homeroom.jobs.backoff import Backoff
from homeroom.jobs.ending import After, Ended, HandBack, decide
from homeroom.jobs.enqueue import DELAYED_TOPIC, JOBS_TOPIC, dependency_failed
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.outcome import Snooze
from homeroom.jobs.store import COLUMNS, WIDTH, add_log, find, marks, to_job

JOB_TOPIC = "job"
"""``tx.notify(JOB_TOPIC, id)``: a job changed."""
_ERROR_LIMIT, _TRACEBACK_LIMIT = 4_000, 40_000
_chance = random.Random()


class ChangedFailed(Exception):
    """A feature's ``changed`` raised; its transaction must not be committed."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one run ended, by whoever holds ``token``."""

    job_id: str
    token: str
    ended: Ended
    traceback: str | None = None
    announce: bool = True
    """False after ``changed`` failed: upkeep calls it later."""


_SETTLE = (
    "UPDATE job SET state = ?, run_at = ?, attempts = ?, max_attempts = ?, last_error = ?,"
    " result = ?, finished_at = ?, unannounced = ?, worker = NULL, lease_token = NULL,"
    " lease_until = NULL"
    " WHERE id = ? AND lease_token = ? AND state = 'active'"
)
_ATTEMPT = (
    "INSERT INTO job_attempt"
    " (job, number, started_at, finished_at, outcome, error, traceback, worker)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(slots=True)
class _Settled:
    ending: Ending
    before: Job
    after: After
    job: Job
    awaited: bool
    """Another job waits for it."""


async def settle(tx: Tx, registry: Registry | None, endings: Sequence[Ending]) -> list[Job | None]:
    """End runs; return each job as it is then, or None where the lease was lost.

    Raises ``ChangedFailed`` where a feature's callback does: nothing may then be committed.
    """
    ids = [ending.job_id for ending in endings]
    rows = await tx.fetch(
        f"SELECT {COLUMNS}, lease_token, allowance FROM job"
        f" WHERE id IN ({marks(len(ids))}) ORDER BY id{tx.row_lock}",
        ids,
    )
    held = {(row[0], row[WIDTH]): row for row in rows if row[3] == JobState.ACTIVE}
    awaited = await _awaited(tx, ids)
    settled: dict[int, _Settled] = {}
    for index, ending in enumerate(endings):
        row = held.pop((ending.job_id, ending.token), None)  # popped: one token settles once
        if row is not None:
            settled[index] = _settled(tx, registry, ending, row, ending.job_id in awaited)
    await _write(tx, registry, list(settled.values()))
    return [settled[index].job if index in settled else None for index in range(len(endings))]


async def _awaited(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Return those of some jobs that others wait for.

    Asked once their rows are locked: who adds a job that waits for one of them locks it as well.
    """
    rows = await tx.fetch(
        f"SELECT DISTINCT waits_for FROM job_dependency WHERE met = 0"
        f" AND waits_for IN ({marks(len(ids))})",
        ids,
    )
    return {row[0] for row in rows}


def _settled(
    tx: Tx, registry: Registry | None, ending: Ending, row: Row, awaited: bool
) -> _Settled:
    before, allowance = to_job(row), row[WIDTH + 1]
    backoff = Backoff()
    if registry is not None and registry.knows(before.kind):
        backoff = registry.get(before.kind).args.backoff
    after = decide(
        before, ending.ended, now=tx.now, allowance=allowance, backoff=backoff, chance=_chance
    )
    error = None if after.error is None else after.error[:_ERROR_LIMIT]
    job = replace(
        before,
        state=after.state,
        run_at=after.run_at,
        attempts=after.attempts,
        max_attempts=before.max_attempts + after.forgiven,
        last_error=error,
        result=after.result,
        finished_at=tx.now if after.finished else None,
        worker=None,
        lease_until=None,
    )
    return _Settled(ending, before, after, job, awaited)


async def _write(tx: Tx, registry: Registry | None, settled: Sequence[_Settled]) -> None:
    if not settled:
        return
    await tx.executemany(_SETTLE, [_settle_values(one, registry) for one in settled])
    await tx.executemany(
        _ATTEMPT, [_attempt_values(tx, one) for one in settled if one.after.attempt is not None]
    )
    for one in settled:
        tx.notify(JOB_TOPIC, one.job.id)
        ended = one.ending.ended
        if isinstance(ended, Snooze):
            seconds = ended.after.total_seconds()
            await add_log(tx, one.job.id, f"snoozed for {seconds:g} s: {ended.reason}")
        if isinstance(ended, HandBack):
            await add_log(tx, one.job.id, f"handed back by {one.before.worker}, which stops")
        if one.job.state is JobState.WAITING:
            tx.notify(JOBS_TOPIC, one.job.queue)
        if one.job.state is JobState.DELAYED:
            tx.notify(DELAYED_TOPIC, one.job.queue)
    await announce(tx, registry, [one.job for one in settled if one.ending.announce])
    await release(tx, registry, [one.job for one in settled if one.awaited and one.after.finished])


def _settle_values(one: _Settled, registry: Registry | None) -> tuple[object, ...]:
    job = one.job
    owed = not one.ending.announce or _is_owed(registry, job)
    result = None if job.result is None else msgspec.json.encode(job.result).decode()
    return (
        job.state.value,
        job.run_at,
        job.attempts,
        job.max_attempts,
        job.last_error,
        result,
        job.finished_at,
        int(owed),
        job.id,
        one.ending.token,
    )


def _attempt_values(tx: Tx, one: _Settled) -> tuple[object, ...]:
    traceback = one.ending.traceback
    return (
        one.job.id,
        one.before.attempts,
        one.before.started_at,
        tx.now,
        one.after.attempt,
        one.job.last_error,
        None if traceback is None else traceback[-_TRACEBACK_LIMIT:],
        one.before.worker,
    )


def _is_owed(registry: Registry | None, job: Job) -> bool:
    """Say whether this program cannot tell the feature, so that another one has to."""
    return registry is None or not registry.knows(job.kind)


async def announce(tx: Tx, registry: Registry | None, jobs: Sequence[Job]) -> None:
    """Call ``Handler.changed`` for jobs whose kind this program knows."""
    for job in jobs:
        if registry is None or not registry.knows(job.kind):
            continue
        handler = registry.get(job.kind)
        if handler.changed is None:
            continue
        try:
            arguments = job_args.decode(handler.args, job.payload, job.version)
        except job_args.Undecodable:
            continue  # there is nothing to call it with; the job's error says so
        try:
            await handler.changed(tx, job, arguments)
        except Unavailable:
            raise
        except Exception as error:
            raise ChangedFailed(f"{job.kind}: {error!r}") from error


async def release(tx: Tx, registry: Registry | None, ended: Sequence[Job]) -> None:
    """Let go of, or fail, the jobs that wait for finished ones; those in turn may have waiters."""
    while ended:
        by_id = {job.id: job for job in ended}
        rows = await tx.fetch(
            "UPDATE job_dependency SET met = 1 WHERE met = 0"
            f" AND waits_for IN ({marks(len(by_id))}) RETURNING job, waits_for, if_fails",
            tuple(by_id),
        )
        if not rows:
            return
        freed: list[str] = []
        doomed: dict[str, str] = {}
        for waiter, waited_for, if_fails in rows:
            if by_id[waited_for].state is JobState.FAILED and if_fails == "fail":
                doomed.setdefault(waiter, waited_for)
            else:
                freed.append(waiter)
        await _free(tx, freed)
        failed = await fail_rows(
            tx,
            registry,
            [(waiter, dependency_failed(cause)) for waiter, cause in sorted(doomed.items())],
            states=(JobState.WAITING_CHILDREN,),
        )
        ended = failed


async def _free(tx: Tx, waiters: Sequence[str]) -> None:
    if not waiters:
        return
    await tx.executemany(
        "UPDATE job SET deps_pending = deps_pending - 1 WHERE id = ?",
        [(waiter,) for waiter in sorted(waiters)],
    )
    ids = sorted(set(waiters))
    rows = await tx.fetch(
        # One that was to run at once may have been added since this commit began.
        "UPDATE job SET state ="
        " CASE WHEN run_at > ? AND run_at > created_at THEN 'delayed' ELSE 'waiting' END"
        " WHERE state = 'waiting-children' AND deps_pending <= 0"
        f" AND id IN ({marks(len(ids))}) RETURNING id, queue",
        (tx.now, *ids),
    )
    for job_id, queue in rows:
        tx.notify(JOBS_TOPIC, queue)
        tx.notify(JOB_TOPIC, job_id)


async def fail_rows(
    tx: Tx,
    registry: Registry | None,
    reasons: Sequence[tuple[str, str]],
    *,
    states: Sequence[JobState],
) -> list[Job]:
    """Fail jobs that no worker holds and tell their features; return those that were failed.

    What waits for them is the caller's to ``release``.
    """
    if not reasons:
        return []
    failed_ids: list[str] = []
    for job_id, reason in reasons:
        changed = await tx.execute(
            "UPDATE job SET state = 'failed', finished_at = ?, last_error = ?"
            f" WHERE id = ? AND state IN ({marks(len(states))})",
            (tx.now, reason[:_ERROR_LIMIT], job_id, *[state.value for state in states]),
        )
        if changed:
            failed_ids.append(job_id)
    found = await find(tx, failed_ids)
    failed = [found[job_id] for job_id in failed_ids]
    await told(tx, registry, failed)
    return failed


async def told(tx: Tx, registry: Registry | None, jobs: Sequence[Job]) -> None:
    """Tell features of changed jobs, or note that somebody else has to."""
    owed = [job.id for job in jobs if _is_owed(registry, job)]
    await tx.executemany("UPDATE job SET unannounced = 1 WHERE id = ?", [(id,) for id in owed])
    for job in jobs:
        tx.notify(JOB_TOPIC, job.id)
    await announce(tx, registry, jobs)
