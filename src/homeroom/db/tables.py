"""The MetaData of all tables, and the mapping of rows to types by name.

Migrations must match the MetaData. A column belongs to the field of the same name (``SELECT a.id AS
offering_id`` renames one). The field's annotation decides the stored form: flags are 0 or 1, enums
their values, dates ISO 8601 text, and all other types but texts, numbers and bytes are JSON text,
``Any`` included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from enum import Enum
from functools import cache
from operator import attrgetter, itemgetter
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from sqlalchemy import BigInteger, Integer, MetaData, Table

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SEQUENCE_TYPE = BigInteger().with_variant(Integer(), "sqlite")
"""The type of a number that the database generates, and of a column that refers to one.

SQLite generates numbers only for the type INTEGER, which holds 64 bits there.
"""


RecordType = TypeVar("RecordType")
Convert = Callable[[Any], Any]
OnConflict = Literal["fail", "ignore", "update"]


def record_reader(
    of: type[RecordType], columns: tuple[str, ...]
) -> Callable[[Sequence[Any]], RecordType]:
    """Return the function that makes a record of a row with these columns.

    ``of`` is a dataclass or a msgspec Struct; columns without a field are ignored. Raises TypeError
    for a field that has neither a column nor a default.
    """
    hashable: Any = of  # mypy regards a type as unhashable
    read: Callable[[Sequence[Any]], RecordType] = _build_reader(hashable, columns)
    return read


@cache
def _build_reader(of: Any, columns: tuple[str, ...]) -> Callable[[Sequence[Any]], Any]:
    indexes = {name: index for index, name in enumerate(columns)}
    missing = [name for name, needed in _fields(of).items() if needed and name not in indexes]
    if missing:
        raise TypeError(f"{of.__name__} needs the columns {', '.join(sorted(missing))}")
    hints = get_type_hints(of)
    names = [name for name in _fields(of) if name in indexes]
    in_field_order = [indexes[name] for name in names]
    converts = [
        (place, convert)
        for place, name in enumerate(names)
        if (convert := _from_column(hints[name])) is not None
    ]
    by_position = _takes_positions(of, names)
    if by_position and not converts and len(names) > 1:
        values_of = itemgetter(*in_field_order)
        return lambda row: of(*values_of(row))

    def read(row: Sequence[Any]) -> Any:
        values = [row[index] for index in in_field_order]
        for place, convert in converts:
            if values[place] is not None:
                values[place] = convert(values[place])
        return of(*values) if by_position else of(**dict(zip(names, values, strict=True)))

    return read


def column_values(record: object, names: Sequence[str]) -> tuple[Any, ...]:
    """Return fields of a record as their columns store them."""
    of: Any = type(record)
    return tuple(_row_writer(of, tuple(names))(record))


@cache
def _row_writer(of: Any, names: tuple[str, ...]) -> Callable[[Any], list[Any]]:
    """Return the function that gives fields of a record as columns store them."""
    hints = get_type_hints(of)
    converts = [
        (index, convert)
        for index, name in enumerate(names)
        if (convert := _to_column(hints[name])) is not None
    ]
    fields = attrgetter(*names)  # a tuple, unless it is one name

    def write(record: Any) -> list[Any]:
        values = list(fields(record)) if len(names) > 1 else [fields(record)]
        for index, convert in converts:
            if values[index] is not None:
                values[index] = convert(values[index])
        return values

    return write


@cache
def insert_sql(
    table: Table, columns: tuple[str, ...], on_conflict: OnConflict, keep: tuple[str, ...]
) -> str:
    """Return an INSERT of one row of these columns.

    With ``update`` a row of the same primary key gets the new values, except the columns ``keep``.
    """
    marks = ", ".join("?" * len(columns))
    sql = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"
    if on_conflict == "ignore":
        sql += " ON CONFLICT DO NOTHING"
    elif on_conflict == "update":
        keys = [column.name for column in table.primary_key]
        changed = [name for name in columns if name not in keys and name not in keep]
        sql += f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET "
        sql += ", ".join(f"{name} = excluded.{name}" for name in changed)
    return sql


def insert_rows(
    table: Table, records: Iterable[object], common: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns of a table that records of one type have, and their rows.

    ``common`` gives columns that are the same in every row, as they are stored. Raises TypeError
    for a name in ``common`` that is no column of the table.
    """
    listed = list(records)
    of: Any = type(listed[0]) if listed else None
    names, write = _insert_plan(table, of, tuple(common))
    repeated = tuple(common.values())
    return (*names, *common), [(*write(record), *repeated) for record in listed]


@cache
def _insert_plan(
    table: Table, of: Any, common: tuple[str, ...]
) -> tuple[tuple[str, ...], Callable[[Any], list[Any]]]:
    """Return the columns filled from records of a type, and their writer."""
    unknown = [name for name in common if name not in table.columns]
    if unknown:
        raise TypeError(f"{table.name} has no column {', '.join(sorted(unknown))}")
    if of is None:
        return (), list
    fields = _fields(of)
    names = tuple(
        column.name
        for column in table.columns
        if column.name in fields and column.name not in common
    )
    return names, _row_writer(of, names)


def _takes_positions(of: Any, names: Sequence[str]) -> bool:
    """Return whether a record can be made from these fields by position."""
    if not dataclasses.is_dataclass(of):
        return False  # a Struct does not tell which of its fields are for keywords only
    fields = [field for field in dataclasses.fields(of) if field.init]
    ordered = [field.name for field in fields]
    return ordered[: len(names)] == list(names) and not any(field.kw_only for field in fields)


def _fields(of: type) -> dict[str, bool]:
    """Return the fields of a record's type; True stands for a required one."""
    if dataclasses.is_dataclass(of):
        return {
            field.name: field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
            for field in dataclasses.fields(of)
            if field.init
        }
    return {field.name: field.required for field in msgspec.structs.fields(of)}


def _strip_hint(hint: Any) -> Any:
    """Return an annotation without its ``| None``, and the supertype of a NewType."""
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not NoneType]
        return _strip_hint(members[0]) if len(members) == 1 else hint
    return _strip_hint(hint.__supertype__) if isinstance(hint, NewType) else hint


def _is_plain(bare: Any) -> bool:
    return bare in (str, int, float, bytes) or get_origin(bare) is Literal


def _from_column(hint: Any) -> Convert | None:
    bare = _strip_hint(hint)
    if _is_plain(bare):
        return None
    if bare is bool:
        return bool
    if bare is date:
        return date.fromisoformat
    if isinstance(bare, type) and issubclass(bare, Enum):
        return bare
    return msgspec.json.Decoder(bare).decode


def _to_column(hint: Any) -> Convert | None:
    bare = _strip_hint(hint)
    if _is_plain(bare):
        return None
    if bare is bool:
        return int
    if bare is date:
        return date.isoformat
    if isinstance(bare, type) and issubclass(bare, Enum):
        return attrgetter("_value_")  # ``value`` is a property, five times as slow
    return lambda value: msgspec.json.encode(value).decode()
