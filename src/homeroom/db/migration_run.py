"""What needs Alembic: run the migrations, and compare a database's tables with this release's.

``db.migrate`` loads this file when there is something to run or to compare: Alembic takes some 10
MB of memory, which a server that serves does not need.
"""

from __future__ import annotations

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from homeroom.db.migrate import MIGRATIONS
from homeroom.db.schema import metadata


def upgrade(connection: Connection, revision: str) -> None:
    """Bring a database to a revision of this release, and commit."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()


def differences(connection: Connection) -> tuple[str, ...]:
    """Return in what a database at this release's revision differs from this release's tables."""
    found = compare_metadata(MigrationContext.configure(connection), metadata)
    return tuple(str(each) for each in found)
