"""Take messages over: each once for ever, with a row for every way it could take."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from homeroom.db.id import natural_id, new_id
from homeroom.db.tx import Tx
from homeroom.jobs.api import Order, enqueue_all
from homeroom.notify import store, want
from homeroom.notify.choice import GROUP_SPAN, Choice, Crowd, Reach, Wishes, choose
from homeroom.notify.jobs import BY_QUEUE, SendBundle
from homeroom.notify.kind import Channel, Kind, kind_of
from homeroom.notify.message import Message
from homeroom.notify.quiet import QuietHours
from homeroom.notify.state import Status
from homeroom.people import api as people
from homeroom.people.api import Person

TOPIC = "notifications"
UTC = ZoneInfo("UTC")


class Observe(Protocol):
    """Counts what became of messages."""

    def __call__(self, type: str, channel: str, status: str, count: int = 1) -> None:
        """Take how many deliveries came to a state; ``repeated`` where the key was known."""


def nothing(type: str, channel: str, status: str, count: int = 1) -> None:
    """Count nothing."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of messages that were handed over."""

    new: int = 0
    repeated: int = 0
    """Their keys were known: nothing was done."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a message would lead to, for a dry run."""

    message: Message
    known: bool
    """It was sent before."""
    choices: list[Choice]


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of some people, read at once."""

    people: Mapping[str, Person]
    wishes: Mapping[str, Wishes]
    reach: Mapping[str, Mapping[Channel, Reach]]
    suppressed: Mapping[tuple[Channel, str, str], str]

    def reach_of(self, user_id: str, kind: Kind) -> dict[Channel, Reach]:
        """Return how somebody can be reached for a type; addresses that bounced are marked."""
        return {
            channel: _marked(channel, reach, kind, self.suppressed)
            for channel, reach in self.reach[user_id].items()
        }


def _marked(
    channel: Channel,
    reach: Reach,
    kind: Kind,
    suppressed: Mapping[tuple[Channel, str, str], str],
) -> Reach:
    if reach.address is None:
        return reach
    for scope in (want.GLOBAL, kind.name):
        reason = suppressed.get((channel, want.normal(reach.address), scope))
        if reason is not None:
            return Reach(reach.address, reach.off, f"the address is suppressed: {reason}")
    return reach


@dataclass(slots=True)
class _Batch:
    notifications: list[tuple[object, ...]] = field(default_factory=list)
    messages: dict[str, Message] = field(default_factory=dict)
    """By the id that their row will have."""


class Notifier:
    """Takes messages over; built in ``wiring`` with what is wrong with each channel."""

    def __init__(self, off: Mapping[Channel, str | None], observe: Observe = nothing) -> None:
        """Take by channel why it is not in use; None where it is."""
        self._off = off
        self._observe = observe

    async def send(self, tx: Tx, messages: Sequence[Message]) -> Sent:
        """Store messages whose keys are new, with their deliveries and jobs, in this transaction.

        A message that was sent before, in whatever process, changes nothing. Raises KeyError for a
        type that is not known.
        """
        if not messages:
            return Sent()
        batch = _Batch()
        for message in messages:
            kind_of(message.type)
            id = new_id()
            batch.messages[id] = message
            batch.notifications.append(_row(id, message))
        new = await store.add_notifications(tx, batch.notifications)
        fresh = {id: message for id, message in batch.messages.items() if id in new}
        known = await self.know(tx, {message.user_id for message in fresh.values()})
        await self._deliver(tx, fresh, known)
        for user_id in known.wishes:
            tx.notify(TOPIC, user_id)
        self._count_repeats(tx, messages, fresh)
        return Sent(len(fresh), len(messages) - len(fresh))

    async def plan(self, tx: Tx, messages: Sequence[Message]) -> list[Planned]:
        """Say what messages would lead to, changing nothing."""
        rows = await tx.fetch_keyed(
            "SELECT n.dedupe_key FROM {keys} AS k"
            " JOIN notification AS n ON n.dedupe_key = k.column1",
            [(message.key,) for message in messages],
        )
        sent = {row[0] for row in rows}
        known = await self.know(tx, {message.user_id for message in messages})
        return [
            Planned(
                message, message.key in sent, self.choices(message.type, message, known, tx.now)
            )
            for message in messages
        ]

    def choices(
        self, type: str, message: Message, known: Known, now: int, crowd: Crowd | None = None
    ) -> list[Choice]:
        """Return the ways of one message, with reasons."""
        kind = kind_of(type)
        user_id = message.user_id
        return choose(
            kind, user_id, known.wishes[user_id], known.reach_of(user_id, kind), now, crowd
        )

    async def know(self, tx: Tx, user_ids: Collection[str]) -> Known:
        """Read what is known of people: addresses, wishes, and addresses that bounced."""
        found = await people.find(tx, user_ids)
        profiles = await want.profiles(tx, user_ids)
        wanted = await want.preferences(tx, user_ids)
        reach: dict[str, dict[Channel, Reach]] = {}
        wishes: dict[str, Wishes] = {}
        addresses: set[tuple[Channel, str]] = set()
        for user_id in user_ids:
            person = found.get(user_id)
            profile = profiles.get(user_id, want.Profile(user_id))
            wishes[user_id] = _wishes(person, profile, wanted.get(user_id, {}))
            reach[user_id] = {
                channel: Reach(address, self._off.get(channel, "the channel is not set up"))
                for channel, address in (
                    (Channel.EMAIL, None if person is None else person.email),
                    (Channel.SMS, profile.sms),
                    (Channel.CHAT, profile.chat),
                )
            }
            addresses |= {
                (channel, each.address)
                for channel, each in reach[user_id].items()
                if each.address is not None
            }
        return Known(found, wishes, reach, await want.suppressed(tx, addresses))

    async def _deliver(self, tx: Tx, fresh: Mapping[str, Message], known: Known) -> None:
        rows: list[tuple[object, ...]] = []
        orders: list[Order] = []
        bundles: dict[str, int] = {}
        counted: Counter[tuple[str, str, str]] = Counter()
        for id, message in fresh.items():
            kind = kind_of(message.type)
            crowd = await self._crowd(tx, message)
            for choice in self.choices(message.type, message, known, tx.now, crowd):
                delivery_id, job_id = new_id(), None
                if choice.status is Status.PENDING and choice.bundle is None:
                    job_id = new_id()
                    args = BY_QUEUE[kind.queue](delivery_id=delivery_id)
                    orders.append(Order(args, job_id, kind.priority, choice.not_before))
                elif choice.bundle is not None:
                    bundles[choice.bundle] = choice.not_before or tx.now
                rows.append(_delivery(delivery_id, id, choice, job_id))
                counted[message.type, choice.channel.value, choice.status.value] += 1
        await store.add_deliveries(tx, rows)
        await enqueue_all(tx, orders)
        await enqueue_all(tx, list(_bundle_orders(bundles)), keeps_ids=True)
        self._count(tx, counted)

    def _count_repeats(
        self, tx: Tx, messages: Sequence[Message], fresh: Mapping[str, Message]
    ) -> None:
        if len(fresh) == len(messages):
            return
        counted = Counter((message.type, "any", "repeated") for message in messages)
        counted.subtract((message.type, "any", "repeated") for message in fresh.values())
        self._count(tx, counted)

    def _count(self, tx: Tx, counted: Counter[tuple[str, str, str]]) -> None:
        def count() -> None:
            for key, number in counted.items():
                self._observe(*key, number)

        tx.after_commit(count)

    async def _crowd(self, tx: Tx, message: Message) -> Crowd | None:
        """Return the group that a message joins: one of it went out less than ten minutes ago."""
        if message.group is None:
            return None
        first = await store.first_of_group(tx, message.user_id, message.group, tx.now - GROUP_SPAN)
        if first is None or first >= tx.now:
            return None
        return Crowd(message.group, first + GROUP_SPAN)


def bundle_job_id(bundle: str) -> str:
    """Return the natural id of the job that sends what goes out together."""
    return natural_id("notify", "bundle", hashlib.sha256(bundle.encode()).hexdigest()[:32])


def _bundle_orders(bundles: Mapping[str, int]) -> Iterator[Order]:
    for bundle, due in bundles.items():
        yield Order(SendBundle(bundle=bundle), bundle_job_id(bundle), run_at=due)


def _row(id: str, message: Message) -> tuple[object, ...]:
    return (
        id,
        message.key,
        message.type,
        message.user_id,
        msgspec.json.encode(message.params).decode(),
        None if message.about is None else msgspec.json.encode(message.about).decode(),
        msgspec.json.encode(message.metadata).decode(),
        message.group,
        message.expires_at,
    )


def _delivery(id: str, notification_id: str, choice: Choice, job: str | None) -> tuple[object, ...]:
    return (
        id,
        notification_id,
        choice.channel.value,
        choice.status.value,
        choice.reason,
        choice.bundle,
        choice.not_before,
        job,
    )


def _wishes(
    person: Person | None, profile: want.Profile, channels: Mapping[tuple[str, Channel], bool]
) -> Wishes:
    quiet = None
    if profile.quiet_start is not None and profile.quiet_end is not None:
        quiet = QuietHours(profile.quiet_start, profile.quiet_end)
    zone = UTC if person is None or person.time_zone is None else ZoneInfo(person.time_zone)
    return Wishes(channels, quiet, profile.digest_minute, zone)
