"""Sending of messages: keys, deliveries and jobs in one transaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from homeroom.db.ids import natural_id, new_id
from homeroom.db.tx import Tx
from homeroom.jobs.api import EnqueueRequest, enqueue_all
from homeroom.notify import preference_store, store, suppression
from homeroom.notify.channel_selection import (
    THROTTLE_WINDOW_US,
    ChannelAddress,
    NotificationPreferences,
    PlannedDelivery,
    QuietHours,
    ThrottleGroup,
    plan_deliveries,
)
from homeroom.notify.delivery_rules import CHANNEL_NOT_CONFIGURED, DeliveryStatus
from homeroom.notify.jobs import DELIVERY_JOBS_BY_QUEUE, SendBundle
from homeroom.notify.message import (
    Channel,
    DeliveryObserver,
    Message,
    MessageType,
    Recipient,
    get_message_type,
    observe_nothing,
)
from homeroom.notify.store import Delivery, Notification
from homeroom.people import api as people
from homeroom.people.api import Person

TOPIC = "notifications"
UTC = ZoneInfo("UTC")
MessageParams = Mapping[str, Any]
RelevanceCheck = Callable[[Tx, MessageParams, MessageParams], Awaitable[MessageParams | None]]
"""Map a message's subject and parameters to the parameters that it is sent with.

None: the matter is resolved, so the message is not sent. It runs in the transaction that claims the
delivery.
"""


class RelevanceChecks:
    """The relevance checks by name; features add theirs during ``bootstrap``."""

    def __init__(self) -> None:
        """Start without checks."""
        self._checks: dict[str, RelevanceCheck] = {}

    def add(self, name: str, check: RelevanceCheck) -> None:
        """Add a check; raise ValueError if the name has one."""
        if name in self._checks:
            raise ValueError(f"There are two relevance checks {name!r}.")
        self._checks[name] = check

    async def current_params(self, tx: Tx, notification: Notification) -> MessageParams | None:
        """Return a notification's current parameters; None: it is no longer relevant.

        A message whose check this program does not know is sent.
        """
        about = notification.about
        check = None if about is None else self._checks.get(str(about.get("check")))
        if about is None or check is None:
            return notification.params
        return await check(tx, about, notification.params)


@dataclass(frozen=True, slots=True)
class SendResult:
    """Counts of the messages of one ``send``."""

    new: int = 0
    repeated: int = 0
    """Their keys were known: nothing was done."""


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """A message with the deliveries that sending it would create, for a dry run."""

    message: Message
    was_sent: bool
    """Its key is known, so sending it would do nothing."""
    deliveries: list[PlannedDelivery]


@dataclass(frozen=True, slots=True)
class RecipientData:
    """People with their preferences, addresses and suppressions."""

    people: Mapping[str, Person]
    preferences: Mapping[str, NotificationPreferences]
    addresses: Mapping[str, Mapping[Channel, ChannelAddress]]
    suppressions: Mapping[tuple[Channel, str, str], str]

    def addresses_of(
        self, user_id: str, message_type: MessageType
    ) -> dict[Channel, ChannelAddress]:
        """Return a person's addresses for a type, suppressed ones marked as such."""
        return {
            channel: self._mark_suppressed(channel, address, message_type)
            for channel, address in self.addresses[user_id].items()
        }

    def _mark_suppressed(
        self, channel: Channel, address: ChannelAddress, message_type: MessageType
    ) -> ChannelAddress:
        if address.address is None:
            return address
        normalized = suppression.normalize_address(address.address)
        for scope in (suppression.GLOBAL_SCOPE, message_type.name):
            cause = self.suppressions.get((channel, normalized, scope))
            if cause is not None:
                return ChannelAddress(address.address, address.disabled_reason, cause)
        return address


