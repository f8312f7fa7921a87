"""The programs that the demo starts: the sandbox and `homeroom serve`, each with its log."""

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
from homeroom.outgoing import open_client

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_TAIL_LINES = 15
_OURS = re.compile(r"HOMEROOM_.*|REDIS_(HOST|PORT|PASSWORD)|ENABLE_CREDENTIALS")
_SIGN_IN = re.compile(r"https?://\S+/sign-in#\S+")


class ChildFailed(HomeroomError):
    """A program that the demo started could not start, or died."""

    code = "child_failed"


class Child:
    """A program of our own, started as often as it is asked to, writing to one log file."""

    def __init__(
        self, name: str, arguments: list[str], settings: Mapping[str, str], log: Path
    ) -> None:
        """Take what to run with this Python, and the settings that it gets and no others."""
        self.name, self.log = name, log
        self._arguments, self.settings = arguments, settings
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Return its output where it was started with ``pipe``."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    async def start(self, *, pipe: bool = False) -> None:
        """Start it; with ``pipe`` its output is read here and its input ends when it must."""
        # Opening a file of our own is quick, and done a few times in a run.
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._arguments,
                stdin=asyncio.subprocess.PIPE if pipe else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if pipe else log,
                stderr=log,
                env=self._environment(),
                # Ctrl-C in the terminal is for the demo, which then stops its children in order.
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        """Return this environment without anybody's Homeroom settings, and with those given."""
        # The whole environment has to be handed on (paths, locale); what of it is Homeroom's must
        # not: it would point the demo at a real database.
        inherited = os.environ  # noqa: TID251
        kept = {name: value for name, value in inherited.items() if not _OURS.fullmatch(name)}
        return {**kept, "PYTHONUNBUFFERED": "1", **self.settings}

    def check(self) -> None:
        """Raise ``ChildFailed`` with its last lines if it does not run."""
        if self._process is not None and self._process.returncode is not None:
            raise ChildFailed(
                f"The {self.name} ended with {self._process.returncode}. Its log ({self.log})"
                f" ends with:\n{self.tail()}"
            )

    def tail(self) -> str:
        """Return the last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    async def died(self) -> None:
        """Wait until it ends by itself, then raise ``ChildFailed``."""
        assert self._process is not None
        await self._process.wait()
        self.check()

    async def kill(self) -> None:
        """End it as a power cut would: ``kill -9``."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, and wait; kill it if it does not within half a minute."""
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


class Sandbox(Child):
    """The partner systems."""

    url = ""
    environment: Mapping[str, str] = {}

    def __init__(self, log: Path, *, seed: int) -> None:
        """Take the seed of the people that its directory makes up."""
        arguments = ["homeroom.sandbox", "--until-stdin-closes", "--seed", str(seed)]
        super().__init__("sandbox", arguments, {}, log)

    async def open(self) -> dict[str, str]:
        """Start it and return the settings that point Homeroom at it."""
        await self.start(pipe=True)
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await self.stdout.readline()
            said: dict[str, Any] = msgspec.json.decode(line)
        except (TimeoutError, msgspec.DecodeError):
            raise ChildFailed(f"The sandbox did not start:\n{self.tail()}") from None
        self.url = said["url"]
        self.environment = dict(said["environment"])
        return dict(self.environment)


class Server(Child):
    """`homeroom serve`: API, worker and scheduler in one process."""

    def __init__(self, settings: Mapping[str, str], log: Path, *, worker: bool = True) -> None:
        """Take its settings, the port among them, and whether it runs jobs itself."""
        arguments = ["homeroom", "serve", *(() if worker else ("--no-worker",))]
        super().__init__("server", arguments, settings, log)
        self.url = f"http://127.0.0.1:{settings['HOMEROOM_PORT']}"
        self.port = int(settings["HOMEROOM_PORT"])

    async def open(self) -> None:
        """Start it and wait until it is ready; raise ``ChildFailed`` if that takes a minute."""
        await self.start()
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        async with open_client(base_url=self.url) as client:
            while not await self._is_ready(client):
                self.check()
                if asyncio.get_running_loop().time() > deadline:
                    raise ChildFailed(f"The server is not ready after a minute:\n{self.tail()}")
                await asyncio.sleep(0.05)
        self.check()

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get("/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def sign_in_link(self) -> str | None:
        """Return the one-time link that the server printed at its first start."""
        found = _SIGN_IN.search(self.log.read_text(encoding="utf-8", errors="replace"))
        return None if found is None else found[0]


def free_port(wanted: int) -> int:
    """Return the port if nobody has it, else one that is free."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            if os.name == "posix":  # a port that was left a moment ago can be had again
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(taken.getsockname()[1])
    raise ChildFailed("No port of this machine is free.")
