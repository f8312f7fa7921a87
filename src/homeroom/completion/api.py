"""Public interface of completion: record a completion once, start its steps.

``bootstrap`` registers the steps; this package imports no issuer and no partner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.changes import api as changes
from homeroom.completion import step_store, store
from homeroom.completion.completion import (
    ChapterRecord,
    Completion,
    ListedStep,
    NewCompletion,
    SkipReason,
    StepState,
    StepStatus,
    apply_job_to_step,
    describe_step,
    score_fraction,
)
from homeroom.completion.period import parse_period
from homeroom.completion.recording import wait_for_recording
from homeroom.completion.result_store import CourseResult, list_learners, list_results
from homeroom.completion.step import (
    TOPIC,
    CompletionStep,
    RetryProgress,
    StepArgs,
    check_retryable,
    check_steps,
    enqueue_step_job,
    retry_failed_job,
    run_waiting_steps,
    save_step,
    start_steps,
)
from homeroom.completion.step_plugin import SimpleStep, Step, StepContext
from homeroom.completion.step_store import StepBacklog, StepCounts, StepFilter, StepStatusFilter
from homeroom.completion.store import PERSONAL, CompletionFilter
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs import api as jobs
from homeroom.jobs.handler import LogSubject
from homeroom.jobs.job import Job, JobState
from homeroom.tracing import use_trace_of

__all__ = [
    "PERSONAL",
    "TOPIC",
    "ChapterRecord",
    "Completion",
    "CompletionFilter",
    "CompletionStep",
    "Completions",
    "CourseResult",
    "ListedStep",
    "NewCompletion",
    "RetryProgress",
    "SimpleStep",
    "SkipReason",
    "Step",
    "StepArgs",
    "StepBacklog",
    "StepContext",
    "StepCounts",
    "StepFilter",
    "StepState",
    "StepStatus",
    "StepStatusFilter",
    "list_learners",
    "list_results",
    "parse_period",
    "score_fraction",
]

RETRY_BATCH = 100
"""Steps in one transaction of a retry: 0.2 s, for which ingest waits on SQLite (500: 0.9 s)."""


OnStepEnded = Callable[[Tx, StepState], Awaitable[None]]
OnRecorded = Callable[[Tx, Sequence[Completion]], Awaitable[None]]


class Completions:
    """Completions and their steps."""

    def __init__(self, steps: Sequence[CompletionStep] = ()) -> None:
        """Declare the steps; see ``declare``."""
        self.on_step_ended: list[OnStepEnded] = []
        """Called in the commit that ends a step, while its row is locked."""
        self.on_recorded: list[OnRecorded] = []
        """Called in the commit that records completions, with those that are new."""
        self.declare(steps)

    def declare(self, steps: Sequence[CompletionStep]) -> None:
        """Set the steps of completions in their order; raises as ``check_steps``."""
        check_steps(steps)
        self.steps = {step.name: step for step in steps}
        self._positions = [
            (position, step) for position, step in enumerate(steps) if step.is_switched_on
        ]

    def register(self, registry: jobs.Registry, step: Step) -> None:
        """Register the handler of a step's job; the step's state follows the job."""
        update_step = self.step_updater(step.name)

        async def on_job_change(tx: Tx, job: Job, args: StepArgs) -> None:
            await update_step(tx, job, args)
            await step.on_job_change(tx, job, args)

        registry.add(
            step.job,
            step.run,
            on_job_change,
            is_outstanding=self.is_step_outstanding(step.name),
            subject=self.job_subject(step.partner_name),
            retries=step.retries,
        )

    async def record(self, tx: Tx, new_completions: Sequence[NewCompletion]) -> list[Completion]:
        """Record completions, complete the enrolments, and add a job for every step.

        All in the caller's transaction (B10). Returns those that are new: a course that was
        completed in the same attempt before keeps its date and its jobs.
        """
        now = await store.recording_time(tx)
        drafts = [(new.to_completion(new_id(), now), new.course) for new in new_completions]
        added_ids = await store.add(tx, [completion for completion, _ in drafts])
        added = [
            (completion, course) for completion, course in drafts if completion.id in added_ids
        ]
        if not added:
            return []
        completions = [completion for completion, _ in added]
        await store.supersede_earlier(tx, [each for each in completions if each.attempt > 1])
        await store.supersede_by_later(tx, [each.id for each in completions])
        await catalogue.mark_completed(
            tx,
            [
                (each.user_id, each.course_id, each.attempt, each.completed_at)
                for each in completions
            ],
        )
        states: list[StepState] = []
        for completion, course in added:
            with use_trace_of(completion.user_id):
                states += await start_steps(tx, completion, course, self._positions)
            tx.notify(TOPIC, completion.id)
        await store.add_steps(tx, states)
        tx.count("completions", amount=len(completions))
        user_ids = {each.id: each.user_id for each in completions}
        changes.record(tx, changes.COMPLETIONS, user_ids.items())
        changes.record(
            tx,
            changes.STEPS,
            [(store.step_record_id(step), user_ids[step.completion_id]) for step in states],
        )
        for on_recorded in self.on_recorded:
            await on_recorded(tx, completions)
        return completions

    async def get(self, tx: Tx, id: str) -> Completion:
        """Return a completion; raise ``NotFound``."""
        completion = await store.get(tx, id)
        if completion is None:
            raise NotFound(f"There is no completion {id!r}.")
        return completion

    async def get_locked(self, tx: Tx, id: str) -> Completion:
        """Return a completion and lock its learner against erasure in this transaction.

        For callers that have read it before and have called partners since. Raises ``NotFound``.
        """
        known = await self.get(tx, id)
        await catalogue.lock_learners(tx, [known.user_id])
        return await self.get(tx, id)

    async def find(
        self, tx: Tx, user_id: str, course_id: str, attempt: int | None = None
    ) -> Completion | None:
        """Return the completion of an attempt, or of the latest attempt that has one."""
        return await store.find(tx, user_id, course_id, attempt)

    async def completed_courses(self, tx: Tx, user_id: str) -> frozenset[str]:
        """Return the courses that a learner has completed in some attempt."""
        return frozenset(await store.list_completed_courses(tx, user_id))

    async def wait_for_recording(self, db: Database) -> int | None:
        """Wait for transactions that are recording; return the end of what is settled.

        No completion will appear any more whose ``recorded_at`` is that instant or earlier. None on
        SQLite: each read shows all. Raises ``Unavailable`` if a transaction takes too long.
        """
        return await wait_for_recording(db)

    async def find_by_ids(self, tx: Tx, ids: Sequence[str]) -> dict[str, Completion]:
        """Return the completions that exist, by id."""
        return await store.find_by_ids(tx, ids)

    async def list_newest(
        self, tx: Tx, query: CompletionFilter, before: tuple[int, str] | None, count: int
    ) -> list[Completion]:
        """Return completions by (recorded_at, id), newest first, before such a pair."""
        return await store.list_newest(tx, query, before, count)

    async def list_by_date(
        self, tx: Tx, query: CompletionFilter, after: tuple[int, str] | None, count: int
    ) -> list[Completion]:
        """Return completions by (completed_at, id), oldest first, after such a pair."""
        return await store.list_by_date(tx, query, after, count)

    async def lock_step(self, tx: Tx, completion_id: str, name: str) -> StepState | None:
        """Return a step and lock its row until the transaction ends."""
        return await store.get_step_for_update(tx, completion_id, name)

    async def add_note(self, tx: Tx, completion_id: str, text: str) -> None:
        """Add an audit line, as for a late event that proves an earlier completion (B9).

        Nothing else changes: no date moves and no job runs again.
        """
        await store.add_note(tx, new_id(), completion_id, text)
        tx.notify(TOPIC, completion_id)

    async def list_notes(self, tx: Tx, completion_id: str) -> list[tuple[int, str]]:
        """Return a completion's audit lines as (instant, text), oldest first."""
        return await store.list_notes(tx, completion_id)

    async def list_by_step(
        self, tx: Tx, query: CompletionFilter, steps: StepFilter, before: str | None, count: int
    ) -> list[Completion]:
        """Return completions with a step that matches, by id, newest first, below an id.

        Raises ``Invalid`` for the name of a step that is not declared.
        """
        self.check_step_name(steps.name)
        ids = await step_store.find_completion_ids(tx, query, steps, before, count)
        found = await store.find_by_ids(tx, ids)
        return [found[id] for id in ids if id in found]

    def check_step_name(self, name: str | None) -> None:
        """Raise ``Invalid`` for the name of a step that is not declared."""
        if name is not None and name not in self.steps:
            raise Invalid(f"There is no step {name!r}; the steps are {', '.join(self.steps)}.")

    async def list_steps(
        self, tx: Tx, completion_ids: Sequence[str]
    ) -> dict[str, list[ListedStep]]:
        """Return the steps of completions, with what their jobs add."""
        steps_by_id: dict[str, list[ListedStep]] = {id: [] for id in completion_ids}
        states = await store.list_steps(tx, completion_ids)
        job_ids = [
            step.job_id for step in states if step.job_id and step.status in {"waiting", "failed"}
        ]
        job_by_id = await jobs.find(tx, job_ids) if job_ids else {}
        for step in states:
            job = None if step.job_id is None else job_by_id.get(step.job_id)
            steps_by_id[step.completion_id].append(describe_step(step, job))
        return steps_by_id

    async def count_steps(self, tx: Tx) -> StepCounts:
        """Return the number of steps by name and status, and the oldest outstanding ones."""
        return await step_store.count_steps(tx, list(self.steps))

    async def count_backlogs(self, tx: Tx) -> dict[str, StepBacklog]:
        """Return the outstanding steps by name; a name without any is absent."""
        return await step_store.count_backlogs(tx)

    async def find_steps(
        self, tx: Tx, query: CompletionFilter, steps: StepFilter, after: str | None, count: int
    ) -> list[StepState]:
        """Return steps of one name by their completions' ids, oldest first, above an id."""
        return await step_store.find_steps(tx, query, steps, after, count)

    def step_updater(self, name: str) -> Callable[[Tx, Job, StepArgs], Awaitable[None]]:
        """Return the function that saves a step's state at each change of its job.

        ``jobs.Registry.add`` takes it.
        """

        async def update_step(tx: Tx, job: Job, args: StepArgs) -> None:
            step = await store.get_step_for_update(tx, args.completion_id, name)
            if step is None or step.job_id != job.id:
                return  # a retry has replaced the job
            after = apply_job_to_step(step, job)
            if after == step:
                tx.notify(TOPIC, step.completion_id)  # it may be active now
                return
            await save_step(tx, after)
            if after.status != "waiting":
                await self.step_ended(tx, after)

        return update_step

    async def step_ended(self, tx: Tx, ended: StepState) -> None:
        """Run the steps that wait for one that has ended, and notify ``on_step_ended``."""
        waits = [step for step in self.steps.values() if ended.name in step.waits_for]
        if waits:
            await run_waiting_steps(tx, waits, await store.list_steps(tx, [ended.completion_id]))
        for notify in self.on_step_ended:
            await notify(tx, ended)

    def is_step_outstanding(self, name: str) -> Callable[[Tx, Job, StepArgs], Awaitable[bool]]:
        """Return the function that says whether a step waits for its failed job.

        ``jobs.Registry.add`` takes it.
        """

        async def is_outstanding(tx: Tx, job: Job, args: StepArgs) -> bool:
            steps = await store.list_steps(tx, [args.completion_id])
            return any(
                step.name == name and step.job_id == job.id and step.status == "failed"
                for step in steps
            )

        return is_outstanding

    def job_subject(self, partner: str) -> Callable[[Tx, StepArgs], Awaitable[LogSubject]]:
        """Return the function that names a step's learner and course in the log."""

        async def find_subject(tx: Tx, args: StepArgs) -> LogSubject:
            completion = await store.get(tx, args.completion_id)
            if completion is None:
                return LogSubject(partner=partner)
            return LogSubject(completion.user_id, completion.course_id, partner)

        return find_subject

    async def retry_step(self, tx: Tx, completion_id: str, name: str) -> None:
        """Run a step again that has failed, or whose reason to be skipped is gone.

        Raises ``NotFound``, or ``Conflict`` where the step is done, is under way, or is still to
        be skipped.
        """
        completion = await self.get(tx, completion_id)
        if name not in self.steps:
            raise NotFound(f"No step {name!r} is installed.")
        course = await catalogue.course_at(tx, completion.course_id, completion.course_version)
        await self._retry_step(tx, completion, course, name)

    async def retry_matching(
        self,
        tx: Tx,
        query: CompletionFilter,
        steps: StepFilter,
        after: str | None = None,
        *,
        dry_run: bool = False,
    ) -> RetryProgress:
        """Retry the next steps that match, those of the oldest completions first.

        ``steps`` names one step and one status: ``failed`` or ``skipped`` ones run again,
        ``waiting`` ones whose next attempt is later run now. A step that is still to be skipped, or
        has changed in the meantime, is passed over. ``dry_run`` counts and changes nothing.
        Raises ``Invalid`` for a step that is not declared.
        """
        self.check_step_name(steps.name)
        found = await step_store.find_steps(tx, query, steps, after, RETRY_BATCH)
        completions = await store.find_by_ids(tx, [step.completion_id for step in found])
        courses = await catalogue.courses_at(
            tx, {(each.course_id, each.course_version) for each in completions.values()}
        )
        count = 0
        for step in found:
            completion = completions.get(step.completion_id)
            if completion is None:
                continue  # erased in the meantime
            course = courses[completion.course_id, completion.course_version]
            with suppress(Conflict, NotFound):
                if step.status == "waiting":
                    await self._run_waiting_step(tx, step, dry_run=dry_run)
                elif dry_run:
                    check_retryable(self.steps[step.name], completion, course, step)
                else:
                    await self._retry_step(tx, completion, course, step.name)
                count += 1
        last = found[-1].completion_id if len(found) == RETRY_BATCH else None
        return RetryProgress(count, last)

    async def restart_step(self, tx: Tx, completion_id: str, name: str) -> None:
        """Run a completed step again, for a result that was withdrawn.

        Raises ``NotFound``; ``Conflict`` for a step that is not completed, or is to be skipped now.
        """
        completion = await self.get(tx, completion_id)
        course = await catalogue.course_at(tx, completion.course_id, completion.course_version)
        step = await store.get_step_for_update(tx, completion_id, name)
        if step is None:
            raise NotFound(f"The completion has no step {name!r}.")
        if step.status != "completed":
            raise Conflict(f"The step is {step.status}; only a completed one can be restarted.")
        reason = self.steps[name].skip_reason(completion, course)
        if reason is not None:
            raise Conflict(f"The step would be skipped: {reason.text}.")
        waiting = replace(step, status="waiting", finished_at=None, external_id=None)
        await save_step(tx, await self._with_new_job(tx, waiting))

    async def _retry_step(self, tx: Tx, completion: Completion, course: Course, name: str) -> None:
        step = await store.get_step_for_update(tx, completion.id, name)
        if step is None:
            raise NotFound(f"The completion has no step {name!r}.")
        check_retryable(self.steps[step.name], completion, course, step)
        retried = replace(
            step,
            status="waiting",
            last_error=None,
            skip_reason=None,
            skip_code=None,
            finished_at=None,
        )
        if step.status == "skipped" or not await retry_failed_job(tx, step):
            retried = await self._with_new_job(tx, retried)
        await save_step(tx, retried)

    async def _run_waiting_step(self, tx: Tx, step: StepState, *, dry_run: bool) -> None:
        """Run a step's delayed job now, or give the step a job where its row is gone.

        Raises ``Conflict`` for a job that is not delayed.
        """
        states = await jobs.states(tx, [step.job_id]) if step.job_id is not None else {}
        state = None if step.job_id is None else states.get(step.job_id)
        if state is not None and state is not JobState.DELAYED:
            raise Conflict(f"The step's job is {state} already.")
        if dry_run:
            return
        if state is None or step.job_id is None:
            await save_step(tx, await self._with_new_job(tx, step))
        else:
            await jobs.promote(tx, None, step.job_id)

    async def _with_new_job(self, tx: Tx, step: StepState) -> StepState:
        """Enqueue the job of a step's next run, and return the step with it."""
        run = step.runs + 1
        job_id = await enqueue_step_job(tx, step.completion_id, self.steps[step.name], run)
        return replace(step, job_id=job_id, runs=run, attempts=0)
