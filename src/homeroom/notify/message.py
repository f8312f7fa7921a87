"""Messages and their types: queue, priority, channels, opt-out rules (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

ALERT_PRIORITY, WARNING_PRIORITY, REMINDER_PRIORITY, LEARNER_PRIORITY = 10, 7, 5, 3
"""Alerts run before warnings, warnings before reminders, and these before messages to learners, of
which there may be thousands at once; 10 is the most urgent."""


class Channel(StrEnum):
    """The channels on which a message can be delivered."""

    IN_APP = "in_app"
    EMAIL = "email"
    SMS = "sms"
    CHAT = "chat"


class NotificationQueue(StrEnum):
    """The queues of delivery jobs, by audience and urgency."""

    ALERTS = "manager-alerts"
    WARNINGS = "deadline-warnings"
    REMINDERS = "facilitator-reminders"
    LEARNERS = "learner-messages"


@dataclass(frozen=True, slots=True)
class MessageType:
    """A type of message: how urgent it is and what its recipients may choose."""

    name: str
    queue: NotificationQueue
    priority: int
    mandatory: bool = False
    """Recipients cannot switch it off, so its mails carry no unsubscribe link."""
    critical: bool = False
    """It is sent during quiet hours."""
    resend_on_unknown: bool = False
    """A delivery whose outcome is unknown is sent again: a duplicate is better than a loss."""
    may_wait: bool = False
    """It may wait for the daily digest."""
    default: frozenset[Channel] = frozenset({Channel.IN_APP, Channel.EMAIL})
    """The channels that are used unless the recipient has chosen otherwise."""


def _types_by_name(*types: MessageType) -> Mapping[str, MessageType]:
    return {each.name: each for each in types}


MESSAGE_TYPES: Mapping[str, MessageType] = _types_by_name(
    MessageType("log_reminder", NotificationQueue.REMINDERS, REMINDER_PRIORITY, may_wait=True),
    MessageType("deadline_warning", NotificationQueue.WARNINGS, WARNING_PRIORITY),
    MessageType("manager_report", NotificationQueue.ALERTS, ALERT_PRIORITY, resend_on_unknown=True),
    MessageType("late_log", NotificationQueue.ALERTS, ALERT_PRIORITY, may_wait=True),
    MessageType("compliance_warning", NotificationQueue.ALERTS, ALERT_PRIORITY, mandatory=True),
    MessageType("compliance_copy", NotificationQueue.ALERTS, ALERT_PRIORITY, mandatory=True),
    MessageType("unmanaged_programme", NotificationQueue.ALERTS, ALERT_PRIORITY, mandatory=True),
    MessageType(
        "schedule_missed", NotificationQueue.ALERTS, ALERT_PRIORITY, mandatory=True, critical=True
    ),
    MessageType("alert", NotificationQueue.ALERTS, ALERT_PRIORITY, mandatory=True, critical=True),
    MessageType("credential_issued", NotificationQueue.LEARNERS, LEARNER_PRIORITY, may_wait=True),
    MessageType("credential_expiring", NotificationQueue.LEARNERS, LEARNER_PRIORITY, may_wait=True),
)


def get_message_type(name: str) -> MessageType:
    """Return a type by its name; raise KeyError that lists the known names."""
    try:
        return MESSAGE_TYPES[name]
    except KeyError:
        raise KeyError(
            f"There is no message type {name!r}. The types are {', '.join(MESSAGE_TYPES)}."
        ) from None


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient whom another directory than the built-in one describes."""

    email: str | None
    given_name: str | None
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one person, sent at most once by its key."""

    key: str
    """Unique over all messages: sending the same key again changes nothing."""
    type: str
    """One of ``MESSAGE_TYPES``."""
    user_id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    """The values that its template needs; JSON."""
    about: Mapping[str, Any] | None = None
    """The subject of the message; ``check`` names the check that tests whether it is relevant."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Free fields for clients that read the inbox; JSON."""
    expires_at: int | None = None
    """Microseconds UTC after which it is not sent. None: it never expires."""
    group: str | None = None
    """Messages of a group that follow one within ten minutes are mailed together."""
    recipient: Recipient | None = None
    """Used instead of the entry of the built-in directory; None: that entry."""


class DeliveryObserver(Protocol):
    """Counts deliveries by their status."""

    def __call__(self, type: str, channel: str, status: str, count: int = 1) -> None:
        """Count deliveries that reached a status; ``repeated`` is a key that was known."""


def observe_nothing(type: str, channel: str, status: str, count: int = 1) -> None:
    """Count nothing."""


DurationObserver = Callable[[str, float], None]
"""Records for a channel the seconds from when a message was due until it was accepted."""


def observe_no_durations(channel: str, seconds: float) -> None:
    """Record nothing."""


class NoticeObserver(Protocol):
    """Counts reports of mail servers and providers."""

    def __call__(self, source: str, outcome: str, count: int) -> None:
        """Count reports of a source: known, unknown or ignored."""


def observe_no_notices(source: str, outcome: str, count: int) -> None:
    """Count nothing."""
