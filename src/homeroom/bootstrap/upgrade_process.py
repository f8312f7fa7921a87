"""The upgrade of a database in a process of its own, so that its memory is freed.

``database_commands.upgrade_in_subprocess`` starts ``python -m homeroom.bootstrap.upgrade_process``
with pickled settings on standard input, and reads the pickled result from standard output.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from homeroom.bootstrap.database_commands import upgrade_database
from homeroom.errors import HomeroomError


def main() -> None:
    """Upgrade the database of the settings on standard input."""
    settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the pipe of the parent
    result: Path | HomeroomError | None
    try:
        result = upgrade_database(settings)
    except HomeroomError as error:
        result = error
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    main()
