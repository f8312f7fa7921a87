"""Run migrations with Alembic, and compare a database with this release's tables.

``homeroom.db.migrate`` imports this file only to upgrade or to compare a database: Alembic needs
some 10 MB of memory, which a serving process does not spend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from homeroom.db.tables import metadata


def upgrade(connection: Connection, migrations: Path, revision: str) -> None:
    """Migrate a database to a revision of a folder, and commit."""
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()


def differences(connection: Connection) -> tuple[str, ...]:
    """Return the differences between a database's tables and this release's."""
    changes = compare_metadata(MigrationContext.configure(connection), metadata)
    found = connection.exec_driver_sql(_FOREIGN_OBJECTS[connection.dialect.name])
    foreign = [f"the {kind} {name} is not Homeroom's" for kind, name in found]
    return (*foreign, *(_describe_change(each) for each in changes))


def _describe_change(change: Any) -> str:
    """Return a difference that Alembic found as words: what a table has, or lacks."""
    if isinstance(change, list):  # the changes of one column
        return ", ".join(map(_describe_change, change))
    kind, *operands = change
    if kind.startswith("modify_"):
        _, table, column, *_ = operands
        return f"{table}.{column} differs in its {kind.removeprefix('modify_')}"
    action, _, thing = kind.partition("_")
    thing = _CHANGED_THINGS.get(thing, thing)
    item = operands[-1]
    name = getattr(item, "name", None) or "without a name"
    table = operands[1] if thing == "column" else getattr(getattr(item, "table", None), "name", "")
    place = f"{table}.{name}" if table and thing != "table" else name
    fault = "is missing" if action == "add" else "is not Homeroom's"
    return f"the {thing} {place} {fault}"


_CHANGED_THINGS = {"fk": "foreign key"}


_FOREIGN_OBJECTS = {
    "sqlite": "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') ORDER BY 2",
    "postgresql": (
        "SELECT 'trigger', tgname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE c.relnamespace = 'public'::regnamespace AND NOT tgisinternal"
        " UNION ALL SELECT 'rule', rulename::text FROM pg_rules WHERE schemaname = 'public'"
        " UNION ALL SELECT 'check of ' || conrelid::regclass, conname::text FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 't', 'x')"
        " AND conrelid <> 0"
        " UNION ALL SELECT 'policy', policyname::text FROM pg_policies WHERE schemaname = 'public'"
        " ORDER BY 2"
    ),
}
"""SQL of objects that no migration makes, and that would run statements with Homeroom's rights."""
