"""Checkpoint SQLite's write-ahead log on a connection of its own.

SQLite's automatic checkpoint runs inside the commit that makes the log too long:
with 16,000 pages that commit, and all callers that waited for it, took 100-150 ms longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import aiosqlite
import structlog

from homeroom.errors import DatabaseFault, HomeroomError

log = structlog.get_logger(__name__)

CHECKPOINT_ROWS = 20_000
"""Changed rows between two checkpoints; roughly a fourth as many pages."""
WAL_RESTART_PAGES = 24_000
"""Length from which the log is restarted, which needs a moment without a writer."""
WRITER_PAUSE_SECONDS = 0.004
"""Longer than the copy of the few hundred pages that remain after the first one."""


class WalCheckpointer:
    """Copies the log into the file on a connection and a thread of its own."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[aiosqlite.Connection]],
        pause_writer: Callable[[], AbstractAsyncContextManager[object]],
    ) -> None:
        """Use functions that connect, and that pause this process's writer for a moment."""
        self._connect, self._pause_writer = connect, pause_writer
        self._wal_grown = asyncio.Event()
        self._changes_seen = 0
        self.restarts = 0
        """Number of restarts of the log."""

    def record_changes(self, total: int) -> None:
        """Record the number of rows that the writer has changed since it was opened."""
        if total - self._changes_seen >= CHECKPOINT_ROWS:
            self._changes_seen = total
            self._wal_grown.set()

    async def run(self) -> None:
        """Checkpoint the log whenever it has grown, until cancelled."""
        while True:
            await self._wal_grown.wait()
            self._wal_grown.clear()
            try:
                async with self._connect() as connection:
                    while True:
                        await self.shorten_log(connection)
                        await self._wal_grown.wait()
                        self._wal_grown.clear()
            except HomeroomError as error:  # the automatic checkpoint still limits the log
                if not isinstance(error, DatabaseFault):  # its cause is logged once
                    log.warning("wal_checkpoint_failed", error=str(error))
            except Exception:
                log.exception("wal_checkpoint_failed")

    async def shorten_log(self, connection: aiosqlite.Connection) -> None:
        """Copy the log into the file; restart a long one."""
        if await checkpoint_wal(connection) < WAL_RESTART_PAGES:
            return
        await self._copy_and_sync(connection)
        await checkpoint_wal(connection)
        async with self._pause_writer():
            await checkpoint_wal(connection)
        self.restarts += 1

    async def _copy_and_sync(self, connection: aiosqlite.Connection) -> None:
        """Make the file durable while the writer is paused for the first moment only.

        SQLite syncs the file at the end of a copy if nothing was added to the log meanwhile;
        additions during the sync do not matter. Without this the last copy of ``shorten_log`` would
        sync a hundred megabytes while all writers wait: 75 ms.
        """
        async with self._pause_writer():
            copying = asyncio.ensure_future(checkpoint_wal(connection))
            await asyncio.wait([copying], timeout=WRITER_PAUSE_SECONDS)
        await copying


async def checkpoint_wal(connection: aiosqlite.Connection) -> int:
    """Copy the log as far as readers allow; return its length in pages."""
    rows = await connection.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
    [(_, pages, _)] = rows
    return int(pages)
