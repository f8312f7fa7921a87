"""The contract of a database: short write transactions in lanes, and snapshots to read from."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from typing import Any, Literal, TypeVar

import structlog

from homeroom.clock import Clock
from homeroom.db.tx import Tx

log = structlog.get_logger(__name__)
Result = TypeVar("Result")
HINT_DELAY_SECONDS = 0.001
"""Hints go out a moment after the commit, so that the request that made it is answered first."""
ANYTHING = "*"
"""The topic and the id of the hint that stands for those that were lost: look at everything."""
Listener = Callable[[Sequence[tuple[str, str]]], None]


class Lane(IntEnum):
    """Who goes first when several wait to write: job claims before requests before ingest."""

    JOBS = 0
    REQUEST = 1
    INGEST = 2


class Database(ABC):
    """A database that hands out transactions. Built in ``wiring`` only."""

    dialect: Literal["sqlite", "postgresql"]
    commits_at_once: int = 1
    """How many transactions one writer (``GroupCommit``) may have under way."""

    def __init__(self, clock: Clock) -> None:
        """Take the clock that gives every transaction its ``now``."""
        self.clock = clock
        self._listeners: list[Listener] = []

    @abstractmethod
    async def open(self) -> None:
        """Connect; raise ``Unavailable`` where that fails."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what runs and disconnect."""

    @abstractmethod
    def write(self, lane: Lane = Lane.REQUEST) -> AbstractAsyncContextManager[Tx]:
        """Open a write transaction; it commits at the end of the block, or rolls back on an error.

        Raises ``Unavailable`` if the database is locked or away for longer than its time-out.
        """

    async def transact(
        self, work: Callable[[Tx], Coroutine[Any, Any, Result]], lane: Lane = Lane.REQUEST
    ) -> Result:
        """Run ``work`` in a write transaction that is committed when this returns.

        ``work`` may await its transaction and nothing else, and may run on another thread than the
        event loop's: whatever touches the loop goes into ``Tx.after_commit``. On SQLite it is
        several times faster than ``write``, whose every statement waits for two threads.
        """
        async with self.write(lane) as tx:
            return await work(tx)

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[Tx]:
        """Open a snapshot that cannot write and lives at most 5 seconds."""

    @abstractmethod
    async def interrupt(self) -> None:
        """Make the statement that the writer is running fail, if one runs."""

    async def checkpoint(self) -> None:
        """Do what the database wants done now and then; PostgreSQL looks after itself."""
        return

    def stay_connected(self) -> None:
        """Show that this process uses the database, even while it asks nothing of it.

        Who copies, restores or replaces a database looks for those who do. On SQLite an open file
        shows it.
        """
        return

    async def ping(self) -> None:
        """Read something; raise ``Unavailable`` where that fails."""
        async with self.read() as tx:
            await tx.fetch("SELECT 1")

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the (topic, id) pairs of every commit; return how to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _committed(self, tx: Tx) -> None:
        """Run what waited for the commit, and pass its topics on."""
        for call in tx.committed():
            call()
        if tx.topics:
            asyncio.get_running_loop().call_later(HINT_DELAY_SECONDS, self._tell, tx.topics)

    def _tell(self, topics: Sequence[tuple[str, str]]) -> None:
        for listener in list(self._listeners):
            listener(topics)
