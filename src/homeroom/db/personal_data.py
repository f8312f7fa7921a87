"""Rows that hold a person's data, and their replacement by erasure.

Every package declares the rows of its own tables; export and erasure need to know no table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Delete,
    Select,
    Table,
    Update,
    delete,
    func,
    or_,
    update,
)

PersonFilter = Callable[[str], ColumnElement[bool]]
"""The condition that selects rows by the person's id."""
PeopleIds = CompoundSelect[Any]
"""A SELECT of user ids, for ``column.in_(...)``; instead of one, None means all people."""
SelectPeople = Callable[[str], Select[Any]]
"""Select the user ids that are related to a manager, as the only column and unlabelled."""
Relations = Mapping[str, SelectPeople]
"""The ways in which a person is related to a manager, by name."""
NO_COLUMNS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PersonalRows:
    """Rows of a table that hold data of a person."""

    table: Table
    matches: PersonFilter
    replacement: Callable[[str, str], Mapping[str, Any]] | None = None
    """New values by the person's id and a pseudonym; None deletes the rows."""
    visible_columns: frozenset[str] | None = None
    """The columns that the person's export contains, as rows of other people contain data of those;
    None: all columns."""

    def erase_statement(self, user_id: str, pseudonym: str) -> Delete | Update:
        """Return the statement that erases a person from these rows."""
        if self.replacement is None:
            return delete(self.table).where(self.matches(user_id))
        values = dict(self.replacement(user_id, pseudonym))
        return update(self.table).where(self.matches(user_id)).values(values)


def rows_owned_by(column: Column[Any]) -> PersonalRows:
    """Declare rows of the person whose id is in a column; erasure deletes them."""
    return PersonalRows(column.table, lambda user_id: column == user_id)


def rows_naming(column: Column[Any]) -> PersonalRows:
    """Declare rows of others that only name a person; erasure replaces the name.

    All these rows get the same pseudonym, so that two actions of one person remain attributable to
    one.
    """
    return PersonalRows(
        column.table,
        lambda user_id: column == user_id,
        lambda user_id, pseudonym: {column.name: pseudonym},
        visible_columns=_key_columns_and(column),
    )


def rows_with_id_in_json(column: Column[Any]) -> PersonalRows:
    """Declare rows of other people that may name a person in a column of JSON text."""
    return PersonalRows(
        column.table,
        lambda user_id: json_contains_id(column, user_id),
        lambda user_id, pseudonym: {column.name: _replace_id_in_json(column, user_id, pseudonym)},
        visible_columns=NO_COLUMNS,
    )


def rows_locked_first(column: Column[Any], of: PersonFilter) -> PersonalRows:
    """Declare rows to lock before others, as other transactions do (decision 0013)."""
    return PersonalRows(
        column.table, of, lambda user_id, pseudonym: {column.name: column}, NO_COLUMNS
    )


def json_contains_id(column: Column[Any], user_id: str) -> ColumnElement[bool]:
    """Return the condition that a column of JSON text has an id among its values."""
    return or_(*(func.replace(column, form, "") != column for form in _json_forms_of_id(user_id)))


def _replace_id_in_json(column: Column[Any], user_id: str, pseudonym: str) -> ColumnElement[Any]:
    replaced: ColumnElement[Any] = column
    for form in _json_forms_of_id(user_id):
        replaced = func.replace(replaced, form, f'{form[0]}"{pseudonym}"')
    return replaced


def _json_forms_of_id(user_id: str) -> list[str]:
    """Return an id as a JSON value; within another text its quotes are escaped."""
    forms = {msgspec.json.encode(user_id).decode(), json.dumps(user_id)}
    return [before + form for form in sorted(forms) for before in "[,: "]


def _key_columns_and(column: Column[Any]) -> frozenset[str]:
    return frozenset({column.name, *(each.name for each in column.table.primary_key)})
