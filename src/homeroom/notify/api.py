"""Public interface of ``notify``: send, resolve, resend, handle bounces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.instant import to_microseconds
from homeroom.jobs.api import Done, JobContext, Outcome, Registry, enqueue
from homeroom.notify import preference_store, store, suppression
from homeroom.notify.apprise_sender import AppriseSender
from homeroom.notify.bounce_mail import DeliveryNotice
from homeroom.notify.channel_sender import (
    ChannelSender,
    DisabledSender,
    OutgoingMessage,
    SmtpProgress,
)
from homeroom.notify.delivery import BundleRunner, DeliveryRunner
from homeroom.notify.delivery_preparation import DeliveryContext
from homeroom.notify.delivery_rules import RESENDABLE_STATUSES, DeliveryStatus, ReasonCode
from homeroom.notify.examples import EXAMPLE_PARAMS
from homeroom.notify.jobs import DELIVERY_JOBS_BY_QUEUE, PruneNotifications, SendBundle
from homeroom.notify.mail import MailIdentity
from homeroom.notify.mail_hold import MailHold
from homeroom.notify.message import (
    MESSAGE_TYPES,
    Channel,
    DeliveryObserver,
    DurationObserver,
    Message,
    NoticeObserver,
    Recipient,
    get_message_type,
    observe_no_durations,
    observe_no_notices,
    observe_nothing,
)
from homeroom.notify.message_texts import MESSAGE_TYPE_TITLES, RenderedMessage, list_languages
from homeroom.notify.notifier import TOPIC, Notifier, PlannedMessage, RelevanceChecks, SendResult
from homeroom.notify.preference_store import ChannelPreference, NotificationProfile
from homeroom.notify.provider_events import parse_provider_events
from homeroom.notify.school import InlineImage, School
from homeroom.notify.sending_pace import SendingPace
from homeroom.notify.smtp_connection import SmtpServer, SmtpSessionOptions
from homeroom.notify.smtp_response import DeliveryDecision
from homeroom.notify.smtp_sender import SmtpSender, parse_smtp_url
from homeroom.notify.store import Delivery, DeliveryAttempt, Notification
from homeroom.notify.suppression import (
    BounceRecorder,
    NoticeCounts,
    Suppression,
    parse_dsn,
)
from homeroom.notify.tables import PERSONAL
from homeroom.notify.template import MessageTemplates
from homeroom.notify.unsubscribe_token import Subscription, decode_unsubscribe_token

__all__ = [
    "EXAMPLE_PARAMS",
    "MESSAGE_TYPES",
    "MESSAGE_TYPE_TITLES",
    "PERSONAL",
    "TOPIC",
    "AppriseSender",
    "Channel",
    "ChannelPreference",
    "ChannelSender",
    "Delivery",
    "DeliveryAttempt",
    "DeliveryDecision",
    "DeliveryStatus",
    "DisabledSender",
    "InlineImage",
    "MailIdentity",
    "Message",
    "MessageTemplates",
    "NoticeCounts",
    "Notification",
    "NotificationProfile",
    "Notifications",
    "OutgoingMessage",
    "PlannedMessage",
    "PruneNotifications",
    "ReasonCode",
    "Recipient",
    "RenderedMessage",
    "School",
    "SendResult",
    "SmtpProgress",
    "SmtpSender",
    "SmtpServer",
    "SmtpSessionOptions",
    "Subscription",
    "Suppression",
    "get_message_type",
    "list_languages",
    "parse_dsn",
    "parse_provider_events",
    "parse_smtp_url",
]

KEY_RETENTION = timedelta(days=400)
"""Thirteen months: a message whose key is pruned could be sent again."""
TEST_USER_ID = ""
"""The person in the unsubscribe link of a test message: no id of a person is empty."""
_PRUNE_BATCH = 500


class Notifications:
    """Entry point to messages; ``bootstrap`` builds it with its channel senders."""

    def __init__(
        self,
        db: Database,
        *,
        channel_senders: Mapping[Channel, ChannelSender],
        templates: MessageTemplates,
        public_url: str,
        text_retention: timedelta,
        observe: DeliveryObserver = observe_nothing,
        observe_notices: NoticeObserver = observe_no_notices,
        observe_duration: DurationObserver = observe_no_durations,
        mails_per_minute: int | None = None,
    ) -> None:
        """Configure a sender for each channel but the inbox, and the retention of texts.

        ``mails_per_minute`` limits the mails of all processes together; None: no limit.
        """
        self._db, self.templates, self.channel_senders = db, templates, channel_senders
        self._text_retention, self._observe_notices = text_retention, observe_notices
        self.checks = RelevanceChecks()
        self.notifier = Notifier(
            {channel: sender.disabled_reason for channel, sender in channel_senders.items()},
            observe,
        )
        self.bounces = BounceRecorder(observe)
        self._context = DeliveryContext(
            db,
            self.notifier,
            self.checks,
            channel_senders,
            templates,
            self.bounces,
            MailHold(db),
            public_url,
            observe,
            observe_duration,
            None if mails_per_minute is None else SendingPace(db, mails_per_minute),
        )

    def register(self, registry: Registry) -> None:
        """Register the handlers of this package's jobs."""
        deliveries, bundles = DeliveryRunner(self._context), BundleRunner(self._context)
        for args in DELIVERY_JOBS_BY_QUEUE.values():
            registry.add(
                args,
                deliveries.run,
                deliveries.changed,
                is_outstanding=deliveries.is_outstanding,
                subject=deliveries.find_subject,
            )
        registry.add(
            SendBundle,
            bundles.run,
            bundles.changed,
            is_outstanding=bundles.is_outstanding,
            subject=bundles.find_subject,
        )
        registry.add(PruneNotifications, self._prune)

    async def send(self, tx: Tx, messages: Sequence[Message]) -> SendResult:
        """Store messages in the caller's transaction, each at most once by its key."""
        return await self.notifier.send(tx, messages)

    async def find_sent(self, tx: Tx, keys: Sequence[str]) -> set[str]:
        """Return those of some keys whose messages were sent."""
        return await store.find_sent_keys(tx, keys)

    async def resolve(self, tx: Tx, keys: Sequence[str], *, cancels: bool = True) -> None:
        """Mark messages as resolved: read, and cancelled where they are pending.

        With ``cancels`` false the pending ones are sent, if their relevance check allows it.
        """
        for id in await store.resolve_notifications(tx, keys, cancels=cancels):
            tx.notify(TOPIC, id)

    def render(
        self, notification: Notification, locale: str | None, *, with_body: bool = False
    ) -> RenderedMessage:
        """Return a notification's texts; after a purge, the title of its type.

        ``locale`` is that of the built-in directory; the message's own comes first.
        """
        if notification.recipient is not None:
            locale = notification.recipient.locale or locale
        if notification.purged_at is not None:
            return RenderedMessage(MESSAGE_TYPE_TITLES[notification.type], "", "", "")
        return self.templates.render(
            notification.type,
            notification.params,
            locale=locale,
            with_body=with_body,
            programme_id=notification.programme_id,
        )

    async def resend(self, delivery_id: str, actor: str, why: str) -> Delivery:
        """Enqueue another attempt of a delivery that has ended; the reason is stored.

        Raises ``NotFound``; ``Conflict`` where it has not ended or was complained about;
        ``Invalid`` without a reason.
        """
        if not why.strip():
            raise Invalid("A reason is required: it is stored with the attempt.")
        async with self._db.write() as tx:
            row = await store.get_delivery(tx, delivery_id, lock=True)
            if row is None:
                raise NotFound(f"There is no delivery {delivery_id!r}.")
            delivery, notification = row
            if delivery.status not in RESENDABLE_STATUSES or delivery.channel is Channel.IN_APP:
                raise Conflict(
                    f"A delivery that is {delivery.status.value} cannot be sent again.",
                    details={"status": delivery.status.value},
                )
            message_type = get_message_type(notification.type)
            job = await enqueue(
                tx,
                DELIVERY_JOBS_BY_QUEUE[message_type.queue](delivery_id=delivery_id),
                priority=message_type.priority,
            )
            await store.request_resend(tx, delivery_id, job, actor, why.strip())
            details = {"why": why.strip(), "was": delivery.status.value}
            await access.record_audit(tx, actor, "delivery.resent", delivery_id, details)
            after = await store.get_delivery(tx, delivery_id)
        assert after is not None
        return after[0]

    async def find_subscription(self, tx: Tx, token: str) -> Subscription | None:
        """Return the subscription of an unsubscribe link; None if the link is not valid."""
        key = await store.get_link_key(tx)
        if key is None:
            return None
        subscription = decode_unsubscribe_token(token, key)
        if subscription is None or any(
            name not in MESSAGE_TYPES for name in subscription.type.split("+")
        ):
            return None
        return subscription

    async def unsubscribe(self, token: str) -> Subscription | None:
        """End the subscription of an unsubscribe link; None if the link is not valid.

        Calling it again changes nothing.
        """
        async with self._db.write() as tx:
            subscription = await self.find_subscription(tx, token)
            if subscription is None:
                return None
            if subscription.user_id == TEST_USER_ID:
                return subscription
            channel = Channel(subscription.channel)
            await preference_store.put_preferences(
                tx,
                [
                    ChannelPreference(subscription.user_id, name, channel, False, "link")
                    for name in subscription.type.split("+")
                    if not get_message_type(name).mandatory
                ],
            )
            subject = {"type": subscription.type, "channel": subscription.channel}
            await access.record_audit(
                tx, subscription.user_id, "mail.unsubscribed", subscription.user_id, subject
            )
        return subscription

    async def receive_notices(self, source_id: str, notices: list[DeliveryNotice]) -> NoticeCounts:
        """Apply reports of mail servers and providers about mails that had been accepted."""
        async with self._db.write() as tx:
            counts = await self.bounces.receive_notices(tx, source_id, notices)
        for outcome in ("known", "unknown", "ignored"):
            self._observe_notices(source_id.partition(":")[0], outcome, getattr(counts, outcome))
        return counts

    def now(self) -> int:
        """Return the current instant of the database's clock, in microseconds UTC."""
        return self._db.clock.now()

    async def use_hook_token(self, token: str, body: bytes) -> bool:
        """Use a webhook's token once; return False if another body had it."""
        async with self._db.write() as tx:
            return await suppression.use_hook_token(tx, token, body)

    async def lift_suppression(self, id: str, actor: str) -> None:
        """Delete a suppression, so that the address is used again; raise ``NotFound``."""
        async with self._db.write() as tx:
            suppressed = await suppression.delete_suppression(tx, id)
            if suppressed is None:
                raise NotFound(f"There is no suppression {id!r}.")
            details = {
                "channel": suppressed.channel,
                "reason": suppressed.reason,
                "scope": suppressed.scope,
            }
            await access.record_audit(tx, actor, "suppression.lifted", id, details)

    async def send_test(
        self,
        channel: Channel,
        address: str,
        type: str,
        *,
        params: Mapping[str, object] | None = None,
        locale: str | None = None,
        given_name: str | None = None,
        programme_id: str | None = None,
    ) -> DeliveryDecision:
        """Send a message of a type at once, without rows, jobs or preferences.

        It has all headers of a real one; its unsubscribe link is one of no person. Without
        ``params`` it is an example. Raises ``Conflict`` for a channel that is off.
        """
        channel_sender = self.channel_senders[channel]
        if channel_sender.disabled_reason is not None:
            raise Conflict(f"Nothing can be sent: {channel_sender.disabled_reason}.")
        async with self._db.write() as tx:
            key = await store.get_or_create_link_key(tx)
        unsubscribe_url = self._context.unsubscribe_url(
            key, TEST_USER_ID, [get_message_type(type)], channel
        )
        rendered = self.templates.render(
            type,
            EXAMPLE_PARAMS[type] if params is None else params,
            locale=locale,
            given_name=given_name,
            unsubscribe_url=unsubscribe_url,
            programme_id=programme_id,
        )
        message = OutgoingMessage(new_id(), channel, address, rendered, unsubscribe_url, type)
        return await channel_sender.send(message, SmtpProgress())

    async def close(self) -> None:
        """End the connections that the channels' senders keep."""
        for channel_sender in self.channel_senders.values():
            await channel_sender.close()

    async def _prune(self, ctx: JobContext, args: PruneNotifications) -> Outcome:
        texts = rows = 0
        while True:
            async with self._db.write() as tx:
                texts_before = tx.now - to_microseconds(self._text_retention)
                rows_before = tx.now - to_microseconds(max(self._text_retention, KEY_RETENTION))
                purged_texts, purged_rows = await store.purge_notifications(
                    tx, texts_before, rows_before, _PRUNE_BATCH
                )
                texts, rows = texts + purged_texts, rows + purged_rows
                if max(purged_texts, purged_rows) < _PRUNE_BATCH:
                    await suppression.prune_expired(tx)
                    outcome = Done({"texts": texts, "rows": rows})
                    await ctx.settle(tx, outcome)
                    return outcome
