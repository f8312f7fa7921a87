"""Check of a delivery before it is sent: enabled, relevant, due; its texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.notify import store
from homeroom.notify.channel_sender import ChannelSender, OutgoingMessage
from homeroom.notify.delivery_rules import (
    EXPIRED_REASON,
    PREFERENCE_OFF_REASON,
    QUIET_HOURS_REASON,
    RESOLVED_REASON,
    TEXT_PURGED_REASON,
    DeliveryStatus,
    Reason,
)
from homeroom.notify.mail_hold import MailHold
from homeroom.notify.message import (
    Channel,
    DeliveryObserver,
    DurationObserver,
    Message,
    MessageType,
    get_message_type,
)
from homeroom.notify.message_texts import RenderedMessage
from homeroom.notify.notifier import Notifier, RelevanceChecks
from homeroom.notify.sending_pace import SendingPace
from homeroom.notify.store import Delivery, Notification
from homeroom.notify.suppression import BounceRecorder
from homeroom.notify.template import MessageTemplates
from homeroom.notify.unsubscribe_token import Subscription, encode_unsubscribe_token
from homeroom.people import api as people

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """The parts that deliveries need, on their own and in bundles."""

    db: Database
    notifier: Notifier
    checks: RelevanceChecks
    channel_senders: Mapping[Channel, ChannelSender]
    templates: MessageTemplates
    bounces: BounceRecorder
    mail_hold: MailHold
    public_url: str
    observe: DeliveryObserver
    observe_duration: DurationObserver
    pace: SendingPace | None = None
    """The limit of mails a minute; None: there is none."""

    async def take_turn(self, channel: Channel) -> bool:
        """Wait until a message may go out on a channel; return False if it took too long."""
        return self.pace is None or channel is not Channel.EMAIL or await self.pace.take_turn()

    def unsubscribe_url(
        self, key: bytes, user_id: str, message_types: Sequence[MessageType], channel: Channel
    ) -> str | None:
        """Return the URL that ends messages of some types; None if one is mandatory."""
        if any(each.mandatory for each in message_types):
            return None
        if not self.channel_senders[channel].has_unsubscribe_link():
            return None
        types = "+".join(sorted({each.name for each in message_types}))
        token = encode_unsubscribe_token(Subscription(user_id, types, channel.value), key)
        return f"{self.public_url}/u/{token}"


@dataclass(frozen=True, slots=True)
class ReadyDelivery:
    """A delivery that is sent now, with its address and texts."""

    delivery: Delivery
    notification: Notification
    address: str
    rendered: RenderedMessage
    unsubscribe_url: str | None
    person: people.Person | None

    def to_outgoing(self) -> OutgoingMessage:
        """Return the message as its channel's sender sends it."""
        return OutgoingMessage(
            self.delivery.id,
            self.delivery.channel,
            self.address,
            self.rendered,
            self.unsubscribe_url,
            self.notification.type,
        )


@dataclass(frozen=True, slots=True)
class UnsentDelivery:
    """A delivery that ends without being sent, and the reason."""

    status: DeliveryStatus
    reason: Reason | None


async def prepare_delivery(
    context: DeliveryContext, tx: Tx, delivery: Delivery, notification: Notification
) -> ReadyDelivery | UnsentDelivery | timedelta:
    """Check that a pending delivery is enabled, relevant and due; or return a wait."""
    is_resend = delivery.asked_by is not None
    expires_at = notification.expires_at
    if expires_at is not None and expires_at <= tx.now and not is_resend:
        return UnsentDelivery(DeliveryStatus.EXPIRED, EXPIRED_REASON)
    if notification.purged_at is not None:
        return UnsentDelivery(DeliveryStatus.FAILED, TEXT_PURGED_REASON)
    params = await context.checks.current_params(tx, notification)
    if params is None:
        return UnsentDelivery(DeliveryStatus.CANCELLED, RESOLVED_REASON)
    user_id, message_type = notification.user_id, get_message_type(notification.type)
    described = {} if notification.recipient is None else {user_id: notification.recipient}
    recipients = await context.notifier.load_recipients(tx, [user_id], described)
    message = Message(notification.dedupe_key, message_type.name, user_id)
    planned = {
        each.channel: each for each in context.notifier.plan_message(message, recipients, tx.now)
    }.get(delivery.channel)
    if planned is None:
        return UnsentDelivery(DeliveryStatus.SKIPPED, PREFERENCE_OFF_REASON)
    if planned.status is not DeliveryStatus.PENDING:
        return UnsentDelivery(planned.status, planned.reason)
    quiet_until = planned.not_before if planned.bundle is None else None
    if quiet_until is not None and quiet_until > tx.now and not is_resend:
        if expires_at is not None and quiet_until >= expires_at:
            return UnsentDelivery(DeliveryStatus.EXPIRED, QUIET_HOURS_REASON)
        return (quiet_until - tx.now) * _MICROSECOND
    address = recipients.addresses_of(user_id, message_type)[delivery.channel].address
    assert address is not None  # a delivery without an address is not planned as pending
    person = recipients.people.get(user_id)
    key = await store.get_or_create_link_key(tx)
    unsubscribe_url = context.unsubscribe_url(key, user_id, [message_type], delivery.channel)
    rendered = render_message(
        context,
        message_type.name,
        params,
        person,
        unsubscribe_url,
        programme_id=notification.programme_id,
    )
    return ReadyDelivery(delivery, notification, address, rendered, unsubscribe_url, person)


def render_message(
    context: DeliveryContext,
    name: str,
    params: Mapping[str, Any],
    person: people.Person | None,
    unsubscribe_url: str | None,
    *,
    programme_id: str | None,
) -> RenderedMessage:
    """Return a message's texts in the recipient's language and the programme's look."""
    return context.templates.render(
        name,
        params,
        locale=None if person is None else person.locale,
        given_name=None if person is None else person.given_name or None,
        unsubscribe_url=unsubscribe_url,
        programme_id=programme_id,
    )
