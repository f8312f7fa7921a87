"""Keep SQLite's write-ahead log short beside the writer, so that no commit pays for it.

SQLite's own way is to copy the log into the file inside the commit that makes it too long: with
16,000 pages that commit, and everybody who waits for it, stood still for 100-150 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import aiosqlite
import structlog

from homeroom.errors import HomeroomError

log = structlog.get_logger(__name__)

ROWS_BETWEEN = 20_000
"""Rows that are changed between two looks at the log; roughly a fourth as many pages."""
RESTART_PAGES = 24_000
"""From this length on the log is made to begin again, which needs a moment without a writer."""
GLIMPSE_SECONDS = 0.004
"""Longer than copying the few hundred pages takes that are left after the first copy."""


class LogKeeper:
    """Copies the log into the file on a connection and a thread of its own."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[aiosqlite.Connection]],
        pause_writer: Callable[[], AbstractAsyncContextManager[object]],
    ) -> None:
        """Take how to connect, and how to keep this process's writer away for a moment."""
        self._connect, self._pause_writer = connect, pause_writer
        self._grown = asyncio.Event()
        self._seen = 0
        self.restarts = 0
        """How often the log was made to begin again."""

    def changed(self, total: int) -> None:
        """Hear how many rows the writer has changed since it was opened."""
        if total - self._seen >= ROWS_BETWEEN:
            self._seen = total
            self._grown.set()

    async def run(self) -> None:
        """Keep the log short until cancelled."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            try:
                async with self._connect() as connection:
                    while True:
                        await self.shorten(connection)
                        await self._grown.wait()
                        self._grown.clear()
            except HomeroomError as error:  # the writer still shortens a log that grows too far
                log.warning("log_not_shortened", error=str(error))
            except Exception:
                log.exception("log_not_shortened")

    async def shorten(self, connection: aiosqlite.Connection) -> None:
        """Copy what there is; where the log is long, go on until it can begin again."""
        if await copy(connection) < RESTART_PAGES:
            return
        await self._copy_and_sync(connection)
        await copy(connection)
        async with self._pause_writer():
            await copy(connection)
        self.restarts += 1

    async def _copy_and_sync(self, connection: aiosqlite.Connection) -> None:
        """Make the file durable with the writer held up for the first moment only.

        SQLite syncs the file at the end of a copy if nothing was added to the log meanwhile; what
        is added during the sync does no harm. Without this the last copy of ``shorten`` would sync
        a hundred megabytes while everybody waits: 75 ms.
        """
        async with self._pause_writer():
            copying = asyncio.ensure_future(copy(connection))
            await asyncio.wait([copying], timeout=GLIMPSE_SECONDS)
        await copying


async def copy(connection: aiosqlite.Connection) -> int:
    """Copy as much of the log as readers allow, holding nobody up; return its length in pages."""
    rows = await connection.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
    [(_, pages, _)] = rows
    return int(pages)
