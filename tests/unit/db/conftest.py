"""What is tested here is SQLite's own, or the same whatever lies below: one kind of database."""

from __future__ import annotations

import pytest

from homeroom.db.sqlite import SqliteDatabase


@pytest.fixture
def db(sqlite: SqliteDatabase) -> SqliteDatabase:
    return sqlite
