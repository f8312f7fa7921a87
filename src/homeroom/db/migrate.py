"""Bring a database to the schema of this release, and say how far it is from it.

A database is named by its file (SQLite) or by its URL (PostgreSQL).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.engine import URL

from homeroom.errors import ConfigurationError

Found = TypeVar("Found")
MIGRATIONS = Path(__file__).parent / "migrations"
REVISION_TABLE = "alembic_version"


def _postgres_ddl() -> Any:
    """Load what only a database of the extra ``postgres`` needs: it takes some megabytes."""
    return import_module("homeroom.db.postgres_ddl")


def _migration_run() -> Any:
    """Load what only a database that is to be changed or compared needs, for the same reason."""
    return import_module("homeroom.db.migration_run")


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Where a database stands: its revision, this release's, and what differs beyond that."""

    current: str | None
    head: str
    differences: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Say whether the database is exactly at this release's schema."""
        return self.current == self.head and not self.differences

    @property
    def is_newer(self) -> bool:
        """Say whether a later release has made the schema, which this one works with as it is."""
        return self.current is not None and is_newer(self.current)


def on_database(database: Path | str, work: Callable[[Connection], Found]) -> Found:
    """Run something on a connection that can do DDL."""
    return on_server(database, work) if isinstance(database, str) else _on_file(database, work)


def on_server(url: str, work: Callable[[Connection], Found]) -> Found:
    """Run something synchronous on a PostgreSQL connection, whose driver is loaded for that."""
    found: Found = _postgres_ddl().on_postgresql(url, work)
    return found


def _on_file(path: Path, work: Callable[[Connection], Found]) -> Found:
    """Open a SQLite file for DDL; BEGIN IMMEDIATE, so that two upgrades run one after the other."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": 60},
    )
    event.listen(engine, "begin", lambda opened: opened.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.connect() as connection:
            return work(connection)
    finally:
        engine.dispose()


@cache
def _known() -> tuple[str, ...]:
    """Return this release's revisions, oldest first: each is named as its file."""
    return tuple(sorted(file.stem for file in (MIGRATIONS / "versions").glob("[0-9]*.py")))


def head() -> str:
    """Return the newest revision that this release knows."""
    if not _known():
        raise LookupError("the package carries no migrations")
    return _known()[-1]


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the schema; None where there are no tables of ours."""
    if not inspect(connection).has_table(REVISION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {REVISION_TABLE}").first()
    return None if found is None else str(found[0])


def is_newer(revision: str) -> bool:
    """Say whether a revision is a later release's: this one does not carry it.

    Such a schema has all that this release needs, since a release only takes away what the one
    before it did not use any more (UPGRADE.md).
    """
    return revision not in _known()


def refuse_other_schema(connection: Connection) -> None:
    """Raise ``ConfigurationError`` where tables would be in, or are looked for in, another schema.

    A dump is of the schema ``public``, and a restore replaces that one.
    """
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    if schema != "public":
        raise ConfigurationError(
            f"Homeroom's tables have to be in the schema public, and this user's are in {schema}.",
            hint="Give it that one: ALTER ROLE ... SET search_path = public. Tables that are in"
            " another go there with: ALTER TABLE ... SET SCHEMA public",
        )


def upgrade(database: Path | str, revision: str = "head") -> None:
    """Bring a database to this release's schema; make a file that is not there. Repeatable.

    A later release's schema is left as it is. An earlier ``revision`` is for tests, which need the
    databases of earlier releases.
    """
    if isinstance(database, Path):
        # Private from the first byte: addresses are in it, and the key of links in mails.
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not database.exists():
            database.touch(mode=0o600)

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            _postgres_ddl().lock_upgrades(connection)
        current = revision_of(connection)
        if current is None and connection.dialect.name == "postgresql":
            refuse_other_schema(connection)
        if current == head() or (current is not None and is_newer(current)):
            return
        _migration_run().upgrade(connection, revision)

    on_database(database, work)


def standing(database: Path | str) -> SchemaState:
    """Say at which revision a database is, without a look at its tables; changes nothing."""
    if isinstance(database, Path) and not database.exists():
        return SchemaState(None, head(), ())
    return SchemaState(on_database(database, revision_of), head(), ())


def state(database: Path | str) -> SchemaState:
    """Compare a database with this release's schema, changing nothing."""
    if isinstance(database, Path) and not database.exists():
        return SchemaState(None, head(), ())
    return on_database(database, _state)


def _state(connection: Connection) -> SchemaState:
    current = revision_of(connection)
    found = _migration_run().differences(connection) if current == head() else ()
    return SchemaState(current, head(), found)
