"""A SQLite file as a whole: copy it while in use, lock it, replace it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from homeroom.backup.archive import sync_to_disk
from homeroom.db.seal import SEAL
from homeroom.errors import Conflict

_LOCK_TIMEOUT_SECONDS = 2.0
_BUSY_TIMEOUT_SECONDS = 60.0
_SIDE_FILE_SUFFIXES = ("-wal", "-shm", "-journal")


def copy_sqlite_file(file: Path, to: Path) -> None:
    """Copy a database with SQLite's online backup, while processes use it.

    A plain copy of the file would lack the write-ahead log, or be inconsistent. ``to`` must not
    exist and becomes private, because it holds what the database holds.
    """
    to.touch(mode=0o600)
    with (
        closing(sqlite3.connect(file, timeout=_BUSY_TIMEOUT_SECONDS)) as source,
        closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)
        # One complete file, without a log beside it.
        target.execute("PRAGMA journal_mode=DELETE")
    sync_to_disk(to)


@contextmanager
def lock_exclusively(file: Path) -> Iterator[sqlite3.Connection]:
    """Lock a database against all other processes; raise ``Conflict`` if one uses it.

    Every process that has the file open holds a shared lock on it, even while idle.
    """
    with closing(
        sqlite3.connect(file, isolation_level=None, timeout=_LOCK_TIMEOUT_SECONDS)
    ) as connection:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise Conflict(
                f"The database {file} is in use.",
                hint="Stop `homeroom serve`, `homeroom worker` and all other programs that have"
                " the file open.",
            ) from error
        connection.execute("COMMIT")  # the connection retains the lock
        yield connection


def file_has_rows(file: Path) -> bool:
    """Return whether a file holds any row; an unreadable file counts as full."""
    if not file.exists() or file.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_BUSY_TIMEOUT_SECONDS)) as connection:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
                " AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'"
            ).fetchall()
            return any(
                connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()
                for (name,) in names
            )
    except sqlite3.DatabaseError:
        return True


def replace_sqlite_file(new: Path, file: Path, previous: Path) -> bool:
    """Rename a complete database to ``file``, and the existing one to ``previous``.

    At every moment ``file`` is the old or the new database. Returns whether there was an old one.
    Raises ``Conflict`` if it is in use.
    """
    if not file.exists():
        _remove_side_files(file)
        os.replace(new, file)
        sync_to_disk(file.parent)
        return False
    try:
        with lock_exclusively(file) as connection:
            # SQLite would apply the old log to the new file.
            connection.execute("PRAGMA journal_mode=DELETE")
            _swap_files(new, file, previous)
    except sqlite3.DatabaseError:  # a damaged file is preserved unchanged, with its log
        for suffix in _SIDE_FILE_SUFFIXES:
            with suppress(FileNotFoundError):
                os.replace(f"{file}{suffix}", f"{previous}{suffix}")
        _swap_files(new, file, previous)
    return True


def is_unfinished_copy(file: Path) -> bool:
    """Return whether a file is a copy that was interrupted and may not run."""
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_BUSY_TIMEOUT_SECONDS)) as connection:
            return _is_sealed_target(connection)
    except sqlite3.DatabaseError:  # another file, or one of an earlier release
        return False


def _is_sealed_target(connection: sqlite3.Connection) -> bool:
    return connection.execute(f"SELECT role FROM {SEAL.name}").fetchall() == [("target",)]


def replace_unfinished_copy(new: Path, file: Path) -> None:
    """Rename a complete copy to ``file``, in place of one that was interrupted.

    Raises ``Conflict`` if that one is in use, or was unsealed meanwhile.
    """
    with lock_exclusively(file) as connection:
        if not _is_sealed_target(connection):
            raise Conflict(f"{file} was unsealed during the copy.", hint="Name another file.")
        connection.execute("PRAGMA journal_mode=DELETE")  # no log stays beside the new file
        os.replace(new, file)


def _swap_files(new: Path, file: Path, previous: Path) -> None:
    old_stat = file.stat()
    os.chmod(new, old_stat.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(new, old_stat.st_uid, old_stat.st_gid)
    os.link(file, previous)
    os.replace(new, file)
    sync_to_disk(file.parent)


def _remove_side_files(file: Path) -> None:
    for suffix in _SIDE_FILE_SUFFIXES:
        file.with_name(file.name + suffix).unlink(missing_ok=True)
