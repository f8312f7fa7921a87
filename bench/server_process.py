"""Homeroom server processes and the sandbox for benchmarks, stopped by process id."""

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
class ServerProcess:
    """A running Homeroom server: its port, admin key, process and database file."""

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
    """Wait until a port accepts connections; raise if the process ends before that."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on {port}")


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Stop a process with SIGTERM, and with SIGKILL after 30 seconds."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def run_server(
    folder: Path,
    *options: str,
    environment: dict[str, str] | None = None,
    module: str = "homeroom",
) -> Iterator[ServerProcess]:
    """Run ``homeroom serve`` on a data folder until the block ends.

    ``module`` is one that runs the command line, such as a changed one.
    """
    port, key = free_port(), f"hr_{secrets.token_urlsafe(24)}"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")
    }
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "serve", "--port", str(port), *options],
            env={
                **inherited,
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
        yield ServerProcess(port, key, process, folder / "homeroom.db")
    finally:
        stop_process(process)


@contextlib.contextmanager
def run_sandbox() -> Iterator[tuple[str, dict[str, str]]]:
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
        stop_process(process)
        process.stdin.close()
        process.stdout.close()
