"""Erasures of people that a restore brings back, and their repetition."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from homeroom.backup import archive, table_counts
from homeroom.db.migrate import (
    current_revision,
    run_on_database,
    upgrade,
)

ErasureRows = Sequence[tuple[Any, ...]]
"""Recorded erasures; the first column is the id."""


@dataclass(frozen=True, slots=True)
class ErasureReplay:
    """Functions with which a restore repeats the erasures of the previous database."""

    recorded: Callable[[Connection], ErasureRows]
    """Return the erasures that a database has recorded."""
    repeat: Callable[[Connection, ErasureRows], None]
    """Erase people again in a database."""


def known_erasures(location: Path | str, erasures: ErasureReplay) -> ErasureRows | None:
    """Return the erasures of the database to be replaced; None if it is unreadable."""
    if isinstance(location, Path) and not location.exists():
        return None

    def work(connection: Connection) -> ErasureRows | None:
        return None if current_revision(connection) is None else erasures.recorded(connection)

    try:
        return table_counts.run_on_snapshot(location, work)
    except (DatabaseError, sqlite3.DatabaseError):
        if isinstance(location, Path):
            return None  # a damaged file is a reason to restore
        raise


def save_erasures(pending: Path, known: ErasureRows) -> None:
    """Save erasures in a file before the database that records them is replaced.

    A repeated restore after an interrupted one finds them there and replays both.
    """
    rows = {id: (id, *rest) for id, *rest in (*load_erasures(pending), *known)}
    if rows:
        pending.touch(mode=0o600)
        pending.write_text(json.dumps(list(rows.values())), encoding="utf-8")
        archive.sync_to_disk(pending)


def load_erasures(pending: Path) -> list[tuple[Any, ...]]:
    """Return the saved erasures; none if there is no such file."""
    if not pending.exists():
        return []
    return [tuple(row) for row in json.loads(pending.read_text(encoding="utf-8"))]


def replay_erasures(location: Path | str, known: ErasureRows, erasures: ErasureReplay) -> int:
    """Repeat the erasures that a restored database lacks; return their number."""

    def missing_in(connection: Connection) -> ErasureRows:
        recorded = {id for id, *_ in erasures.recorded(connection)}
        return [(id, *rest) for id, *rest in known if id not in recorded]

    if not known or not table_counts.run_on_snapshot(location, missing_in):
        return 0
    upgrade(location)

    def repeat(connection: Connection) -> int:
        with connection.begin():
            missing = missing_in(connection)
            erasures.repeat(connection, missing)
            return len(missing)

    return run_on_database(location, repeat)
