"""Statements of many rows send every row once and in order; only ``bulk`` has the fast path."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.db.bulk import (
    MAX_ROWS_PER_STATEMENT,
    json_row_sql,
    json_rows_decoder,
    keyed_statements,
    multi_row_statements,
)
from homeroom.db.tx import Row

INSERT = "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT (a) DO UPDATE SET b = excluded.b"
FAST_PATH = re.compile(
    r"\b(bulk_tx|BulkTx|nul_free|reads_done|on_reads_done|fetch_many|fetch_batch|fetch_by_keys_into)\b"
)
SOURCE = Path(__file__).resolve().parents[3] / "src" / "homeroom"
SIZES = st.integers(min_value=0, max_value=3 * MAX_ROWS_PER_STATEMENT + 5)


@given(SIZES)
def test_every_row_is_sent_once_and_in_order(count: int) -> None:
    rows = [(number, f"b{number}") for number in range(count)]
    sent = [value for _, values in multi_row_statements(INSERT, rows) for value in values]
    assert sent == [value for row in rows for value in row]


@given(SIZES)
def test_sqlite_stores_the_rows_of_the_statements(count: int) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        connection.execute("INSERT INTO t VALUES (0, 'old')")
        rows = [(number, f"b{number}") for number in range(count)]
        for statement, values in multi_row_statements(INSERT, rows):
            connection.execute(statement, values)
        stored = connection.execute("SELECT a, b FROM t ORDER BY a").fetchall()
    connection.close()
    assert stored == (rows or [(0, "old")])


@given(SIZES)
def test_few_different_statements_are_prepared(count: int) -> None:
    rows = [(number, "") for number in range(count)]
    different = {statement for statement, _ in multi_row_statements(INSERT, rows)}
    assert len(different) <= 6


@pytest.mark.parametrize(
    "statement", ["UPDATE t SET b = ? WHERE a = ?", "INSERT INTO t SELECT ?, ?", "DELETE FROM t"]
)
def test_a_statement_of_another_form_is_sent_once_for_each_row(statement: str) -> None:
    rows = [(1, 2), (3, 4)]
    assert list(multi_row_statements(statement, rows)) == [(statement, (1, 2)), (statement, (3, 4))]


def test_literals_between_the_marks_are_unchanged() -> None:
    statement = "INSERT INTO t (a, b) VALUES (?, 'fixed')"
    assert list(multi_row_statements(statement, [(1,)])) == [(statement, (1,))]


@given(SIZES)
def test_a_keyed_select_finds_each_key_that_exists(count: int) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"b{n}") for n in range(100)])
        found = []
        sql = "SELECT t.a, t.b FROM {keys} AS k JOIN t ON t.a = k.column1 AND t.b = k.column2"
        for statement, values in keyed_statements(
            sql, [(number, f"b{number}") for number in range(count)]
        ):
            found += connection.execute(statement, values).fetchall()
    connection.close()
    assert sorted(found) == [(number, f"b{number}") for number in range(min(count, 100))]


def test_only_progress_and_catalogue_use_the_fast_path() -> None:
    users = {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        if FAST_PATH.search(path.read_text())
    }
    assert users <= {"db", "progress", "catalogue"}


def test_json_columns_are_appended_as_they_are() -> None:
    sql = json_row_sql(["id", "points", "chapters_json", "quizzes_json"], "json_array({})")
    with sqlite3.connect(":memory:") as connection:
        [[text]] = connection.execute(
            f"SELECT {sql} FROM (SELECT 'ada' AS id, 3 AS points, '{{\"a\": 1}}' AS chapters_json,"
            " '[]' AS quizzes_json)"
        )
    connection.close()
    assert json_rows_decoder(Row).decode(f"[{text}]") == [("ada", 3, {"a": 1}, [])]
