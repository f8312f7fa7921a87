"""The format of jobs in Redis, shared with programs in Node (pure).

The data of a job is ``{"version": 1, "args": {...}}``; a job that Homeroom dispatched also names
its row. Priorities are reversed: Homeroom's 10 is BullMQ's 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from homeroom.jobs.enqueue import GENERATED_ID_PREFIX, ExternalJob, ExternalJobRefused
from homeroom.jobs.job import Job
from homeroom.redaction import redact_json

REDIS_KEY_PREFIX = "{homeroom}"
"""Prefix of every key. The braces place all of them in one slot of a cluster."""
MAX_DATA_BYTES = 64 * 1024
MAX_REDIS_ARGS_BYTES = 2_048
"""Larger arguments of Homeroom's own jobs are left out in Redis: the row has them."""
JOB_PRUNED = "Homeroom has deleted this job, because its retention ended. Add a new one."
_PRIORITY_SUM = 11


class _JobData(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    args: dict[str, Any] | None
    row: str | None = None


@dataclass(frozen=True, slots=True)
class RedisJob:
    """A job as it was fetched from Redis. ``timestamp`` is in milliseconds."""

    id: str
    name: str | None
    data: Any
    timestamp: int
    priority: int
    """BullMQ's priority; 0 for none."""


def to_redis_priority(priority: int) -> int:
    """Return Homeroom's priority (10 first) as BullMQ's (1 first)."""
    return _PRIORITY_SUM - priority


def from_redis_priority(priority: int) -> int | None:
    """Return BullMQ's priority as Homeroom's; None for a job that has none."""
    return max(_PRIORITY_SUM - priority, 1) if priority > 0 else None


def encode_job(job: Job) -> dict[str, Any]:
    """Return the data of one of Homeroom's own jobs, which is for display only."""
    args = redact_json(job.payload)
    if len(msgspec.json.encode(args)) > MAX_REDIS_ARGS_BYTES:
        args = None
    return {"version": job.version, "args": args, "row": job.id}


def job_row_id(queue: str, redis_job: RedisJob) -> str:
    """Return the id of the row of a job in Redis.

    An id that its producer gave is that of the row, too. A number of Redis is made unique by queue
    and instant, because each queue counts on its own and begins at 1 again when Redis is emptied;
    so are the ids of BullMQ's repeated jobs, which hold colons.
    """
    if redis_job.id.isdecimal() or ":" in redis_job.id:
        return (
            f"{GENERATED_ID_PREFIX}{queue}.{redis_job.id.replace(':', '.')}.{redis_job.timestamp}"
        )
    return redis_job.id


def own_row_id(redis_job: RedisJob) -> str | None:
    """Return the row that one of Homeroom's own jobs names; None for an external job."""
    data = redis_job.data
    row = data.get("row") if isinstance(data, Mapping) else None
    return row if isinstance(row, str) else None


def decode_external_job(queue: str, redis_job: RedisJob) -> ExternalJob:
    """Read an external job; raise ``ExternalJobRefused`` with the fault."""
    if len(msgspec.json.encode(redis_job.data)) > MAX_DATA_BYTES:
        raise ExternalJobRefused(f"The data of a job is at most {MAX_DATA_BYTES} bytes.")
    try:
        data = msgspec.convert(redis_job.data, type=_JobData, strict=True)
    except msgspec.ValidationError as error:
        raise ExternalJobRefused(
            f'The data of a job is {{"version": 1, "args": {{...}}}}, but this is not: {error}'
        ) from error
    if data.row is not None and data.row != redis_job.id:
        raise ExternalJobRefused(f"This is a copy of the job {data.row}. Retry that one.")
    if data.row is not None:
        raise ExternalJobRefused(JOB_PRUNED)
    if data.args is None:
        raise ExternalJobRefused("args is an object. Send {} where there are no arguments.")
    if data.version < 1:
        raise ExternalJobRefused("The version of a payload is at least 1.")
    return ExternalJob(
        kind=str(redis_job.name or ""),
        id=job_row_id(queue, redis_job),
        version=data.version,
        args=data.args,
        priority=from_redis_priority(redis_job.priority),
    )
