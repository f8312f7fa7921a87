"""A check of a SQLite file's structure that ends after a limited time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic

_STEPS_BETWEEN_LOOKS = 20_000
"""Steps of SQLite's virtual machine, below a millisecond, between two looks at the clock."""


def find_damage(file: Path, seconds: float) -> str | None:
    """Return the first damage that ``PRAGMA quick_check`` finds in so many seconds.

    None if there is none in the part that was read, or if the file is locked.
    """
    deadline = monotonic() + seconds
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.set_progress_handler(lambda: monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
            [(line,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError:  # the time is over, or the file is locked or away
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if line == "ok" else " ".join(str(line).split())
