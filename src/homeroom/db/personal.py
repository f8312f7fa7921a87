"""Which rows speak of a person, and what becomes of them when the person is erased.

Every room says it of its own tables; whoever exports or erases needs to know no table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Delete, Table, Update, delete, update


@dataclass(frozen=True, slots=True)
class Holding:
    """Rows of a table that speak of a person."""

    table: Table
    of: Callable[[str], ColumnElement[bool]]
    """Which rows these are, by the person's id."""
    change: Callable[[str, str], Mapping[str, Any]] | None = None
    """What is written over them, by the person's id and a pseudonym; None: the rows go."""
    is_shown: bool = True
    """Whether they are in an export; work under way, for one, is not."""

    def erasing(self, user_id: str, pseudonym: str) -> Delete | Update:
        """Return the statement that erases a person from these rows."""
        if self.change is None:
            return delete(self.table).where(self.of(user_id))
        changed = dict(self.change(user_id, pseudonym))
        return update(self.table).where(self.of(user_id)).values(changed)


def rows_of(column: Column[Any]) -> Holding:
    """Say that rows are a person's whose id is in a column: they go with the person."""
    return Holding(column.table, lambda user_id: column == user_id)


def named_in(column: Column[Any]) -> Holding:
    """Say that rows are others', and only name a person in a column: they stay, without the name.

    All rows get the same pseudonym, so that who did two things can still be told to be one.
    """
    return Holding(
        column.table,
        lambda user_id: column == user_id,
        lambda user_id, pseudonym: {column.name: pseudonym},
    )
