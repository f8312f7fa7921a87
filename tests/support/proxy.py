"""TCP proxies on loopback: one that a test cuts, freezes and restores; one that counts messages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

FATAL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
LAST_WORDS = {
    "cut": b"",
    "fatal": b"E" + (4 + len(FATAL)).to_bytes(4) + FATAL,
    "broken": b"D" + (6).to_bytes(4) + b"\xff\xff",
}
"""What a client of PostgreSQL receives before its connection ends: nothing, the error of a server
that shuts down, or half a row, which no parser expects."""


class Proxy:
    """Forward bytes to a port of this machine, unless cut or frozen."""

    def __init__(self, target: int) -> None:
        self.target = target
        # It never listens: it keeps the port while connections are refused.
        self._holder = _bound_socket(0)
        self.port: int = self._holder.getsockname()[1]
        self._listener: socket.socket | None = None
        self._flows = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.restore()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Accept connections and forward nothing: clients get no answer and no error."""
        self._flows.clear()

    def restore(self) -> None:
        """Forward again, and accept connections."""
        self._flows.set()
        if self._listener is None:
            self._listener = _bound_socket(self.port)
            self._listener.listen(1_024)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def close(self) -> None:
        """End all connections and give the port back."""
        self.cut()
        self._holder.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # the client has gone already
            return
        task = asyncio.create_task(self._join(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, connection: socket.socket) -> None:
        """Forward between a client and the target until one side ends."""
        here = await asyncio.open_connection(sock=connection)
        self._writers.add(here[1])
        both = [here[1]]
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(there[1])
            both.append(there[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(here[0], there[1], from_client=True))
                group.create_task(self._pass(there[0], here[1], from_client=False))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.difference_update(both)
            self._end(*both)

    def _end(self, client: asyncio.StreamWriter, *target: asyncio.StreamWriter) -> None:
        for writer in (client, *target):
            writer.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        while data := await source.read(65_536):
            await self._flows.wait()
            await _send(sink, data)
        raise ConnectionResetError  # one side has ended: end the other


class MessageProxy(Proxy):
    """Forward PostgreSQL's messages one by one; count them, end all connections at one of them.

    A message is a type of one byte and four bytes of length; only the first one of a client has no
    type. Needs ``sslmode=disable``.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.counted = 0
        """Messages of both directions since ``arm``."""
        self._cut_at: int | None = None
        self._last_words = b""

    def arm(self, cut_at: int | None, how: str = "cut") -> None:
        """Count from 0, and end all connections instead of message ``cut_at`` (1 is the first)."""
        self.counted, self._cut_at, self._last_words = 0, cut_at, LAST_WORDS[how]

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        is_typed = not from_client
        while True:
            head = await source.readexactly(5 if is_typed else 4)
            body = await source.readexactly(int.from_bytes(head[-4:]) - 4)
            is_typed = True
            self.counted += 1
            if self.counted == self._cut_at:
                self._end_connections()
                raise ConnectionResetError
            await _send(sink, head + body)

    def _end(self, client: asyncio.StreamWriter, *target: asyncio.StreamWriter) -> None:
        for writer in target:
            writer.transport.abort()
        client.close()  # what was written is sent first

    def _end_connections(self) -> None:
        for writer in self._writers:
            if _local_port(writer) == self.port and self._last_words:
                writer.write(self._last_words)
                writer.close()
            else:
                writer.transport.abort()


AnyProxy = TypeVar("AnyProxy", bound=Proxy)


@asynccontextmanager
async def proxy_to(target: int, kind: type[AnyProxy]) -> AsyncIterator[AnyProxy]:
    """Run a proxy to a port of this machine."""
    proxy = kind(target)
    try:
        yield proxy
    finally:
        await proxy.close()


async def _send(sink: asyncio.StreamWriter, data: bytes) -> None:
    if sink.is_closing():  # a closed transport of uvloop raises RuntimeError
        raise ConnectionResetError
    sink.write(data)
    await sink.drain()


def _local_port(writer: asyncio.StreamWriter) -> int:
    return int(writer.get_extra_info("sockname")[1])


def _bound_socket(port: int) -> socket.socket:
    """Bind a socket to a port of loopback that other sockets of this user may bind as well."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    bound.setblocking(False)
    return bound
