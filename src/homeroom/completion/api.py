"""Record once that a course is complete, and what must follow: its steps, each a job of its own.

The steps are registered in ``wiring``; this room imports no issuer and no partner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import msgspec

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion import completion as rule
from homeroom.completion import store
from homeroom.completion.completion import ChapterRecord, Completion, StepState, StepStatus
from homeroom.completion.personal import PERSONAL
from homeroom.completion.store import Filter
from homeroom.db.id import natural_id, new_id
from homeroom.db.tx import Row, Tx
from homeroom.errors import Conflict, NotFound
from homeroom.jobs import api as jobs
from homeroom.jobs.args import JobArgs
from homeroom.jobs.job import Job, JobState

__all__ = [
    "PERSONAL",
    "TOPIC",
    "ChapterRecord",
    "Completion",
    "Completions",
    "Crossing",
    "Filter",
    "Step",
    "StepArgs",
    "StepState",
    "StepStatus",
]

TOPIC = "completions"
_CHAPTERS = msgspec.json.Decoder(tuple[ChapterRecord, ...])


class StepArgs(JobArgs, frozen=True, kw_only=True):
    """The arguments of a step's job. A subclass names its kind, queue and priority.

    The kind is ``completion.`` and the step's name, and whoever adds the job, it has the id of the
    step's first run: two rows of one step could be worked at the same time.
    """

    public: ClassVar[bool] = True

    completion_id: str

    def natural_id(self) -> str:
        """Return the id of the step's first run."""
        return natural_id(self.completion_id, self.kind.partition(".")[2])


