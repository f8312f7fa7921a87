"""Hand a person what is kept of them, or erase it: in all rooms, by what each says of its tables.

An erasure is one commit, and is remembered by the person's id: a backup that is restored later may
be older than it, and then it is done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, insert, inspect, select

from homeroom.access import api as access
from homeroom.clock import to_rfc3339
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.db.personal import Holding
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.people.store import ERASURE

Lock = Callable[[Tx, Collection[str]], Awaitable[None]]
"""Keeps others from changing anything of some learners until the transaction ends."""
_JSON = frozenset(
    {
        "about",
        "chapters",
        "event",
        "metadata",
        "missed",
        "params",
        "payload",
        "quiz",
        "quizzes",
        "roles",
    }
)
"""Columns whose text is JSON, in rows that are shown whole."""
Erasures = Sequence[tuple[Any, ...]]
"""Rows of ``erasure``."""


class Records:
    """All that is kept of people, in all rooms."""

    def __init__(self, holdings: Sequence[Holding], lock: Lock) -> None:
        """Take what the rooms say of their tables, in the order in which rows can go."""
        self.holdings, self._lock = holdings, lock

    async def export(self, db: Database, user_id: str, by: str) -> dict[str, Any]:
        """Return all rows that speak of a person, by table; raise ``NotFound`` if there are none.

        Of rows that are others', only what names the person is shown. Instants are RFC 3339, and
        JSON that is kept as text is ``msgspec.Raw``.
        """
        found: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
        async with db.read() as tx:
            for each in self.holdings:
                if each.shown is None or each.shown:
                    names = [column.name for column in each.table.columns]
                    key = [names.index(column.name) for column in each.table.primary_key]
                    known = found.setdefault(each.table.name, {})
                    for row in await tx.fetch(select(each.table).where(each.of(user_id))):
                        shown = _shown(dict(zip(names, row, strict=True)), each.shown)
                        known.setdefault(tuple(row[place] for place in key), {}).update(shown)
        records = {table: list(rows.values()) for table, rows in found.items() if rows}
        if not records:
            raise NotFound("Nothing is kept of this person.")
        async with db.write() as tx:
            await access.record(tx, by, "person.exported", user_id)
            exported_at = to_rfc3339(tx.now)
        return {"userId": user_id, "exportedAt": exported_at, "records": records}

    async def erase(self, db: Database, user_id: str, by: str) -> dict[str, int]:
        """Erase a person and return how many rows of each table that took.

        Raises ``NotFound`` where nothing is kept of them; then nothing is remembered either.
        """

        async def work(tx: Tx) -> dict[str, int]:
            await self._lock(tx, [user_id])
            changed: dict[str, int] = {}
            pseudonym = _pseudonym()
            for each in self.holdings:
                count = await tx.execute(each.erasing(user_id, pseudonym))
                if count:
                    changed[each.table.name] = changed.get(each.table.name, 0) + count
            if not changed:
                raise NotFound("Nothing is kept of this person.")
            id = new_id()
            who = pseudonym if by == user_id else by
            await tx.execute(
                insert(ERASURE).values(id=id, user_id=user_id, erased_at=tx.now, erased_by=who)
            )
            await access.record(tx, who, "person.erased", id, {"rows": sum(changed.values())})
            tx.notify("people", id)
            return changed

        return await db.transact(work)

    def known(self, opened: Connection) -> Erasures:
        """Return what a database remembers of erasures; nothing if it is of an earlier release."""
        if not inspect(opened).has_table(ERASURE.name):
            return []
        return [tuple(row) for row in opened.execute(select(ERASURE).order_by(ERASURE.c.id))]

    def repeat(self, opened: Connection, erasures: Erasures) -> None:
        """Erase again, in a database of this release that was restored from before that."""
        for id, user_id, erased_at, erased_by in erasures:
            pseudonym = _pseudonym()
            for each in self.holdings:
                opened.execute(each.erasing(user_id, pseudonym))
            erased_by = pseudonym if erased_by == user_id else erased_by
            opened.execute(
                insert(ERASURE).values(
                    id=id, user_id=user_id, erased_at=erased_at, erased_by=erased_by
                )
            )


def _pseudonym() -> str:
    return f"erased-{uuid4()}"  # random: a UUIDv7 would say when


def _shown(row: dict[str, Any], columns: frozenset[str] | None) -> dict[str, Any]:
    return {
        name: _readable(name, value)
        for name, value in row.items()
        if not isinstance(value, bytes) and (columns is None or name in columns)
    }


def _readable(name: str, value: Any) -> Any:
    if isinstance(value, int) and (name == "at" or name.endswith("_at")):
        return to_rfc3339(value)
    if isinstance(value, str) and name in _JSON:
        try:
            msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
        return msgspec.Raw(value.encode())  # as it is: people's own JSON may be nested deeply
    return value
