"""Observations of the runs of jobs: their label, and how long they waited."""

from __future__ import annotations

from collections.abc import Callable

from homeroom.instant import SECOND
from homeroom.jobs.job import Job
from homeroom.jobs.outcome import LeaseExpired, Outcome, Released, Retry, RunEnd

ObserveRun = Callable[[Job, str, float], None]
"""Called for each run that ended here: its job, its label (``done``, ``retry`` ...), seconds."""
_RUN_LABELS: dict[type[Outcome | RunEnd], str] = {Released: "handback", LeaseExpired: "lost"}
"""Labels of the run metric that are not the name of an outcome's type."""


def run_label(job: Job, end: RunEnd | None) -> str:
    """Return the metric label of a run; a run without an end lost its lease."""
    if end is None:
        return "lost"
    if isinstance(end, Retry) and job.attempts >= job.max_attempts:
        return "exhausted"
    return _RUN_LABELS.get(type(end)) or type(end).__name__.lower()


def wait_seconds(job: Job) -> float:
    """Return the time from when a claimed job could run to its start."""
    return max((job.started_at or job.run_at) - job.run_at, 0) / SECOND
