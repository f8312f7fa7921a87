"""Selection of the channels that a message takes, and of their times (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from homeroom.notify.delivery_rules import (
    CHANNEL_NOT_CONFIGURED,
    PREFERENCE_OFF_REASON,
    DeliveryStatus,
    Reason,
    ReasonCode,
)
from homeroom.notify.message import Channel, MessageType

_NO_ADDRESS_TEXTS: Mapping[Channel, str] = {
    Channel.EMAIL: "The recipient has no e-mail address.",
    Channel.SMS: "The recipient has no telephone number.",
    Channel.CHAT: "The recipient has no chat name.",
}
_SUPPRESSION_TEXTS: Mapping[str, str] = {
    "hard": "a hard bounce",
    "soft": "repeated soft bounces",
    "complaint": "a complaint",
}
DAY_MINUTES = 24 * 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
THROTTLE_WINDOW_US = 10 * 60 * 1_000_000
"""The time in which messages of a group are collected after the first one, in microseconds."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A span of the day in minutes after midnight, in the recipient's time zone.

    The end is exclusive. A ``start`` after ``end`` spans midnight; equal ones are no span.
    """

    start: int
    end: int

    def ends_at(self, now: int, zone: ZoneInfo) -> int | None:
        """Return the end of the span that contains ``now`` (microseconds UTC), or None."""
        local = (_EPOCH + now * _MICROSECOND).astimezone(zone)
        minute = local.hour * 60 + local.minute
        if self.start <= self.end:
            is_quiet = self.start <= minute < self.end
        else:
            is_quiet = minute >= self.start or minute < self.end
        if not is_quiet:
            return None
        days = 1 if self.start > self.end and minute >= self.start else 0
        day = local + timedelta(days=days)
        ends_at = _local_to_instant(day, self.end, zone)
        # In the hour that the clocks repeat, the first time of that name may be over.
        return ends_at if ends_at > now else _local_to_instant(day, self.end, zone, fold=1)


def next_digest_at(now: int, minute: int, zone: ZoneInfo) -> int:
    """Return the instant after ``now`` at which the next digest is due."""
    local = (_EPOCH + now * _MICROSECOND).astimezone(zone)
    today = _local_to_instant(local, minute, zone)
    return today if today > now else _local_to_instant(local + timedelta(days=1), minute, zone)


def _local_to_instant(day: datetime, minute: int, zone: ZoneInfo, *, fold: int = 0) -> int:
    if minute >= DAY_MINUTES:
        day, minute = day + timedelta(days=1), minute - DAY_MINUTES
    local = datetime(
        day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone, fold=fold
    )
    return (local.astimezone(UTC) - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class NotificationPreferences:
    """The choices of a recipient."""

    channels: Mapping[tuple[str, Channel], bool] = field(default_factory=dict)
    """Channels switched on or off, by type; the type's default applies to missing ones."""
    quiet_hours: QuietHours | None = None
    digest_minute: int | None = None
    """Minute of the day at which a digest replaces single mails; None: no digest."""
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    is_suspended: bool = False
    """The person is suspended, so no channel is used, whatever they chose."""


@dataclass(frozen=True, slots=True)
class ChannelAddress:
    """The address of a recipient on one channel, and obstacles to using it."""

    address: str | None
    disabled_reason: str | None = None
    """The reason why the whole channel is off, such as a missing setting."""
    suppression: str | None = None
    """The cause of the address's suppression: ``hard``, ``soft`` or ``complaint``."""


@dataclass(frozen=True, slots=True)
class PlannedDelivery:
    """The first status of a message's delivery on one channel."""

    channel: Channel
    status: DeliveryStatus
    reason: Reason | None = None
    not_before: int | None = None
    """Microseconds UTC; None: at once."""
    bundle: str | None = None
    """The name of the bundle that it is sent with; None: on its own."""


@dataclass(frozen=True, slots=True)
class ThrottleGroup:
    """The group of an earlier message whose window is still open."""

    name: str
    opens_at: int
    """The instant at which the collected messages are sent together."""


