"""Debian's Chromium without a window."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tools.servers.debian import found_or_installed

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=8000",
)


def browse(page: Path, folder: Path, *options: str) -> str:
    """Open a file with a profile of its own below a folder; return what is printed.

    Raises ``Missing`` where there is no Chromium and it cannot be installed.
    """
    browser = found_or_installed("chromium", lambda: shutil.which("chromium"))
    done = subprocess.run(
        [browser, *OPTIONS, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.stdout
