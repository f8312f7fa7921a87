"""A job, its states, and which state may follow which (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """The field's words for where a job is (BullMQ's, so that Bull Board agrees)."""

    WAITING = "waiting"
    DELAYED = "delayed"
    WAITING_CHILDREN = "waiting-children"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"


FINISHED = frozenset({JobState.COMPLETED, JobState.FAILED})

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.WAITING_CHILDREN: frozenset({JobState.WAITING, JobState.DELAYED, JobState.FAILED}),
    JobState.DELAYED: frozenset({JobState.WAITING, JobState.FAILED}),
    JobState.WAITING: frozenset({JobState.ACTIVE, JobState.FAILED}),
    JobState.ACTIVE: frozenset(
        {JobState.COMPLETED, JobState.FAILED, JobState.DELAYED, JobState.WAITING}
    ),
    JobState.FAILED: frozenset({JobState.WAITING}),
    JobState.COMPLETED: frozenset(),
}
"""Legal moves. A failed job goes back to waiting only when a person (or a rule) retries it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job as its row says. Instants are microseconds UTC."""

    id: str
    queue: str
    kind: str
    state: JobState
    priority: int
    payload: Mapping[str, Any]
    version: int
    attempts: int
    """Attempts that were started and counted; a snoozed or handed-back run is not counted."""
    max_attempts: int
    run_at: int
    created_at: int
    started_at: int | None
    finished_at: int | None
    last_error: str | None
    result: Any
    progress: Any
    cancel_requested: bool
    worker: str | None
    lease_until: int | None
