"""Public interface of people: the directory, export and erasure of personal data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Select, insert, inspect, select

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.personal_data import PersonalRows
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.instant import to_rfc3339
from homeroom.people import store
from homeroom.people.person import Person, mask_email
from homeroom.people.store import ERASURE, PERSONAL

__all__ = [
    "PERSONAL",
    "TOPIC",
    "Person",
    "PersonalDataRegistry",
    "find",
    "find_locked",
    "get",
    "list_with_role",
    "mask_email",
    "put",
    "put_all",
    "search",
    "select_email",
    "select_reports",
    "set_suspended",
]

TOPIC = "people"
_JSON_COLUMNS = frozenset(
    {
        "about",
        "chapters",
        "event",
        "group_ids",
        "metadata",
        "missed",
        "params",
        "payload",
        "quiz",
        "quizzes",
        "recipient",
        "roles",
    }
)
"""Columns whose text is JSON, in rows that are exported whole."""
LockLearners = Callable[[Tx, Collection[str]], Awaitable[None]]
"""Lock some learners against other transactions until this one ends."""
ErasureRows = Sequence[tuple[Any, ...]]
"""Rows of ``erasure``: id, user id, instant, actor."""


async def find(tx: Tx, ids: Collection[str]) -> dict[str, Person]:
    """Return those of the people that the directory knows, by id."""
    return {person.id: person for person in await store.find(tx, sorted(set(ids)))}


async def get(tx: Tx, id: str) -> Person | None:
    """Return a person, or None."""
    return (await find(tx, [id])).get(id)


def select_email(user_id: str) -> Select[tuple[str]]:
    """Return the SELECT of a person's e-mail address, for use in a statement."""
    return store.select_email(user_id)


def select_reports(manager_id: str) -> Select[tuple[str]]:
    """Return the SELECT of the people whose ``managerId`` is a manager's."""
    return store.select_reports(manager_id)


async def list_with_role(tx: Tx, role: str) -> list[Person]:
    """Return the people who have a role in the directory, by id."""
    return await store.list_with_role(tx, role)


async def put(tx: Tx, person: Person) -> bool:
    """Insert or replace a person; return whether the id is new."""
    is_new = await get(tx, person.id) is None
    await store.put(tx, [person])
    tx.notify(TOPIC, person.id)
    return is_new


async def find_locked(tx: Tx, ids: Collection[str]) -> dict[str, Person]:
    """Return people as ``find`` does, and lock them until the transaction ends."""
    return {person.id: person for person in await store.find(tx, sorted(set(ids)), lock=True)}


async def search(
    tx: Tx,
    *,
    text: str = "",
    manager_id: str | None = None,
    group_id: str | None = None,
    after: str | None = None,
    count: int = 100,
) -> list[Person]:
    """Return up to ``count`` people by id who match all words and filters.

    A word is the beginning of an id, a part of a name, or a whole e-mail address.
    """
    return await store.search(tx, text.split(), manager_id, group_id, after, count)


async def set_suspended(tx: Tx, id: str, suspended: bool, actor: str) -> None:
    """Suspend a person, who then gets no message, or end it; raise ``NotFound``."""
    if await get(tx, id) is None:
        raise NotFound(f"There is no person {id!r} in the directory.")
    if await store.set_suspended_at(tx, id, tx.now if suspended else None):
        action = "person.suspended" if suspended else "person.resumed"
        await access.record_audit(tx, actor, action, id)
        tx.notify(TOPIC, id)


async def put_all(tx: Tx, people: Sequence[Person]) -> None:
    """Insert or replace many people, no two with the same id."""
    await store.put(tx, people)
    for person in people:
        tx.notify(TOPIC, person.id)


