"""SQL that selects and counts steps by status and reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, exists, func, or_, select

from homeroom.completion.completion import ListedStep, StepState
from homeroom.completion.store import COMPLETION, COMPLETION_STEP, CompletionFilter, find_by_ids
from homeroom.db.tx import Tx
from homeroom.jobs import api as jobs
from homeroom.jobs.job import JobState

StepStatusFilter = Literal[
    "waiting", "active", "completed", "failed", "skipped", "outstanding", "not-completed"
]
"""A status of steps, or several: ``outstanding`` are waiting, active and failed ones,
``not-completed`` the skipped ones too.
"""
_STORED: Mapping[StepStatusFilter, tuple[str, ...]] = {
    "waiting": ("waiting",),
    "active": ("waiting",),
    "completed": ("completed",),
    "failed": ("failed",),
    "skipped": ("skipped",),
    "outstanding": ("waiting", "failed"),
    "not-completed": ("waiting", "failed", "skipped"),
}
"""The statuses as stored: a running step is stored as ``waiting``, its job is ``active``."""
_STORED_STATUSES = ("waiting", "completed", "failed", "skipped")


_LISTED: Mapping[StepStatusFilter, tuple[str, ...]] = {
    "outstanding": ("waiting", "active", "failed"),
    "not-completed": ("waiting", "active", "failed", "skipped"),
}
"""The statuses as listed."""


@dataclass(frozen=True, slots=True)
class StepFilter:
    """A selection of steps; None matches all."""

    name: str | None = None
    status: StepStatusFilter | None = None
    reason: str | None = None
    """A ``skip_code``, or the ``JobReason`` of an outstanding step's job."""

    def selects(self, step: ListedStep) -> bool:
        """Return whether a step that was read matches, as the statements below decide it."""
        return (
            (self.name is None or step.name == self.name)
            and (self.status is None or step.status in _LISTED.get(self.status, (self.status,)))
            and (self.reason is None or step.reason_code == self.reason)
        )


@dataclass(frozen=True, slots=True)
class StepCounts:
    """The number of steps of all completions."""

    by_step: Mapping[str, Mapping[str, int]]
    """By the step's name and its status; a running step counts as ``waiting``."""
    outstanding_since: Mapping[str, int]
    """The ``recorded_at`` of the oldest completion whose step of that name is outstanding."""


async def find_completion_ids(
    tx: Tx, query: CompletionFilter, steps: StepFilter, before: str | None, count: int
) -> list[str]:
    """Return the ids of completions with such a step, newest first, below an id.

    Ids are UUIDv7, so their order is that of recording, and the index of steps has it: no
    completion is read that does not match.
    """
    id = COMPLETION_STEP.c.completion_id
    statement = select(id).distinct().where(*_step_conditions(steps))
    if conditions := _completion_conditions(query):
        statement = statement.join(COMPLETION, COMPLETION.c.id == id).where(*conditions)
    if before is not None:
        statement = statement.where(id < before)
    rows = await tx.fetch(statement.order_by(id.desc()).limit(count))
    return [completion_id for (completion_id,) in rows]


async def find_steps(
    tx: Tx, query: CompletionFilter, steps: StepFilter, after: str | None, count: int
) -> list[StepState]:
    """Return steps of one name by their completions' ids, oldest first, above an id."""
    id = COMPLETION_STEP.c.completion_id
    statement = select(COMPLETION_STEP).where(*_step_conditions(steps))
    if conditions := _completion_conditions(query):
        statement = statement.join(COMPLETION, COMPLETION.c.id == id).where(*conditions)
    if after is not None:
        statement = statement.where(id > after)
    return await tx.fetch_into(StepState, statement.order_by(id).limit(count))


async def count_steps(tx: Tx, names: Sequence[str]) -> StepCounts:
    """Return the number of steps by name and status, also of ``names`` without any.

    One scan of the index of steps, whose completion ids are in the order of recording.
    """
    step = COMPLETION_STEP.c
    rows = await tx.fetch(
        select(
            step.name, step.status, func.count(), func.min(step.completion_id).label("oldest")
        ).group_by(step.status, step.name)
    )
    counts = {name: dict.fromkeys(_STORED_STATUSES, 0) for name in names}
    oldest_ids: dict[str, str] = {}
    for name, status, count, oldest_id in rows:
        counts.setdefault(name, {})[status] = count
        if status in _STORED["outstanding"]:
            oldest_ids[name] = min(oldest_ids.get(name, oldest_id), oldest_id)
    oldest = await find_by_ids(tx, sorted(set(oldest_ids.values())))
    since = {name: oldest[id].recorded_at for name, id in oldest_ids.items() if id in oldest}
    return StepCounts(counts, since)


