"""Chromium for tests that need a real browser: found, or installed from Debian's packages."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.servers.debian import found_or_installed

NAMES = ("chromium", "chromium-browser", "google-chrome")


def need_chromium() -> Path:
    """Return the path of the browser; raise ``Missing``."""
    return found_or_installed("chromium", _find)


def _find() -> Path | None:
    found = (shutil.which(name) for name in NAMES)
    return next((Path(path) for path in found if path), None)
