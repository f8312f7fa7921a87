"""Bring a database to the schema of this release, and say how far it is from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL

from homeroom.db.schema import metadata


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


@contextmanager
def _connected(path: Path) -> Iterator[Connection]:
    """Open a SQLite file for DDL; BEGIN IMMEDIATE, so that two upgrades run one after the other."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": 60},
    )
    event.listen(engine, "begin", lambda opened: opened.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """Return the newest revision that this release knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise LookupError("the package carries no migrations")
    return revision


@cache
def _known() -> frozenset[str]:
    script = ScriptDirectory.from_config(_config())
    return frozenset(each.revision for each in script.walk_revisions())


def is_newer(revision: str) -> bool:
    """Say whether a revision is a later release's: this one does not carry it.

    Such a schema has all that this release needs, since a release only takes away what the one
    before it did not use any more (UPGRADE.md).
    """
    return revision not in _known()


def upgrade(path: Path) -> None:
    """Bring a SQLite file to this release's schema; make it if it is not there. Repeatable.

    A later release's schema is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if state(path).is_newer:
        return
    with _connected(path) as connection:
        command.upgrade(_config(connection), "head")
        connection.commit()


def state(path: Path) -> SchemaState:
    """Compare a SQLite file with this release's schema, changing nothing."""
    if not path.exists():
        return SchemaState(None, head(), ())
    with _connected(path) as connection:
        migration = MigrationContext.configure(connection)
        current = migration.get_current_revision()
        found = compare_metadata(migration, metadata) if current == head() else []
        return SchemaState(current, head(), tuple(str(difference) for difference in found))
