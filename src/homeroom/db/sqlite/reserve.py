"""A reserve of disk space, with which a SQLite file opens on a full disk.

SQLite deletes the log and its index when the last process closes the file, and has to create the
index (32 KiB and more) before it can read: a server that was stopped could not start again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from homeroom.machine import disk_space

RESERVE_BYTES = 1024**2
"""The index of the longest log, 60,000 pages, takes half of it."""
_FREE_FACTOR = 8
"""The reserve is made where so many times its size is free."""


def _reserve_path(database: Path) -> Path:
    return database.with_name(f"{database.name}-reserve")


def keep_reserve(database: Path) -> None:
    """Make the reserve if there is none, and enough room; never raise OSError."""
    path, space = _reserve_path(database), disk_space(database.parent)
    if path.exists() or space is None or space.free < _FREE_FACTOR * RESERVE_BYTES:
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, bytes(RESERVE_BYTES))
        finally:
            os.close(descriptor)


def release_reserve_if_full(database: Path) -> bool:
    """Delete the reserve of a database on a full disk; return whether that made room."""
    space = disk_space(database.parent)
    if space is None or not space.is_full:
        return False
    try:
        _reserve_path(database).unlink()
    except OSError:
        return False
    return True