def plan_deliveries(
    message_type: MessageType,
    user_id: str,
    preferences: NotificationPreferences,
    addresses: Mapping[Channel, ChannelAddress],
    now: int,
    throttle_group: ThrottleGroup | None = None,
) -> list[PlannedDelivery]:
    """Return the deliveries of a message: the inbox first, then the other channels."""
    planned = []
    for channel in Channel:
        is_enabled = _is_enabled(message_type, preferences, channel)
        if is_enabled is None:
            continue
        if preferences.is_suspended:
            reason = Reason(ReasonCode.PERSON_SUSPENDED, "The recipient is suspended.")
            planned.append(PlannedDelivery(channel, DeliveryStatus.SKIPPED, reason))
            continue
        if channel is Channel.IN_APP and is_enabled:
            # The inbox is a table of the same transaction, so a commit delivers the message.
            planned.append(PlannedDelivery(channel, DeliveryStatus.DELIVERED))
            continue
        obstacle = _find_obstacle(channel, is_enabled, addresses.get(channel))
        planned.append(
            obstacle
            or _schedule_delivery(message_type, user_id, preferences, channel, now, throttle_group)
        )
    return planned


def _is_enabled(
    message_type: MessageType, preferences: NotificationPreferences, channel: Channel
) -> bool | None:
    """Return whether a channel is switched on; None: neither a default nor chosen."""
    choice = preferences.channels.get((message_type.name, channel))
    if channel in message_type.default:
        return message_type.mandatory or choice is not False
    return True if choice else None


def _find_obstacle(
    channel: Channel, is_enabled: bool, address: ChannelAddress | None
) -> PlannedDelivery | None:
    """Return the delivery that is not sent, with its reason; None if it is sent."""
    if channel is not Channel.IN_APP and address is not None and address.suppression is not None:
        cause = _SUPPRESSION_TEXTS.get(address.suppression, address.suppression)
        reason = Reason(ReasonCode.SUPPRESSED, f"The address is suppressed after {cause}.")
        return PlannedDelivery(channel, DeliveryStatus.SUPPRESSED, reason)
    if not is_enabled:
        reason = PREFERENCE_OFF_REASON
    elif address is None:
        reason = Reason(ReasonCode.CHANNEL_OFF, CHANNEL_NOT_CONFIGURED)
    elif address.disabled_reason is not None:
        reason = Reason(ReasonCode.CHANNEL_OFF, address.disabled_reason)
    elif address.address is None:
        reason = Reason(ReasonCode.NO_ADDRESS, _NO_ADDRESS_TEXTS[channel])
    else:
        return None
    return PlannedDelivery(channel, DeliveryStatus.SKIPPED, reason)


def _schedule_delivery(
    message_type: MessageType,
    user_id: str,
    preferences: NotificationPreferences,
    channel: Channel,
    now: int,
    throttle_group: ThrottleGroup | None,
) -> PlannedDelivery:
    """Return a pending delivery: in a digest, in its group's bundle, or alone."""
    bundle: str | None = None
    if channel is Channel.EMAIL and preferences.digest_minute is not None and message_type.may_wait:
        digest = next_digest_at(now, preferences.digest_minute, preferences.zone)
        due = _after_quiet_hours(message_type, preferences, digest)
        bundle = f"digest:{user_id}:{channel}:{due}"
    elif channel is Channel.EMAIL and throttle_group is not None:
        due = _after_quiet_hours(message_type, preferences, throttle_group.opens_at)
        bundle = f"{throttle_group.name}:{channel}:{throttle_group.opens_at}"
    else:
        due = _after_quiet_hours(message_type, preferences, now)
    not_before = due if bundle is not None or due > now else None
    return PlannedDelivery(channel, DeliveryStatus.PENDING, None, not_before, bundle)


def _after_quiet_hours(
    message_type: MessageType, preferences: NotificationPreferences, at: int
) -> int:
    """Return the instant, or the end of the quiet hours that contain it.

    Messages are delayed, not dropped; critical ones ignore quiet hours.
    """
    if message_type.critical or preferences.quiet_hours is None:
        return at
    return preferences.quiet_hours.ends_at(at, preferences.zone) or at
