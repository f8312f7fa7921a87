"""Who a learner is: asked of a partner's directory, or of the one that is built in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from homeroom.db.database import Database
from homeroom.partner import Partner, PartnerError
from homeroom.people import api as people


@dataclass(frozen=True, slots=True)
class Learner:
    """What is known of a learner; None is not known."""

    id: str
    email: str | None
    given_name: str | None
    family_name: str | None
    locale: str | None = None


class Directory(Protocol):
    """Where learners are looked up."""

    async def find(self, user_id: str) -> Learner | None:
        """Return a learner, or None if nobody has this id. Raises ``PartnerError``."""


class BuiltInDirectory:
    """The directory of the room ``people``."""

    def __init__(self, db: Database) -> None:
        """Take the database."""
        self._db = db

    async def find(self, user_id: str) -> Learner | None:
        """Return a learner, or None if nobody has this id."""
        async with self._db.read() as tx:
            person = await people.get(tx, user_id)
        if person is None:
            return None
        return Learner(
            person.id, person.email, person.given_name, person.family_name, person.locale
        )


class _Found(msgspec.Struct, rename="camel"):
    id: str | None = None
    email: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    locale: str | None = None


class HttpDirectory:
    """A partner's directory: ``GET {url}/users/{userId}``; 404 means unknown."""

    def __init__(self, partner: Partner) -> None:
        """Take the partner to ask."""
        self._partner = partner

    async def find(self, user_id: str) -> Learner | None:
        """Return a learner, or None if nobody has this id. Raises ``PartnerError``."""
        answer = await self._partner.call("GET", ("users", user_id), expect={404})
        if answer.status == 404:
            return None
        found = answer.read(_Found)
        if found.id is not None and found.id != user_id:
            raise PartnerError(
                f"{self._partner.name} answered with somebody else than was asked for",
                what="unreadable",
                again=False,
            )
        return Learner(
            user_id,
            _text(found.email),
            _text(found.given_name),
            _text(found.family_name),
            _text(found.locale),
        )


def _text(value: str | None) -> str | None:
    """Return text without spaces around it; blank text says no more than none."""
    return (value.strip() or None) if value is not None else None
