"""Pace of mails: at most so many a minute, of all processes together.

A turn is taken before the delivery is claimed: a worker that dies while it waits leaves the
delivery pending, and not ``unknown``. Each process reserves one turn at a time, so that urgent jobs
do not wait behind those of a long queue.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.instant import SECOND

MAX_WAIT_SECONDS = 90.0
"""A job that waits longer gives its place to others for ``POSTPONEMENT``."""
POSTPONEMENT = timedelta(seconds=30)
_FAR_OFF = 600 * SECOND
"""A reservation that is further off is from before the clock was set back."""
_RESERVE = (
    "INSERT INTO sending_pace (channel, next_at) VALUES ('email', ?)"
    " ON CONFLICT (channel) DO UPDATE SET next_at = CASE"
    " WHEN sending_pace.next_at < ? OR sending_pace.next_at > ? THEN ?"
    " ELSE sending_pace.next_at + ? END"
    " RETURNING next_at"
)


class SendingPace:
    """Turns to send a mail, evenly spaced."""

    def __init__(self, db: Database, mails_per_minute: int) -> None:
        """Configure the limit."""
        self._db = db
        self._interval = 60 * SECOND // mails_per_minute
        self._lock = asyncio.Lock()

    async def take_turn(self) -> bool:
        """Wait for a turn; return False if none came in ``MAX_WAIT_SECONDS``."""
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS), self._lock:
                async with self._db.write() as tx:
                    wait = await reserve_turn(tx, self._interval)
                await asyncio.sleep(wait / SECOND)
        except TimeoutError:
            return False
        return True


async def reserve_turn(tx: Tx, interval: int) -> int:
    """Reserve the next turn; return the wait until it. Both are microseconds."""
    now, first = tx.now, tx.now + interval
    row = await tx.fetch_one(_RESERVE, (first, now, now + _FAR_OFF, first, interval))
    assert row is not None
    return int(row[0]) - interval - now
