"""Run ``homeroom`` as users do: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.support.condition import PATIENCE_SECONDS

ADMIN_KEY = "the-admin-key-of-the-docs-tests"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
STOP_SECONDS = 40
_URL_LINE = "Homeroom serves on "


def homeroom_command(*words: str) -> list[str]:
    """Return the command line that runs ``homeroom`` from this checkout."""
    return [sys.executable, "-m", "homeroom", *words]


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without the developer's own settings of Homeroom."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HOMEROOM_", "REDIS_", "ENABLE_", "COV"))
    }
    return {**kept, "NO_COLOR": "1", **extra}


class CommandLine:
    """Runs commands with the settings of one test; kills the processes that are left."""

    def __init__(self, folder: Path) -> None:
        self.environment = clean_environment(HOMEROOM_DATA_DIR=str(folder), COLUMNS="200")
        del self.environment["NO_COLOR"]  # a test may draw on a terminal
        self.children: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            homeroom_command(*words),
            input=answer,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def ok(self, *words: str, answer: str = "") -> str:
        """Return the output of a command that succeeds."""
        ended = self(*words, answer=answer)
        assert ended.returncode == 0, ended
        return ended.stdout

    def start(
        self, *words: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Start a command that runs until it is stopped."""
        child = subprocess.Popen(
            homeroom_command(*words),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env=self.environment,
        )
        self.children.append(child)
        return child

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()


@contextmanager
def server(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve from a data folder and yield the URL; the process is stopped afterwards."""
    own = {
        "HOMEROOM_DATA_DIR": str(data_dir),
        "HOMEROOM_PORT": "0",
        "HOMEROOM_ADMIN_KEY": ADMIN_KEY,
        "HOMEROOM_LOG_LEVEL": "warning",
    }
    environment = clean_environment(**{**own, **(settings or {})})
    with (data_dir / "serve.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            homeroom_command("serve"),
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


def _url(output: IO[str], log: Path) -> str:
    """Wait for the line that names the URL; the end of the output means that the start failed."""
    for line in output:
        if line.startswith(_URL_LINE):
            return line.removeprefix(_URL_LINE).split()[0]
    raise AssertionError(f"homeroom serve did not start: {log.read_text(encoding='utf-8')}")
