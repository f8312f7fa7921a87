"""The fixture ``db`` of these tests, which are about SQLite or about either database."""

from __future__ import annotations

import pytest

from homeroom.db.sqlite.database import SqliteDatabase


@pytest.fixture
def db(sqlite: SqliteDatabase) -> SqliteDatabase:
    return sqlite
