"""Log lines about jobs: one for each failed attempt, and one for each end."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Column, Integer, Table, Text

from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.jobs.handler import LogSubject, Registry
from homeroom.jobs.job import InvalidJobArgs, Job, JobArgs, JobReason, JobState, decode_args

log = structlog.get_logger(__name__)
_HASH_LENGTH = 16
_ERROR_LENGTH = 500

log_salt_table = Table(
    "log_salt",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("salt", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class _LogSalt:
    id: int
    salt: str


async def hash_person(tx: Tx, user_id: str) -> str:
    """Return the hash that stands for a person in the log: 16 hexadecimal digits.

    It is the same in every line of an installation, and its salt is in no log.
    """
    select_salt = "SELECT * FROM log_salt"
    stored = await tx.fetch_one_into(_LogSalt, select_salt)
    if stored is None:
        new = _LogSalt(1, secrets.token_hex(32))
        await tx.insert(log_salt_table, [new], on_conflict="ignore")
        stored = await tx.fetch_one_into(_LogSalt, select_salt)
        assert stored is not None  # by this process or by another
    return hmac.new(stored.salt.encode(), user_id.encode(), hashlib.sha256).hexdigest()[
        :_HASH_LENGTH
    ]


async def log_failure(
    tx: Tx, registry: Registry | None, job: Job, *, attempt: int, outcome: str | None
) -> None:
    """Log a failed attempt, or that a job failed, once the transaction is committed.

    ``job`` is the job after it; ``outcome`` is that of the attempt, None for a job that ended
    without one. The line names the learner by a hash alone, also where the error has the id.
    """
    fields: dict[str, Any] = {
        "job_id": job.id,
        "kind": job.kind,
        "queue": job.queue,
        "attempt": attempt,
        "max_attempts": job.max_attempts,
        "outcome": outcome,
        "reason_code": job.reason_code,
    }
    error = job.last_error
    arguments = _decode(registry, job)
    if registry is not None and arguments is not None:
        fields |= arguments.log_fields()
        subject = registry.get(job.kind).subject
        found = LogSubject() if subject is None else await subject(tx, arguments)
        fields |= {"course_id": found.course_id} if found.course_id is not None else {}
        fields |= {"partner": found.partner} if found.partner is not None else {}
        if found.user_id is not None:
            user_hash = await hash_person(tx, found.user_id)
            fields["user_id_hash"] = user_hash
            error = None if error is None else error.replace(found.user_id, user_hash)
    fields["error"] = None if error is None else error[:_ERROR_LENGTH]
    if job.state is not JobState.FAILED:
        write = partial(log.warning, "job_attempt_failed")
    elif job.reason_code == JobReason.CANCELLED:
        write = partial(log.warning, "job_failed")
    else:
        write = partial(log.error, "job_failed")
    tx.after_commit(partial(write, **fields))


def log_completion(registry: Registry | None, job: Job, attempt: int) -> None:
    """Log a completed job at the level ``debug``."""
    arguments = _decode(registry, job)
    log.debug(
        "job_completed",
        job_id=job.id,
        kind=job.kind,
        queue=job.queue,
        attempt=attempt,
        **({} if arguments is None else arguments.log_fields()),
    )


def _decode(registry: Registry | None, job: Job) -> JobArgs | None:
    """Return the arguments of a job, None where this program cannot read them."""
    if registry is None or not registry.has_kind(job.kind):
        return None
    try:
        arguments: JobArgs = decode_args(registry.get(job.kind).args, job.payload, job.version)
    except InvalidJobArgs:
        return None
    return arguments
