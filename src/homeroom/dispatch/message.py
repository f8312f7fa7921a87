"""The identity of a message to a partner system, and what receives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from homeroom.db.ids import derived_id


@dataclass(frozen=True, slots=True)
class MessageKey:
    """A message of a completion: what tells it from every other one."""

    completion_id: str
    destination: str
    type: str
    version: int = 1
    """From 1; a later one carries what was learnt since, and replaces the one before."""

    @property
    def id(self) -> str:
        """Return the id of the message, a UUID.

        It is derived, so that a job that runs twice, as in a copy of the database, sends one id.
        """
        return derived_id(
            "message", self.completion_id, self.destination, self.type, str(self.version)
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """The answer with which a partner system accepted a message."""

    status: int
    """The HTTP status, 2xx."""
    answer: str | None = None
    """The beginning of the body, redacted."""


class MessageReceiver(Protocol):
    """A partner system that messages are delivered to."""

    name: str
    """The name of its breaker, and of the destination."""

    async def deliver(self, id: str, payload: str) -> Delivered:
        """Deliver a message; raise ``PartnerError``."""
