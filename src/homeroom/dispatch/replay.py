"""The jobs that send a message again, or what was learnt after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.dispatch.jobs import (
    DispatchSender,
    ReplayDispatch,
    UpdateDispatch,
    hold_while_disabled,
    replay_job_id,
)
from homeroom.dispatch.message import MessageKey
from homeroom.dispatch.message_step import MessageStep
from homeroom.dispatch.store import Dispatch
from homeroom.errors import Conflict, NotFound
from homeroom.jobs.handler import JobContext, LogSubject
from homeroom.jobs.job import FINISHED, Job, JobState
from homeroom.jobs.outcome import Done, Fail, Outcome
from homeroom.partner.failure import PartnerError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReplayDispatchHandler:
    """The handler of ``ReplayDispatch``."""

    db: Database
    completions: Completions
    steps: Mapping[str, MessageStep]
    """The steps that send messages, by name; the mapping may grow."""

    async def run(self, ctx: JobContext, args: ReplayDispatch) -> Outcome:
        """Send a message again; a failed step of this message is completed by it.

        The same id and body are sent, unless something is known now that the message does not say:
        then that goes out as its next version, a message of its own.
        """
        async with self.db.read() as tx:
            known = await _latest_version(tx, args.dispatch_id)
            if known is None:
                return Fail(f"there is no dispatch {args.dispatch_id}")
            disabled_reason = await store.get_disabled_reason(tx, known.destination)
            found = await _find_completion(tx, self.completions, known.completion_id)
        step = self.steps.get(known.destination)
        if step is None:
            return Fail(f"the step {known.destination} is not installed")
        if step.receiver is None:
            return Fail(f"{step.missing_setting}, so nothing can be sent to {step.name}")
        if disabled_reason is not None:
            return hold_while_disabled(known.destination, disabled_reason)
        try:
            if found is not None and await step.has_changed(known, *found):
                known = await self._store_next_version(step, known, *found)
        except PartnerError as error:
            return error.to_outcome()
        except NotFound as error:  # the learner was erased meanwhile
            return Fail(error.message)
        done = Done({"dispatch": known.id})
        return await DispatchSender(self.db).run(ctx, step.receiver, known, done, step.delays)

    async def _store_next_version(
        self, step: MessageStep, known: Dispatch, completion: Completion, course: Course
    ) -> Dispatch:
        key = MessageKey(completion.id, step.name, known.type, known.version + 1)
        stored = await step.store_message(key, completion, course)
        async with self.db.write() as tx:
            await store.set_replaced(tx, known, by=stored.id)
        return stored

    async def on_job_change(self, tx: Tx, job: Job, args: ReplayDispatch) -> None:
        """Save the state of the replay to the dispatch and to its step."""
        named = await store.get(tx, args.dispatch_id)
        known = await _latest_version(tx, args.dispatch_id)
        if named is None or known is None:
            return
        if named.id != known.id and job.state in FINISHED:
            await store.set_replaced(tx, named, by=known.id)
        if job.state is JobState.FAILED and known.status == "waiting":
            await store.set_status(tx, known.id, "failed", job.last_error)
        if job.state is JobState.COMPLETED and known.status == "delivered":
            await self._complete_step(tx, known)

    async def is_outstanding(self, tx: Tx, job: Job, args: ReplayDispatch) -> bool:
        """Return whether the dispatch has failed and this is its last replay."""
        named = await store.get(tx, args.dispatch_id)
        known = await _latest_version(tx, args.dispatch_id)
        return (
            named is not None
            and known is not None
            and known.status == "failed"
            and job.id == replay_job_id(named.id, named.replays)
        )

    async def find_subject(self, tx: Tx, args: ReplayDispatch) -> LogSubject:
        """Return the learner, the course and the destination of the dispatch."""
        known = await store.get(tx, args.dispatch_id)
        if known is None:
            return LogSubject()
        try:
            completion = await self.completions.get(tx, known.completion_id)
        except NotFound:
            return LogSubject(known.user_id, None, known.destination)
        return LogSubject(completion.user_id, completion.course_id, known.destination)

    async def _complete_step(self, tx: Tx, delivered: Dispatch) -> None:
        """Retry a failed or skipped step, whose job finds the message delivered."""
        steps = await self.completions.list_steps(tx, [delivered.completion_id])
        for step in steps[delivered.completion_id]:
            if step.name == delivered.destination and step.status in {"failed", "skipped"}:
                try:
                    await self.completions.retry_step(tx, delivered.completion_id, step.name)
                except (Conflict, NotFound) as error:
                    log.warning(
                        "step_not_completed",
                        completion_id=delivered.completion_id,
                        step=step.name,
                        error=error.message,
                    )


@dataclass(frozen=True, slots=True)
class UpdateDispatchHandler:
    """The handler of ``UpdateDispatch``."""

    db: Database
    completions: Completions
    steps: Mapping[str, MessageStep]

    async def run(self, ctx: JobContext, args: UpdateDispatch) -> Outcome:
        """Send an update where the last message does not say what is known now."""
        step = self.steps.get(args.destination)
        if step is None or step.update_type is None:
            return Fail(f"the step {args.destination} is not installed")
        if step.receiver is None:
            return Done({"skipped": step.missing_setting})
        async with self.db.read() as tx:
            update = await self._find_update(tx, step, args)
            last = update or await store.get_by_completion(
                tx, step.name, args.completion_id, step.message_type
            )
            disabled_reason = await store.get_disabled_reason(tx, step.name)
            found = await _find_completion(tx, self.completions, args.completion_id)
        if last is None or found is None:
            return Fail(f"there is no message to {step.name} of {args.completion_id}")
        if disabled_reason is not None:
            return hold_while_disabled(step.name, disabled_reason)
        try:
            if await step.has_changed(last, *found):
                version = 1 if update is None else update.version + 1
                key = MessageKey(args.completion_id, step.name, step.update_type, version)
                update = await step.store_message(key, *found)
        except PartnerError as error:
            return error.to_outcome()
        except NotFound as error:  # the learner was erased meanwhile
            return Fail(error.message)
        if update is None or update.status == "delivered":
            return Done({"unchanged": True})
        done = Done({"dispatch": update.id})
        return await DispatchSender(self.db).run(ctx, step.receiver, update, done, step.delays)

    async def on_job_change(self, tx: Tx, job: Job, args: UpdateDispatch) -> None:
        """Save the end of the job to its dispatch where no attempt has recorded one."""
        step = self.steps.get(args.destination)
        known = None if step is None else await self._find_update(tx, step, args)
        if job.state is JobState.FAILED and known is not None and known.status == "waiting":
            await store.set_status(tx, known.id, "failed", job.last_error)

    async def is_outstanding(self, tx: Tx, job: Job, args: UpdateDispatch) -> bool:
        """Return whether the update has not been delivered."""
        step = self.steps.get(args.destination)
        known = None if step is None else await self._find_update(tx, step, args)
        return known is not None and known.status == "failed"

    async def find_subject(self, tx: Tx, args: UpdateDispatch) -> LogSubject:
        """Return the learner, the course and the destination of the message."""
        found = await _find_completion(tx, self.completions, args.completion_id)
        if found is None:
            return LogSubject(partner=args.destination)
        return LogSubject(found[0].user_id, found[0].course_id, args.destination)

    async def _find_update(
        self, tx: Tx, step: MessageStep, args: UpdateDispatch
    ) -> Dispatch | None:
        if step.update_type is None:
            return None
        return await store.get_by_completion(tx, step.name, args.completion_id, step.update_type)


async def _latest_version(tx: Tx, dispatch_id: str) -> Dispatch | None:
    """Return the latest version of the message of a dispatch."""
    named = await store.get(tx, dispatch_id)
    if named is None:
        return None
    return await store.get_by_completion(tx, named.destination, named.completion_id, named.type)


async def _find_completion(
    tx: Tx, completions: Completions, id: str
) -> tuple[Completion, Course] | None:
    try:
        completion = await completions.get(tx, id)
        return completion, await catalogue.course_at(
            tx, completion.course_id, completion.course_version
        )
    except NotFound:
        return None
