"""What other rooms may ask of the built-in directory."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import Select

from homeroom.db.tx import Row, Tx
from homeroom.people import store
from homeroom.people.erasure import Records
from homeroom.people.person import Person, masked
from homeroom.people.personal import PERSONAL

__all__ = [
    "PERSONAL",
    "TOPIC",
    "Person",
    "Records",
    "email_of",
    "find",
    "get",
    "masked",
    "put",
    "with_role",
]

TOPIC = "people"


async def find(tx: Tx, ids: Collection[str]) -> dict[str, Person]:
    """Return those of the people that the directory knows, by id."""
    rows = await store.find(tx, sorted(set(ids)))
    return {row[0]: _person(row) for row in rows}


async def get(tx: Tx, id: str) -> Person | None:
    """Return a person, or None."""
    return (await find(tx, [id])).get(id)


def email_of(user_id: str) -> Select[tuple[str]]:
    """Return what selects a person's e-mail address, for a statement of another room's."""
    return store.email_of(user_id)


async def with_role(tx: Tx, role: str) -> list[Person]:
    """Return the people whom the directory gives a role, by id."""
    return [_person(row) for row in await store.with_role(tx, role)]


async def put(tx: Tx, person: Person) -> bool:
    """Store a person as given, replacing what was known; say whether the id is new."""
    new = await get(tx, person.id) is None
    await store.put(
        tx,
        (
            person.id,
            person.email,
            person.given_name,
            person.family_name,
            person.locale,
            person.time_zone,
            person.manager_id,
            msgspec.json.encode(person.roles).decode(),
        ),
    )
    tx.notify(TOPIC, person.id)
    return new


def _person(row: Row) -> Person:
    return Person(
        id=row[0],
        email=row[1],
        given_name=row[2],
        family_name=row[3],
        locale=row[4],
        time_zone=row[5],
        manager_id=row[6],
        roles=tuple(msgspec.json.decode(row[7])),
    )
