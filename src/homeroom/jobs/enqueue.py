"""Enqueue jobs in the transaction of their cause; validate external jobs.

Never commit the cause first and enqueue afterwards: a crash in between would lose the job.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import msgspec

from homeroom.db.ids import is_external_id, new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, HomeroomError, Invalid
from homeroom.instant import to_microseconds
from homeroom.jobs import store
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import (
    FINISHED,
    HIGH,
    LOW,
    InvalidJobArgs,
    JobArgs,
    JobReason,
    JobState,
    decode_args,
)
from homeroom.tracing import current_trace

JOBS_TOPIC = "jobs"
"""``tx.notify(JOBS_TOPIC, queue)``: a job of the queue may run now."""
DELAYED_TOPIC = "jobs-delayed"
"""``tx.notify(DELAYED_TOPIC, queue)``: a job of the queue may run later."""
OnDependencyFailure = Literal["fail", "run"]
GENERATED_ID_PREFIX = "bull."
"""Prefix of the row ids of external jobs without an id; they are deleted some days later."""


class UnknownDependency(Conflict):
    """A job cannot wait for a job that does not exist."""

    code = "unknown_dependency"


async def enqueue(
    tx: Tx,
    args: JobArgs,
    *,
    id: str | None = None,
    priority: int | None = None,
    delay: timedelta | None = None,
    after: Sequence[str] = (),
    if_fails: OnDependencyFailure = "fail",
    max_retries: int | None = None,
) -> str:
    """Add a job and return its id; it can run once ``tx`` is committed.

    ``id`` is its natural id (default: a new UUIDv7). Adding an id again changes nothing while its
    row exists, and returns the id. ``priority`` is 1 to 10, and 10 is the most urgent. The job
    starts no earlier than ``delay`` from now, and not before every job of ``after`` is completed.
    If one of those fails, this one fails too, or runs all the same with ``if_fails="run"``.
    ``max_retries`` overrides that of the kind, for kinds whose retries are a setting.
    Raises ``UnknownDependency``, and ``Invalid`` for an id or priority that is not allowed.
    """
    job_id = _validate_id(id)
    kind = type(args)
    urgency = kind.priority if priority is None else priority
    if not 1 <= urgency <= 10:
        raise Invalid(f"A priority is 1 to 10, and 10 is the most urgent; {urgency} is outside.")
    wait = 0 if delay is None else max(to_microseconds(delay), 0)
    dependencies = list(dict.fromkeys(after))
    if job_id in dependencies:
        raise Invalid(f"The job {job_id!r} cannot wait for itself.")
    state_by_id = await _lock_dependencies(tx, dependencies)
    unfinished = [name for name in dependencies if state_by_id[name] not in FINISHED]
    failed = [name for name in dependencies if state_by_id[name] is JobState.FAILED]
    failed_dependency = failed[0] if failed and if_fails == "fail" else None
    if failed_dependency is not None:
        state = JobState.FAILED
    elif unfinished:
        state = JobState.WAITING_CHILDREN
    else:
        state = JobState.DELAYED if wait else JobState.WAITING
    attempts = 1 + (kind.max_retries if max_retries is None else max_retries)
    row = store.NewJobRow(
        id=job_id,
        keeps_id=id is not None,
        queue=kind.queue,
        kind=kind.kind,
        priority=urgency,
        payload=msgspec.json.encode(args).decode(),
        version=kind.version,
        run_at=tx.now + wait,
        allowance=attempts,
        max_attempts=attempts,
        state=state,
        deps_pending=len(unfinished),
        trace_context=current_trace.get(),
    )
    if failed_dependency is not None:
        row = replace(
            row,
            finished_at=tx.now,
            last_error=dependency_failure_reason(failed_dependency),
            reason_code=JobReason.DEPENDENCY_FAILED,
            unannounced=True,
            outstanding=True,
        )
    if await store.insert_jobs(tx, [row]):
        await tx.executemany(
            "INSERT INTO job_dependency (job, waits_for, if_fails, met) VALUES (?, ?, ?, ?)",
            [(job_id, name, if_fails, int(name not in unfinished)) for name in dependencies],
        )
        _notify_added(tx, kind.queue, {state})
    return job_id


def _notify_added(tx: Tx, queue: str, states: Collection[JobState]) -> None:
    """Publish that a queue has new jobs in some states."""
    if JobState.DELAYED in states:
        tx.notify(DELAYED_TOPIC, queue)
    if JobState.WAITING in states:
        tx.notify(JOBS_TOPIC, queue)


@dataclass(frozen=True, slots=True)
class EnqueueRequest:
    """One job of many to add."""

    args: JobArgs
    id: str
    priority: int | None = None
    run_at: int | None = None
    """Microseconds UTC; None: now."""


async def enqueue_all(
    tx: Tx, requests: Sequence[EnqueueRequest], *, natural_ids: bool = False
) -> None:
    """Add many jobs that wait for no other, some dozens in one statement.

    The ids were made by ``new_id``. With ``natural_ids`` they are natural ones, and an id that is
    already known changes nothing.
    """
    rows = []
    states: dict[str, set[JobState]] = {}
    for request in requests:
        kind = type(request.args)
        delayed = request.run_at is not None and request.run_at > tx.now
        state = JobState.DELAYED if delayed else JobState.WAITING
        states.setdefault(kind.queue, set()).add(state)
        rows.append(
            store.NewJobRow(
                id=request.id,
                keeps_id=natural_ids,
                queue=kind.queue,
                kind=kind.kind,
                priority=kind.priority if request.priority is None else request.priority,
                payload=msgspec.json.encode(request.args).decode(),
                version=kind.version,
                run_at=request.run_at if delayed and request.run_at is not None else tx.now,
                allowance=1 + kind.max_retries,
                max_attempts=1 + kind.max_retries,
                state=state,
                trace_context=current_trace.get(),
            )
        )
    await store.insert_jobs(tx, rows)
    for queue, states_of_queue in states.items():
        _notify_added(tx, queue, states_of_queue)


def dependency_failure_reason(job_id: str) -> str:
    """Return the error of a job that fails because a job it waits for has failed."""
    return f"the job {job_id} that it waits for failed"


def _validate_id(id: str | None) -> str:
    if id is None:
        return new_id()
    if not is_external_id(id) or ":" in id:
        raise Invalid("A job id has 1 to 128 characters, no colon and no control character.")
    return id


async def _lock_dependencies(tx: Tx, named: Sequence[str]) -> dict[str, JobState]:
    if not named:
        return {}
    known = await store.states(tx, named, lock=True)
    unknown = [name for name in named if name not in known]
    if unknown:
        raise UnknownDependency(f"There is no job {unknown[0]!r} to wait for.")
    return known


async def add(
    tx: Tx,
    args: JobArgs,
    *,
    id: str | None = None,
    delay: timedelta | None = None,
    after: Sequence[str] = (),
    if_fails: OnDependencyFailure = "fail",
) -> str:
    """Add a job with the priority of its kind; see ``enqueue``."""
    return await enqueue(tx, args, id=id, delay=delay, after=after, if_fails=if_fails)


async def add_high_priority(
    tx: Tx,
    args: JobArgs,
    *,
    id: str | None = None,
    delay: timedelta | None = None,
    after: Sequence[str] = (),
    if_fails: OnDependencyFailure = "fail",
) -> str:
    """Add a job that runs before normal ones (priority 10); see ``enqueue``."""
    return await enqueue(
        tx, args, id=id, priority=HIGH, delay=delay, after=after, if_fails=if_fails
    )


async def add_low_priority(
    tx: Tx,
    args: JobArgs,
    *,
    id: str | None = None,
    delay: timedelta | None = None,
    after: Sequence[str] = (),
    if_fails: OnDependencyFailure = "fail",
) -> str:
    """Add a job that runs after normal ones (priority 1); see ``enqueue``."""
    return await enqueue(tx, args, id=id, priority=LOW, delay=delay, after=after, if_fails=if_fails)


class ExternalJobRefused(HomeroomError):
    """A job that another program added is not valid."""

    code = "job_refused"
    status = 422


@dataclass(frozen=True, slots=True)
class ExternalJob:
    """A job that another program added, as the engine read it."""

    kind: str
    id: str
    """The id of its row, unless its kind has natural ids."""
    version: int
    args: Mapping[str, Any]
    priority: int | None
    """1 to 10, 10 the most urgent; None: that of its kind."""


@dataclass(frozen=True, slots=True)
class AcceptedJob:
    """A valid external job: the contents of its row."""

    id: str
    args: JobArgs
    priority: int | None


def validate_external_job(registry: Registry, queue: str, external: ExternalJob) -> AcceptedJob:
    """Return the contents of an external job's row; raise ``ExternalJobRefused``."""
    public = [kind for kind in registry.kinds() if registry.get(kind).args.public]
    if external.kind not in public:
        raise ExternalJobRefused(
            f"{external.kind!r} is not a job kind that other programs may add. These are: "
            + ", ".join(public)
        )
    kind = registry.get(external.kind).args
    if kind.queue != queue:
        raise ExternalJobRefused(
            f"Jobs of the kind {external.kind} belong to the queue {kind.queue!r}."
            " Add the job to that queue."
        )
    try:
        args = decode_args(kind, external.args, external.version)
    except InvalidJobArgs as error:
        raise ExternalJobRefused(str(error)) from error
    job_id = args.natural_id() or external.id
    if not is_external_id(job_id) or ":" in job_id:
        raise ExternalJobRefused(
            "A job id has 1 to 128 characters, no colon and no control character."
        )
    return AcceptedJob(job_id, args, external.priority)
