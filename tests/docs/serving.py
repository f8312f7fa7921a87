"""Run ``homeroom serve`` as users do: a process of its own, on a free port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ADMIN_KEY = "the-admin-key-of-the-docs-tests"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
_SAYS = "Homeroom serves on "
STOP_SECONDS = 40


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without the developer's own settings of Homeroom."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HOMEROOM_", "COV"))
    }
    return {**kept, "NO_COLOR": "1", **extra}


@contextmanager
def server(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve from a data folder and yield the URL; the process is stopped afterwards."""
    environment = clean_environment(
        HOMEROOM_DATA_DIR=str(data_dir),
        HOMEROOM_PORT="0",
        HOMEROOM_ADMIN_KEY=ADMIN_KEY,
        HOMEROOM_LOG_LEVEL="warning",
        **(settings or {}),
    )
    with (data_dir / "serve.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "homeroom", "serve"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield _url(process.stdout, data_dir / "serve.log")
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _url(said: IO[str], log: Path) -> str:
    """Wait for the line that names the URL; the end of the output means that the start failed."""
    for line in said:
        if line.startswith(_SAYS):
            return line.removeprefix(_SAYS).split()[0]
    raise AssertionError(f"homeroom serve did not start: {log.read_text(encoding='utf-8')}")
