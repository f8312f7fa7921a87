"""A real Redis for the tests: installed if need be, on a free port, in a folder of its own.

One for each test process (also under pytest-xdist), so that nobody's FLUSHALL is another's fault.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 20.0
INSTALL_LOCK = Path("/tmp/homeroom-apt.lock")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str = "redis-server") -> str:
    """Return where Redis is; install it where that is possible, else skip, or fail in CI."""
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        lock = ["flock", str(INSTALL_LOCK)]
        quiet: dict[str, Any] = {
            "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "check": False,
        }
        subprocess.run([*lock, "apt-get", "update", "-qq"], **quiet)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "redis-server"]
        subprocess.run([*lock, *install], **quiet)
        found = shutil.which(name)
    if found is None:
        missing_server("There is no redis-server: apt install redis-server")
    assert found is not None
    return found


def missing_server(what: str) -> None:
    """Skip on a laptop, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@dataclass
class RedisServer:
    """A Redis process that a test may restart, freeze and empty."""

    folder: Path
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [
                program(),
                *("--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
                *("--daemonize", "no", "--logfile", str(self.folder / "redis.log")),
                *("--maxmemory-policy", "noeviction"),
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "redis.log").read_text()
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.02)

    def answers(self) -> bool:
        """Say whether it accepts connections."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def ask(self, *words: str) -> str:
        """Send one command and return what comes back, as Redis writes it."""
        with socket.create_connection(("127.0.0.1", self.port), START_SECONDS) as connection:
            connection.sendall(
                f"*{len(words)}\r\n".encode()
                + b"".join(f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words)
            )
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                return answer.read().decode()

    def info(self, name: str) -> str:
        """Return one of the figures that Redis keeps of itself."""
        lines = dict(line.split(":", 1) for line in self.ask("INFO").split("\r\n") if ":" in line)
        return lines[name]

    def empty(self) -> None:
        """Forget everything."""
        assert self.ask("FLUSHALL").startswith("+OK")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; it keeps nothing."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)
            self.process = None


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run a Redis of one's own."""
    server = RedisServer(folder, options=options)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


_running: list[RedisServer] = []


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return the Redis of this test process."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        _running.append(server)
        yield server
        _running.clear()


def started() -> RedisServer:
    """Return the Redis of this test process, which the fixture has started."""
    assert _running, "the test asks for the fixture redis_server first"
    return _running[0]
