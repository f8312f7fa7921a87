"""Where a delivery is, and which state may follow which (pure).

A delivery's job knows about attempts, waits and leases; the delivery knows what became of the
message. ``unknown`` is the honest word for a mail whose server was cut off after the end of its
text: it may have been sent, and nothing on this side can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """The states of a delivery."""

    PENDING = "pending"
    SENDING = "sending"
    ACCEPTED = "accepted"
    """The next server has taken it over."""
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    UNKNOWN = "unknown"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """What it was about was done before it was sent."""
    EXPIRED = "expired"
    SKIPPED = "skipped"
    """Its person does not want it, or cannot be reached this way."""
    SUPPRESSED = "suppressed"
    """Its address bounced or complained before."""


_S = Status
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    _S.PENDING: frozenset(
        {_S.SENDING, _S.FAILED, _S.CANCELLED, _S.EXPIRED, _S.SKIPPED, _S.SUPPRESSED}
    ),
    _S.SENDING: frozenset({_S.PENDING, _S.ACCEPTED, _S.DELIVERED, _S.FAILED, _S.UNKNOWN}),
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
"""Legal moves. Back to ``pending`` from an end is a person's resend, with a reason; so is nothing
after a complaint: whoever called us spammers is not written to again."""

RESENDABLE = frozenset(
    status
    for status, after in TRANSITIONS.items()
    if Status.PENDING in after and status is not Status.SENDING
)
"""Where a person may ask for another attempt."""


def may_follow(before: Status, after: Status) -> bool:
    """Say whether a delivery may go from one state to another."""
    return after in TRANSITIONS[before]


def before(after: Status) -> list[Status]:
    """Return the states that may lead to one, for the WHERE of its UPDATE."""
    return [status for status, following in TRANSITIONS.items() if after in following]
