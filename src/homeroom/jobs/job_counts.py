"""Counters of jobs, counted in the transaction that ends an attempt or a job."""

from __future__ import annotations

from homeroom.db.ids import natural_id
from homeroom.db.tx import Tx
from homeroom.jobs.job import Job, JobReason, JobState
from homeroom.jobs.outcome import AttemptOutcome

_SLOT_JOB_PREFIX = natural_id("schedule", "")


async def count_ended(tx: Tx, job: Job, outcome: AttemptOutcome | None) -> None:
    """Count an ended attempt with the job as it is then; None: no attempt has ended.

    A job is counted as completed, failed or cancelled once it is finished, as retried for each
    attempt that another one follows, and as stalled for each lease that expired.
    """
    labels = (job.queue, job.kind)
    if outcome == "lost":
        tx.count("jobs_stalled", *labels)
    if job.state is JobState.COMPLETED:
        tx.count("jobs_completed", *labels)
    elif job.state is not JobState.FAILED:
        if outcome == "retry":
            tx.count("jobs_retried", *labels)
    elif job.reason_code == JobReason.CANCELLED:
        tx.count("jobs_cancelled", *labels)
    else:
        tx.count("jobs_failed", *labels, job.reason_code or "unknown")
        if job.id.startswith(_SLOT_JOB_PREFIX):
            await _count_failed_slot(tx, job.id)


async def _count_failed_slot(tx: Tx, job_id: str) -> None:
    """Count the failed job of a slot; rare enough for a search without an index."""
    row = await tx.fetch_one("SELECT schedule FROM schedule_slot WHERE job = ?", (job_id,))
    if row is not None:
        tx.count("schedule_runs", row[0], "failed")