class Notifier:
    """Stores messages with their deliveries and jobs, each message once by its key."""

    def __init__(
        self,
        disabled_reasons: Mapping[Channel, str | None],
        observe: DeliveryObserver = observe_nothing,
    ) -> None:
        """Configure by channel the reason why it is off, or None."""
        self._disabled_reasons = disabled_reasons
        self._observe = observe

    async def send(self, tx: Tx, messages: Sequence[Message]) -> SendResult:
        """Store messages whose keys are new, with their deliveries and jobs.

        All are rows of the caller's transaction. A message that any process has sent before changes
        nothing. Raises KeyError for an unknown type.
        """
        if not messages:
            return SendResult()
        notifications = []
        messages_by_id: dict[str, Message] = {}
        for message in messages:
            get_message_type(message.type)
            id = new_id()
            messages_by_id[id] = message
            notifications.append(_to_notification(id, message, tx.now))
        new_ids = await store.add_notifications(tx, notifications)
        new = {id: message for id, message in messages_by_id.items() if id in new_ids}
        recipients = await self.load_recipients(tx, *_recipients_of(list(new.values())))
        await self._add_deliveries(tx, new, recipients)
        for user_id in recipients.preferences:
            tx.notify(TOPIC, user_id)
        self._observe_repeats(tx, messages, new)
        return SendResult(len(new), len(messages) - len(new))

    async def plan(self, tx: Tx, messages: Sequence[Message]) -> list[PlannedMessage]:
        """Return the deliveries that sending messages would create; change nothing."""
        sent_keys = await store.find_sent_keys(tx, [message.key for message in messages])
        recipients = await self.load_recipients(tx, *_recipients_of(messages))
        return [
            PlannedMessage(
                message,
                message.key in sent_keys,
                self.plan_message(message, recipients, tx.now),
            )
            for message in messages
        ]

    def plan_message(
        self,
        message: Message,
        recipients: RecipientData,
        now: int,
        throttle_group: ThrottleGroup | None = None,
    ) -> list[PlannedDelivery]:
        """Return the deliveries of one message, with reasons for those that are not sent."""
        message_type, user_id = get_message_type(message.type), message.user_id
        return plan_deliveries(
            message_type,
            user_id,
            recipients.preferences[user_id],
            recipients.addresses_of(user_id, message_type),
            now,
            throttle_group,
        )

    async def load_recipients(
        self,
        tx: Tx,
        user_ids: Collection[str],
        described: Mapping[str, Recipient] = MappingProxyType({}),
    ) -> RecipientData:
        """Load people with their preferences, addresses and suppressions.

        ``described`` are those whom another directory describes, by id.
        """
        person_by_id = await people.find(tx, user_ids)
        for user_id, recipient in described.items():
            person_by_id[user_id] = _to_person(user_id, recipient, person_by_id.get(user_id))
        profiles = await preference_store.get_profiles(tx, user_ids)
        choices = await preference_store.get_preferences(tx, user_ids)
        preferences: dict[str, NotificationPreferences] = {}
        addresses: dict[str, dict[Channel, ChannelAddress]] = {}
        for user_id in user_ids:
            person = person_by_id.get(user_id)
            profile = profiles.get(user_id, preference_store.NotificationProfile(user_id))
            preferences[user_id] = _to_preferences(person, profile, choices.get(user_id, {}))
            addresses[user_id] = {
                channel: ChannelAddress(
                    address, self._disabled_reasons.get(channel, CHANNEL_NOT_CONFIGURED)
                )
                for channel, address in (
                    (Channel.EMAIL, None if person is None else person.email),
                    (Channel.SMS, profile.sms),
                    (Channel.CHAT, profile.chat),
                )
            }
        suppressions = await suppression.get_suppressions(
            tx,
            {
                (channel, each.address)
                for by_channel in addresses.values()
                for channel, each in by_channel.items()
                if each.address is not None
            },
        )
        return RecipientData(person_by_id, preferences, addresses, suppressions)

    async def _add_deliveries(
        self, tx: Tx, new: Mapping[str, Message], recipients: RecipientData
    ) -> None:
        deliveries: list[Delivery] = []
        requests: list[EnqueueRequest] = []
        bundles: dict[str, int] = {}
        counts: Counter[tuple[str, str, str]] = Counter()
        for id, message in new.items():
            message_type = get_message_type(message.type)
            throttle_group = await self._find_throttle_group(tx, message)
            for planned in self.plan_message(message, recipients, tx.now, throttle_group):
                delivery_id, job_id = new_id(), None
                if planned.bundle is not None:
                    bundles[planned.bundle] = planned.not_before or tx.now
                elif planned.status is DeliveryStatus.PENDING:
                    job_id = new_id()
                    args = DELIVERY_JOBS_BY_QUEUE[message_type.queue](delivery_id=delivery_id)
                    requests.append(
                        EnqueueRequest(args, job_id, message_type.priority, planned.not_before)
                    )
                deliveries.append(_to_delivery(delivery_id, id, planned, job_id, tx.now))
                counts[message.type, planned.channel.value, planned.status.value] += 1
        await store.add_deliveries(tx, deliveries)
        await enqueue_all(tx, requests)
        await enqueue_all(tx, list(_bundle_jobs(bundles)), natural_ids=True)
        self._observe_counts(tx, counts)

    def _observe_repeats(
        self, tx: Tx, messages: Sequence[Message], new: Mapping[str, Message]
    ) -> None:
        if len(new) == len(messages):
            return
        counts = Counter((message.type, "any", "repeated") for message in messages)
        counts.subtract((message.type, "any", "repeated") for message in new.values())
        for (type, _, _), number in counts.items():
            if number:
                tx.count("notification_deduplicated", type, amount=number)
        self._observe_counts(tx, counts)

    def _observe_counts(self, tx: Tx, counts: Counter[tuple[str, str, str]]) -> None:
        def observe() -> None:
            for key, number in counts.items():
                self._observe(*key, number)

        tx.after_commit(observe)

    async def _find_throttle_group(self, tx: Tx, message: Message) -> ThrottleGroup | None:
        """Return the message's group if its first message is under ten minutes old."""
        if message.group is None:
            return None
        first = await store.get_group_start(
            tx, message.user_id, message.group, tx.now - THROTTLE_WINDOW_US
        )
        if first is None or first >= tx.now:
            return None
        return ThrottleGroup(message.group, first + THROTTLE_WINDOW_US)


