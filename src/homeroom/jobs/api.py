"""Public interface of the job kernel: enqueue, register handlers, query and act."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, and_, func, or_, select

from homeroom.db.personal_data import NO_COLUMNS, PersonalRows, json_contains_id
from homeroom.instant import SECOND
from homeroom.jobs import queue_store, schedule_store, store
from homeroom.jobs.downtime import Downtime, downtimes
from homeroom.jobs.enqueue import (
    EnqueueRequest,
    UnknownDependency,
    add,
    add_high_priority,
    add_low_priority,
    enqueue,
    enqueue_all,
)
from homeroom.jobs.handler import (
    Handler,
    JobContext,
    LeaseLost,
    LogSubject,
    Registry,
    UnknownJobKind,
)
from homeroom.jobs.held_jobs import count_held, move_held
from homeroom.jobs.job import (
    FINISHED,
    HIGH,
    LOW,
    NORMAL,
    PARTNER_DELAYS,
    Backoff,
    FixedDelays,
    Job,
    JobArgs,
    JobReason,
    JobState,
    RetryDelays,
    SlotArgs,
)
from homeroom.jobs.job_actions import cancel, clean, delete_finished_jobs, promote, remove, retry
from homeroom.jobs.job_log import hash_person
from homeroom.jobs.job_search import JobQuery, search
from homeroom.jobs.outcome import Cancel, Done, Fail, Hold, Outcome, Retry, Snooze
from homeroom.jobs.queue_store import (
    counts,
    flag_silent_workers,
    pause,
    resume,
    running_workers,
    workers,
)
from homeroom.jobs.schedule_store import (
    SlotRecord,
    UpcomingSlot,
    declare_schedule,
    preview_next_slot,
    remove_schedule,
)
from homeroom.jobs.slot_firing import has_unreported_slots, take_unreported_slots
from homeroom.jobs.store import (
    JobAttempt,
    attempts,
    find,
    get,
    job_attempt_table,
    job_dependency_table,
    job_log_table,
    job_table,
    logs,
    states,
)
from homeroom.redaction import redact_json, redact_text

__all__ = [
    "FINISHED",
    "HIGH",
    "LOW",
    "NORMAL",
    "PARTNER_DELAYS",
    "Backoff",
    "Cancel",
    "Done",
    "Downtime",
    "EnqueueRequest",
    "Fail",
    "FixedDelays",
    "Handler",
    "Hold",
    "Job",
    "JobArgs",
    "JobAttempt",
    "JobContext",
    "JobQuery",
    "JobReason",
    "JobState",
    "LeaseLost",
    "LogSubject",
    "Outcome",
    "Registry",
    "Retry",
    "RetryDelays",
    "SlotArgs",
    "SlotRecord",
    "Snooze",
    "UnknownDependency",
    "UnknownJobKind",
    "UpcomingSlot",
    "add",
    "add_high_priority",
    "add_low_priority",
    "attempts",
    "cancel",
    "clean",
    "count_held",
    "counts",
    "declare_schedule",
    "delete_finished_jobs",
    "downtimes",
    "enqueue",
    "enqueue_all",
    "find",
    "flag_silent_workers",
    "get",
    "has_unreported_slots",
    "hash_person",
    "job_rows_by_cause",
    "job_rows_by_id",
    "job_rows_by_mention",
    "logs",
    "move_held",
    "pause",
    "preview_next_slot",
    "promote",
    "reason_of_job",
    "remove",
    "remove_schedule",
    "resume",
    "retry",
    "running_workers",
    "search",
    "select_jobs_by_cause",
    "state_of_job",
    "states",
    "take_unreported_slots",
    "workers",
]


def job_fields(job: Job) -> dict[str, Any]:
    """Return the fields of a job for viewers and operators, redacted."""
    return {
        "id": job.id,
        "queue": job.queue,
        "name": job.kind,
        "state": job.state,
        "priority": job.priority,
        "data": redact_json(dict(job.payload)),
        "attempts_made": job.attempts,
        "max_attempts": job.max_attempts,
        "run_at": job.run_at,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "failed_reason": None if job.last_error is None else redact_text(job.last_error),
        "reason_code": _reason_code(job),
        "result": redact_json(job.result),
        "progress": redact_json(job.progress),
        "cancel_requested": job.cancel_requested,
        "worker": job.worker,
    }


def _reason_code(job: Job) -> str | None:
    """Return the code of an unfinished or failed job.

    A worker of a release before 0038 completes a job without clearing its code.
    """
    return None if job.state is JobState.COMPLETED else job.reason_code


def log_line_fields(at: int, line: str) -> dict[str, Any]:
    """Return the fields of a line of a job's log, redacted."""
    return {"at": at, "line": redact_text(line)}


def attempt_fields(attempt: store.JobAttempt) -> dict[str, Any]:
    """Return the fields of an attempt, its error and traceback redacted."""
    return {
        "number": attempt.number,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "outcome": attempt.outcome,
        "error": None if attempt.error is None else redact_text(attempt.error),
        "traceback": None if attempt.traceback is None else redact_text(attempt.traceback),
        "worker": attempt.worker,
    }


