"""Jobs of deliveries: arguments, and the outcome after an attempt."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

from homeroom.jobs.api import (
    LOW,
    Done,
    Fail,
    Hold,
    JobArgs,
    JobContext,
    JobReason,
    Outcome,
    Retry,
)
from homeroom.notify.delivery_rules import (
    MAIL_GATE,
    RETRY_DELAYS,
    DeliveryStatus,
    Reason,
    ReasonCode,
    retry_delay,
)
from homeroom.notify.message import (
    ALERT_PRIORITY,
    LEARNER_PRIORITY,
    REMINDER_PRIORITY,
    WARNING_PRIORITY,
    MessageType,
    NotificationQueue,
)
from homeroom.notify.smtp_response import DeliveryDecision

MAX_RETRIES = len(RETRY_DELAYS)
TIMEOUT = timedelta(seconds=300)
"""Longer than the wait for a turn and the slowest SMTP session can take."""
_random_source = random.Random()


class DeliveryJobArgs(JobArgs, frozen=True, kw_only=True):
    """Send one message on one channel; the payload is ``{"deliveryId": "..."}``."""

    max_retries: ClassVar[int] = MAX_RETRIES
    timeout: ClassVar[timedelta] = TIMEOUT

    delivery_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the id of the delivery."""
        return {"delivery_id": self.delivery_id}


class SendAlert(DeliveryJobArgs, frozen=True, kw_only=True):
    """Send an alert to a manager."""

    kind: ClassVar[str] = "notify.send_alert"
    queue: ClassVar[str] = NotificationQueue.ALERTS.value
    priority: ClassVar[int] = ALERT_PRIORITY


class SendWarning(DeliveryJobArgs, frozen=True, kw_only=True):
    """Send a deadline warning to a facilitator."""

    kind: ClassVar[str] = "notify.send_warning"
    queue: ClassVar[str] = NotificationQueue.WARNINGS.value
    priority: ClassVar[int] = WARNING_PRIORITY


class SendReminder(DeliveryJobArgs, frozen=True, kw_only=True):
    """Send a reminder to a facilitator."""

    kind: ClassVar[str] = "notify.send_reminder"
    queue: ClassVar[str] = NotificationQueue.REMINDERS.value
    priority: ClassVar[int] = REMINDER_PRIORITY


class SendLearnerMessage(DeliveryJobArgs, frozen=True, kw_only=True):
    """Send a message to a learner."""

    kind: ClassVar[str] = "notify.send_learner_message"
    queue: ClassVar[str] = NotificationQueue.LEARNERS.value
    priority: ClassVar[int] = LEARNER_PRIORITY


class SendBundle(JobArgs, frozen=True, kw_only=True):
    """Send a bundle of messages as one; the payload is ``{"bundle": "..."}``."""

    kind: ClassVar[str] = "notify.send_bundle"
    queue: ClassVar[str] = NotificationQueue.REMINDERS.value
    priority: ClassVar[int] = REMINDER_PRIORITY
    max_retries: ClassVar[int] = MAX_RETRIES
    timeout: ClassVar[timedelta] = TIMEOUT

    bundle: str


class PruneNotifications(JobArgs, frozen=True, kw_only=True):
    """Purge old texts and rows; the result is ``{"texts", "rows"}``."""

    kind: ClassVar[str] = "notify.prune"
    queue: ClassVar[str] = "upkeep"
    priority: ClassVar[int] = LOW
    timeout: ClassVar[timedelta] = timedelta(minutes=10)


DELIVERY_JOBS_BY_QUEUE: Mapping[NotificationQueue, type[DeliveryJobArgs]] = {
    NotificationQueue.ALERTS: SendAlert,
    NotificationQueue.WARNINGS: SendWarning,
    NotificationQueue.REMINDERS: SendReminder,
    NotificationQueue.LEARNERS: SendLearnerMessage,
}


def decide_outcome(
    ctx: JobContext,
    message_type: MessageType,
    expires_at: int | None,
    decision: DeliveryDecision,
    now: int,
    *,
    is_held: bool = False,
) -> tuple[Outcome, DeliveryStatus, Reason | None]:
    """Return the job's outcome and the delivery's status after an attempt.

    With ``is_held`` the mail queue is held after it: a mail that was not sent waits too.
    """
    status, error, reason = decision.status, decision.error, decision.reason
    is_retried = status is DeliveryStatus.PENDING or (
        status is DeliveryStatus.UNKNOWN and message_type.resend_on_unknown
    )
    if not is_retried:
        if status is DeliveryStatus.FAILED:
            return Fail(error or "refused"), status, reason
        return Done({"status": status.value}), status, reason
    if is_held and status is DeliveryStatus.PENDING:
        return Hold(MAIL_GATE, error or "refused", JobReason.PARTNER_REFUSED), status, reason
    delay = retry_delay(ctx.job.attempts, now, expires_at, _random_source)
    if delay is not None and ctx.job.attempts < ctx.job.max_attempts:
        gate = None if decision.refusal is None else MAIL_GATE
        retry = Retry(error or "not sent", delay, gate=gate)
        return retry, DeliveryStatus.PENDING, reason
    if status is DeliveryStatus.UNKNOWN:
        return Done({"status": status.value}), status, reason
    text = f"The delivery failed after {ctx.job.attempts} attempts: {error}"
    return Fail(text), DeliveryStatus.FAILED, Reason(ReasonCode.ATTEMPTS_EXHAUSTED, text)
