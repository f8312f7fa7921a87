"""The upgrade of a database, in a process of its own.

What an upgrade needs stays in memory for as long as a process lives, and a server may live for
months. ``moving.upgrade_apart`` starts ``python -m homeroom.wiring.upgrading``, which reads pickled
settings from its standard input and writes what came of it, pickled, to its standard output.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from homeroom.errors import HomeroomError
from homeroom.wiring.moving import upgrade_database


def main() -> None:
    """Upgrade the database that the settings name."""
    settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the pipe of the process above
    came_of_it: Path | HomeroomError | None
    try:
        came_of_it = upgrade_database(settings)
    except HomeroomError as error:
        came_of_it = error
    sys.stdout.buffer.write(pickle.dumps(came_of_it))


if __name__ == "__main__":
    main()
