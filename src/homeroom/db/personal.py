"""Which rows speak of a person, and what becomes of them when the person is erased.

Every room says it of its own tables; whoever exports or erases needs to know no table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Delete, Table, Update, delete, func, or_, update

Of = Callable[[str], ColumnElement[bool]]
"""Which rows, by the person's id."""
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Holding:
    """Rows of a table that speak of a person."""

    table: Table
    of: Of
    change: Callable[[str, str], Mapping[str, Any]] | None = None
    """What is written over them, by the person's id and a pseudonym; None: the rows go."""
    shown: frozenset[str] | None = None
    """The columns that the person is shown of them; None: all. Rows of others tell of others."""

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
        shown=_key_and(column),
    )


def said_in(column: Column[Any]) -> Holding:
    """Say that rows are others', and may name a person in JSON that is kept as text."""
    return Holding(
        column.table,
        lambda user_id: says(column, user_id),
        lambda user_id, pseudonym: {column.name: _without(column, user_id, pseudonym)},
        shown=NOTHING,
    )


def held_first(column: Column[Any], of: Of) -> Holding:
    """Lock rows that others lock first, before what they lock after them (decision 0013)."""
    return Holding(column.table, of, lambda user_id, pseudonym: {column.name: column}, NOTHING)


def says(column: Column[Any], user_id: str) -> ColumnElement[bool]:
    """Say whether JSON that is kept as text has an id among its values, letter by letter."""
    return or_(*(func.replace(column, piece, "") != column for piece in _pieces(user_id)))


def _without(column: Column[Any], user_id: str, pseudonym: str) -> ColumnElement[Any]:
    found: ColumnElement[Any] = column
    for piece in _pieces(user_id):
        found = func.replace(found, piece, f'{piece[0]}"{pseudonym}"')
    return found


def _pieces(user_id: str) -> list[str]:
    """Return how an id may begin in JSON; within a text its first quote would be escaped."""
    forms = {msgspec.json.encode(user_id).decode(), json.dumps(user_id)}
    return [before + form for form in sorted(forms) for before in "[,: "]


def _key_and(column: Column[Any]) -> frozenset[str]:
    return frozenset({column.name, *(each.name for each in column.table.primary_key)})
