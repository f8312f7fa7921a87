"""Open the configured database alone, for commands that need no other part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.database import Database
from homeroom.db.seal import find_seal, sealed_error
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.errors import ConfigurationError, DatabaseDamaged, Unavailable
from homeroom.instant import to_datetime
from homeroom.settings import Settings, load

log = structlog.get_logger(__name__)

_START_TIMEOUT_SECONDS = 60.0
"""Longest wait for a server that is starting; a recovery after a crash may take so long."""
_START_PAUSE_SECONDS = 0.5
_INTEGRITY_CHECK_SECONDS = 2.0
"""Longest integrity check at a start; a server that is not up serves no request."""


def load_settings(**overrides: object) -> Settings:
    """Read the settings; ``overrides`` go before the environment.

    Raises ``ConfigurationError``.
    """
    return load(**overrides)


@asynccontextmanager
async def open_database(settings: Settings, *, sealed: bool = False) -> AsyncIterator[Database]:
    """Check the schema of the configured database and open it.

    Raises ``ConfigurationError`` for a database that does not exist or has an earlier release's
    schema, and ``InstallationSealed`` for one that must not run, unless ``sealed`` accepts it.
    A later release's schema is accepted, so that both releases can run side by side.
    """
    await asyncio.to_thread(_check_schema, settings)
    db = _build_database(settings)
    await db.open()
    try:
        if not sealed:  # after opening, so that a copy of the database finds it in use
            await require_unsealed(db, settings)
        yield db
    finally:
        await db.close()


async def require_intact(db: Database) -> None:
    """Check a SQLite file for two seconds; raise ``DatabaseDamaged``."""
    await db.check_integrity(_INTEGRITY_CHECK_SECONDS)
    for fault in db.faults.current:
        if isinstance(fault, DatabaseDamaged):
            raise fault


async def require_unsealed(db: Database, settings: Settings) -> None:
    """Raise ``InstallationSealed`` for a database that must not run."""
    async with db.read() as tx:
        seal = await find_seal(tx)
    if seal is not None:
        raise sealed_error(seal, settings.database_name)


def _build_database(settings: Settings) -> Database:
    clock = Clock(settings.clock_offset(to_datetime(Clock().now())))
    location = settings.database_location
    if isinstance(location, Path):
        return SqliteDatabase(location, clock)
    postgres: Database = _load_postgres().PostgresDatabase(
        location, clock, connections=settings.database_connections
    )
    return postgres


async def wait_for_database(settings: Settings, stop: asyncio.Event) -> bool:
    """Wait for a PostgreSQL server that is starting; False if ``stop`` was set.

    Machines of a platform start in any order. Raises ``Unavailable`` after 60 seconds, and at once
    for what only an operator can fix, such as a wrong password.
    """
    location = settings.database_location
    if isinstance(location, Path):
        return True
    driver = import_module("homeroom.db.postgres.driver")
    deadline = monotonic() + _START_TIMEOUT_SECONDS
    awaited = False
    while True:
        try:
            connection = await driver.connect_postgres(location)
        except Unavailable as error:
            if not driver.may_be_starting(error) or monotonic() > deadline:
                raise
            if not awaited:
                log.warning("database_awaited", error=error.message)
            awaited = True
        else:
            connection.terminate()
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_PAUSE_SECONDS):
                await stop.wait()
            return False


def missing_database(settings: Settings) -> ConfigurationError:
    """Return the error for a SQLite file that does not exist."""
    return ConfigurationError(
        f"There is no database at {settings.database_name}.",
        hint="Create it with `homeroom db upgrade`, or name its folder with HOMEROOM_DATA_DIR.",
    )


def _load_postgres() -> Any:
    """Import the PostgreSQL database, which a command on a SQLite file does not need."""
    return import_module("homeroom.db.postgres.database")


def _check_schema(settings: Settings) -> None:
    state = migrate.revision_state(settings.database_location)
    if state.current is None and settings.is_embedded:
        raise missing_database(settings)
    if state.current is None:
        raise ConfigurationError(
            f"There are no tables yet in {settings.database_name}.",
            hint="Create them with: homeroom db upgrade",
        )
    if state.is_newer:
        _log_newer_schema(state.current, state.head)
    elif state.current != state.head:
        raise ConfigurationError(
            f"The database is at {state.current}, this release needs {state.head}.",
            hint="Upgrade it with: homeroom db upgrade",
        )


@cache
def _log_newer_schema(current: str | None, head: str) -> None:
    """Log a later release's schema once: a command may open the database repeatedly."""
    log.warning("schema_is_newer", current=current, head=head)
