"""Hints of what was committed, from process to process, by LISTEN and NOTIFY.

They go out after the commit and on a connection of their own: a NOTIFY within a transaction takes a
lock that all such transactions of the database share, and keeps it while the commit is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from homeroom.db.database import ANYTHING
from homeroom.db.postgres_fault import mapped
from homeroom.errors import HomeroomError
from homeroom.tasks import cancel

log = structlog.get_logger(__name__)
CHANNEL = "homeroom"
MISSED = (ANYTHING, ANYTHING)
MOST_AT_ONCE = 256
PAYLOAD_BYTES = 7_900
"""PostgreSQL takes less than 8,000 bytes."""
PAUSE_SECONDS = 0.005
"""The first hint goes out at once; what comes within this time goes out together."""
_RETRY_SECONDS = 1.0
_FAREWELL_SECONDS = 2.0

Topics = Sequence[tuple[str, str]]
_payload = msgspec.json.Decoder(list[tuple[str, str]])


def payloads(topics: Topics) -> Iterator[str]:
    """Yield hints as texts that NOTIFY takes; too many become the one that stands for all."""
    if len(topics) > MOST_AT_ONCE:
        topics = [MISSED]
    part: list[bytes] = []
    size = 2
    for pair in topics:
        text = msgspec.json.encode(pair)
        if part and size + len(text) + 1 > PAYLOAD_BYTES:
            yield f"[{b','.join(part).decode()}]"
            part, size = [], 2
        part.append(text)
        size += len(text) + 1
    if part:
        yield f"[{b','.join(part).decode()}]"


class Herald:
    """Tells other processes of this one's commits, and this one of theirs."""

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], heard: Callable[[Topics], None]
    ) -> None:
        """Take how to connect, and who is told what other processes have committed."""
        self._connect, self._heard = connect, heard
        self._listens = self._stays = False
        self._waiting: dict[tuple[str, str], None] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin; nothing is connected to before there is something to hear or to tell."""
        self._closing = False
        self._task = asyncio.create_task(self._run())

    def listen(self) -> None:
        """Pass on what other processes tell, from now on."""
        if not self._listens:
            self._listens = True
            self._wake.set()

    def stay(self) -> None:
        """Keep a connection from now on, whether or not there is anything to hear or to tell."""
        self._stays = True
        self._wake.set()

    def tell(self, topics: Topics) -> None:
        """Tell other processes soon."""
        self._waiting.update(dict.fromkeys(topics))
        self._wake.set()

    async def close(self) -> None:
        """Tell what waits to be told, if that is possible, and disconnect."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.wait([task], timeout=_FAREWELL_SECONDS)
        await cancel(task)

    async def _run(self) -> None:
        """Keep a connection for as long as it is wanted, and get a new one where it is lost."""
        lost = False
        while not self._closing or self._waiting:
            await self._wake.wait()
            if not self._stays and not self._listens and not self._waiting:
                self._wake.clear()
                continue
            try:
                await self._converse(lost)
            except HomeroomError as error:
                log.warning("hints_interrupted", error=error.message)
            except Exception:
                log.exception("hints_interrupted")
            if self._closing:
                return
            lost = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def _converse(self, lost: bool) -> None:
        """Listen and tell until the connection is lost or ``close`` is called."""
        with mapped():
            connection = await self._connect()
            try:
                connection.add_termination_listener(lambda _: self._wake.set())
                if self._listens:
                    await self._start_listening(connection, lost)
                listening = self._listens
                while not connection.is_closed():
                    if self._listens and not listening:
                        listening = True
                        await self._start_listening(connection, lost)
                    await self._send(connection)
                    if self._closing:
                        return
                    await asyncio.sleep(PAUSE_SECONDS)
                    await self._wake.wait()
            finally:
                connection.terminate() if not self._closing else await _quit(connection)

    async def _start_listening(self, connection: Any, lost: bool) -> None:
        own = connection.get_server_pid()

        def received(_: Any, pid: int, channel: str, payload: str) -> None:
            if pid != own:
                with suppress(msgspec.DecodeError, msgspec.ValidationError):
                    self._heard(_payload.decode(payload))

        await connection.add_listener(CHANNEL, received)
        if lost:
            self._heard([MISSED])

    async def _send(self, connection: Any) -> None:
        self._wake.clear()
        topics, self._waiting = list(self._waiting), {}
        for payload in payloads(topics):
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)


async def _quit(connection: Any) -> None:
    """Disconnect politely; a connection that is lost already needs no politeness."""
    with suppress(Exception):
        await connection.close(timeout=_FAREWELL_SECONDS)