def _recipients_of(messages: Sequence[Message]) -> tuple[set[str], dict[str, Recipient]]:
    """Return the ids of the recipients, and those whom another directory describes."""
    described = {each.user_id: each.recipient for each in messages if each.recipient is not None}
    return {each.user_id for each in messages}, described


def _to_person(user_id: str, recipient: Recipient, known: Person | None) -> Person:
    """Return a described recipient as a person, with what only the directory knows."""
    return Person(
        user_id,
        recipient.email,
        recipient.given_name or "",
        "",
        recipient.locale,
        None if known is None else known.time_zone,
        suspended_at=None if known is None else known.suspended_at,
    )


def bundle_job_id(bundle: str) -> str:
    """Return the natural id of the job that sends a bundle."""
    return natural_id("notify", "bundle", hashlib.sha256(bundle.encode()).hexdigest()[:32])


def _bundle_jobs(bundles: Mapping[str, int]) -> Iterator[EnqueueRequest]:
    for bundle, due in bundles.items():
        yield EnqueueRequest(SendBundle(bundle=bundle), bundle_job_id(bundle), run_at=due)


def _to_notification(id: str, message: Message, now: int) -> Notification:
    return Notification(
        id=id,
        dedupe_key=message.key,
        type=message.type,
        user_id=message.user_id,
        params=message.params,
        about=message.about,
        metadata=message.metadata,
        group_name=message.group,
        created_at=now,
        expires_at=message.expires_at,
        recipient=message.recipient,
    )


def _to_delivery(
    id: str, notification_id: str, planned: PlannedDelivery, job: str | None, now: int
) -> Delivery:
    return Delivery(
        id=id,
        notification_id=notification_id,
        channel=planned.channel,
        status=planned.status,
        reason=None if planned.reason is None else planned.reason.text,
        reason_code=None if planned.reason is None else planned.reason.code.value,
        bundle=planned.bundle,
        not_before=planned.not_before,
        job=job,
        created_at=now,
        updated_at=now,
    )


def _to_preferences(
    person: Person | None,
    profile: preference_store.NotificationProfile,
    channels: Mapping[tuple[str, Channel], bool],
) -> NotificationPreferences:
    quiet_hours = None
    if profile.quiet_start is not None and profile.quiet_end is not None:
        quiet_hours = QuietHours(profile.quiet_start, profile.quiet_end)
    zone = UTC if person is None or person.time_zone is None else ZoneInfo(person.time_zone)
    is_suspended = person is not None and person.suspended_at is not None
    return NotificationPreferences(channels, quiet_hours, profile.digest_minute, zone, is_suspended)