def queue_fields(
    queue: queue_store.QueueSettings,
    counts: dict[str, int],
    oldest: int | None,
    workers: list[queue_store.WorkerRow],
    now: int,
) -> dict[str, Any]:
    """Return the fields of a queue with its counts; ``now`` in microseconds."""
    serving = [
        worker.queues[queue.name]
        for worker in workers
        if worker.state == "running" and queue.name in worker.queues
    ]
    waiting = counts.get(JobState.WAITING, 0)
    active = counts.get(JobState.ACTIVE, 0)
    failed = counts.get(JobState.FAILED, 0)
    return {
        "name": queue.name,
        "paused": queue.paused,
        "concurrency": queue.concurrency or max(serving, default=None),
        "limits": {
            "concurrency": queue.concurrency,
            "rate_max": queue.rate_max,
            "rate_window_seconds": (
                None if queue.rate_window is None else queue.rate_window / SECOND
            ),
        },
        "redis_limits": _redis_limits(queue.shared_limits),
        "counts": {
            "waiting": waiting,
            "delayed": counts.get(JobState.DELAYED, 0),
            "waiting_children": counts.get(JobState.WAITING_CHILDREN, 0),
            "active": active,
            "completed": counts.get(JobState.COMPLETED, 0),
            "failed": failed,
            "cancelled": counts.get("cancelled", 0),
        },
        "oldest_waiting_seconds": None if oldest is None else max(now - oldest, 0) / SECOND,
        "workers": len(serving),
        "stats": {
            "queue_length": waiting,
            "active_jobs": active,
            "failed_jobs": failed,
            "processing": active > 0,
        },
    }


def _redis_limits(limits: queue_store.SharedLimits) -> dict[str, Any] | None:
    if limits == queue_store.NO_SHARED_LIMITS:
        return None
    return {
        "concurrency": limits.concurrency,
        "rate_max": limits.rate_max,
        "rate_window_seconds": limits.rate_window_seconds,
    }


def worker_fields(worker: queue_store.WorkerRow) -> dict[str, Any]:
    """Return the fields of a worker."""
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "started_at": worker.started_at,
        "heartbeat_at": worker.heartbeat_at,
        "state": worker.state,
        "lease_seconds": worker.lease / SECOND,
        "queues": worker.queues,
        "active": worker.active,
    }


def schedule_fields(
    schedule: schedule_store.Schedule, slots: list[schedule_store.SlotRecord]
) -> dict[str, Any]:
    """Return the fields of a schedule and of its last slots."""
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "job_name": schedule.kind,
        "paused": schedule.paused,
        "catch_up_seconds": schedule.catch_up / SECOND,
        "next_at": schedule.next_slot_at,
        "slots": [
            {
                "slot": slot.slot,
                "state": slot.state,
                "slot_at": slot.slot_at,
                "fired_at": slot.fired_at,
                "late_seconds": slot.late / SECOND,
                "job_id": slot.job,
            }
            for slot in slots
        ],
    }


def state_of_job(job_id: ColumnElement[Any]) -> ColumnElement[str]:
    """Return the state of the job whose id is in a column, null without a row."""
    return select(job_table.c.state).where(job_table.c.id == job_id).scalar_subquery()


def reason_of_job(job_id: ColumnElement[Any]) -> ColumnElement[str]:
    """Return the ``JobReason`` of the job whose id is in a column, or null."""
    return select(job_table.c.reason_code).where(job_table.c.id == job_id).scalar_subquery()


IdSelect = Callable[[str], Select[tuple[str]]]
"""Selects ids by the id of a person."""


def job_rows_by_id(ids: IdSelect) -> tuple[PersonalRows, ...]:
    """Declare the jobs with some ids as rows about a person.

    They are erased with the person, finished or not; a worker that runs one loses its lease.
    """

    def rows(column: Column[str]) -> PersonalRows:
        return PersonalRows(
            column.table, lambda user_id: column.in_(ids(user_id)), visible_columns=NO_COLUMNS
        )

    return (
        rows(job_dependency_table.c.job),
        rows(job_log_table.c.job),
        rows(job_attempt_table.c.job),
        rows(job_table.c.id),
    )


def job_rows_by_cause(causes: IdSelect) -> tuple[PersonalRows, ...]:
    """Declare jobs whose natural ids begin with certain ids as rows about a person."""
    return job_rows_by_id(lambda user_id: select_jobs_by_cause(causes(user_id)))


def select_jobs_by_cause(causes: Select[tuple[str]]) -> Select[tuple[str]]:
    """Select the ids of jobs whose natural ids begin with certain ids."""
    cause = causes.subquery()
    [id] = cause.columns
    begins = and_(job_table.c.id > id.concat("."), job_table.c.id < id.concat("/"))
    return select(job_table.c.id).select_from(cause).join(job_table, begins)


def job_rows_by_mention(kind: str, *named: Callable[[str], str]) -> tuple[PersonalRows, ...]:
    """Declare jobs of a kind as rows about the people that they name.

    ``named`` return parts of the id or the arguments by the id of a person.
    """

    def ids(user_id: str) -> Select[tuple[str]]:
        def contains(column: Column[str]) -> list[ColumnElement[bool]]:
            return [func.replace(column, piece(user_id), "") != column for piece in named]

        names_person = or_(
            json_contains_id(job_table.c.payload, user_id),
            *contains(job_table.c.id),
            *contains(job_table.c.payload),
        )
        return select(job_table.c.id).where(job_table.c.kind == kind, names_person)

    return job_rows_by_id(ids)
