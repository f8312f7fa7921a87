"""A completion step that sends one message to a partner system."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import (
    Completion,
    Completions,
    SkipReason,
    Step,
    StepContext,
    StepState,
)
from homeroom.db.database import WriteClass
from homeroom.db.ids import natural_id
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.dispatch.destinations import DestinationKind
from homeroom.dispatch.jobs import TOPIC, DispatchSender, UpdateDispatch, hold_while_disabled
from homeroom.dispatch.message import MessageKey, MessageReceiver
from homeroom.dispatch.store import Dispatch
from homeroom.errors import NotFound
from homeroom.jobs.api import FixedDelays, enqueue
from homeroom.jobs.handler import JobContext
from homeroom.jobs.job import PARTNER_DELAYS, Job, JobState
from homeroom.jobs.outcome import Done, Fail, Outcome
from homeroom.partner.client import encode_json
from homeroom.partner.failure import PartnerError

DEFAULT_RATE = 10.0
"""Waiting jobs that start per second once the partner is back."""


class MessageStep(Step):
    """A step that stores a message, and delivers it until the partner has it.

    The message is stored before it is sent for the first time, so that each attempt sends the same
    bytes under the same id. It is listed and replayed as a dispatch, its receiver as a destination,
    both under the step's name.
    """

    message_type: ClassVar[str]
    """The type of its messages, such as ``org.homeroom.course.completed``."""
    update_type: ClassVar[str | None] = None
    """The type of a second message, with what a step that this one waits for has made known later;
    None: none is sent."""
    destination_kind: ClassVar[DestinationKind] = "webhook"

    def __init__(self, context: StepContext) -> None:
        """Keep the context."""
        super().__init__(context)
        self._completions = context.part(Completions)

    @property
    @abstractmethod
    def receiver(self) -> MessageReceiver | None:
        """Return the receiver, or None where its settings are missing."""

    @property
    @abstractmethod
    def missing_setting(self) -> str:
        """Return why there is no receiver, as "HOMEROOM_X_URL is not set"."""

    @abstractmethod
    async def build(self, key: MessageKey, completion: Completion, course: Course) -> Any:
        """Return a message as JSON values, with what is known now.

        Two builds from the same knowledge are equal. Raises ``PartnerError``.
        """

    @property
    def rate(self) -> float:
        """Return how many waiting jobs start per second after an outage."""
        return DEFAULT_RATE

    def content(self, message: Any) -> Any:
        """Return the part of a message whose change makes a replay send a new version."""
        return message

    @property
    def delays(self) -> FixedDelays:
        """Return the waits between the attempts of its messages."""
        return self.retries or PARTNER_DELAYS

    def skip_reason(self, completion: Completion, course: Course) -> SkipReason | None:
        """Return the reason to send nothing, or None."""
        if self.receiver is not None:
            return None
        return SkipReason("destination_not_configured", self.missing_setting)

    async def run(self, ctx: JobContext, args: Any) -> Outcome:
        """Send the message once; each attempt sends what the first has stored."""
        completion_id: str = args.completion_id
        completions = self._completions
        async with self.context.db.read() as tx:
            known = await self._find(tx, completion_id)
            disabled_reason = await store.get_disabled_reason(tx, self.name)
            try:
                completion = await completions.get(tx, completion_id)
                course = await catalogue.course_at(
                    tx, completion.course_id, completion.course_version
                )
            except NotFound as error:
                return Fail(error.message)
            others = (await completions.list_steps(tx, [completion_id]))[completion_id]
        if known is not None and known.status == "delivered":
            return Done({"externalId": known.id})
        reason = self.skip_reason(completion, course)
        if reason is not None:
            return await self._skip(ctx, known, reason)
        receiver = self.receiver
        assert receiver is not None  # otherwise there is a reason to skip the step
        if known is None:
            try:
                known = await self._store_first(completion, course, others)
            except PartnerError as error:
                return error.to_outcome()
            except NotFound as error:  # the learner was erased meanwhile
                return Fail(error.message)
        if disabled_reason is not None:
            return hold_while_disabled(self.name, disabled_reason)
        done = Done({"externalId": known.id})
        return await DispatchSender(self.context.db).run(ctx, receiver, known, done)

    async def on_job_change(self, tx: Tx, job: Job, args: Any) -> None:
        """Save the state of the dispatch where no attempt has recorded one."""
        known = await self._find(tx, args.completion_id)
        if known is None:
            return
        if job.state is JobState.FAILED and known.status == "waiting":
            await store.set_status(tx, known.id, "failed", job.last_error)
        elif job.state in (JobState.WAITING, JobState.DELAYED) and known.status == "failed":
            await store.set_status(tx, known.id, "waiting", None)

    async def has_changed(self, stored: Dispatch, completion: Completion, course: Course) -> bool:
        """Return whether a stored message would have another content now.

        Raises ``PartnerError``.
        """
        key = MessageKey(completion.id, self.name, stored.type, stored.version)
        now = msgspec.json.decode(encode_json(await self.build(key, completion, course)))
        return bool(self.content(now) != self.content(msgspec.json.decode(stored.payload)))

    async def store_message(
        self, key: MessageKey, completion: Completion, course: Course
    ) -> Dispatch:
        """Build and store a message; return it, or the one that another worker stored.

        Raises ``NotFound`` if the completion is gone by now, ``PartnerError``.
        """
        payload = await self._build_payload(key, completion, course)
        return await self.context.db.transact(
            lambda tx: self._add(tx, key, completion, payload), WriteClass.EFFECTS
        )

    async def on_step_ended(self, tx: Tx, ended: StepState) -> None:
        """Enqueue an update where a step ends after the message that would have named it.

        ``Completions.on_step_ended`` calls it with the step's row locked.
        """
        if (
            self.update_type is not None
            and ended.name in self.waits_for
            and ended.status == "completed"
            and self.receiver is not None
            and await self._find(tx, ended.completion_id) is not None
        ):
            await self._enqueue_update(tx, ended.completion_id)

    async def _store_first(
        self, completion: Completion, course: Course, known_steps: Sequence[StepState]
    ) -> Dispatch:
        """Store the message before it is sent for the first time.

        A step that ends while the message is built finds no message to update: the commit that
        stores it compares the steps, with their rows locked.
        """
        key = MessageKey(completion.id, self.name, self.message_type)
        payload = await self._build_payload(key, completion, course)
        waits_for = set(self.waits_for) if self.update_type is not None else set()

        async def store_and_compare(tx: Tx) -> Dispatch:
            stored = await self._add(tx, key, completion, payload)
            for before in known_steps:
                if before.name not in waits_for:
                    continue
                step = await self._completions.lock_step(tx, completion.id, before.name)
                if step is None or before.status == "completed":
                    continue
                if step.status == "completed":
                    await self._enqueue_update(tx, completion.id)
            return stored

        return await self.context.db.transact(store_and_compare, WriteClass.EFFECTS)

    async def _build_payload(self, key: MessageKey, completion: Completion, course: Course) -> str:
        return encode_json(await self.build(key, completion, course)).decode()

    async def _add(self, tx: Tx, key: MessageKey, completion: Completion, payload: str) -> Dispatch:
        await self._completions.get_locked(tx, completion.id)
        new = Dispatch(
            key.id,
            self.name,
            key.type,
            completion.id,
            completion.user_id,
            payload,
            tx.now,
            version=key.version,
        )
        await store.add(tx, new)
        tx.notify(TOPIC, key.id)
        stored = await store.get_by_completion(tx, self.name, completion.id, key.type)
        assert stored is not None  # by this worker or by another
        return stored

    async def _enqueue_update(self, tx: Tx, completion_id: str) -> None:
        args = UpdateDispatch(completion_id=completion_id, destination=self.name)
        id = natural_id(completion_id, self.name, "update", str(tx.now))
        await enqueue(tx, args, id=id, max_retries=len(self.delays.delays))

    async def _find(self, tx: Tx, completion_id: str) -> Dispatch | None:
        return await store.get_by_completion(tx, self.name, completion_id, self.message_type)

    async def _skip(self, ctx: JobContext, known: Dispatch | None, reason: SkipReason) -> Outcome:
        outcome = Done(reason.to_result())
        async with self.context.db.write() as tx:
            if known is not None:
                await store.set_status(tx, known.id, "skipped", reason.text)
            await ctx.settle(tx, outcome)
        return outcome
