"""The jobs that send completions to partner systems, and that send them again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar, Protocol

import httpx
import structlog
from standardwebhooks.webhooks import Webhook

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.clock import Clock
from homeroom.completion.api import Completion, Completions, SkipReason, StepArgs
from homeroom.db.database import Database
from homeroom.db.ids import derived_id, natural_id
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.dispatch.cloud_event import (
    COURSE_COMPLETED,
    TRAINING_RECORDED,
    build_course_completed,
    build_training_recorded,
)
from homeroom.dispatch.destinations import disabled_gate
from homeroom.dispatch.store import Dispatch
from homeroom.errors import Conflict, NotFound
from homeroom.instant import SECOND, to_datetime
from homeroom.jobs.handler import JobContext, LogSubject
from homeroom.jobs.job import (
    NORMAL,
    PARTNER_DELAYS,
    FixedDelays,
    Job,
    JobArgs,
    JobReason,
    JobState,
    RetryDelays,
)
from homeroom.jobs.outcome import Done, Fail, Hold, Outcome, Retry
from homeroom.partner.client import WEBHOOK_TIMEOUT, Partner, PartnerResponse, encode_json
from homeroom.partner.failure import PartnerError
from homeroom.partner.gate import PartnerGate

log = structlog.get_logger(__name__)
TOPIC = "dispatches"
EVENT_TYPES = {"analytics": COURSE_COMPLETED, "hr": TRAINING_RECORDED}
MESSAGE_VERSION = 1
"""Part of a message's id: a version is a message of its own to the receiver."""
_random_source = random.Random()
HTTP_GONE = 410
"""The receiver rejects all further messages: the destination is switched off."""


class SendAnalytics(StepArgs, frozen=True, kw_only=True):
    """Send a completion to analytics; the payload is ``{"completionId": "..."}``."""

    kind: ClassVar[str] = "completion.analytics"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL


class SendHrReport(StepArgs, frozen=True, kw_only=True):
    """Send a completion to HR; the payload is ``{"completionId": "..."}``."""

    kind: ClassVar[str] = "completion.hr"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL


class ReplayDispatch(JobArgs, frozen=True, kw_only=True):
    """Send a stored message again; the payload is ``{"dispatchId": "..."}``."""

    kind: ClassVar[str] = "dispatch.replay"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL
    timeout: ClassVar[timedelta] = timedelta(seconds=60)
    max_retries: ClassVar[int] = len(PARTNER_DELAYS.delays)
    backoff: ClassVar[RetryDelays] = PARTNER_DELAYS

    dispatch_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the id of the dispatch."""
        return {"dispatch_id": self.dispatch_id}


class PersonName(Protocol):
    """The name of a person."""

    @property
    def given_name(self) -> str | None:
        """The given name; None: not known."""

    @property
    def family_name(self) -> str | None:
        """The family name; None: not known."""


class NameDirectory(Protocol):
    """A directory of people's names."""

    async def find(self, user_id: str) -> PersonName | None:
        """Return a person's name, or None for an unknown id. Raises ``PartnerError``."""


FindCredentialUrl = Callable[[Tx, str], Awaitable[str | None]]
"""Return the public URL of a completion's credential, or None while there is none."""
BuildMessage = Callable[[str, Completion, Course], Awaitable[dict[str, Any]]]
FindSkipReason = Callable[[], SkipReason | None]


@dataclass(frozen=True, slots=True)
class MessageBuilder:
    """The builder of messages to partner systems."""

    db: Database
    source: str
    """``source`` of the CloudEvents: Homeroom's public URL."""
    directory: NameDirectory
    credential_url: FindCredentialUrl

    async def build_analytics(
        self, id: str, completion: Completion, course: Course
    ) -> dict[str, Any]:
        """Return the message to analytics."""
        return build_course_completed(id, self.source, completion)

    async def build_hr(self, id: str, completion: Completion, course: Course) -> dict[str, Any]:
        """Return the message to HR; raise ``PartnerError`` where the directory fails."""
        person = await self.directory.find(completion.user_id)
        async with self.db.read() as tx:
            url = await self.credential_url(tx, completion.id)
        return build_training_recorded(
            id,
            self.source,
            completion,
            course,
            given_name=None if person is None else person.given_name,
            family_name=None if person is None else person.family_name,
            credential_url=url,
        )


