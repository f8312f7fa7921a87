"""What carries a message to a channel: the port, and what it is handed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from homeroom.notify.kind import Channel
from homeroom.notify.reply import Phase, Verdict
from homeroom.notify.template import Words


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to one address."""

    id: str
    """The delivery's id: the same at every attempt, so that a repeat can be told as one."""
    channel: Channel
    address: str
    words: Words
    stop_url: str | None = None
    """Where this kind of message is stopped by one POST; None for what is mandatory."""


@dataclass(slots=True)
class Talk:
    """How far the conversation about a letter got, for whoever has to break it off."""

    phase: Phase = field(default=Phase.CONNECT)


class Carrier(Protocol):
    """Carries letters of one channel."""

    @property
    def off(self) -> str | None:
        """Return why nothing can be sent at all, or None."""

    def stops(self) -> bool:
        """Say whether letters carry a link that stops them."""

    async def carry(self, letter: Letter, talk: Talk) -> Verdict:
        """Carry a letter, and say what became of it; raises nothing of its own."""


@dataclass(frozen=True, slots=True)
class NoCarrier:
    """Stands where no server is configured."""

    off: str

    def stops(self) -> bool:
        """Say that no letter goes out here."""
        return False

    async def carry(self, letter: Letter, talk: Talk) -> Verdict:
        """Refuse: nobody asks a carrier that is off."""
        raise RuntimeError(self.off)
