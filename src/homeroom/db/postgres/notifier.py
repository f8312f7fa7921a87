"""Hints of commits, sent from process to process by LISTEN and NOTIFY.

They are sent after the commit and on a connection of their own: a NOTIFY within a transaction locks
out all such transactions of the database while the commit is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from homeroom.cancellation import cancel_and_wait
from homeroom.db.database import HINT_WILDCARD
from homeroom.db.postgres.driver import translate_postgres_errors
from homeroom.errors import HomeroomError

log = structlog.get_logger(__name__)
HINT_CHANNEL = "homeroom"
LOST_HINTS = (HINT_WILDCARD, HINT_WILDCARD)
MAX_HINTS_AT_ONCE = 256
MAX_PAYLOAD_BYTES = 7_900
"""PostgreSQL accepts less than 8,000 bytes."""
HINT_INTERVAL_SECONDS = 0.005
"""The first hint is sent at once; those of this interval are sent together."""
_RETRY_SECONDS = 1.0
_CLOSE_TIMEOUT_SECONDS = 2.0

HintPairs = Sequence[tuple[str, str]]
_payload_decoder = msgspec.json.Decoder(list[tuple[str, str]])


def encode_hints(topics: HintPairs) -> Iterator[str]:
    """Yield payloads for NOTIFY; too many become the hint for lost ones."""
    if len(topics) > MAX_HINTS_AT_ONCE:
        topics = [LOST_HINTS]
    part: list[bytes] = []
    size = 2
    for pair in topics:
        text = msgspec.json.encode(pair)
        if part and size + len(text) + 1 > MAX_PAYLOAD_BYTES:
            yield f"[{b','.join(part).decode()}]"
            part, size = [], 2
        part.append(text)
        size += len(text) + 1
    if part:
        yield f"[{b','.join(part).decode()}]"


class HintNotifier:
    """Exchanges hints of commits with other processes."""

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], on_hints: Callable[[HintPairs], None]
    ) -> None:
        """Use a function that connects, and one that gets the hints of other processes."""
        self._connect, self._on_hints = connect, on_hints
        self._is_listening = self._keeps_connection = False
        self._waiting: dict[tuple[str, str], None] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start; the first use connects."""
        self._closing = False
        self._task = asyncio.create_task(self._run())

    def listen(self) -> None:
        """Receive hints of other processes from now on."""
        if not self._is_listening:
            self._is_listening = True
            self._wake.set()

    def keep_connection(self) -> None:
        """Hold a connection from now on, even without hints to send or to receive."""
        self._keeps_connection = True
        self._wake.set()

    def send_soon(self, topics: HintPairs) -> None:
        """Queue hints for other processes."""
        self._waiting.update(dict.fromkeys(topics))
        self._wake.set()

    async def close(self) -> None:
        """Send queued hints, if that is possible within 2 seconds, and disconnect."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.wait([task], timeout=_CLOSE_TIMEOUT_SECONDS)
        await cancel_and_wait(task)

    async def _run(self) -> None:
        """Connect on first use, and reconnect after a loss."""
        lost = False
        while not self._closing or self._waiting:
            await self._wake.wait()
            if not self._keeps_connection and not self._is_listening and not self._waiting:
                self._wake.clear()
                continue
            try:
                await self._exchange_hints(lost)
            except HomeroomError as error:
                log.warning("hint_connection_lost", error=error.message)
            except Exception:
                log.exception("hint_connection_lost")
            if self._closing:
                return
            lost = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def _exchange_hints(self, lost: bool) -> None:
        """Send and receive hints until the connection is lost or ``close`` is called."""
        with translate_postgres_errors():
            connection = await self._connect()
            try:
                connection.add_termination_listener(lambda _: self._wake.set())
                if self._is_listening:
                    await self._start_listening(connection, lost)
                listening = self._is_listening
                while not connection.is_closed():
                    if self._is_listening and not listening:
                        listening = True
                        await self._start_listening(connection, lost)
                    await self._send_hints(connection)
                    if self._closing:
                        return
                    await asyncio.sleep(HINT_INTERVAL_SECONDS)
                    await self._wake.wait()
            finally:
                if self._closing:
                    await _close_connection(connection)
                else:
                    connection.terminate()

    async def _start_listening(self, connection: Any, lost: bool) -> None:
        own_pid = connection.get_server_pid()

        def received(_: Any, pid: int, channel: str, payload: str) -> None:
            if pid != own_pid:
                with suppress(msgspec.DecodeError, msgspec.ValidationError):
                    self._on_hints(_payload_decoder.decode(payload))

        await connection.add_listener(HINT_CHANNEL, received)
        if lost:
            self._on_hints([LOST_HINTS])

    async def _send_hints(self, connection: Any) -> None:
        self._wake.clear()
        topics, self._waiting = list(self._waiting), {}
        for payload in encode_hints(topics):
            await connection.execute("SELECT pg_notify($1, $2)", HINT_CHANNEL, payload)


async def _close_connection(connection: Any) -> None:
    """Disconnect; errors of a connection that is already lost are ignored."""
    with suppress(Exception):
        await connection.close(timeout=_CLOSE_TIMEOUT_SECONDS)
