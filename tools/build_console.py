"""Build the console into ``console/dist``: ``python tools/build_console.py [--optional]``.

It needs Node.js and npm; an installed Homeroom needs neither. ``--optional`` says what is missing
and succeeds, so that a server runs without its console.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CONSOLE = Path(__file__).resolve().parents[1] / "console"
DIST = CONSOLE / "dist"
_STEPS = (
    ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
    ["npm", "run", "--silent", "types"],
    ["npm", "run", "--silent", "check"],
    ["npm", "run", "--silent", "build", "--", "--logLevel", "warn"],
)
_SECONDS = 600


class BuildFailed(Exception):
    """The console cannot be built; the message says why."""


def build_console() -> None:
    """Install the locked packages, check the types and build; raise ``BuildFailed``."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise BuildFailed(
            "The console needs Node.js and npm to be built. On Debian and Ubuntu: "
            "apt install nodejs npm"
        )
    for step in _STEPS:
        done = subprocess.run(
            step, cwd=CONSOLE, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if done.returncode:
            raise BuildFailed(f"{' '.join(step)} failed:\n{done.stdout}{done.stderr}")


def main() -> int:
    """Build; return the exit code."""
    try:
        build_console()
    except BuildFailed as error:
        print(error, file=sys.stderr)
        if "--optional" in sys.argv:
            print("Homeroom runs without its console.", file=sys.stderr)
            return 0
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
