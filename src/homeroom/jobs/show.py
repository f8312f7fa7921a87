"""Jobs, queues and schedules as operators see them: secrets hidden, addresses masked."""

from __future__ import annotations

from typing import Any

from homeroom.clock import SECOND
from homeroom.jobs import queue_store, schedule_store, store
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.redact import redact, redact_text


def job_fields(job: Job) -> dict[str, Any]:
    """Return what everybody who may see jobs sees of one."""
    return {
        "id": job.id,
        "queue": job.queue,
        "name": job.kind,
        "state": job.state,
        "priority": job.priority,
        "data": redact(dict(job.payload)),
        "attempts_made": job.attempts,
        "max_attempts": job.max_attempts,
        "run_at": job.run_at,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "failed_reason": None if job.last_error is None else redact_text(job.last_error),
        "result": redact(job.result),
        "progress": redact(job.progress),
        "cancel_requested": job.cancel_requested,
        "worker": job.worker,
    }


def log_fields(at: int, line: str) -> dict[str, Any]:
    """Return a line of a job's log."""
    return {"at": at, "line": redact_text(line)}


def attempt_fields(attempt: store.Attempt) -> dict[str, Any]:
    """Return an attempt, its error and traceback redacted."""
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
    queue: queue_store.Queue,
    counts: dict[JobState, int],
    oldest: int | None,
    workers: list[queue_store.WorkerRow],
    now: int,
) -> dict[str, Any]:
    """Return a queue with its counts and the statistics of seed 000; ``now`` in microseconds."""
    serving = [worker.queues[queue.name] for worker in workers if queue.name in worker.queues]
    waiting = counts.get(JobState.WAITING, 0)
    active = counts.get(JobState.ACTIVE, 0)
    failed = counts.get(JobState.FAILED, 0)
    return {
        "name": queue.name,
        "paused": queue.paused,
        "concurrency": queue.concurrency or max(serving, default=None),
        "counts": {
            "waiting": waiting,
            "delayed": counts.get(JobState.DELAYED, 0),
            "waiting_children": counts.get(JobState.WAITING_CHILDREN, 0),
            "active": active,
            "completed": counts.get(JobState.COMPLETED, 0),
            "failed": failed,
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


def schedule_fields(
    schedule: schedule_store.Schedule, slots: list[schedule_store.FiredSlot]
) -> dict[str, Any]:
    """Return a schedule with its last slots."""
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
