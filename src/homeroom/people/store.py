"""All SQL of the directory and of erasures."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Column, Index, Select, Table, Text, select, text

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
    """Return the people with these ids, in no order; ``lock`` keeps others from changing them."""
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


async def list_with_role(tx: Tx, role: str) -> list[Person]:
    """Return the people who have a role, by id."""
    has_role = PERSON.c.roles.contains(f'"{role}"', autoescape=True)
    return await tx.fetch_into(Person, select(PERSON).where(has_role).order_by(PERSON.c.id))


async def put(tx: Tx, people: Sequence[Person]) -> None:
    """Insert or replace people, no two with the same id."""
    await tx.insert(
        PERSON,
        people,
        on_conflict="update",
        keep=("created_at",),
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
