"""A Redis server for tests and benchmarks: found or installed, on a free port, and ended."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.servers.debian import found_or_installed
from tools.servers.port import free_port

START_SECONDS = 20.0


def program() -> str:
    """Return where Redis is, installing it where that is possible; raise ``Missing``."""
    return found_or_installed("redis-server", lambda: shutil.which("redis-server"))


@dataclass
class RedisServer:
    """A Redis process that one may restart, freeze and empty."""

    folder: Path
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL of its first database."""
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
        """Return whether it accepts connections."""
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
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run a Redis of one's own."""
    server = RedisServer(folder, options=options)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
