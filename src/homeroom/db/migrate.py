"""Upgrade a database to the schema of this release, and compare the two.

A database is given by its file (SQLite) or by its URL (PostgreSQL).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from homeroom.db.sqlite.transaction import translate_sqlite_errors
from homeroom.errors import ConfigurationError

WorkResult = TypeVar("WorkResult")
MIGRATIONS = Path(__file__).parent / "migrations"
REVISION_TABLE = "alembic_version"


def _load_postgres_ddl() -> Any:
    """Import the DDL of PostgreSQL on first use: it takes some megabytes.

    Raises ``ConfigurationError`` without the extra ``postgres``.
    """
    import_module("homeroom.db.postgres.driver").require_driver()
    return import_module("homeroom.db.postgres.ddl")


def _load_alembic_runner() -> Any:
    """Import Alembic only to upgrade or to compare a database, for the same reason."""
    return import_module("homeroom.db.alembic_runner")


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revisions of a database and of this release, and how their tables differ."""

    current: str | None
    head: str
    differences: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Return whether the database has exactly this release's schema."""
        return self.current == self.head and not self.differences

    @property
    def is_newer(self) -> bool:
        """Return whether a later release made the schema, which this one can use."""
        return self.current is not None and is_newer_revision(self.current)


def run_on_database(database: Path | str, work: Callable[[Connection], WorkResult]) -> WorkResult:
    """Run a function on a connection that allows DDL."""
    return (
        run_on_server(database, work) if isinstance(database, str) else _run_on_file(database, work)
    )


def run_on_server(url: str, work: Callable[[Connection], WorkResult]) -> WorkResult:
    """Run a synchronous function on a PostgreSQL connection; this loads its driver."""
    result: WorkResult = _load_postgres_ddl().run_on_postgres(url, work)
    return result


def _run_on_file(
    path: Path, work: Callable[[Connection], WorkResult], begin: str = "BEGIN IMMEDIATE"
) -> WorkResult:
    """Run a function on a SQLite file; BEGIN IMMEDIATE serializes two upgrades.

    Raises ``Unavailable`` with the cause if the file cannot be used.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": 60},
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    try:
        with engine.connect() as connection:
            return work(connection)
    except DatabaseError as error:
        if not isinstance(error.orig, sqlite3.Error):
            raise
        with translate_sqlite_errors():
            raise error.orig from error
    finally:
        engine.dispose()


def _read_database(database: Path | str, work: Callable[[Connection], WorkResult]) -> WorkResult:
    """Run a function that only reads; on a file it needs no lock and no room."""
    if isinstance(database, str):
        return run_on_server(database, work)
    return _run_on_file(database, work, "BEGIN")


@cache
def _known_revisions() -> tuple[str, ...]:
    """Return this release's revisions, oldest first; each has the name of its file."""
    return tuple(sorted(file.stem for file in (MIGRATIONS / "versions").glob("[0-9]*.py")))


def head_revision() -> str:
    """Return the newest revision of this release."""
    if not _known_revisions():
        raise LookupError("the package contains no migrations")
    return _known_revisions()[-1]


def current_revision(connection: Connection) -> str | None:
    """Return the revision of the schema; None without Homeroom's tables."""
    if not inspect(connection).has_table(REVISION_TABLE):
        return None
    rows = connection.exec_driver_sql(f"SELECT version_num FROM {REVISION_TABLE}")
    revision = rows.scalar()
    return None if revision is None else str(revision)


def is_newer_revision(revision: str) -> bool:
    """Return whether a revision is of a later release: this one does not have it.

    Such a schema has all that this release needs, because a release only removes what the previous
    one no longer used (``UPGRADE.md``).
    """
    return revision not in _known_revisions()


def require_public_schema(connection: Connection) -> None:
    """Raise ``ConfigurationError`` unless the user's tables are in ``public``.

    Backup dumps that schema and restore replaces it.
    """
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    if schema != "public":
        raise ConfigurationError(
            f"Homeroom's tables must be in the schema public, but this user's are in {schema}.",
            hint="Run: ALTER ROLE ... SET search_path = public. Move tables that exist already"
            " with: ALTER TABLE ... SET SCHEMA public",
        )


def _require_utf8(connection: Connection) -> None:
    """Raise ``ConfigurationError`` for another encoding, which no server opens."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database has the encoding {encoding}, which cannot store every name.",
            hint="Create another database: createdb --encoding=UTF8 --template=template0",
        )


def upgrade(database: Path | str, revision: str = "head") -> None:
    """Upgrade a database to this release's schema, or create it. Idempotent.

    A later release's schema stays unchanged. An earlier ``revision`` is for tests, which need the
    databases of earlier releases.
    """
    if isinstance(database, Path):
        _create_file(database)

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            _load_postgres_ddl().lock_schema_upgrade(connection)
        current = current_revision(connection)
        if current is None and connection.dialect.name == "postgresql":
            require_public_schema(connection)
            _require_utf8(connection)
        if current == head_revision() or (current is not None and is_newer_revision(current)):
            return
        _load_alembic_runner().upgrade(connection, MIGRATIONS, revision)

    run_on_database(database, work)


def _create_file(database: Path) -> None:
    """Create the file of a SQLite database and its folder, if they are missing."""
    try:
        # Private from the first byte: it holds addresses, and the key of links in mails.
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not database.exists():
            database.touch(mode=0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The database cannot be created at {database}: {error.strerror or error}.",
            hint="Name a folder that this user can write to with HOMEROOM_DATA_DIR.",
        ) from error


def revision_state(database: Path | str) -> SchemaState:
    """Return the revision of a database without comparing its tables. Read-only."""
    if isinstance(database, Path) and not database.exists():
        return SchemaState(None, head_revision(), ())
    return SchemaState(_read_database(database, current_revision), head_revision(), ())


def schema_state(database: Path | str) -> SchemaState:
    """Compare a database with this release's schema. Read-only."""
    if isinstance(database, Path) and not database.exists():
        return SchemaState(None, head_revision(), ())
    return _read_database(database, _compare_schema)


def _compare_schema(connection: Connection) -> SchemaState:
    current = current_revision(connection)
    is_comparable = current == head_revision()
    differences = _load_alembic_runner().differences(connection) if is_comparable else ()
    return SchemaState(current, head_revision(), differences)
