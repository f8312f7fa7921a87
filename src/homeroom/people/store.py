"""All SQL of the directory."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Column, Index, Select, Table, Text, select

from homeroom.db.schema import metadata
from homeroom.db.tx import Row, Tx

PERSON = Table(
    "person",
    metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text),
    Column("given_name", Text, nullable=False),
    Column("family_name", Text, nullable=False),
    Column("locale", Text),
    Column("time_zone", Text),
    Column("manager_id", Text),
    Column("roles", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "manager_id"),
)
ERASURE = Table(
    "erasure",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("erased_at", BigInteger, nullable=False),
    Column("erased_by", Text, nullable=False),
)
_CHUNK = 500  # values in one statement


async def find(tx: Tx, ids: Sequence[str]) -> list[Row]:
    """Return the rows of those ids that exist, in no order."""
    found: list[Row] = []
    for start in range(0, len(ids), _CHUNK):
        found += await tx.fetch(select(PERSON).where(PERSON.c.id.in_(ids[start : start + _CHUNK])))
    return found


def email_of(user_id: str) -> Select[tuple[str]]:
    """Select a person's e-mail address."""
    return select(PERSON.c.email).where(PERSON.c.id == user_id)


async def with_role(tx: Tx, role: str) -> list[Row]:
    """Return the rows of those who have a role, by id."""
    quoted = f'"{role}"'
    return await tx.fetch(
        select(PERSON).where(PERSON.c.roles.contains(quoted, autoescape=True)).order_by(PERSON.c.id)
    )


async def put(tx: Tx, values: Sequence[object]) -> None:
    """Insert or replace (id, email, given, family, locale, time zone, manager, roles)."""
    await tx.execute(
        "INSERT INTO person (id, email, given_name, family_name, locale, time_zone, manager_id,"
        " roles, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET email = excluded.email,"
        " given_name = excluded.given_name, family_name = excluded.family_name,"
        " locale = excluded.locale, time_zone = excluded.time_zone,"
        " manager_id = excluded.manager_id, roles = excluded.roles,"
        " updated_at = excluded.updated_at",
        (*values, tx.now, tx.now),
    )
