"""Programs that tests and benchmarks need: found, or installed where that is possible."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Program = TypeVar("Program")
_WAIT = ("-o", "DPkg::Lock::Timeout=300")
"""Seconds to wait for another program that installs packages, such as a fresh machine's own."""
_LOCK = Path(tempfile.gettempdir()) / "homeroom-install.lock"


class Missing(Exception):
    """There is no server to be had here; the text says what to do about it."""


def found_or_installed(package: str, find: Callable[[], Program | None]) -> Program:
    """Return what ``find`` finds, after installing Debian's package if need be.

    Only root on Debian can install. Raises ``Missing``.
    """
    with _LOCK.open("w") as lock:
        # Also to look: a program that another process is installing is there before it works.
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = find()
        if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
            _install(package)
            found = find()
    if found is None:
        raise Missing(
            f"There is no {package} that is new enough, and only root on Debian can install it from"
            f" here. Install it (Debian and Ubuntu: apt install {package}), or run as root."
        )
    return found


def _install(package: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (
        ("apt-get", "update", "-qq"),
        ("apt-get", "install", *_WAIT, "-qq", "-y", "--no-install-recommends", package),
    ):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"{' '.join(words)} failed: {done.stderr.strip()[-500:]}")
