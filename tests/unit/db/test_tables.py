"""Rows become records by the names of columns, and records rows, on both databases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, Literal

import msgspec
import pytest
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, select

from homeroom.db.database import Database
from homeroom.db.tables import record_reader

pytestmark = pytest.mark.anyio

SHELF = Table(
    "shelf",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("kind", Text),
    Column("is_full", Integer),
    Column("made_on", Text),
    Column("labels", Text),
    Column("content", Text),
    Column("note", Text),
    Column("created_at", BigInteger),
    Column("updated_at", BigInteger),
)


class Kind(Enum):
    BOOKS = "books"
    JARS = "jars"


@dataclass(frozen=True)
class Shelf:
    id: str
    kind: Kind
    is_full: bool
    made_on: date | None
    labels: tuple[str, ...]
    content: Mapping[str, Any] | None
    note: Literal["dusty"] | None = None


FULL = Shelf("a", Kind.BOOKS, True, date(2026, 11, 29), ("x", "ü"), {"n": [1]}, "dusty")
EMPTY = Shelf("b", Kind.JARS, False, None, (), None)


async def make_table(db: Database) -> None:
    async with db.write() as tx:
        await tx.execute(
            "CREATE TABLE shelf (id TEXT PRIMARY KEY, kind TEXT, is_full INTEGER, made_on TEXT,"
            " labels TEXT, content TEXT, note TEXT, created_at BIGINT, updated_at BIGINT)"
        )


async def test_what_was_inserted_is_read_back(db: Database) -> None:
    await make_table(db)
    async with db.write() as tx:
        assert await tx.insert(SHELF, [FULL, EMPTY], created_at=1, updated_at=1) == 2
        assert await tx.insert(SHELF, [], created_at=1) == 0
    async with db.read() as tx:
        statement = select(SHELF).order_by(SHELF.c.id)
        assert await tx.fetch_into(Shelf, statement) == [FULL, EMPTY]
        found = await tx.fetch_one_into(Shelf, "SELECT * FROM shelf WHERE id = ?", ("b",))
        assert found == EMPTY
        assert await tx.fetch_one_into(Shelf, "SELECT * FROM shelf WHERE id = ?", ("c",)) is None
        rows = await tx.fetch("SELECT kind, is_full, made_on, labels FROM shelf ORDER BY id")
    assert rows[0] == ("books", 1, "2026-11-29", '["x","ü"]')


async def test_a_known_key_is_left_alone_or_updated_but_for_what_is_kept(db: Database) -> None:
    await make_table(db)
    changed = Shelf("a", Kind.JARS, False, None, (), None)
    async with db.write() as tx:
        await tx.insert(SHELF, [FULL], created_at=1, updated_at=1)
        assert await tx.insert(SHELF, [changed], on_conflict="ignore", created_at=2) == 0
        assert await tx.fetch_into(Shelf, select(SHELF)) == [FULL]
        await tx.insert(
            SHELF, [changed], on_conflict="update", keep=("created_at",), created_at=2, updated_at=2
        )
        assert await tx.fetch_into(Shelf, select(SHELF)) == [changed]
        assert await tx.fetch("SELECT created_at, updated_at FROM shelf") == [(1, 2)]


async def test_a_name_that_the_table_lacks_is_an_error(db: Database) -> None:
    async with db.write() as tx:
        with pytest.raises(TypeError, match="no column colour"):
            await tx.insert(SHELF, [FULL], colour="red")


async def test_a_field_needs_a_column_or_a_default() -> None:
    with pytest.raises(TypeError, match="needs the columns content, kind"):
        record_reader(Shelf, ("id", "is_full", "made_on", "labels"))


async def test_a_column_without_a_field_is_ignored() -> None:
    read = record_reader(Shelf, ("id", "kind", "is_full", "made_on", "labels", "content", "x"))
    assert read(("b", "jars", 0, None, "[]", None, 5)) == EMPTY


class Label(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    labels: list[str]
    note: str = ""


async def test_a_struct_with_keyword_fields_is_read_too() -> None:
    read = record_reader(Label, ("id", "labels"))
    assert read(("a", '["x"]')) == Label(id="a", labels=["x"])
