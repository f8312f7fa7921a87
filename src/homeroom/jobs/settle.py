"""Record job results: the row, the attempt, dependents, the feature's callback."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import structlog

from homeroom.db.tx import Tx
from homeroom.errors import Unavailable
from homeroom.jobs.enqueue import DELAYED_TOPIC, JOBS_TOPIC, dependency_failure_reason
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import (
    Backoff,
    InvalidJobArgs,
    Job,
    JobReason,
    JobState,
    RetryDelays,
    decode_args,
)
from homeroom.jobs.job_counts import count_ended
from homeroom.jobs.job_log import log_completion, log_failure
from homeroom.jobs.outcome import NextState, Released, RunEnd, Snooze, next_state
from homeroom.jobs.store import (
    JOB_COLUMNS,
    add_log_line,
    fetch_jobs_with,
    find,
    job_attempt_table,
    placeholders,
)

log = structlog.get_logger(__name__)
JOB_TOPIC = "job"
"""``tx.notify(JOB_TOPIC, id)``: a job changed."""
_ERROR_LIMIT, _TRACEBACK_LIMIT = 4_000, 40_000
_random_source = random.Random()
_UPDATE_JOB = (
    "UPDATE job SET state = ?, run_at = ?, attempts = ?, max_attempts = ?, allowance = ?,"
    " last_error = ?, reason_code = ?, held_by = ?, result = ?, finished_at = ?,"
    " unannounced = ?, outstanding = ?, worker = NULL, lease_token = NULL, lease_until = NULL"
    " WHERE id = ? AND lease_token = ? AND state = 'active'"
)


class OnChangedFailed(Exception):
    """A feature's ``changed`` raised; the transaction must not be committed."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of one run, by the worker that holds ``token``."""

    job_id: str
    token: str
    end: RunEnd
    traceback: str | None = None
    announce: bool = True
    """False after ``changed`` failed: maintenance calls it later."""
    reason: JobReason | None = None
    """Why the kernel ended the run; None: the handler ended it."""


@dataclass(frozen=True, slots=True)
class _HeldLease:
    lease_token: str
    allowance: int


@dataclass(slots=True)
class _SettledRun:
    result: RunResult
    before: Job
    after: NextState
    job: Job
    allowance: int
    has_dependents: bool


@dataclass(frozen=True, slots=True)
class _AttemptRow:
    job: str
    number: int
    started_at: int | None
    outcome: str | None
    error: str | None
    traceback: str | None
    worker: str | None


async def settle(
    tx: Tx, registry: Registry | None, results: Sequence[RunResult]
) -> list[Job | None]:
    """Record job results; return each updated job, or None where the lease was lost.

    Raises ``OnChangedFailed`` where a feature's callback fails: do not commit then.
    """
    ids = [result.job_id for result in results]
    rows = await fetch_jobs_with(
        tx,
        _HeldLease,
        f"SELECT {JOB_COLUMNS}, lease_token, allowance FROM job"
        f" WHERE id IN ({placeholders(len(ids))}) AND state = 'active' ORDER BY id{tx.row_lock}",
        ids,
    )
    leased = {(job.id, lease.lease_token): (job, lease.allowance) for job, lease in rows}
    dependencies = await _ids_with_dependents(tx, ids)
    settled: dict[int, _SettledRun] = {}
    for index, result in enumerate(results):
        leased_job = leased.pop((result.job_id, result.token), None)  # popped: a token settles once
        if leased_job is not None:
            has_dependents = result.job_id in dependencies
            settled[index] = _apply_result(tx, registry, result, *leased_job, has_dependents)
    await _write_results(tx, registry, list(settled.values()))
    return [settled[index].job if index in settled else None for index in range(len(results))]


