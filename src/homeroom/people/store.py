"""All SQL of the directory and of erasures."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Select,
    Table,
    Text,
    func,
    literal,
    or_,
    select,
    text,
)

from homeroom.db.personal_data import NO_COLUMNS, PersonalRows, rows_naming, rows_owned_by
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.people.person import Person

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
    Column("group_ids", Text, nullable=False, server_default=text("'[]'")),
    Column("suspended_at", BigInteger),
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
_IDS_PER_STATEMENT = 500
_SELECT_PEOPLE = f"SELECT {', '.join(PERSON.columns.keys())} FROM person"


async def find(tx: Tx, ids: Sequence[str], *, lock: bool = False) -> list[Person]:
    """Return the people with these ids, in no order; ``lock`` locks their rows."""
    people: list[Person] = []
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        part = ids[start : start + _IDS_PER_STATEMENT]
        # A text: the statement builder takes longer than the database, once for each mail.
        marks = ", ".join("?" * len(part))
        sql = f"{_SELECT_PEOPLE} WHERE id IN ({marks})"
        if lock:
            sql += f" ORDER BY id{tx.row_lock}"  # in one order, against deadlocks
        people += await tx.fetch_into(Person, sql, part)
    return people


def select_email(user_id: str) -> Select[tuple[str]]:
    """Select a person's e-mail address."""
    return select(PERSON.c.email).where(PERSON.c.id == user_id)


def select_reports(manager_id: str) -> Select[tuple[str]]:
    """Select the ids of the people whose manager a person is."""
    return select(PERSON.c.id).where(PERSON.c.manager_id == manager_id)


async def list_with_role(tx: Tx, role: str) -> list[Person]:
    """Return the people who have a role, by id."""
    has_role = PERSON.c.roles.contains(f'"{role}"', autoescape=True)
    return await tx.fetch_into(Person, select(PERSON).where(has_role).order_by(PERSON.c.id))


async def search(
    tx: Tx,
    words: Sequence[str],
    manager_id: str | None,
    group_id: str | None,
    after: str | None,
    count: int,
) -> list[Person]:
    """Return up to ``count`` people by id who match all words and filters."""
    statement = select(PERSON).order_by(PERSON.c.id).limit(count)
    for word in words:
        statement = statement.where(_matches_word(word))
    if manager_id is not None:
        statement = statement.where(PERSON.c.manager_id == manager_id)
    if group_id is not None:
        # LIKE ignores case on SQLite, and ids do not; REPLACE compares exactly on both databases.
        quoted = literal(msgspec.json.encode(group_id).decode())
        groups = PERSON.c.group_ids
        statement = statement.where(func.replace(groups, quoted, "") != groups)
    if after is not None:
        statement = statement.where(PERSON.c.id > after)
    return await tx.fetch_into(Person, statement)


def _matches_word(word: str) -> ColumnElement[bool]:
    """Match the beginning of an id, a part of a name, or a whole e-mail address.

    LOWER knows ASCII only on SQLite, so other letters are tried in each case. A part of an address
    matches nothing: those who see addresses masked could guess them letter by letter.
    """
    lower = word.lower()
    spellings = {word, lower, word.upper(), word.capitalize()}
    names = [
        func.lower(column).contains(lower, autoescape=True)
        for column in (PERSON.c.given_name, PERSON.c.family_name)
    ]
    if not word.isascii():
        names += [
            column.contains(spelling, autoescape=True)
            for column in (PERSON.c.given_name, PERSON.c.family_name)
            for spelling in sorted(spellings)
        ]
    return or_(
        func.lower(PERSON.c.id).startswith(lower, autoescape=True),
        func.lower(PERSON.c.email) == lower,
        *names,
    )


async def set_suspended_at(tx: Tx, id: str, at: int | None) -> bool:
    """Suspend a person or end it; return whether that changed a row."""
    state = "IS NOT NULL" if at is None else "IS NULL"
    return bool(
        await tx.execute(
            f"UPDATE person SET suspended_at = ? WHERE id = ? AND suspended_at {state}", (at, id)
        )
    )


async def put(tx: Tx, people: Sequence[Person]) -> None:
    """Insert or replace people, no two with the same id."""
    await tx.insert(
        PERSON,
        people,
        on_conflict="update",
        keep=("created_at", "suspended_at"),
        created_at=tx.now,
        updated_at=tx.now,
    )


PERSONAL = (
    PersonalRows(
        PERSON,
        lambda user_id: PERSON.c.manager_id == user_id,
        lambda user_id, pseudonym: {"manager_id": None},
        NO_COLUMNS,
    ),
    rows_owned_by(PERSON.c.id),
    rows_naming(ERASURE.c.erased_by),
)
