"""The types of messages: how urgent they are, which queue sends them, who may stop them (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

ALERT_PRIORITY, WARNING_PRIORITY, REMINDER_PRIORITY = 10, 7, 5
"""Alerts go before warnings and warnings before reminders; 10 is the most urgent."""


class Channel(StrEnum):
    """The ways to somebody."""

    IN_APP = "in_app"
    EMAIL = "email"
    SMS = "sms"
    CHAT = "chat"


class Queue(StrEnum):
    """The three queues of seed 004."""

    ALERTS = "manager-alerts"
    WARNINGS = "deadline-warnings"
    REMINDERS = "facilitator-reminders"


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of message."""

    name: str
    queue: Queue
    priority: int
    mandatory: bool = False
    """Nobody can switch it off, so its mails carry no link to do that."""
    critical: bool = False
    """It does not wait for the end of somebody's quiet hours."""
    resend_on_unknown: bool = False
    """A mail whose fate is unknown is sent again: twice is better than never."""
    may_wait: bool = False
    """It may wait for a daily digest."""
    default: frozenset[Channel] = frozenset({Channel.IN_APP, Channel.EMAIL})
    """Where it goes unless somebody wants it otherwise."""


def _kinds(*kinds: Kind) -> Mapping[str, Kind]:
    return {kind.name: kind for kind in kinds}


KINDS: Mapping[str, Kind] = _kinds(
    Kind("log_reminder", Queue.REMINDERS, REMINDER_PRIORITY, may_wait=True),
    Kind("deadline_warning", Queue.WARNINGS, WARNING_PRIORITY),
    Kind("manager_report", Queue.ALERTS, ALERT_PRIORITY, resend_on_unknown=True),
    Kind("late_log", Queue.ALERTS, ALERT_PRIORITY, may_wait=True),
    Kind("compliance_warning", Queue.ALERTS, ALERT_PRIORITY, mandatory=True),
    Kind("compliance_copy", Queue.ALERTS, ALERT_PRIORITY, mandatory=True),
    Kind("unmanaged_programme", Queue.ALERTS, ALERT_PRIORITY, mandatory=True),
    Kind("schedule_missed", Queue.ALERTS, ALERT_PRIORITY, mandatory=True, critical=True),
)


def kind_of(name: str) -> Kind:
    """Return a type by its name; raise KeyError with the names that there are."""
    try:
        return KINDS[name]
    except KeyError:
        raise KeyError(f"{name!r} is no type of message; there are {', '.join(KINDS)}") from None
