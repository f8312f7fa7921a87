"""The jobs that tell partner systems of a completion, and that tell them again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Protocol

import structlog

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, StepArgs
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.dispatch.message import (
    COURSE_COMPLETED,
    TRAINING_RECORDED,
    course_completed,
    training_recorded,
)
from homeroom.dispatch.store import Dispatch
from homeroom.dispatch.webhook import GONE, Destination
from homeroom.errors import Conflict, NotFound
from homeroom.jobs.args import NORMAL, JobArgs
from homeroom.jobs.handler import JobContext
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.outcome import Done, Fail, Outcome, Retry
from homeroom.partner import PartnerError, body_of

log = structlog.get_logger(__name__)
TOPIC = "dispatches"


class SendAnalytics(StepArgs, frozen=True, kw_only=True):
    """Tell analytics of a completion; the payload is ``{"completionId": "..."}``."""

    kind: ClassVar[str] = "completion.analytics"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL


class SendHrReport(StepArgs, frozen=True, kw_only=True):
    """Tell HR of a completion; the payload is ``{"completionId": "..."}``."""

    kind: ClassVar[str] = "completion.hr"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL


class ReplayDispatch(JobArgs, frozen=True, kw_only=True):
    """Send a stored message again, as it was: the payload is ``{"dispatchId": "..."}``."""

    kind: ClassVar[str] = "dispatch.replay"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL
    timeout: ClassVar[timedelta] = timedelta(seconds=60)

    dispatch_id: str


class Named(Protocol):
    """Somebody with a name."""

    @property
    def given_name(self) -> str | None:
        """The given name; None: not known."""

    @property
    def family_name(self) -> str | None:
        """The family name; None: not known."""


class Directory(Protocol):
    """Where names are looked up."""

    async def find(self, user_id: str) -> Named | None:
        """Return somebody, or None if nobody has this id. Raises ``PartnerError``."""


CredentialUrl = Callable[[Tx, str], Awaitable[str | None]]
"""Return where the credential of a completion can be seen, if that is known already."""
Skip = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes the messages to partner systems."""

    db: Database
    source: str
    """``source`` of the CloudEvents: Homeroom's public URL."""
    directory: Directory
    credential_url: CredentialUrl

    async def analytics(self, id: str, completion: Completion, course: Course) -> dict[str, Any]:
        """Return what analytics is told."""
        return course_completed(id, self.source, completion)

    async def hr(self, id: str, completion: Completion, course: Course) -> dict[str, Any]:
        """Return what HR is told; raise ``PartnerError`` where the directory fails."""
        person = await self.directory.find(completion.user_id)
        async with self.db.read() as tx:
            url = await self.credential_url(tx, completion.id)
        return training_recorded(
            id,
            self.source,
            completion,
            course,
            given_name=None if person is None else person.given_name,
            family_name=None if person is None else person.family_name,
            credential_url=url,
        )


Write = Callable[[str, Completion, Course], Awaitable[dict[str, Any]]]