class PersonalDataRegistry:
    """The personal data of all packages, to export and to erase."""

    def __init__(self, personal_rows: Sequence[PersonalRows], lock_learners: LockLearners) -> None:
        """Use the packages' descriptions of their rows, in the order of erasure."""
        self.personal_rows, self._lock_learners = personal_rows, lock_learners

    async def export(self, db: Database, user_id: str, by: str) -> dict[str, Any]:
        """Return all rows about a person, by table; raise ``NotFound`` if there are none.

        Of rows that belong to others, only the columns that name the person are included. Instants
        are RFC 3339, and JSON that is stored as text is ``msgspec.Raw``.
        """
        tables: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
        async with db.read() as tx:
            for each in self.personal_rows:
                if each.visible_columns is None or each.visible_columns:
                    columns = each.table.columns.keys()
                    by_key = tables.setdefault(each.table.name, {})
                    for values in await tx.fetch(select(each.table).where(each.matches(user_id))):
                        row = dict(zip(columns, values, strict=True))
                        key = tuple(row[column.name] for column in each.table.primary_key)
                        by_key.setdefault(key, {}).update(
                            _visible_columns(row, each.visible_columns)
                        )
        records = {table: list(rows.values()) for table, rows in tables.items() if rows}
        if not records:
            raise NotFound("Homeroom holds no data about this person.")
        async with db.write() as tx:
            await access.record_audit(tx, by, "person.exported", user_id)
            exported_at = to_rfc3339(tx.now)
        return {"userId": user_id, "exportedAt": exported_at, "records": records}

    async def erase(self, db: Database, user_id: str, by: str) -> dict[str, int]:
        """Erase a person and return how many rows of each table changed.

        Raises ``NotFound`` where there are none; then the table ``erasure`` gets no row either.
        """

        async def work(tx: Tx) -> dict[str, int]:
            await self._lock_learners(tx, [user_id])
            changed: dict[str, int] = {}
            pseudonym = _new_pseudonym()
            for each in self.personal_rows:
                count = await tx.execute(each.erase_statement(user_id, pseudonym))
                if count:
                    changed[each.table.name] = changed.get(each.table.name, 0) + count
            if not changed:
                raise NotFound("Homeroom holds no data about this person.")
            id = new_id()
            actor = pseudonym if by == user_id else by
            await tx.execute(
                insert(ERASURE).values(id=id, user_id=user_id, erased_at=tx.now, erased_by=actor)
            )
            await access.record_audit(
                tx, actor, "person.erased", id, {"rows": sum(changed.values())}
            )
            tx.notify("people", id)
            return changed

        return await db.transact(work)

    def recorded_erasures(self, opened: Connection) -> ErasureRows:
        """Return a database's erasures; none if an earlier release made it."""
        if not inspect(opened).has_table(ERASURE.name):
            return []
        return [tuple(row) for row in opened.execute(select(ERASURE).order_by(ERASURE.c.id))]

    def repeat_erasures(self, opened: Connection, erasures: ErasureRows) -> None:
        """Repeat erasures in a database of this release that was restored from a backup."""
        for id, user_id, erased_at, erased_by in erasures:
            pseudonym = _new_pseudonym()
            for each in self.personal_rows:
                opened.execute(each.erase_statement(user_id, pseudonym))
            erased_by = pseudonym if erased_by == user_id else erased_by
            opened.execute(
                insert(ERASURE).values(
                    id=id, user_id=user_id, erased_at=erased_at, erased_by=erased_by
                )
            )


def _new_pseudonym() -> str:
    return f"erased-{uuid4()}"  # random: a UUIDv7 would hold the time


def _visible_columns(row: dict[str, Any], columns: frozenset[str] | None) -> dict[str, Any]:
    return {
        name: _export_value(name, value)
        for name, value in row.items()
        if not isinstance(value, bytes) and (columns is None or name in columns)
    }


def _export_value(name: str, value: Any) -> Any:
    if isinstance(value, int) and (name == "at" or name.endswith("_at")):
        return to_rfc3339(value)
    if isinstance(value, str) and name in _JSON_COLUMNS:
        try:
            msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
        return msgspec.Raw(value.encode())  # not decoded: clients' own JSON may be nested deeply
    return value