@dataclass(frozen=True, slots=True)
class Crossing:
    """A learner who fulfils the criteria of a course, as ingest found in its commit."""

    user_id: str
    course: Course
    """In the version of the learner's attempt."""
    attempt: int
    completed_at: int
    score: int | None
    time_spent: int
    chapters: tuple[ChapterRecord, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that must follow a completion, independent of the others."""

    name: str
    args: Callable[[str], JobArgs]
    """Make the job's arguments from the completion's id."""
    skip: Callable[[Completion, Course], str | None] = lambda completion, course: None
    """Return why the step is not to be done at all, or None; it makes no job then."""


class Completions:
    """Completions and their steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """Take the steps; raise ValueError where two have the same name."""
        self.steps = {step.name: step for step in steps}
        if len(self.steps) != len(steps):
            raise ValueError("two steps of a completion have the same name")

    async def record(self, tx: Tx, crossings: Sequence[Crossing]) -> list[Completion]:
        """Record completions, complete the enrolments, and add a job for every step.

        All in the caller's transaction (B10). Returns those that are new: a course that was
        completed in the same attempt before is left alone, its date and its jobs too.
        """
        drafts = [(_completion(crossing, new_id(), tx.now), crossing) for crossing in crossings]
        added = await store.add(tx, [_row(completion) for completion, _ in drafts])
        fresh = [(completion, each.course) for completion, each in drafts if completion.id in added]
        if not fresh:
            return []
        later = [(new.id, new.user_id, new.course_id, new.attempt) for new, _ in fresh]
        await store.supersede(tx, [row for row in later if row[-1] > 1])
        await store.supersede_late(tx, [new.id for new, _ in fresh])
        await catalogue.mark_completed(
            tx, [(new.user_id, new.course_id, new.attempt, new.completed_at) for new, _ in fresh]
        )
        rows: list[tuple[object, ...]] = []
        for new, course in fresh:
            for position, step in enumerate(self.steps.values()):
                reason = step.skip(new, course)
                if reason is None:
                    job_id = await _add_job(tx, new.id, step, run=1)
                    rows.append((new.id, step.name, position, "waiting", job_id, 1, 0, None, None))
                else:
                    rows.append(
                        (new.id, step.name, position, "skipped", None, 0, 0, reason, tx.now)
                    )
            tx.notify(TOPIC, new.id)
        await store.add_steps(tx, rows)
        return [completion for completion, _ in fresh]

    async def get(self, tx: Tx, id: str) -> Completion:
        """Return a completion; raise ``NotFound``."""
        row = await store.get(tx, id)
        if row is None:
            raise NotFound(f"There is no completion {id!r}.")
        return _from_row(row)

    async def hold(self, tx: Tx, id: str) -> Completion:
        """Return a completion whose learner cannot be erased before this transaction ends.

        For who read it before, and has asked others since. Raises ``NotFound``.
        """
        known = await self.get(tx, id)
        await catalogue.lock_learners(tx, [known.user_id])
        return await self.get(tx, id)

    async def find(
        self, tx: Tx, user_id: str, course_id: str, attempt: int | None = None
    ) -> Completion | None:
        """Return the completion of an attempt, or of the latest attempt that has one."""
        row = await store.find(tx, user_id, course_id, attempt)
        return None if row is None else _from_row(row)

    async def completed_courses(self, tx: Tx, user_id: str) -> frozenset[str]:
        """Return the courses that a learner has completed in some attempt."""
        return frozenset(row[0] for row in await store.courses_of(tx, user_id))

    async def newest(
        self, tx: Tx, wanted: Filter, before: tuple[int, str] | None, count: int
    ) -> list[Completion]:
        """Return completions by (recorded_at, id), newest first, before such a pair."""
        return [_from_row(row) for row in await store.newest(tx, wanted, before, count)]

    async def by_date(
        self, tx: Tx, wanted: Filter, after: tuple[int, str] | None, count: int
    ) -> list[Completion]:
        """Return completions by (completed_at, id), oldest first, after such a pair."""
        return [_from_row(row) for row in await store.by_date(tx, wanted, after, count)]

    async def note(self, tx: Tx, completion_id: str, text: str) -> None:
        """Add an audit line, as for a late event that proves an earlier completion (B9).

        Nothing else changes: no date moves and no job runs again.
        """
        await store.add_note(tx, new_id(), completion_id, text)
        tx.notify(TOPIC, completion_id)

    async def notes(self, tx: Tx, completion_id: str) -> list[tuple[int, str]]:
        """Return a completion's audit lines as (instant, text), oldest first."""
        return [(row[0], row[1]) for row in await store.notes(tx, completion_id)]

    async def steps_of(self, tx: Tx, completion_ids: Sequence[str]) -> dict[str, list[StepState]]:
        """Return the steps of completions; one whose job runs at this moment is ``active``."""
        found: dict[str, list[StepState]] = {id: [] for id in completion_ids}
        states = [StepState(*row) for row in await store.steps(tx, completion_ids)]
        open_jobs = [step.job_id for step in states if step.status == "waiting" and step.job_id]
        live = await jobs.states(tx, open_jobs) if open_jobs else {}
        for step in states:
            running = step.job_id is not None and live.get(step.job_id) is JobState.ACTIVE
            found[step.completion_id].append(replace(step, status="active") if running else step)
        return found

    def follow(self, name: str) -> Callable[[Tx, Job, StepArgs], Awaitable[None]]:
        """Return what keeps a step's row in step with its job (for ``jobs.Registry.add``)."""

        async def changed(tx: Tx, job: Job, args: StepArgs) -> None:
            step = await _step(tx, args.completion_id, name)
            if step is None or step.job_id != job.id:
                return  # a job that a retry has replaced says nothing any more
            await _save(tx, rule.follow(step, job))

        return changed

    async def retry_step(self, tx: Tx, completion_id: str, name: str) -> None:
        """Do a step again that has failed, or that was skipped for a reason that is gone.

        Raises ``NotFound``, or ``Conflict`` where the step is done, is under way, or is still to
        be skipped.
        """
        completion = await self.get(tx, completion_id)
        step, declared = await _step(tx, completion_id, name), self.steps.get(name)
        if step is None or declared is None:
            raise NotFound(f"The completion has no step {name!r}.")
        if step.status not in {"failed", "skipped"}:
            raise Conflict(
                f"The step is {step.status}; only a failed or skipped one can be retried."
            )
        course = await catalogue.course_at(tx, completion.course_id, completion.course_version)
        reason = declared.skip(completion, course)
        if reason is not None:
            raise Conflict(f"The step is still to be skipped: {reason}.")
        again = replace(step, status="waiting", last_error=None, skip_reason=None, finished_at=None)
        if step.status == "skipped" or not await _revive(tx, step):
            job_id = await _add_job(tx, completion_id, declared, step.runs + 1)
            again = replace(again, job_id=job_id, runs=step.runs + 1, attempts=0)
        await _save(tx, again)


async def _revive(tx: Tx, step: StepState) -> bool:
    """Retry a step's failed job; False where it was pruned, so that a new one must take over."""
    if step.job_id is None:
        return False
    state = (await jobs.states(tx, [step.job_id])).get(step.job_id)
    if state is None:
        return False
    if state is not JobState.FAILED:
        raise Conflict(f"The step's job is {state} already.")
    try:
        await jobs.retry(tx, None, step.job_id)
    except Conflict:
        return False
    return True


async def _add_job(tx: Tx, completion_id: str, step: Step, run: int) -> str:
    parts = (completion_id, step.name) if run == 1 else (completion_id, step.name, str(run))
    job_id = natural_id(*parts)
    await jobs.enqueue(tx, step.args(completion_id), id=job_id)
    return job_id


async def _step(tx: Tx, completion_id: str, name: str) -> StepState | None:
    row = await store.step(tx, completion_id, name)
    return None if row is None else StepState(*row)


async def _save(tx: Tx, step: StepState) -> None:
    await store.set_step(
        tx,
        step.completion_id,
        step.name,
        (
            step.status,
            step.job_id,
            step.runs,
            step.attempts,
            step.last_error,
            step.skip_reason,
            step.external_id,
            step.finished_at,
        ),
    )
    tx.notify(TOPIC, step.completion_id)


def _completion(crossing: Crossing, id: str, now: int) -> Completion:
    return Completion(
        id=id,
        user_id=crossing.user_id,
        course_id=crossing.course.id,
        attempt=crossing.attempt,
        course_version=crossing.course.version,
        course_title=crossing.course.title,
        completed_at=crossing.completed_at,
        recorded_at=now,
        score=crossing.score,
        time_spent=crossing.time_spent,
        chapters=tuple(crossing.chapters),
    )


def _row(new: Completion) -> tuple[object, ...]:
    return (
        new.id,
        new.user_id,
        new.course_id,
        new.attempt,
        new.course_version,
        new.course_title,
        new.completed_at,
        new.recorded_at,
        new.score,
        new.time_spent,
        msgspec.json.encode(new.chapters).decode(),
    )


def _from_row(row: Row) -> Completion:
    return Completion(
        id=row[0],
        user_id=row[1],
        course_id=row[2],
        attempt=row[3],
        course_version=row[4],
        course_title=row[5],
        completed_at=row[6],
        recorded_at=row[7],
        score=row[8],
        time_spent=row[9],
        chapters=_CHAPTERS.decode(row[10]),
        superseded_by=row[11],
    )