def switched_off(name: str, reason: str) -> str:
    """Return why nothing is sent, and how to switch the destination on again."""
    return (
        f"the destination {name} is switched off ({reason}); an operator switches it on again by"
        " replaying a dispatch: POST /api/v1/dispatches/{id}/replay"
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sends one stored message and ends the job in the commit that notes how it went."""

    db: Database

    async def run(
        self, ctx: JobContext, destination: Destination, dispatch: Dispatch, done: Done
    ) -> Outcome:
        """Deliver a message and settle the job."""
        answered: int | None = None
        gone = False
        outcome: Outcome = done
        error: str | None = None
        try:
            answered = await destination.deliver(dispatch.id, dispatch.payload)
        except PartnerError as failure:
            answered, error, outcome = failure.answered, failure.message, failure.outcome()
            gone = answered == GONE
        if gone:
            log.error("destination_switched_off", destination=destination.name)
            outcome = Fail(switched_off(destination.name, "it answered 410"))
            error = outcome.reason
        async with self.db.write() as tx:
            if gone:
                await store.switch_off(tx, destination.name, "it answered 410")
            await store.set_tried(tx, dispatch.id, _status(outcome), answered, error)
            tx.notify(TOPIC, dispatch.id)
            await ctx.settle(tx, outcome)
        return outcome


def _status(outcome: Outcome) -> store.Status:
    if isinstance(outcome, Done):
        return "delivered"
    return "waiting" if isinstance(outcome, Retry) else "failed"


@dataclass(frozen=True, slots=True)
class Telling:
    """What runs the step of one destination."""

    db: Database
    completions: Completions
    name: str
    type: str
    destination: Destination | None
    write: Write
    skip: Skip

    async def run(self, ctx: JobContext, args: StepArgs) -> Outcome:
        """Tell the destination once; what an earlier attempt has stored is what is sent."""
        async with self.db.read() as tx:
            known = await store.of_completion(tx, self.name, args.completion_id, self.type)
            off = await store.disabled(tx, self.name)
            if known is None:
                try:
                    completion = await self.completions.get(tx, args.completion_id)
                    course = await catalogue.course_at(
                        tx, completion.course_id, completion.course_version
                    )
                except NotFound as error:
                    return Fail(error.message)
        if known is not None and known.status == "delivered":
            return Done({"externalId": known.id})
        if self.destination is None:
            return await self._skip(ctx, known)
        if known is None:
            try:
                known = await self._store(completion, course)
            except PartnerError as error:
                return error.outcome()
            except NotFound as error:  # the learner was erased meanwhile
                return Fail(error.message)
        if off is not None:
            return Fail(switched_off(self.name, off))
        done = Done({"externalId": known.id})
        return await Delivery(self.db).run(ctx, self.destination, known, done)

    async def _store(self, completion: Completion, course: Course) -> Dispatch:
        """Store what is to be sent, before it is sent for the first time.

        Raises ``NotFound`` if the completion is gone by now.
        """
        id = new_id()
        payload = body_of(await self.write(id, completion, course)).decode()
        async with self.db.write() as tx:
            await self.completions.hold(tx, completion.id)
            values = (id, self.name, self.type, completion.id, completion.user_id, payload)
            await store.add(tx, values)
            tx.notify(TOPIC, id)
            known = await store.of_completion(tx, self.name, completion.id, self.type)
        assert known is not None  # stored just now, or by another worker
        return known

    async def _skip(self, ctx: JobContext, known: Dispatch | None) -> Outcome:
        reason = self.skip() or "there is no destination"
        outcome = Done({"skipped": reason})
        async with self.db.write() as tx:
            if known is not None:
                await store.set_status(tx, known.id, "skipped", reason)
            await ctx.settle(tx, outcome)
        return outcome

    async def changed(self, tx: Tx, job: Job, args: StepArgs) -> None:
        """Keep the step in step with its job, and the dispatch too where no delivery did."""
        await self.completions.follow(self.name)(tx, job, args)
        known = await store.of_completion(tx, self.name, args.completion_id, self.type)
        if known is None:
            return
        if job.state is JobState.FAILED and known.status == "waiting":
            await store.set_status(tx, known.id, "failed", job.last_error)
        elif job.state in (JobState.WAITING, JobState.DELAYED) and known.status == "failed":
            await store.set_status(tx, known.id, "waiting", None)


@dataclass(frozen=True, slots=True)
class Replaying:
    """What runs ``ReplayDispatch``."""

    db: Database
    completions: Completions
    destinations: dict[str, Destination | None]

    async def run(self, ctx: JobContext, args: ReplayDispatch) -> Outcome:
        """Send a message again; a step that failed for want of it is then done, too."""
        async with self.db.read() as tx:
            known = await store.get(tx, args.dispatch_id)
            off = None if known is None else await store.disabled(tx, known.destination)
        if known is None:
            return Fail(f"there is no dispatch {args.dispatch_id}")
        destination = self.destinations.get(known.destination)
        if destination is None:
            return Fail(f"the destination {known.destination} has no URL in the settings")
        if off is not None:
            return Fail(switched_off(known.destination, off))
        return await Delivery(self.db).run(ctx, destination, known, Done({"dispatch": known.id}))

    async def changed(self, tx: Tx, job: Job, args: ReplayDispatch) -> None:
        """Let the dispatch, and the step that it belongs to, follow the replay."""
        known = await store.get(tx, args.dispatch_id)
        if known is None:
            return
        if job.state is JobState.FAILED and known.status == "waiting":
            await store.set_status(tx, known.id, "failed", job.last_error)
        if job.state is JobState.COMPLETED and known.status == "delivered":
            await self._complete_step(tx, known)

    async def _complete_step(self, tx: Tx, delivered: Dispatch) -> None:
        """Retry a failed or skipped step: its job finds the message delivered, sends nothing."""
        steps = await self.completions.steps_of(tx, [delivered.completion_id])
        for step in steps[delivered.completion_id]:
            if step.name == delivered.destination and step.status in {"failed", "skipped"}:
                try:
                    await self.completions.retry_step(tx, delivered.completion_id, step.name)
                except (Conflict, NotFound) as error:
                    log.warning("step_not_completed", step=step.name, error=error.message)


TYPES = {"analytics": COURSE_COMPLETED, "hr": TRAINING_RECORDED}
