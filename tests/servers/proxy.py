"""A proxy on loopback that a test may cut or stop, as networks do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on to a port of this machine, while it is let."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing through: whoever asks gets no answer and no error."""
        self._flows.clear()

    def mend(self) -> None:
        """Be a good network again."""
        self._is_cut = False
        self._flows.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join a client and the target."""
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, there[1])
        self._writers.update(both)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, there[1]))
                group.create_task(self._pass(there[0], writer))
        except* OSError:
            pass
        finally:
            self._writers.difference_update(both)
            for each in both:
                each.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            await self._flows.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError  # one side has ended: end the other


@asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[Proxy]:
    """Listen on a free port."""
    proxy = Proxy(target)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await proxy.accept(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.mend()
        proxy.cut()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
