"""Take stock of a database: rows of every table, sums that a room asks for, faults that it knows.

What is counted is read from one snapshot. The SQL of sums and checks belongs to the rooms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from homeroom.db.migrate import REVISION_TABLE, on_server, revision_of
from homeroom.db.proof import Check, Proof
from homeroom.errors import Conflict

Found = TypeVar("Found")
SERVED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND application_name = 'homeroom'"
)
"""How many connections to a PostgreSQL database other processes of Homeroom's have."""
MOST_FAULTS = 5
"""More faults of one check than these are not named."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a database holds."""

    revision: str | None
    tables: Mapping[str, int] = field(default_factory=dict)
    """Rows of each table, by its name."""
    totals: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return how many rows all tables have together."""
        return sum(self.tables.values())

    def differences(self, other: Inventory) -> list[str]:
        """Say in which counts and sums another database differs."""
        told = []
        for what, ours, theirs in (
            ("rows of", self.tables, other.tables),
            ("sum", self.totals, other.totals),
        ):
            for name in sorted(ours.keys() | theirs.keys()):
                if ours.get(name) != theirs.get(name):
                    told.append(f"{what} {name}: {ours.get(name)} and {theirs.get(name)}")
        return told


def snapshot(place: Path | str, work: Callable[[Connection], Found]) -> Found:
    """Run something that reads on a snapshot of a database, beside others who write.

    A file must be there. Raises ``Unavailable``, or SQLAlchemyError for a file that is no database.
    """
    if isinstance(place, str):
        return on_server(place, lambda connection: work(_frozen(connection)))
    engine = create_engine(
        URL.create("sqlite", database=str(place)),
        connect_args={"isolation_level": None, "timeout": 60},
    )
    event.listen(engine, "begin", lambda opened: opened.exec_driver_sql("BEGIN"))
    try:
        with engine.connect() as connection:
            return work(connection)
    finally:
        engine.dispose()


def _frozen(connection: Connection) -> Connection:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return connection


def served(connections: int) -> Conflict:
    """Return the error for a PostgreSQL database that Homeroom has open (``SERVED``)."""
    return Conflict(
        f"Homeroom has the PostgreSQL database open ({connections} connections).",
        hint="Stop `homeroom serve` and `homeroom worker` on all machines first.",
    )


def take(connection: Connection, proof: Proof, head: str) -> Inventory:
    """Count what a database holds; sums only where its schema is that of this release."""
    current = revision_of(connection)
    names = sorted(inspect(connection).get_table_names())
    tables = {
        name: int(_one(connection, f'SELECT count(*) FROM "{name}"'))
        for name in names
        if name != REVISION_TABLE
    }
    totals = proof.totals if current == head else ()
    return Inventory(current, tables, {each.name: _one(connection, each.sql) for each in totals})


def damage(connection: Connection) -> list[str]:
    """Return what is wrong with the structure of a SQLite file; a server looks after its own."""
    if connection.dialect.name != "sqlite":
        return []
    said = _integrity(connection)
    return [] if said == ["ok"] else [f"The file is damaged: {line}" for line in said[:MOST_FAULTS]]


def judge(connection: Connection, checks: Sequence[Check]) -> list[str]:
    """Return the faults that the checks find, the first few of each."""
    told = []
    for check in checks:
        with connection.exec_driver_sql(check.sql) as result:
            rows = result.fetchmany(MOST_FAULTS + 1)
        told += [check.fault.format(*row) for row in rows[:MOST_FAULTS]]
        if len(rows) > MOST_FAULTS:
            told.append(f"There are more of these faults ({check.name}).")
    return told


def _integrity(connection: Connection) -> list[str]:
    """Return what SQLite says of a file: ``ok``, or what is damaged."""
    try:
        return [str(line) for (line,) in connection.exec_driver_sql("PRAGMA integrity_check")]
    except OperationalError:  # locked, or a disk that does not answer
        raise
    except DatabaseError as error:
        return [str(error.orig)]


def _one(connection: Connection, sql: str) -> int:
    return int(connection.exec_driver_sql(sql).scalar_one())
