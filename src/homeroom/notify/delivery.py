"""Delivery of messages: claim and check, send, record the outcome.

No transaction is open while a message is sent: the claim is committed before the session begins. A
run that finds its delivery in ``sending`` therefore knows that an earlier worker died in the middle
of a session. The outcome of that session cannot be found out, so the delivery is ``unknown``
(decision 0014). Reminders stay so (the inbox shows them, and an operator can resend them); types
with ``resend_on_unknown`` are sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import structlog

from homeroom.db.database import WriteClass
from homeroom.db.tx import Tx
from homeroom.instant import SECOND
from homeroom.jobs.api import (
    Done,
    Fail,
    Hold,
    Job,
    JobContext,
    JobState,
    LogSubject,
    Outcome,
    Snooze,
)
from homeroom.notify import store
from homeroom.notify.channel_sender import OutgoingMessage, SmtpProgress
from homeroom.notify.delivery_preparation import (
    DeliveryContext,
    ReadyDelivery,
    UnsentDelivery,
    prepare_delivery,
    render_message,
)
from homeroom.notify.delivery_rules import (
    WORKER_LOST_REASON,
    DeliveryStatus,
    Reason,
    ReasonCode,
)
from homeroom.notify.jobs import DeliveryJobArgs, SendBundle, decide_outcome
from homeroom.notify.message import (
    Channel,
    MessageType,
    get_message_type,
)
from homeroom.notify.notifier import TOPIC
from homeroom.notify.sending_pace import POSTPONEMENT
from homeroom.notify.smtp_response import DeliveryDecision, SmtpPhase, response_class
from homeroom.notify.store import Delivery, Notification

log = structlog.get_logger(__name__)
_INTERRUPTED = "The attempt was cancelled before the message was submitted; it is repeated."
_NO_TURN = Snooze(POSTPONEMENT, "the limit of mails a minute")


class DeliveryRunner:
    """Runs the jobs that send one message each."""

    def __init__(self, context: DeliveryContext) -> None:
        """Configure the parts that deliveries need."""
        self._context = context

    async def run(self, ctx: JobContext, args: DeliveryJobArgs) -> Outcome:
        """Claim the delivery, send it, and record the outcome."""
        if self._context.pace is not None:
            async with self._context.db.read() as tx:
                row = await store.get_delivery(tx, args.delivery_id)
            if row is not None and not await self._context.take_turn(row[0].channel):
                return _NO_TURN
        ready = await self._claim(ctx, args.delivery_id)
        if not isinstance(ready, ReadyDelivery):
            return ready
        progress = SmtpProgress()
        channel_sender = self._context.channel_senders[ready.delivery.channel]
        try:
            decision = await channel_sender.send(ready.to_outgoing(), progress)
        except asyncio.CancelledError:
            await _revert_to_pending(self._context, [ready], progress)
            raise
        return await _record_outcome(self._context, ctx, [ready], decision)

    async def _claim(self, ctx: JobContext, delivery_id: str) -> ReadyDelivery | Outcome:
        context = self._context

        async def claim(tx: Tx) -> ReadyDelivery | Outcome:
            row = await store.get_delivery(tx, delivery_id, lock=True)
            if row is None:
                return Fail("The delivery was pruned.")
            delivery, notification = row
            message_type = get_message_type(notification.type)
            if delivery.status is DeliveryStatus.SENDING:
                delivery = await _record_unknown(context, tx, delivery, message_type)
                if not message_type.resend_on_unknown:
                    return await _settle(ctx, tx, Done({"status": DeliveryStatus.UNKNOWN.value}))
            if delivery.status is not DeliveryStatus.PENDING:
                return await _settle(ctx, tx, Done({"status": delivery.status.value}))
            prepared = await prepare_delivery(context, tx, delivery, notification)
            if isinstance(prepared, timedelta):
                return await _settle(ctx, tx, Snooze(prepared, "quiet hours"))
            if isinstance(prepared, UnsentDelivery):
                await _record_unsent(context, tx, delivery, notification.type, prepared)
                return await _settle(ctx, tx, Done({"status": prepared.status.value}))
            held = await _find_hold(context, tx, [prepared])
            if held is not None:
                return await _settle(ctx, tx, held)
            await store.begin_attempt(tx, delivery, prepared.address)
            return prepared

        return await context.db.transact(claim, WriteClass.EFFECTS)

    async def changed(self, tx: Tx, job: Job, args: DeliveryJobArgs) -> None:
        """Update the delivery after its job was cancelled, lost or retried."""
        row = await store.get_delivery(tx, args.delivery_id)
        if row is None or row[0].job != job.id:
            return
        delivery, notification = row
        await _follow_job(self._context, tx, job, delivery)
        tx.notify(TOPIC, notification.user_id)

    async def is_outstanding(self, tx: Tx, job: Job, args: DeliveryJobArgs) -> bool:
        """Return whether the message was not sent and may still be."""
        row = await store.get_delivery(tx, args.delivery_id)
        return row is not None and _waits_for(tx, job, *row)

    async def find_subject(self, tx: Tx, args: DeliveryJobArgs) -> LogSubject:
        """Return the recipient, and the channel as the partner."""
        row = await store.get_delivery(tx, args.delivery_id)
        if row is None:
            return LogSubject()
        return LogSubject(row[1].user_id, None, row[0].channel.value)


class BundleRunner:
    """Runs the jobs that send the messages of a bundle as one."""

    def __init__(self, context: DeliveryContext) -> None:
        """Configure the parts that deliveries need."""
        self._context = context

    async def run(self, ctx: JobContext, args: SendBundle) -> Outcome:
        """Claim the deliveries that are due, send them as one, record each outcome."""
        if self._context.pace is not None:
            async with self._context.db.read() as tx:
                rows = await store.list_bundle_deliveries(tx, args.bundle)
            if rows and not await self._context.take_turn(rows[0][0].channel):
                return _NO_TURN
        claimed = await self._claim(ctx, args.bundle)
        if not isinstance(claimed, tuple):
            return claimed
        ready, message = claimed
        progress = SmtpProgress()
        try:
            decision = await self._context.channel_senders[message.channel].send(message, progress)
        except asyncio.CancelledError:
            await _revert_to_pending(self._context, ready, progress)
            raise
        return await _record_outcome(self._context, ctx, ready, decision)

    async def _claim(
        self, ctx: JobContext, bundle: str
    ) -> tuple[Sequence[ReadyDelivery], OutgoingMessage] | Outcome:
        context = self._context

        async def claim(tx: Tx) -> tuple[Sequence[ReadyDelivery], OutgoingMessage] | Outcome:
            ready: list[ReadyDelivery] = []
            wait = None
            for delivery, notification in await store.list_bundle_deliveries(tx, bundle, lock=True):
                if delivery.status is DeliveryStatus.SENDING:
                    message_type = get_message_type(notification.type)
                    delivery = await _record_unknown(context, tx, delivery, message_type)
                if delivery.status is not DeliveryStatus.PENDING:
                    continue
                prepared = await prepare_delivery(context, tx, delivery, notification)
                if isinstance(prepared, ReadyDelivery):
                    ready.append(prepared)
                elif isinstance(prepared, timedelta):
                    wait = prepared
                else:
                    await _record_unsent(context, tx, delivery, notification.type, prepared)
            if wait is not None:
                return await _settle(ctx, tx, Snooze(wait, "quiet hours"))
            if not ready:
                return await _settle(ctx, tx, Done({"status": "nothing"}))
            held = await _find_hold(context, tx, ready)
            if held is not None:
                return await _settle(ctx, tx, held)
            for each in ready:
                await store.begin_attempt(tx, each.delivery, each.address)
            return ready, await self._compose(tx, ready)

        return await context.db.transact(claim, WriteClass.EFFECTS)

    async def _compose(self, tx: Tx, ready: Sequence[ReadyDelivery]) -> OutgoingMessage:
        """Return one message for all; a single delivery is sent as itself."""
        first = ready[0]
        if len(ready) == 1:
            return first.to_outgoing()
        channel, user_id = first.delivery.channel, first.notification.user_id
        message_types = [get_message_type(each.notification.type) for each in ready]
        key = await store.get_or_create_link_key(tx)
        unsubscribe_url = self._context.unsubscribe_url(key, user_id, message_types, channel)
        items = [{"title": each.rendered.title, "summary": each.rendered.summary} for each in ready]
        programmes = {each.notification.programme_id for each in ready}
        rendered = render_message(
            self._context,
            "bundle",
            {"items": items},
            first.person,
            unsubscribe_url,
            programme_id=programmes.pop() if len(programmes) == 1 else None,
        )
        return OutgoingMessage(
            first.delivery.id, channel, first.address, rendered, unsubscribe_url, "bundle"
        )

    async def changed(self, tx: Tx, job: Job, args: SendBundle) -> None:
        """Update the deliveries after their job was cancelled, lost or retried."""
        for delivery, _ in await store.list_bundle_deliveries(tx, args.bundle):
            await _follow_job(self._context, tx, job, delivery)

    async def is_outstanding(self, tx: Tx, job: Job, args: SendBundle) -> bool:
        """Return whether a message of the bundle was not sent and may still be."""
        rows = await store.list_bundle_deliveries(tx, args.bundle)
        return any(_waits_for(tx, job, *row) for row in rows)

    async def find_subject(self, tx: Tx, args: SendBundle) -> LogSubject:
        """Return the recipient, and the channel as the partner."""
        for delivery, notification in await store.list_bundle_deliveries(tx, args.bundle):
            return LogSubject(notification.user_id, None, delivery.channel.value)
        return LogSubject()


async def _record_outcome(
    context: DeliveryContext,
    ctx: JobContext,
    ready: Sequence[ReadyDelivery],
    decision: DeliveryDecision,
) -> Outcome:
    """Store the outcome of one message and settle its job in one transaction."""
    ends = [each.notification.expires_at for each in ready]
    last_end = None if None in ends else max(end for end in ends if end is not None)
    message_type = get_message_type(ready[0].notification.type)

    async def save(tx: Tx) -> Outcome:
        is_held = await _record_session(context, tx, ready[0], decision)
        outcome, status, reason = decide_outcome(
            ctx, message_type, last_end, decision, tx.now, is_held=is_held
        )
        for each in ready:
            await _record_attempt(context, tx, each, decision, status, reason)
            if status is DeliveryStatus.ACCEPTED:
                continue
            write = partial(
                log.warning,
                "delivery_attempt_failed",
                delivery_id=each.delivery.id,
                job_id=ctx.job.id,
                type=each.notification.type,
                channel=each.delivery.channel.value,
                status=status.value,
                reason_code=None if reason is None else reason.code.value,
                error=decision.error,
            )
            tx.after_commit(write)
        return outcome

    return await ctx.commit(save)


def _waits_for(tx: Tx, job: Job, delivery: Delivery, notification: Notification) -> bool:
    """Return whether a delivery waits for its failed job: until its message expires."""
    if delivery.job != job.id or delivery.status is not DeliveryStatus.FAILED:
        return False
    return notification.purged_at is None and (notification.expires_at or tx.now + 1) > tx.now


async def _settle(ctx: JobContext, tx: Tx, outcome: Outcome) -> Outcome:
    await ctx.settle(tx, outcome)
    return outcome


async def _find_hold(
    context: DeliveryContext, tx: Tx, ready: Sequence[ReadyDelivery]
) -> Hold | None:
    """Return the outcome of a job whose mails are held; None: send them."""
    if ready[0].delivery.channel is not Channel.EMAIL:
        return None
    held = await context.mail_hold.admit(tx)
    if held is not None:
        reason = Reason(ReasonCode.MAIL_HELD, held.reason)
        for each in ready:
            await store.set_wait_reason(tx, each.delivery.id, reason)
    return held


async def _record_session(
    context: DeliveryContext, tx: Tx, ready: ReadyDelivery, decision: DeliveryDecision
) -> bool:
    """Record what a session shows of the mail server; return whether mails are held."""
    if ready.delivery.channel is not Channel.EMAIL:
        return False
    return await context.mail_hold.record(tx, decision, ready.address)


async def _record_unsent(
    context: DeliveryContext, tx: Tx, delivery: Delivery, type: str, unsent: UnsentDelivery
) -> None:
    if await store.transition_delivery(tx, delivery.id, unsent.status, reason=unsent.reason):
        _observe_delivery(context, tx, type, delivery.channel, unsent.status)


async def _record_attempt(
    context: DeliveryContext,
    tx: Tx,
    ready: ReadyDelivery,
    decision: DeliveryDecision,
    status: DeliveryStatus,
    reason: Reason | None,
) -> None:
    """Store the outcome of an attempt, and the bounce if the recipient was refused."""
    delivery, notification, number = ready.delivery, ready.notification, ready.delivery.attempts + 1
    await store.transition_delivery(
        tx, delivery.id, status, reason=reason, only_from=[DeliveryStatus.SENDING]
    )
    outcome = decision.status.value
    await store.end_attempt(tx, delivery.id, number, outcome, decision.code, decision.error)
    _observe_delivery(context, tx, notification.type, delivery.channel, status)
    if status is DeliveryStatus.ACCEPTED:
        due_at = max(delivery.not_before or 0, delivery.created_at)
        seconds = max(tx.now - due_at, 0) / SECOND
        tx.after_commit(partial(context.observe_duration, delivery.channel.value, seconds))
    elif decision.error is not None:
        code_class = response_class(decision)
        tx.count("notification_provider_errors", delivery.channel.value, code_class)
    if decision.server_id is not None:
        await store.set_server_id(tx, delivery.id, decision.server_id)
        await context.bounces.apply_early_notices(tx, delivery, notification, decision.server_id)
    if decision.bounce is not None:
        source = f"smtp:{delivery.id}:{number}"
        detail = decision.error or ""
        await context.bounces.record(
            tx, source, delivery.id, delivery.channel, ready.address, decision.bounce, detail
        )
    tx.notify(TOPIC, notification.user_id)


async def _record_unknown(
    context: DeliveryContext, tx: Tx, delivery: Delivery, message_type: MessageType | None
) -> Delivery:
    """Set a delivery whose worker died to unknown and return it as it is stored then.

    It becomes pending again where its type is resent; without a type it is not.
    """
    reason = WORKER_LOST_REASON
    await store.transition_delivery(tx, delivery.id, DeliveryStatus.UNKNOWN, reason=reason)
    await store.end_attempt(tx, delivery.id, delivery.attempts, "unknown", None, reason.text)
    if message_type is not None:
        status = DeliveryStatus.UNKNOWN
        _observe_delivery(context, tx, message_type.name, delivery.channel, status)
        if message_type.resend_on_unknown:
            await store.transition_delivery(
                tx, delivery.id, DeliveryStatus.PENDING, only_from=[DeliveryStatus.UNKNOWN]
            )
    row = await store.get_delivery(tx, delivery.id)
    assert row is not None
    return row[0]


async def _revert_to_pending(
    context: DeliveryContext, ready: Sequence[ReadyDelivery], progress: SmtpProgress
) -> None:
    """Release the deliveries of a cancelled attempt, unless it was submitted."""
    if progress.phase >= SmtpPhase.END:
        return
    async with context.db.write() as tx:
        for each in ready:
            id, number = each.delivery.id, each.delivery.attempts + 1
            await store.transition_delivery(
                tx, id, DeliveryStatus.PENDING, only_from=[DeliveryStatus.SENDING]
            )
            await store.end_attempt(tx, id, number, "pending", None, _INTERRUPTED)


async def _follow_job(context: DeliveryContext, tx: Tx, job: Job, delivery: Delivery) -> None:
    """Update one delivery after its job failed or was set back to waiting."""
    if job.state is JobState.FAILED and delivery.status is DeliveryStatus.PENDING:
        error = job.last_error
        reason = None if error is None else Reason(ReasonCode.JOB_FAILED, error)
        await store.transition_delivery(tx, delivery.id, DeliveryStatus.FAILED, reason=reason)
    elif job.state is JobState.FAILED and delivery.status is DeliveryStatus.SENDING:
        await _record_unknown(context, tx, delivery, None)
    elif job.state is JobState.WAITING and delivery.status is DeliveryStatus.FAILED:
        await store.transition_delivery(
            tx, delivery.id, DeliveryStatus.PENDING, only_from=[DeliveryStatus.FAILED]
        )


def _observe_delivery(
    context: DeliveryContext, tx: Tx, type: str, channel: Channel, status: DeliveryStatus
) -> None:
    """Count a delivery's new status once it is committed."""
    tx.after_commit(lambda: context.observe(type, channel.value, status.value))
