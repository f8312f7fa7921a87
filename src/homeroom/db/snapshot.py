"""Bounds of a snapshot: the transactions that have ended, whose rows it shows.

PostgreSQL numbers transactions when they first write. They may commit in any order. SQLite has one
writer at a time, and a read shows all that was committed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from homeroom.db.database import Database
from homeroom.db.tx import Tx

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.002, 0.05
_POSTGRES_SNAPSHOT = (
    "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint),"
    " CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The bounds of a snapshot of PostgreSQL; both are 0 on SQLite."""

    xmin: int
    """Every transaction with a lower number has ended, also in other databases of the server."""
    xmax: int
    """The number after that of the last transaction that has ended. Never becomes lower."""


async def fetch_snapshot(tx: Tx) -> Snapshot:
    """Return the bounds of the snapshot of a transaction of ``Database.read``."""
    if tx.dialect == "sqlite":
        return Snapshot(0, 0)
    [(xmin, xmax)] = await tx.fetch(_POSTGRES_SNAPSHOT)
    return Snapshot(xmin, xmax)


async def assign_transaction_number(tx: Tx) -> int:
    """Return the number of a write transaction, which may get one now; 0 on SQLite.

    Lower numbers were assigned earlier.
    """
    if tx.dialect == "sqlite":
        return 0
    [(number,)] = await tx.fetch("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
    return int(number)


async def wait_for_earlier_transactions(db: Database, number: int, timeout_seconds: float) -> bool:
    """Wait until all transactions with a lower number have ended.

    Returns False if they have not within the time-out.
    """
    pause = _FIRST_PAUSE_SECONDS
    ends = asyncio.get_running_loop().time() + timeout_seconds
    while True:
        async with db.read() as tx:
            if (await fetch_snapshot(tx)).xmin >= number:
                return True
        if asyncio.get_running_loop().time() >= ends:
            return False
        await asyncio.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE_SECONDS)
