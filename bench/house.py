"""Start real Homeroom processes for a benchmark, and end them by their process ids."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.servers.port import free_port


@dataclass(frozen=True)
class House:
    """A server that answers: where it is, its admin key, its process, its database file."""

    port: int
    key: str
    process: subprocess.Popen[bytes]
    database: Path

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send JSON and return JSON; raise for an error status."""
        request = urllib.request.Request(  # loopback
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    """Return once a port takes connections; raise if the process ends before that."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on {port}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop, and make sure that it does."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(
    folder: Path, *options: str, environment: dict[str, str] | None = None
) -> Iterator[House]:
    """Run ``homeroom serve`` on a data folder until the block ends."""
    port, key = free_port(), f"hr_{secrets.token_urlsafe(24)}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "homeroom", "serve", "--port", str(port), *options],
            env={
                **kept,
                "HOMEROOM_DATA_DIR": str(folder),
                "HOMEROOM_ADMIN_KEY": key,
                "HOMEROOM_LOG_FORMAT": "json",
                **(environment or {}),
            },
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(port, process)
        yield House(port, key, process, folder / "homeroom.db")
    finally:
        end(process)


@contextlib.contextmanager
def sandbox() -> Iterator[tuple[str, dict[str, str]]]:
    """Run the partners' sandbox; yield its URL and the settings that point to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "homeroom.sandbox", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        yield ready["url"], ready["environment"]
    finally:
        end(process)
        process.stdin.close()
        process.stdout.close()
