"""Rows become statements of many rows, and nothing is lost or mixed up on the way."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.db.chunk import CHUNK, keyed, multi_row

INSERT = "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT (a) DO UPDATE SET b = excluded.b"
SIZES = st.integers(min_value=0, max_value=3 * CHUNK + 5)


@given(SIZES)
def test_every_row_is_sent_once_and_in_order(count: int) -> None:
    rows = [(number, f"b{number}") for number in range(count)]
    sent = [value for _, values in multi_row(INSERT, rows) for value in values]
    assert sent == [value for row in rows for value in row]


@given(SIZES)
def test_sqlite_stores_what_the_statements_say(count: int) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        connection.execute("INSERT INTO t VALUES (0, 'old')")
        rows = [(number, f"b{number}") for number in range(count)]
        for statement, values in multi_row(INSERT, rows):
            connection.execute(statement, values)
        stored = connection.execute("SELECT a, b FROM t ORDER BY a").fetchall()
    connection.close()
    assert stored == (rows or [(0, "old")])


@given(SIZES)
def test_few_different_statements_have_to_be_prepared(count: int) -> None:
    rows = [(number, "") for number in range(count)]
    different = {statement for statement, _ in multi_row(INSERT, rows)}
    assert len(different) <= 6


@pytest.mark.parametrize(
    "statement", ["UPDATE t SET b = ? WHERE a = ?", "INSERT INTO t SELECT ?, ?", "DELETE FROM t"]
)
def test_a_statement_of_another_form_is_sent_once_for_each_row(statement: str) -> None:
    rows = [(1, 2), (3, 4)]
    assert list(multi_row(statement, rows)) == [(statement, (1, 2)), (statement, (3, 4))]


def test_literals_between_the_marks_are_left_alone() -> None:
    statement = "INSERT INTO t (a, b) VALUES (?, 'fixed')"
    assert list(multi_row(statement, [(1,)])) == [(statement, (1,))]


@given(SIZES)
def test_a_look_up_finds_each_key_that_is_there(count: int) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"b{n}") for n in range(100)])
        found = []
        sql = "SELECT t.a, t.b FROM {keys} AS k JOIN t ON t.a = k.column1 AND t.b = k.column2"
        for statement, values in keyed(sql, [(number, f"b{number}") for number in range(count)]):
            found += connection.execute(statement, values).fetchall()
    connection.close()
    assert sorted(found) == [(number, f"b{number}") for number in range(min(count, 100))]
