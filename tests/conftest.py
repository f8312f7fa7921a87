"""Fixtures that every suite shares: the asyncio backend, a clock, and migrated databases."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from tests.support.database import DATABASES, database_at
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.postgres import Postgres, running

from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.database import Database
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.sqlite.database import SqliteDatabase

pytest_plugins = [
    "tests.support.redis_server",
    "tests.support.node_service",
    "tests.support.credential_verifier",
    "tests.support.identity_provider",
]

for _name in [name for name in os.environ if name.startswith("HOMEROOM_")]:
    del os.environ[_name]  # the developer's own settings must not decide a test
# A shell starts what is to run in the background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run async tests on the loop that the program uses: uvloop's transports are not asyncio's."""
    return "asyncio", {"use_uvloop": sys.platform != "win32"}


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """Undo what a test, or a command that it ran, set up for the log of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL server for this test process."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except Missing as missing:
            skip_or_fail(missing)
        yield server


@pytest.fixture(scope="session")
def migrated_database(postgres: Postgres) -> str:
    """Migrate one PostgreSQL database per test process; tests copy it."""
    name = postgres.make_database()
    migrate.upgrade(postgres.url(name))
    return name


@pytest.fixture
def postgres_url(postgres: Postgres, migrated_database: str) -> Iterator[str]:
    """Return the URL of a fresh, migrated PostgreSQL database of the test's own."""
    name = postgres.make_database(migrated_database)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=list(DATABASES))
def database(request: pytest.FixtureRequest) -> Path | str:
    """Return the file or the URL of a fresh database, of each kind in turn."""
    place: Path | str = request.getfixturevalue(DATABASES[request.param])
    return place


@pytest.fixture
async def db(database: Path | str, clock: Clock) -> AsyncIterator[Database]:
    """Open the test's own database, of each kind in turn."""
    opened = database_at(database, clock)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(database_file: Path, clock: Clock) -> AsyncIterator[SqliteDatabase]:
    """Open a SQLite file, for what is about SQLite itself."""
    opened = SqliteDatabase(database_file, clock)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def postgresql(postgres_url: str, clock: Clock) -> AsyncIterator[PostgresDatabase]:
    """Open a PostgreSQL database, for what is about PostgreSQL itself."""
    opened = PostgresDatabase(postgres_url, clock)
    await opened.open()
    yield opened
    await opened.close()