class Destination:
    """One partner system that receives webhooks."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        title: str,
        url: str,
        secret: str,
        *,
        timeout: timedelta = WEBHOOK_TIMEOUT,
        gate: PartnerGate | None = None,
    ) -> None:
        """Set its name in the database, its title in messages, and the secret that signs.

        The secret is ``whsec_`` and base64; ``gate`` holds jobs while the partner is away.
        """
        self.name = name
        self.partner = Partner(
            client, title, url, timeout=timeout, secrets=(secret,), signs_time=True, gate=gate
        )
        self._webhook = Webhook(secret)
        # Receivers compare with the real time, whatever Homeroom's own clock shows.
        self._real_clock = Clock()

    async def deliver(self, id: str, payload: str) -> PartnerResponse:
        """Post a message and return the response, 2xx; raise ``PartnerError``.

        The body is sent byte for byte as it is given, because the signature is over its bytes.
        """
        now = self._real_clock.now()
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": id,
            "webhook-timestamp": str(now // SECOND),
            "webhook-signature": self._webhook.sign(id, to_datetime(now), payload),
        }
        return await self.partner.call("POST", content=payload.encode(), headers=headers)


@dataclass(frozen=True, slots=True)
class DispatchSender:
    """Send one message; settle its job in the commit that records the result."""

    db: Database

    async def run(
        self,
        ctx: JobContext,
        destination: Destination,
        dispatch: Dispatch,
        done: Done,
        retries: FixedDelays | None = None,
    ) -> Outcome:
        """Deliver a message and settle the job; ``retries`` replace those of its kind."""
        response_status: int | None = None
        answer: str | None = None
        is_gone = False
        outcome: Outcome = done
        error: str | None = None
        try:
            response = await destination.deliver(dispatch.id, dispatch.payload)
            response_status, answer = response.status, destination.partner.excerpt(response.body)
        except PartnerError as failure:
            response_status, error = failure.response_status, failure.message
            outcome = failure.to_outcome()
            if failure.kind == "away":
                return outcome  # nothing was sent, so there is no attempt to record
            is_gone = response_status == HTTP_GONE
            if isinstance(outcome, Retry) and outcome.after is None and retries is not None:
                outcome = replace(outcome, after=_wait_before_retry(ctx.job, retries))
        if is_gone:
            log.error(
                "destination_disabled",
                destination=destination.name,
                dispatch_id=dispatch.id,
                completion_id=dispatch.completion_id,
                status=HTTP_GONE,
            )
            outcome = hold_while_disabled(destination.name, "it answered 410")
            error = outcome.reason

        async def save(tx: Tx) -> Outcome:
            if is_gone:
                await store.disable_destination(tx, destination.name, "it answered 410")
            await store.record_attempt(
                tx, dispatch.id, _status_of_outcome(outcome), response_status, error, answer
            )
            tx.notify(TOPIC, dispatch.id)
            return outcome

        return await ctx.commit(save)


@dataclass(frozen=True, slots=True)
class SendDispatchHandler:
    """The handler of the step of one destination."""

    db: Database
    completions: Completions
    name: str
    type: str
    destination: Destination | None
    build_message: BuildMessage
    skip_reason: FindSkipReason

    async def run(self, ctx: JobContext, args: StepArgs) -> Outcome:
        """Send the message once; each attempt sends what the first has stored."""
        async with self.db.read() as tx:
            known = await store.get_by_completion(tx, self.name, args.completion_id, self.type)
            disabled_reason = await store.get_disabled_reason(tx, self.name)
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
        reason = self.skip_reason()
        if reason is not None:
            return await self._skip(ctx, known, reason)
        assert self.destination is not None  # otherwise there is a reason to skip the step
        if known is None:
            try:
                known = await self._store_dispatch(completion, course)
            except PartnerError as error:
                return error.to_outcome()
            except NotFound as error:  # the learner was erased meanwhile
                return Fail(error.message)
        if disabled_reason is not None:
            return hold_while_disabled(self.name, disabled_reason)
        done = Done({"externalId": known.id})
        return await DispatchSender(self.db).run(ctx, self.destination, known, done)

    async def on_job_change(self, tx: Tx, job: Job, args: StepArgs) -> None:
        """Save the step's state, and the dispatch's where no attempt has recorded one."""
        await self.completions.step_updater(self.name)(tx, job, args)
        known = await store.get_by_completion(tx, self.name, args.completion_id, self.type)
        if known is None:
            return
        if job.state is JobState.FAILED and known.status == "waiting":
            await store.set_status(tx, known.id, "failed", job.last_error)
        elif job.state in (JobState.WAITING, JobState.DELAYED) and known.status == "failed":
            await store.set_status(tx, known.id, "waiting", None)

    async def _store_dispatch(self, completion: Completion, course: Course) -> Dispatch:
        """Store the message before it is sent for the first time.

        Raises ``NotFound`` if the completion is gone by now.
        """
        id = message_id(completion.id, self.name, self.type)
        payload = encode_json(await self.build_message(id, completion, course)).decode()
        async with self.db.write() as tx:
            await self.completions.get_locked(tx, completion.id)
            new = Dispatch(
                id, self.name, self.type, completion.id, completion.user_id, payload, tx.now
            )
            await store.add(tx, new)
            tx.notify(TOPIC, id)
            stored = await store.get_by_completion(tx, self.name, completion.id, self.type)
        assert stored is not None  # by this worker or by another
        return stored

    async def _skip(self, ctx: JobContext, known: Dispatch | None, reason: SkipReason) -> Outcome:
        outcome = Done(reason.to_result())
        async with self.db.write() as tx:
            if known is not None:
                await store.set_status(tx, known.id, "skipped", reason.text)
            await ctx.settle(tx, outcome)
        return outcome


@dataclass(frozen=True, slots=True)
class ReplayDispatchHandler:
    """The handler of ``ReplayDispatch``."""

    db: Database
    completions: Completions
    destinations: dict[str, Destination | None]
    retries: Mapping[str, FixedDelays]
    """Of each destination: one kind of job is for all of them."""

    async def run(self, ctx: JobContext, args: ReplayDispatch) -> Outcome:
        """Send a message again; a failed step of this message is completed by it."""
        async with self.db.read() as tx:
            known = await store.get(tx, args.dispatch_id)
            if known is None:
                return Fail(f"there is no dispatch {args.dispatch_id}")
            disabled_reason = await store.get_disabled_reason(tx, known.destination)
        destination = self.destinations.get(known.destination)
        if destination is None:
            return Fail(f"the destination {known.destination} has no URL in the settings")
        if disabled_reason is not None:
            return hold_while_disabled(known.destination, disabled_reason)
        return await DispatchSender(self.db).run(
            ctx,
            destination,
            known,
            Done({"dispatch": known.id}),
            self.retries[known.destination],
        )

    async def on_job_change(self, tx: Tx, job: Job, args: ReplayDispatch) -> None:
        """Save the state of the replay to the dispatch and to its step."""
        known = await store.get(tx, args.dispatch_id)
        if known is None:
            return
        if job.state is JobState.FAILED and known.status == "waiting":
            await store.set_status(tx, known.id, "failed", job.last_error)
        if job.state is JobState.COMPLETED and known.status == "delivered":
            await self._complete_step(tx, known)

    async def is_outstanding(self, tx: Tx, job: Job, args: ReplayDispatch) -> bool:
        """Return whether the dispatch has failed and this is its last replay."""
        known = await store.get(tx, args.dispatch_id)
        return (
            known is not None
            and known.status == "failed"
            and job.id == replay_job_id(known.id, known.replays)
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


def replay_job_id(dispatch_id: str, number: int) -> str:
    """Return the id of the job of a dispatch's replay; replays count from 1."""
    return natural_id("dispatch", dispatch_id, "replay", str(number))


def message_id(completion_id: str, destination: str, type: str) -> str:
    """Return the id of a completion's message of a type to a destination.

    It is derived, so that a job that runs twice, as in a copy of the database, sends one id.
    """
    return derived_id("message", completion_id, destination, type, str(MESSAGE_VERSION))


def hold_while_disabled(name: str, reason: str) -> Hold:
    """Return the outcome of a job whose destination is switched off, with the fix."""
    message = (
        f"the destination {name} is switched off ({reason}); the job runs after homeroom"
        f" destinations switch-on {name}: do so once the partner accepts messages"
    )
    return Hold(disabled_gate(name), message, JobReason.DESTINATION_DISABLED)


def _wait_before_retry(job: Job, retries: FixedDelays) -> timedelta:
    """Return the wait after the running attempt, counted in its round."""
    attempts_left = job.max_attempts - job.attempts
    return retries.delay(1 + len(retries.delays) - attempts_left, _random_source)


def _status_of_outcome(outcome: Outcome) -> store.DispatchStatus:
    if isinstance(outcome, Done):
        return "delivered"
    return "waiting" if isinstance(outcome, Retry | Hold) else "failed"
