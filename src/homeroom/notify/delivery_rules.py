"""Rules of deliveries: statuses, reasons, retries (pure).

A delivery's job counts attempts and holds a lease; the delivery records the outcome for the
message. ``unknown`` is the status of a mail whose connection was lost after the end of its text: it
may have been sent, and nothing on this side can find out (decision 0014).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

_MICROSECOND = timedelta(microseconds=1)
RETRY_DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180))
RETRY_JITTER = 0.2
"""Up to a fifth is added, so that deliveries that failed together are retried apart."""


class DeliveryStatus(StrEnum):
    """The statuses of a delivery."""

    PENDING = "pending"
    SENDING = "sending"
    ACCEPTED = "accepted"
    """The next server has accepted the message."""
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    UNKNOWN = "unknown"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """The matter was resolved before the message was sent."""
    EXPIRED = "expired"
    SKIPPED = "skipped"
    """The recipient has switched the channel off or cannot be reached on it."""
    SUPPRESSED = "suppressed"
    """The address bounced or complained before."""


class ReasonCode(StrEnum):
    """The codes of reasons of deliveries; `messages.md` explains them to users."""

    EXPIRED = "expired"
    QUIET_HOURS = "quiet_hours"
    RESOLVED = "resolved"
    PREFERENCE_OFF = "preference_off"
    PERSON_SUSPENDED = "person_suspended"
    NO_ADDRESS = "no_address"
    CHANNEL_OFF = "channel_off"
    SUPPRESSED = "suppressed"
    TEXT_PURGED = "text_purged"
    INVALID_MESSAGE = "invalid_message"
    SMTPUTF8_UNSUPPORTED = "smtputf8_unsupported"
    RECIPIENT_REFUSED = "recipient_refused"
    MESSAGE_REFUSED = "message_refused"
    SENDER_REFUSED = "sender_refused"
    MAIL_HELD = "mail_held"
    TEMPORARY_FAILURE = "temporary_failure"
    SERVER_UNREACHABLE = "server_unreachable"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    OUTCOME_UNKNOWN = "outcome_unknown"
    WORKER_LOST = "worker_lost"
    JOB_FAILED = "job_failed"
    HARD_BOUNCE = "hard_bounce"
    SOFT_BOUNCE = "soft_bounce"
    BLOCK_BOUNCE = "block_bounce"
    COMPLAINT = "complaint"
    DELIVERY_CONFIRMED = "delivery_confirmed"


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason for a delivery's status: a code for programs, a text for people."""

    code: ReasonCode
    text: str


EXPIRED_REASON = Reason(ReasonCode.EXPIRED, "The message expired before it could be sent.")
QUIET_HOURS_REASON = Reason(
    ReasonCode.QUIET_HOURS, "The recipient's quiet hours end after the message expires."
)
RESOLVED_REASON = Reason(
    ReasonCode.RESOLVED, "The matter was resolved before the message could be sent."
)
PREFERENCE_OFF_REASON = Reason(
    ReasonCode.PREFERENCE_OFF, "The recipient has switched this type off for this channel."
)
TEXT_PURGED_REASON = Reason(ReasonCode.TEXT_PURGED, "The text of the message is no longer stored.")
WORKER_LOST_REASON = Reason(
    ReasonCode.WORKER_LOST, "The worker died while sending: the message may have been sent."
)
MAIL_GATE = "mail"
"""The name of the mail server among the partners that jobs wait for."""
CHANNEL_NOT_CONFIGURED = "The channel is not configured."

_S = DeliveryStatus
DELIVERY_TRANSITIONS: Mapping[DeliveryStatus, frozenset[DeliveryStatus]] = {
    _S.PENDING: frozenset(
        {_S.SENDING, _S.FAILED, _S.CANCELLED, _S.EXPIRED, _S.SKIPPED, _S.SUPPRESSED}
    ),
    _S.SENDING: frozenset(
        {_S.PENDING, _S.ACCEPTED, _S.DELIVERED, _S.FAILED, _S.UNKNOWN, _S.BOUNCED, _S.COMPLAINED}
    ),
    _S.ACCEPTED: frozenset({_S.DELIVERED, _S.BOUNCED, _S.COMPLAINED}),
    _S.DELIVERED: frozenset({_S.BOUNCED, _S.COMPLAINED}),
    _S.UNKNOWN: frozenset({_S.PENDING, _S.DELIVERED, _S.BOUNCED, _S.COMPLAINED}),
    _S.FAILED: frozenset({_S.PENDING, _S.BOUNCED}),
    _S.BOUNCED: frozenset({_S.PENDING, _S.COMPLAINED}),
    _S.COMPLAINED: frozenset(),
    _S.CANCELLED: frozenset({_S.PENDING}),
    _S.EXPIRED: frozenset({_S.PENDING}),
    _S.SKIPPED: frozenset({_S.PENDING}),
    _S.SUPPRESSED: frozenset({_S.PENDING}),
}
"""The legal transitions. A report may overtake the end of the session that it is about, so it is
taken in ``sending`` too. From an end to ``pending`` leads an operator's resend, with a reason. A
complaint is final: the address is suppressed."""

RESENDABLE_STATUSES = frozenset(
    status
    for status, after in DELIVERY_TRANSITIONS.items()
    if DeliveryStatus.PENDING in after and status is not DeliveryStatus.SENDING
)
"""The statuses in which an operator may request another attempt."""


def statuses_before(after: DeliveryStatus) -> list[DeliveryStatus]:
    """Return the statuses that may lead to one, for the WHERE of its UPDATE."""
    return [status for status, following in DELIVERY_TRANSITIONS.items() if after in following]


def retry_delay(
    attempt: int, now: int, expires_at: int | None, random_source: random.Random
) -> timedelta | None:
    """Return the delay after a failed attempt (the first is 1); None: do not retry.

    ``now`` and ``expires_at`` are microseconds UTC. No attempt is made after the message expires.
    """
    if attempt > len(RETRY_DELAYS):
        return None
    delay = RETRY_DELAYS[attempt - 1] * (1 + RETRY_JITTER * random_source.random())
    if expires_at is not None and now + delay // _MICROSECOND >= expires_at:
        return None
    return delay
