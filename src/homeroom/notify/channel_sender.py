"""Senders of messages: the interface, and that of a channel which is off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from homeroom.notify.message import Channel
from homeroom.notify.message_texts import RenderedMessage
from homeroom.notify.smtp_response import DeliveryDecision, SmtpPhase


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message to one address."""

    id: str
    """The delivery's id, the same at every attempt, so that servers can recognise duplicates."""
    channel: Channel
    address: str
    rendered: RenderedMessage
    unsubscribe_url: str | None = None
    """The URL that ends these messages by one POST; None for mandatory types."""
    type: str | None = None
    """The type of message, or ``bundle``: mails are sorted by it."""


@dataclass(slots=True)
class SmtpProgress:
    """The phase that sending has reached, for a caller that cancels the attempt."""

    phase: SmtpPhase = field(default=SmtpPhase.CONNECT)


class ChannelSender(Protocol):
    """Sends messages on one channel."""

    @property
    def disabled_reason(self) -> str | None:
        """Return the reason why the channel is off, or None."""

    def has_unsubscribe_link(self) -> bool:
        """Return whether messages on this channel carry an unsubscribe link."""

    async def send(self, message: OutgoingMessage, progress: SmtpProgress) -> DeliveryDecision:
        """Send a message and return the outcome; raise nothing but cancellation."""

    async def close(self) -> None:
        """End the connections that are kept for the next message."""


@dataclass(frozen=True, slots=True)
class DisabledSender:
    """Sender of a channel that is not configured."""

    disabled_reason: str

    def has_unsubscribe_link(self) -> bool:
        """Return False: no message is sent here."""
        return False

    async def send(self, message: OutgoingMessage, progress: SmtpProgress) -> DeliveryDecision:
        """Raise RuntimeError: callers check ``disabled_reason`` first."""
        raise RuntimeError(self.disabled_reason)

    async def close(self) -> None:
        """Do nothing: there is no connection."""