async def _ids_with_dependents(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Return those of some jobs that other jobs wait for.

    Read after their rows are locked: a transaction that adds a dependent locks the row as well.
    """
    rows = await tx.fetch(
        f"SELECT DISTINCT waits_for FROM job_dependency WHERE met = 0"
        f" AND waits_for IN ({placeholders(len(ids))})",
        ids,
    )
    return {waits_for for (waits_for,) in rows}


def _apply_result(
    tx: Tx,
    registry: Registry | None,
    result: RunResult,
    before: Job,
    allowance: int,
    has_dependents: bool,
) -> _SettledRun:
    backoff: RetryDelays = Backoff()
    if registry is not None and registry.has_kind(before.kind):
        handler = registry.get(before.kind)
        backoff = handler.backoff
        if handler.allowance is not None and handler.allowance != allowance:
            # Added by an earlier release, or before the setting was changed.
            allowed = before.max_attempts - allowance + handler.allowance
            before, allowance = replace(before, max_attempts=allowed), handler.allowance
    after = next_state(
        before,
        result.end,
        now=tx.now,
        allowance=allowance,
        backoff=backoff,
        random_source=_random_source,
        reason=result.reason,
    )
    job = replace(
        before,
        state=after.state,
        run_at=after.run_at,
        attempts=after.attempts,
        max_attempts=before.max_attempts + after.grants_attempt,
        last_error=None if after.error is None else after.error[:_ERROR_LIMIT],
        reason_code=after.reason_code,
        result=after.result,
        finished_at=tx.now if after.finished else None,
        worker=None,
        lease_until=None,
    )
    return _SettledRun(result, before, after, job, allowance, has_dependents)


async def _write_results(tx: Tx, registry: Registry | None, settled: Sequence[_SettledRun]) -> None:
    if not settled:
        return
    await tx.executemany(_UPDATE_JOB, [_job_values(run, registry) for run in settled])
    attempts = [_attempt_row(run) for run in settled if run.after.attempt_outcome is not None]
    await tx.insert(job_attempt_table, attempts, finished_at=tx.now)
    logs_completions = log.is_enabled_for(logging.DEBUG)  # asked once: it is slow
    for run in settled:
        if logs_completions or run.after.attempt_outcome != "done":
            await _log_attempt(tx, registry, run)
        await count_ended(tx, run.job, run.after.attempt_outcome)
        await _log_and_notify(tx, run)
    await announce_changes(tx, registry, [run.job for run in settled if run.result.announce])
    await release_dependents(
        tx, registry, [run.job for run in settled if run.has_dependents and run.after.finished]
    )


def _job_values(run: _SettledRun, registry: Registry | None) -> tuple[object, ...]:
    job = run.job
    unannounced = not run.result.announce or _needs_announcement(registry, job)
    return (
        job.state.value,
        job.run_at,
        job.attempts,
        job.max_attempts,
        run.allowance,
        job.last_error,
        job.reason_code,
        run.after.held_by,
        None if job.result is None else msgspec.json.encode(job.result).decode(),
        job.finished_at,
        int(unannounced),
        _outstanding(registry, job),
        job.id,
        run.result.token,
    )


def _attempt_row(run: _SettledRun) -> _AttemptRow:
    traceback = run.result.traceback
    return _AttemptRow(
        job=run.job.id,
        number=run.before.attempts,
        started_at=run.before.started_at,
        outcome=run.after.attempt_outcome,
        error=run.job.last_error,
        traceback=None if traceback is None else traceback[-_TRACEBACK_LIMIT:],
        worker=run.before.worker,
    )


def _outstanding(registry: Registry | None, job: Job) -> int | None:
    """Return 1 for a failed job that something may wait for; maintenance finds out."""
    if job.state is not JobState.FAILED:
        return None
    return 1 if registry is None or registry.may_be_outstanding(job.kind) else None


async def _log_attempt(tx: Tx, registry: Registry | None, run: _SettledRun) -> None:
    """Log an ended attempt once it is committed, unless it is not recorded."""
    outcome, attempt = run.after.attempt_outcome, run.before.attempts
    if outcome == "done":
        tx.after_commit(partial(log_completion, registry, run.job, attempt))
    elif outcome is not None and run.result.announce:
        await log_failure(tx, registry, run.job, attempt=attempt, outcome=outcome)


async def _log_and_notify(tx: Tx, run: _SettledRun) -> None:
    job, end = run.job, run.result.end
    tx.notify(JOB_TOPIC, job.id)
    if isinstance(end, Snooze):
        seconds = end.after.total_seconds()
        await add_log_line(tx, job.id, f"snoozed for {seconds:g} s: {end.reason}")
    if isinstance(end, Released):
        await add_log_line(tx, job.id, f"released by {run.before.worker}, which shuts down")
    if job.state is JobState.WAITING:
        tx.notify(JOBS_TOPIC, job.queue)
    if job.state is JobState.DELAYED:
        tx.notify(DELAYED_TOPIC, job.queue)


def _needs_announcement(registry: Registry | None, job: Job) -> bool:
    """Return whether this program lacks the kind, so another has to call ``changed``."""
    return registry is None or not registry.has_kind(job.kind)


async def announce_changes(tx: Tx, registry: Registry | None, jobs: Sequence[Job]) -> None:
    """Call ``Handler.changed`` for the jobs whose kind this program has."""
    for job in jobs:
        if registry is None or not registry.has_kind(job.kind):
            continue
        handler = registry.get(job.kind)
        if handler.changed is None:
            continue
        try:
            arguments = decode_args(handler.args, job.payload, job.version)
        except InvalidJobArgs:
            continue  # there are no arguments to call it with; the job's error says so
        try:
            await handler.changed(tx, job, arguments)
        except Unavailable:
            raise
        except Exception as error:
            raise OnChangedFailed(f"{job.kind}: {error!r}") from error


async def release_dependents(tx: Tx, registry: Registry | None, finished: Sequence[Job]) -> None:
    """Release or fail the dependents of finished jobs, and their own dependents."""
    while finished:
        by_id = {job.id: job for job in finished}
        rows = await tx.fetch(
            "UPDATE job_dependency SET met = 1 WHERE met = 0"
            f" AND waits_for IN ({placeholders(len(by_id))}) RETURNING job, waits_for, if_fails",
            tuple(by_id),
        )
        if not rows:
            return
        released: list[str] = []
        failures: dict[str, str] = {}
        for dependent, waits_for, if_fails in rows:
            if by_id[waits_for].state is JobState.FAILED and if_fails == "fail":
                failures.setdefault(dependent, dependency_failure_reason(waits_for))
            else:
                released.append(dependent)
        await _meet_dependencies(tx, released)
        finished = await fail_jobs(
            tx,
            registry,
            sorted(failures.items()),
            JobReason.DEPENDENCY_FAILED,
            states=(JobState.WAITING_CHILDREN,),
        )


async def _meet_dependencies(tx: Tx, dependents: Sequence[str]) -> None:
    if not dependents:
        return
    await tx.executemany(
        "UPDATE job SET deps_pending = deps_pending - 1 WHERE id = ?",
        [(dependent,) for dependent in sorted(dependents)],
    )
    ids = sorted(set(dependents))
    rows = await tx.fetch(
        # A job without a delay may have been added since this transaction began.
        "UPDATE job SET state ="
        " CASE WHEN run_at > ? AND run_at > created_at THEN 'delayed' ELSE 'waiting' END"
        " WHERE state = 'waiting-children' AND deps_pending <= 0"
        f" AND id IN ({placeholders(len(ids))}) RETURNING id, queue",
        (tx.now, *ids),
    )
    for job_id, queue in rows:
        tx.notify(JOBS_TOPIC, queue)
        tx.notify(JOB_TOPIC, job_id)


async def fail_jobs(
    tx: Tx,
    registry: Registry | None,
    errors: Sequence[tuple[str, str]],
    reason: JobReason,
    *,
    states: Sequence[JobState],
) -> list[Job]:
    """Fail jobs that no worker holds (ids and errors); return the failed ones.

    Features are notified. The caller has to call ``release_dependents`` for the returned jobs.
    """
    failed_ids: list[str] = []
    for job_id, error in errors:
        changed = await tx.execute(
            "UPDATE job SET state = 'failed', finished_at = ?, last_error = ?, reason_code = ?"
            f" WHERE id = ? AND state IN ({placeholders(len(states))})",
            (
                tx.now,
                error[:_ERROR_LIMIT],
                reason.value,
                job_id,
                *[state.value for state in states],
            ),
        )
        if changed:
            failed_ids.append(job_id)
    if not failed_ids:
        return []
    job_by_id = await find(tx, failed_ids)
    failed = [job_by_id[job_id] for job_id in failed_ids]
    kept = [job.id for job in failed if _outstanding(registry, job)]
    await tx.executemany("UPDATE job SET outstanding = 1 WHERE id = ?", [(id,) for id in kept])
    for job in failed:
        await count_ended(tx, job, None)
        await log_failure(tx, registry, job, attempt=job.attempts, outcome=None)
    await notify_changed(tx, registry, failed)
    return failed


async def notify_changed(tx: Tx, registry: Registry | None, jobs: Sequence[Job]) -> None:
    """Notify features of changed jobs, or mark jobs whose kinds are missing here."""
    pending = [job.id for job in jobs if _needs_announcement(registry, job)]
    await tx.executemany("UPDATE job SET unannounced = 1 WHERE id = ?", [(id,) for id in pending])
    for job in jobs:
        tx.notify(JOB_TOPIC, job.id)
    await announce_changes(tx, registry, jobs)