async def find_completions_without(
    tx: Tx, name: str, query: CompletionFilter, after: str | None, count: int
) -> list[str]:
    """Return the ids of completions that lack a step, oldest first, above an id."""
    id, step = COMPLETION.c.id, COMPLETION_STEP.c
    has_step = exists().where(step.completion_id == id, step.name == name)
    statement = select(id).where(~has_step, *_completion_conditions(query))
    if after is not None:
        statement = statement.where(id > after)
    return [found for (found,) in await tx.fetch(statement.order_by(id).limit(count))]


async def outstanding_names(tx: Tx) -> list[str]:
    """Return the names of all outstanding steps, installed or not."""
    step = COMPLETION_STEP.c
    rows = await tx.fetch(
        select(step.name).distinct().where(step.status.in_(_STORED["outstanding"]))
    )
    return sorted(name for (name,) in rows)


async def find_idle(tx: Tx, name: str, after: str | None, count: int) -> list[StepState]:
    """Return outstanding steps of a name without a running job, above an id."""
    step = COMPLETION_STEP.c
    return await _fetch_steps_after(
        tx,
        [
            step.status.in_(_STORED["outstanding"]),
            step.name == name,
            func.coalesce(jobs.state_of_job(step.job_id), "") != JobState.ACTIVE.value,
        ],
        after,
        count,
    )


async def find_skipped(
    tx: Tx, name: str, code: str, after: str | None, count: int
) -> list[StepState]:
    """Return the skipped steps of a name with a code, above a completion's id."""
    step = COMPLETION_STEP.c
    conditions = [step.status == "skipped", step.name == name, step.skip_code == code]
    return await _fetch_steps_after(tx, conditions, after, count)


async def _fetch_steps_after(
    tx: Tx, conditions: Sequence[ColumnElement[bool]], after: str | None, count: int
) -> list[StepState]:
    id = COMPLETION_STEP.c.completion_id
    statement = select(COMPLETION_STEP).where(*conditions)
    if after is not None:
        statement = statement.where(id > after)
    return await tx.fetch_into(StepState, statement.order_by(id).limit(count))


@dataclass(frozen=True, slots=True)
class StepBacklog:
    """The outstanding steps of one name."""

    waiting: int
    """Waiting and active ones."""
    failed: int
    since: int | None
    """The ``recorded_at`` of the oldest completion among them."""


async def count_backlogs(tx: Tx) -> dict[str, StepBacklog]:
    """Return the outstanding steps by name; a name without any is absent.

    It reads the outstanding part of the index of steps only.
    """
    step = COMPLETION_STEP.c
    rows = await tx.fetch(
        select(step.name, step.status, func.count(), func.min(step.completion_id).label("oldest"))
        .where(step.status.in_(_STORED["outstanding"]))
        .group_by(step.status, step.name)
    )
    counts = {(name, status): count for name, status, count, _ in rows}
    oldest_ids: dict[str, str] = {}
    for name, _, _, oldest_id in rows:
        oldest_ids[name] = min(oldest_ids.get(name, oldest_id), oldest_id)
    oldest = await find_by_ids(tx, sorted(set(oldest_ids.values())))
    return {
        name: StepBacklog(
            counts.get((name, "waiting"), 0),
            counts.get((name, "failed"), 0),
            oldest[id].recorded_at if id in oldest else None,
        )
        for name, id in oldest_ids.items()
    }


def _step_conditions(steps: StepFilter) -> list[ColumnElement[bool]]:
    step = COMPLETION_STEP.c
    conditions: list[ColumnElement[bool]] = []
    if steps.name is not None:
        conditions.append(step.name == steps.name)
    if steps.status is not None:
        stored = _STORED[steps.status]
        conditions.append(step.status == stored[0] if len(stored) == 1 else step.status.in_(stored))
    active = JobState.ACTIVE.value
    if steps.status == "active":
        conditions.append(jobs.state_of_job(step.job_id) == active)
    if steps.status == "waiting":
        conditions.append(func.coalesce(jobs.state_of_job(step.job_id), "") != active)
    if steps.reason is not None:
        if steps.status is None:  # completed ones have no reason; the index leaves them out
            conditions.append(step.status.in_(_STORED["not-completed"]))
        conditions.append(
            or_(
                and_(step.status == "skipped", step.skip_code == steps.reason),
                and_(
                    step.status.in_(_STORED["outstanding"]),
                    jobs.reason_of_job(step.job_id) == steps.reason,
                ),
            )
        )
    return conditions


def _completion_conditions(query: CompletionFilter) -> list[ColumnElement[Any]]:
    conditions: list[ColumnElement[Any]] = []
    if query.user_id is not None:
        conditions.append(COMPLETION.c.user_id == query.user_id)
    if query.learners is not None:
        conditions.append(COMPLETION.c.user_id.in_(query.learners))
    if query.course_id is not None:
        conditions.append(COMPLETION.c.course_id == query.course_id)
    if query.recorded_since is not None:
        conditions.append(COMPLETION.c.recorded_at >= query.recorded_since)
    if query.recorded_until is not None:
        conditions.append(COMPLETION.c.recorded_at <= query.recorded_until)
    return conditions
