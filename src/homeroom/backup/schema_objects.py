"""The objects of a backup's schema, and those that the migrations make.

A backup comes from outside: a trigger or a default in it would run with Homeroom's rights, and
row counts and sums do not show it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection

from homeroom.backup.dump_schema import DumpedSchema
from homeroom.backup.table_counts import run_on_snapshot
from homeroom.db.migrate import is_newer_revision, upgrade

SchemaObjects = Mapping[tuple[str, str], str]
"""The SQL of each object, by its type (``table``, ``index``, ``trigger``, ``view``) and name."""
MAX_SHOWN_CHARS = 200
"""Most characters of an object's SQL in a fault."""


def unexpected_objects(connection: Connection, revision: str | None) -> list[str]:
    """Return how the schema of a SQLite file differs from that of its revision.

    Of a later release's schema only the kinds of objects are known: tables and indexes.
    """
    found = read_schema_objects(connection)
    if revision is None:
        return [f"The {kind} {name} is not Homeroom's." for kind, name in sorted(found)]
    if is_newer_revision(revision):
        return [
            f"The {kind} {name} is not Homeroom's: {_shorten(sql)}"
            for (kind, name), sql in sorted(found.items())
            if kind not in ("table", "index")
        ]
    return _differences(found, expected_objects(revision))


def _differences(found: SchemaObjects, expected: SchemaObjects) -> list[str]:
    faults = []
    for kind, name in sorted(found.keys() | expected.keys()):
        ours, theirs = expected.get((kind, name)), found.get((kind, name))
        if theirs is None:
            faults.append(f"The {kind} {name} is missing.")
        elif ours is None:
            faults.append(f"The {kind} {name} is not Homeroom's: {_shorten(theirs)}")
        elif _normalize(ours) != _normalize(theirs):
            faults.append(f"The {kind} {name} differs from Homeroom's: {_shorten(theirs)}")
    return faults


def read_schema_objects(connection: Connection) -> SchemaObjects:
    """Return all objects of a SQLite file but those that SQLite makes itself."""
    rows = connection.exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        " AND name NOT IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4')"
    )
    return {(str(kind), str(name)): str(sql) for kind, name, sql in rows}


@cache
def expected_objects(revision: str) -> SchemaObjects:
    """Return the objects that the migrations make up to a revision, in a new file."""
    with TemporaryDirectory(prefix="homeroom-") as folder:
        file = Path(folder) / "expected.db"
        upgrade(file, revision)
        return run_on_snapshot(file, read_schema_objects)


def expected_dump_schema(revision: str | None) -> DumpedSchema | None:
    """Return what a dump of a revision has; None for a later release's revision.

    The migrations make the same tables, columns, defaults and indexes on both databases.
    """
    if revision is None:
        return DumpedSchema()
    if is_newer_revision(revision):
        return None
    with TemporaryDirectory(prefix="homeroom-") as folder:
        file = Path(folder) / "expected.db"
        upgrade(file, revision)
        return run_on_snapshot(file, _read_dump_schema)


def _read_dump_schema(connection: Connection) -> DumpedSchema:
    objects = read_schema_objects(connection)
    tables = {}
    for kind, table in objects:
        if kind == "table":
            rows = connection.exec_driver_sql(
                f'SELECT name, dflt_value FROM pragma_table_info("{table}")'
            )
            tables[table] = {str(name): default for name, default in rows}
    indexes = frozenset(name for kind, name in objects if kind == "index")
    return DumpedSchema(tables, indexes)


def _normalize(sql: str) -> str:
    """Return SQL without spaces; a quoted name equals the plain one."""
    return re.sub(r'\s+|"', "", sql)


def _shorten(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + " ..."
