"""Add a job in the transaction of the row that causes it; never commit first and enqueue then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import msgspec

from homeroom.clock import microseconds
from homeroom.db.id import is_outside_id, new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid
from homeroom.jobs import store
from homeroom.jobs.args import HIGH, LOW, JobArgs
from homeroom.jobs.job import FINISHED, JobState

JOBS_TOPIC = "jobs"
"""``tx.notify(JOBS_TOPIC, queue)``: a queue has a job that may run."""
DELAYED_TOPIC = "jobs-delayed"
"""``tx.notify(DELAYED_TOPIC, queue)``: a queue has a job that may run later."""
IfFails = Literal["fail", "run"]


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
    if_fails: IfFails = "fail",
    max_retries: int | None = None,
) -> str:
    """Add a job and return its id; it can run once ``tx`` is committed.

    ``id`` is its natural id (default: a new UUIDv7). Adding an id again changes nothing, for as
    long as its row exists, and returns the id. ``priority`` is 1 to 10, 10 the most urgent.
    The job starts no earlier than ``delay`` from now, and not before every job of ``after`` is
    completed. If one of those fails this one fails too, or with ``if_fails="run"`` goes on.
    ``max_retries`` goes before that of its kind, where a setting decides.
    Raises ``Invalid`` for an id or priority that is not allowed, ``UnknownDependency``.
    """
    job_id = _checked_id(id)
    kind = type(args)
    urgency = kind.priority if priority is None else priority
    if not 1 <= urgency <= 10:
        raise Invalid(f"A priority is 1 to 10, and 10 is the most urgent; {urgency} is not.")
    wait = 0 if delay is None else max(microseconds(delay), 0)
    named = list(dict.fromkeys(after))
    if job_id in named:
        raise Invalid(f"The job {job_id!r} cannot wait for itself.")
    known = await _dependencies(tx, named)
    unfinished = [name for name in named if known[name] not in FINISHED]
    failed = [name for name in named if known[name] is JobState.FAILED]
    doomed_by = failed[0] if failed and if_fails == "fail" else None
    if doomed_by is not None:
        state = JobState.FAILED
    elif unfinished:
        state = JobState.WAITING_CHILDREN
    else:
        state = JobState.DELAYED if wait else JobState.WAITING
    added = await store.insert(
        tx,
        store.NewJob(
            id=job_id,
            keeps_id=id is not None,
            queue=kind.queue,
            kind=kind.kind,
            priority=urgency,
            payload=msgspec.json.encode(args),
            version=kind.version,
            run_at=tx.now + wait,
            allowance=1 + (kind.max_retries if max_retries is None else max_retries),
            state=state,
            deps_pending=len(unfinished),
            failed_because=None if doomed_by is None else dependency_failed(doomed_by),
        ),
    )
    if added:
        await tx.executemany(
            "INSERT INTO job_dependency (job, waits_for, if_fails, met) VALUES (?, ?, ?, ?)",
            [(job_id, name, if_fails, int(name not in unfinished)) for name in named],
        )
        if state is JobState.DELAYED:
            tx.notify(DELAYED_TOPIC, kind.queue)
        elif state is JobState.WAITING:
            tx.notify(JOBS_TOPIC, kind.queue)
    return job_id


@dataclass(frozen=True, slots=True)
class Order:
    """One job of many to add."""

    args: JobArgs
    id: str
    priority: int | None = None
    run_at: int | None = None
    """Microseconds UTC; None: at once."""


async def enqueue_all(tx: Tx, orders: Sequence[Order], *, keeps_ids: bool = False) -> None:
    """Add many jobs that wait for no other, in a statement for some dozens of them.

    The ids were made by ``new_id``; with ``keeps_ids`` they are natural ones, and one that is
    known already changes nothing.
    """
    rows = []
    states: dict[str, set[JobState]] = {}
    for order in orders:
        kind = type(order.args)
        delayed = order.run_at is not None and order.run_at > tx.now
        state = JobState.DELAYED if delayed else JobState.WAITING
        states.setdefault(kind.queue, set()).add(state)
        rows.append(
            store.NewJob(
                id=order.id,
                keeps_id=keeps_ids,
                queue=kind.queue,
                kind=kind.kind,
                priority=kind.priority if order.priority is None else order.priority,
                payload=msgspec.json.encode(order.args),
                version=kind.version,
                run_at=order.run_at if delayed and order.run_at is not None else tx.now,
                allowance=1 + kind.max_retries,
                state=state,
                deps_pending=0,
            )
        )
    await store.insert_many(tx, rows)
    for queue, found in states.items():
        if JobState.DELAYED in found:
            tx.notify(DELAYED_TOPIC, queue)
        if JobState.WAITING in found:
            tx.notify(JOBS_TOPIC, queue)


def dependency_failed(job_id: str) -> str:
    """Return the reason of a job that fails because one that it waits for has failed."""
    return f"the job {job_id} that it waits for failed"


def _checked_id(id: str | None) -> str:
    if id is None:
        return new_id()
    if not is_outside_id(id) or ":" in id:
        raise Invalid("A job id has 1 to 128 characters, no colon and no control character.")
    return id


async def _dependencies(tx: Tx, named: Sequence[str]) -> dict[str, JobState]:
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
    if_fails: IfFails = "fail",
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
    if_fails: IfFails = "fail",
) -> str:
    """Add a job that goes before the normal ones (priority 10); see ``enqueue``."""
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
    if_fails: IfFails = "fail",
) -> str:
    """Add a job that lets the normal ones go first (priority 1); see ``enqueue``."""
    return await enqueue(tx, args, id=id, priority=LOW, delay=delay, after=after, if_fails=if_fails)
