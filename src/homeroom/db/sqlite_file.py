"""A SQLite file as a whole: copied while in use, held alone, put in another one's place."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from homeroom.db.archive import synced
from homeroom.errors import Conflict

_WAIT_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0
_BESIDE = ("-wal", "-shm", "-journal")


def copy_of(file: Path, to: Path) -> None:
    """Copy a database with SQLite's online backup, whoever reads and writes it meanwhile.

    A copy of the file alone would lack what is in the write-ahead log, or be torn. ``to`` is new,
    and private: it holds what the database holds.
    """
    to.touch(mode=0o600)
    with (
        closing(sqlite3.connect(file, timeout=_PATIENCE_SECONDS)) as source,
        closing(sqlite3.connect(to)) as into,
    ):
        source.backup(into)
        # a file that is complete by itself, so that nothing lies beside it
        into.execute("PRAGMA journal_mode=DELETE")
    synced(to)


@contextmanager
def alone(file: Path) -> Iterator[sqlite3.Connection]:
    """Hold a database so that nobody else can open it; raise ``Conflict`` where somebody has.

    Every process that has the file open keeps a shared lock on it, idle or not, so that this finds
    all of them.
    """
    with closing(sqlite3.connect(file, isolation_level=None, timeout=_WAIT_SECONDS)) as holder:
        try:
            holder.execute("PRAGMA locking_mode=EXCLUSIVE")
            holder.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise Conflict(
                f"{file} is in use.",
                hint="Stop `homeroom serve` and `homeroom worker`, and whatever else has it open.",
            ) from error
        holder.execute("COMMIT")  # the lock stays with the connection
        yield holder


def has_rows(file: Path) -> bool:
    """Say whether a file holds anything that somebody might miss; one that cannot be read may."""
    if not file.exists() or file.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_PATIENCE_SECONDS)) as opened:
            names = opened.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
                " AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'"
            ).fetchall()
            return any(
                opened.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()  # names of tables
                for (name,) in names
            )
    except sqlite3.DatabaseError:
        return True


def put_in_place(new: Path, file: Path, kept: Path) -> bool:
    """Rename a complete database to ``file``; what was there stays as ``kept``. Say if there was.

    ``file`` names the one or the other at every moment. Raises ``Conflict`` where it is in use.
    """
    if not file.exists():
        _clear(file)
        os.replace(new, file)
        synced(file.parent)
        return False
    try:
        with alone(file) as holder:
            # A log that stays behind would be played into the new file.
            holder.execute("PRAGMA journal_mode=DELETE")
            _swap(new, file, kept)
    except sqlite3.DatabaseError:  # damaged: it is kept as it is, with its log
        for end in _BESIDE:
            with suppress(FileNotFoundError):
                os.replace(f"{file}{end}", f"{kept}{end}")
        _swap(new, file, kept)
    return True


def _swap(new: Path, file: Path, kept: Path) -> None:
    before = file.stat()
    os.chmod(new, before.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(new, before.st_uid, before.st_gid)
    os.link(file, kept)
    os.replace(new, file)
    synced(file.parent)


def _clear(file: Path) -> None:
    for end in _BESIDE:
        file.with_name(file.name + end).unlink(missing_ok=True)
