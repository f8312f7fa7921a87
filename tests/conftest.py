"""Fixtures that every suite shares: the asyncio backend, a clock, and a migrated SQLite file."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.sqlite import SqliteDatabase

pytest_plugins = ["tests.servers.redis", "tests.servers.node"]

for _name in [name for name in os.environ if name.startswith("HOMEROOM_")]:
    del os.environ[_name]  # the developer's own settings must not decide a test


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop that the program uses."""
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    """Return a clock that a test may move."""
    return Clock()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one SQLite file per test process; tests copy it."""
    path = tmp_path_factory.mktemp("schema") / "homeroom.db"
    migrate.upgrade(path)
    return path


@pytest.fixture
def database_file(migrated_file: Path, tmp_path: Path) -> Path:
    """Return a fresh, migrated SQLite file of the test's own."""
    path = tmp_path / "homeroom.db"
    shutil.copy(migrated_file, path)
    return path


@pytest.fixture
async def db(database_file: Path, clock: Clock) -> AsyncIterator[SqliteDatabase]:
    """Open the test's own database."""
    database = SqliteDatabase(database_file, clock)
    await database.open()
    yield database
    await database.close()
