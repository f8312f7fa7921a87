"""A lock whose waiters stand in lanes: the urgent lane first, nobody passed over for ever."""

from __future__ import annotations

import asyncio
from collections import deque

from homeroom.db.database import Lane

PATIENCE = 4
"""How many holders of more urgent lanes may overtake a waiting lane before it is its turn."""


class LaneLock:
    """Let one task at a time write. Job claims are short and urgent, ingest is neither."""

    def __init__(self) -> None:
        """Start unlocked."""
        self._held = False
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}
        self._overtaken: dict[Lane, int] = dict.fromkeys(Lane, 0)

    async def acquire(self, lane: Lane) -> None:
        """Wait for the lock in a lane."""
        if not self._held:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the turn had come already: pass it on
            else:
                self._waiting[lane].remove(turn)
            raise

    def release(self) -> None:
        """Give the lock to the next waiter, if there is one."""
        lane = self._next_lane()
        if lane is None:
            self._held = False
            return
        for other in Lane:
            if other > lane and self._waiting[other]:
                self._overtaken[other] += 1
        self._overtaken[lane] = 0
        self._waiting[lane].popleft().set_result(None)

    def _next_lane(self) -> Lane | None:
        waiting = [lane for lane in Lane if self._waiting[lane]]
        for lane in waiting:
            if self._overtaken[lane] >= PATIENCE:
                return lane
        return waiting[0] if waiting else None
