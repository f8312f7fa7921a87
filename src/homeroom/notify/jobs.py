"""The jobs that get messages to people: one kind a queue, and what is sent together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

from homeroom.jobs.api import LOW, JobArgs
from homeroom.notify.kind import (
    ALERT_PRIORITY,
    REMINDER_PRIORITY,
    WARNING_PRIORITY,
    Queue,
)
from homeroom.notify.wait import WAITS

RETRIES = len(WAITS)
TIMEOUT = timedelta(seconds=180)
"""Longer than the slowest conversation with a mail server can take."""


class Deliver(JobArgs, frozen=True, kw_only=True):
    """Carry one message to one channel; the payload is ``{"deliveryId": "..."}``."""

    max_retries: ClassVar[int] = RETRIES
    timeout: ClassVar[timedelta] = TIMEOUT

    delivery_id: str


class SendAlert(Deliver, frozen=True, kw_only=True):
    """Carry an alert to a manager."""

    kind: ClassVar[str] = "notify.send_alert"
    queue: ClassVar[str] = Queue.ALERTS.value
    priority: ClassVar[int] = ALERT_PRIORITY


class SendWarning(Deliver, frozen=True, kw_only=True):
    """Carry a deadline warning to a facilitator."""

    kind: ClassVar[str] = "notify.send_warning"
    queue: ClassVar[str] = Queue.WARNINGS.value
    priority: ClassVar[int] = WARNING_PRIORITY


class SendReminder(Deliver, frozen=True, kw_only=True):
    """Carry a reminder to a facilitator."""

    kind: ClassVar[str] = "notify.send_reminder"
    queue: ClassVar[str] = Queue.REMINDERS.value
    priority: ClassVar[int] = REMINDER_PRIORITY


class SendBundle(JobArgs, frozen=True, kw_only=True):
    """Carry what was to go out together; the payload is ``{"bundle": "..."}``."""

    kind: ClassVar[str] = "notify.send_bundle"
    queue: ClassVar[str] = Queue.REMINDERS.value
    priority: ClassVar[int] = REMINDER_PRIORITY
    max_retries: ClassVar[int] = RETRIES
    timeout: ClassVar[timedelta] = TIMEOUT

    bundle: str


class PruneNotifications(JobArgs, frozen=True, kw_only=True):
    """Drop old texts, and rows whose key has done its duty. Result: ``{"texts", "rows"}``."""

    kind: ClassVar[str] = "notify.prune"
    queue: ClassVar[str] = "upkeep"
    priority: ClassVar[int] = LOW
    timeout: ClassVar[timedelta] = timedelta(minutes=10)


BY_QUEUE: Mapping[Queue, type[Deliver]] = {
    Queue.ALERTS: SendAlert,
    Queue.WARNINGS: SendWarning,
    Queue.REMINDERS: SendReminder,
}
