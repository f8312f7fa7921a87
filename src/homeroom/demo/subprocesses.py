"""The child processes of the demo: the sandbox and `homeroom serve`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from homeroom.errors import HomeroomError
from homeroom.http_client import open_http_client

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_TAIL_LINES = 15
_HOMEROOM_VARIABLES = re.compile(r"HOMEROOM_.*|REDIS_(HOST|PORT|PASSWORD)|ENABLE_CREDENTIALS")
_SIGN_IN_LINK = re.compile(r"https?://\S+/sign-in#\S+")


class ChildProcessFailed(HomeroomError):
    """A child process of the demo could not start, or died."""

    code = "child_failed"


class ChildProcess:
    """A Python module run in a process, which can be restarted, with a log file."""

    def __init__(
        self, name: str, arguments: list[str], settings: Mapping[str, str], log: Path
    ) -> None:
        """Create a process for a module, with these settings of Homeroom alone."""
        self.name, self.log = name, log
        self._arguments, self.settings = arguments, settings
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        is_running = self._process is not None and self._process.returncode is None
        return self._process.pid if is_running and self._process is not None else None

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Return its output, if it was started with ``pipe``."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    async def start(self, *, pipe: bool = False) -> None:
        """Start it; with ``pipe`` its standard input and output are pipes."""
        # Opening a local file does not block for long, and happens a few times per run.
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._arguments,
                stdin=asyncio.subprocess.PIPE if pipe else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if pipe else log,
                stderr=log,
                env=self._environment(),
                # Ctrl-C in the terminal reaches the demo alone, which stops its children in order.
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        """Return the environment with the given settings of Homeroom alone."""
        # The child needs paths and locale, but not the settings of Homeroom, which would point the
        # demo at a real database.
        inherited = os.environ  # noqa: TID251
        remaining = {
            name: value
            for name, value in inherited.items()
            if not _HOMEROOM_VARIABLES.fullmatch(name)
        }
        return {**remaining, "PYTHONUNBUFFERED": "1", **self.settings}

    def check(self) -> None:
        """Raise ``ChildProcessFailed`` with the last lines of its log if it has ended."""
        if self._process is not None and self._process.returncode is not None:
            raise ChildProcessFailed(
                f"The {self.name} ended with {self._process.returncode}. Its log ({self.log})"
                f" ends with:\n{self.tail()}"
            )

    def tail(self) -> str:
        """Return the last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    async def wait_for_exit(self) -> None:
        """Wait until it ends, then raise ``ChildProcessFailed``."""
        assert self._process is not None
        await self._process.wait()
        self.check()

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Stop it with SIGTERM; kill it after ``STOP_SECONDS``."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            await self.kill()


class SandboxProcess(ChildProcess):
    """The partner systems."""

    url = ""
    environment: Mapping[str, str] = {}

    def __init__(self, log: Path, *, seed: int) -> None:
        """Create a sandbox whose directory generates people from ``seed``."""
        arguments = ["homeroom.sandbox", "--until-stdin-closes", "--seed", str(seed)]
        super().__init__("sandbox", arguments, {}, log)

    async def open(self) -> dict[str, str]:
        """Start it and return the settings that point Homeroom at it."""
        await self.start(pipe=True)
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await self.stdout.readline()
            announced: dict[str, Any] = msgspec.json.decode(line)
        except (TimeoutError, msgspec.DecodeError):
            raise ChildProcessFailed(f"The sandbox did not start:\n{self.tail()}") from None
        self.url = announced["url"]
        self.environment = dict(announced["environment"])
        return dict(self.environment)


class ServerProcess(ChildProcess):
    """`homeroom serve`: API, worker and scheduler in one process."""

    def __init__(self, settings: Mapping[str, str], log: Path, *, worker: bool = True) -> None:
        """Create a server; the settings name its port, ``worker`` runs jobs in it."""
        arguments = ["homeroom", "serve", *(() if worker else ("--no-worker",))]
        super().__init__("server", arguments, settings, log)
        self.url = f"http://127.0.0.1:{settings['HOMEROOM_PORT']}"
        self.port = int(settings["HOMEROOM_PORT"])

    async def open(self) -> None:
        """Start it and wait until it is ready.

        Raises ``ChildProcessFailed`` after ``START_SECONDS``.
        """
        await self.start()
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        async with open_http_client(base_url=self.url) as client:
            while not await self._is_ready(client):
                self.check()
                if asyncio.get_running_loop().time() > deadline:
                    raise ChildProcessFailed(
                        f"The server is not ready after a minute:\n{self.tail()}"
                    )
                await asyncio.sleep(0.05)
        self.check()

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get("/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def sign_in_link(self) -> str | None:
        """Return the one-time link that the server printed at its first start."""
        match = _SIGN_IN_LINK.search(self.log.read_text(encoding="utf-8", errors="replace"))
        return None if match is None else match[0]


def free_port(preferred: int) -> int:
    """Return the preferred port if it is free, else another free one."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name == "posix":  # a port that was closed a moment ago can be used again
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ChildProcessFailed("No port of this machine is free.")
