"""Row counts, totals and integrity checks of a database, from one snapshot.

The SQL of totals and checks belongs to the packages (``integrity.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from homeroom.backup.integrity import IntegrityCheck, IntegrityRules
from homeroom.db.migrate import REVISION_TABLE, current_revision, run_on_server
from homeroom.errors import Conflict

WorkResult = TypeVar("WorkResult")
COUNT_OTHER_CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND application_name = 'homeroom'"
)
"""SQL of the number of connections that other Homeroom processes have to a PostgreSQL database."""
MAX_FAULTS_PER_CHECK = 5
"""Most faults of one check that are listed."""


@dataclass(frozen=True, slots=True)
class TableCounts:
    """The revision, row counts and totals of a database."""

    revision: str | None
    tables: Mapping[str, int] = field(default_factory=dict)
    """Rows of each table, by its name."""
    totals: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return the number of rows in all tables."""
        return sum(self.tables.values())

    def differences(self, other: TableCounts) -> list[str]:
        """Return the counts and totals in which another database differs."""
        different = []
        for what, ours, theirs in (
            ("rows of", self.tables, other.tables),
            ("sum", self.totals, other.totals),
        ):
            for name in sorted(ours.keys() | theirs.keys()):
                if ours.get(name) != theirs.get(name):
                    different.append(f"{what} {name}: {ours.get(name)} and {theirs.get(name)}")
        return different


def run_on_snapshot(location: Path | str, work: Callable[[Connection], WorkResult]) -> WorkResult:
    """Run a function on a snapshot of a database, while other processes may write.

    A file must exist. Raises ``Unavailable``, or SQLAlchemyError for a file that is no database.
    """
    if isinstance(location, str):
        return run_on_server(location, lambda connection: work(_begin_read_only(connection)))
    engine = create_engine(
        URL.create("sqlite", database=str(location)),
        connect_args={"isolation_level": None, "timeout": 60},
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        with engine.connect() as connection:
            return work(connection)
    finally:
        engine.dispose()


def _begin_read_only(connection: Connection) -> Connection:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return connection


def database_in_use(connections: int) -> Conflict:
    """Return the error for a PostgreSQL database to which Homeroom is connected."""
    return Conflict(
        f"Homeroom has the PostgreSQL database open ({connections} connections).",
        hint="Stop `homeroom serve` and `homeroom worker` on all machines first.",
    )


def count_tables(connection: Connection, rules: IntegrityRules, head: str) -> TableCounts:
    """Count the rows of a database; totals only if it has this release's schema."""
    current = current_revision(connection)
    names = sorted(inspect(connection).get_table_names())
    tables = {
        name: _fetch_integer(connection, f'SELECT count(*) FROM "{name}"')
        for name in names
        if name != REVISION_TABLE
    }
    totals = rules.totals if current == head else ()
    return TableCounts(
        current, tables, {each.name: _fetch_integer(connection, each.sql) for each in totals}
    )


def find_damage(connection: Connection) -> list[str]:
    """Return damage of the structure of a SQLite file; a server checks its own files."""
    if connection.dialect.name != "sqlite":
        return []
    lines = _sqlite_integrity_check(connection)
    if lines == ["ok"]:
        return []
    return [f"The file is damaged: {line}" for line in lines[:MAX_FAULTS_PER_CHECK]]


def run_integrity_checks(connection: Connection, checks: Sequence[IntegrityCheck]) -> list[str]:
    """Return the faults that the checks find, the first few of each."""
    faults = []
    for check in checks:
        with connection.exec_driver_sql(check.sql) as result:
            rows = result.fetchmany(MAX_FAULTS_PER_CHECK + 1)
        faults += [check.fault.format(*row) for row in rows[:MAX_FAULTS_PER_CHECK]]
        if len(rows) > MAX_FAULTS_PER_CHECK:
            faults.append(f"There are more faults of this check ({check.name}).")
    return faults


def _sqlite_integrity_check(connection: Connection) -> list[str]:
    """Return the lines of SQLite's integrity check: ``ok``, or the damage."""
    try:
        return [str(line) for (line,) in connection.exec_driver_sql("PRAGMA integrity_check")]
    except OperationalError:  # a locked file, or a disk that does not answer
        raise
    except DatabaseError as error:
        return [str(error.orig)]


def _fetch_integer(connection: Connection, sql: str) -> int:
    return int(connection.exec_driver_sql(sql).scalar_one())
