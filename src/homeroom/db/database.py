"""The contract of a database: short write transactions, and snapshots to read."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import IntEnum
from typing import Any, Literal, TypeVar

from homeroom.clock import Clock
from homeroom.db.fault_state import FaultState
from homeroom.db.tx import CounterKey, Tx
from homeroom.errors import DatabaseFault
from homeroom.tracing import Tracer

Result = TypeVar("Result")
HINT_DELAY_SECONDS = 0.001
"""Delay of hints after the commit, so that the request that made it is answered first."""
HINT_WILDCARD = "*"
"""Topic and id of the hint that replaces lost ones: its receiver checks all topics."""
SLOW_HINT = "Check the load of the database and its disk, and the network between."
HintListener = Callable[[Sequence[tuple[str, str]]], None]


class WriteClass(IntEnum):
    """Order of waiting writers: job claims, requests, ingest, what jobs store."""

    JOBS = 0
    REQUEST = 1
    INGEST = 2
    EFFECTS = 3


class Database(ABC):
    """A database that opens transactions. Only ``homeroom.bootstrap`` creates one."""

    dialect: Literal["sqlite", "postgresql"]
    max_concurrent_commits: int = 1
    """Most transactions that one writer (``GroupCommit``) may run at a time."""

    def __init__(self, clock: Clock) -> None:
        """Use a clock for the ``now`` of every transaction."""
        self.clock = clock
        self.faults = FaultState()
        self.counts: dict[CounterKey, float] = {}
        """What the committed transactions of this process have counted (``Tx.count``)."""
        self.tracer: Tracer | None = None
        """Records the spans of jobs; None: traces are off."""
        self._listeners: list[HintListener] = []

    @abstractmethod
    async def open(self) -> None:
        """Connect; raise ``Unavailable`` if that fails."""

    @abstractmethod
    async def close(self) -> None:
        """Finish running transactions and disconnect."""

    @abstractmethod
    def write(
        self, write_class: WriteClass = WriteClass.REQUEST
    ) -> AbstractAsyncContextManager[Tx]:
        """Open a write transaction: committed after the block, rolled back on an error.

        Raises ``Unavailable`` if the database is locked or away for longer than its time-out.
        """

    async def transact(
        self,
        work: Callable[[Tx], Coroutine[Any, Any, Result]],
        write_class: WriteClass = WriteClass.REQUEST,
    ) -> Result:
        """Run ``work`` in a write transaction that is committed when this returns.

        ``work`` may await its transaction and nothing else, and may run on another thread than the
        event loop's: use ``Tx.after_commit`` for whatever touches the loop. On SQLite this is
        several times faster than ``write``, whose every statement waits for two threads.
        """
        async with self.write(write_class) as tx:
            return await work(tx)

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[Tx]:
        """Open a snapshot that cannot write and lives at most 5 seconds."""

    @abstractmethod
    async def interrupt(self) -> None:
        """Make the statement that the writer is running fail, if one runs."""

    async def checkpoint(self) -> None:
        """Run the periodic maintenance of the database; PostgreSQL runs its own."""
        return

    async def check_integrity(self, seconds: float) -> None:
        """Check the structure of the file for a limited time, and record its damage."""
        return

    def keep_connection(self) -> None:
        """Stay connected while idle, so that other programs see the database in use.

        Copy and restore refuse a database that is in use. On SQLite an open file shows it.
        """
        return

    async def ping(self) -> None:
        """Run a query; raise ``Unavailable`` if that fails."""
        async with self.read() as tx:
            await tx.fetch("SELECT 1")

    async def probe_write(self) -> None:
        """Store a row that changes nothing; raise ``Unavailable`` if that fails.

        Ends the recorded faults if it succeeds: an empty transaction succeeds on a full disk too.
        """
        async with self.write(WriteClass.JOBS) as tx:
            await tx.execute("UPDATE alembic_version SET version_num = version_num")
        self.faults.end()

    def keep_reserve(self) -> None:
        """Keep some space for a start on a full disk; PostgreSQL has its own."""
        return

    def log_size(self) -> int | None:
        """Return the bytes of the write-ahead log; None where it is not this machine's."""
        return None

    @contextmanager
    def _recorded_faults(self) -> Iterator[None]:
        """Record the fault that a block raises."""
        try:
            yield
        except DatabaseFault as fault:
            self.faults.record(fault)
            raise

    def subscribe(self, listener: HintListener) -> Callable[[], None]:
        """Call ``listener`` with the hints of every commit; return the unsubscriber."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _committed(self, tx: Tx) -> None:
        """Run the callbacks of a committed transaction, and publish its topics."""
        for call in tx.commit_callbacks():
            call()
        for key, amount in tx.counts.items():
            self.counts[key] = self.counts.get(key, 0) + amount
        if tx.topics:
            loop = asyncio.get_running_loop()
            loop.call_later(HINT_DELAY_SECONDS, self._notify_listeners, tx.topics)

    def _notify_listeners(self, topics: Sequence[tuple[str, str]]) -> None:
        for listener in list(self._listeners):
            listener(topics)
