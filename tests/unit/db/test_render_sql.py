"""A statement that was compiled before has the text and the values of one that was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, delete, func, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from homeroom.db.tx import render_sql

BOOK = Table(
    "book",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("title", Text),
    Column("pages", Integer),
)
STATEMENTS: dict[str, Callable[[Any], ClauseElement]] = {
    "one": lambda n: select(BOOK).where(BOOK.c.id == f"b-{n}"),
    "twice": lambda n: select(BOOK).where(BOOK.c.pages > n, BOOK.c.pages < n + 9, BOOK.c.id != "x"),
    "list": lambda n: select(BOOK.c.id).where(BOOK.c.id.in_([f"b-{i}" for i in range(n)])),
    "two lists": lambda n: select(BOOK).where(
        BOOK.c.pages.in_(range(n)), BOOK.c.id == "b", BOOK.c.id.not_in(["y"] * (n + 1))
    ),
    "page": lambda n: select(BOOK).order_by(BOOK.c.pages.desc()).limit(n).offset(n + 1),
    "locked": lambda n: select(BOOK).where(BOOK.c.id == f"b-{n}").with_for_update(),
    "inner": lambda n: delete(BOOK).where(
        BOOK.c.id.in_(select(BOOK.c.id).where(BOOK.c.pages == n))
    ),
    "update": lambda n: update(BOOK).where(BOOK.c.id == "b").values(title=f"t-{n}", pages=n),
    "update by itself": lambda n: update(BOOK).values(pages=BOOK.c.pages + n),
    "insert": lambda n: insert(BOOK).values(id=f"b-{n}", title=None, pages=n),
    "null": lambda n: select(BOOK).where(BOOK.c.title == (None if n % 2 else "t")),
    "function": lambda n: select(func.count()).select_from(BOOK).where(BOOK.c.pages > n),
}


def compiled_anew(
    statement: ClauseElement, dialect: Literal["sqlite", "postgresql"]
) -> tuple[str, list[Any]]:
    """Compile by SQLAlchemy's documented means."""
    used = (
        sqlite.dialect(paramstyle="qmark")
        if dialect == "sqlite"
        else asyncpg.dialect(paramstyle="numeric_dollar")
    )
    compiled = statement.compile(dialect=used, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), [compiled.params[key] for key in compiled.positiontup or ()]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_a_known_form_is_rendered_with_the_values_of_today(
    name: str, dialect: Literal["sqlite", "postgresql"]
) -> None:
    build = STATEMENTS[name]
    for number in (2, 3, 0, 2, 5):
        sql, values = render_sql(build(number), (), dialect)
        assert (sql, list(values)) == compiled_anew(build(number), dialect)


def test_text_passes_unchanged() -> None:
    assert render_sql("SELECT ?", (1,)) == ("SELECT ?", (1,))
