"""Dispatches with the jobs that send them and their next attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from homeroom.completion.api import Completions
from homeroom.db.tx import Tx
from homeroom.dispatch.jobs import replay_job_id
from homeroom.dispatch.store import Dispatch
from homeroom.jobs import api as jobs
from homeroom.jobs.job import HOLD_REASONS, Job, JobState


@dataclass(frozen=True, slots=True)
class ListedDispatch(Dispatch):
    """A dispatch with what its job adds."""

    job_id: str | None = None
    """The job of its last replay, else of its step."""
    next_attempt_at: int | None = None
    """When a waiting dispatch is tried again; None while it is tried, or its partner is away."""
    reason_code: str | None = None
    """The ``JobReason`` for which a dispatch is not delivered."""


async def add_jobs(
    tx: Tx, completions: Completions, dispatches: Sequence[Dispatch]
) -> list[ListedDispatch]:
    """Return dispatches with their jobs, in the same order."""
    steps = await completions.list_steps(tx, sorted({each.completion_id for each in dispatches}))
    job_ids = {
        each.id: replay_job_id(each.id, each.replays)
        if each.replays
        else next(
            (step.job_id for step in steps[each.completion_id] if step.name == each.destination),
            None,
        )
        for each in dispatches
    }
    found = await jobs.find(tx, [id for id in job_ids.values() if id is not None])
    return [_add_job(each, found.get(job_ids[each.id] or "")) for each in dispatches]


def _add_job(dispatch: Dispatch, job: Job | None) -> ListedDispatch:
    values = {field.name: getattr(dispatch, field.name) for field in fields(Dispatch)}
    if job is None:
        return ListedDispatch(**values)
    is_undelivered = dispatch.status in {"waiting", "failed"}
    is_planned = (
        dispatch.status == "waiting"
        and job.state is JobState.DELAYED
        and job.reason_code not in HOLD_REASONS
    )
    return ListedDispatch(
        **values,
        job_id=job.id,
        next_attempt_at=job.run_at if is_planned else None,
        reason_code=job.reason_code if is_undelivered else None,
    )
