"""Group commit: everything that waits goes into one transaction, with no delay added.

While one transaction is being written, the next one gathers. Measured for ingest: a window of 2 ms
made it slower than no window at all (architecture page). Progress ingest and job settlement share
this file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from homeroom.db.database import Database, Lane
from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError, TooBusy, Unavailable

log = structlog.get_logger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
_ROUNDS = 2
"""Turns of the event loop until a commit that was started is with the database's own thread.

The answers of the one before it are given after that: thirty answers keep the loop busy for some
milliseconds, in which that thread would have had nothing to do.
"""
Apply = Callable[[Tx, Sequence[Item]], Awaitable[Sequence[Result]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, how much goes into one commit, and how long a commit may hang."""

    max_waiting: int = 100_000
    """Weight that may wait; more is refused with ``TooBusy``."""
    max_batch: int = 5_000
    """Weight that goes into one commit at most."""
    timeout_seconds: float = 30.0
    """A commit that hangs longer is interrupted and tried again (the seed's ``taskTimeout``)."""
    interrupt_seconds: float = 5.0
    """An interrupt that shows no effect for so long means that the process must go."""
    max_retries: int = 3
    retry_delay_seconds: float = 1.0


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    weight: int
    answer: asyncio.Future[Result]


class GroupCommit(Generic[Item, Result]):
    """Gather items, apply them in one transaction, and answer each once that is committed."""

    def __init__(
        self,
        db: Database,
        lane: Lane,
        apply: Apply[Item, Result],
        *,
        name: str,
        limits: Limits | None = None,
        on_stuck: Callable[[str], None] | None = None,
    ) -> None:
        """Take ``apply``, which gets a transaction and items and returns one result an item.

        ``on_stuck`` is called when a commit can neither finish nor be interrupted.
        """
        self._db, self._lane, self._apply, self.name = db, lane, apply, name
        self.limits = limits or Limits()
        self._on_stuck = on_stuck
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._wake = asyncio.Event()
        self._answers: list[tuple[asyncio.Future[Result], Result]] = []
        self._closing = False
        self.stuck = False
        self.waiting_weight = 0
        self.last_commit_at: int | None = None

    async def put(self, item: Item, weight: int = 1) -> Result:
        """Wait until the item is committed and return its result.

        Raises ``TooBusy`` if too much waits already, ``Unavailable`` if it could not be committed;
        in both cases nothing of it was stored, or (after a lost answer) it can be sent again.
        """
        if self.stuck or self._closing:
            raise Unavailable("The writer is stopping; send it again later.", retry_after_seconds=5)
        if self.waiting_weight + weight > self.limits.max_waiting and self._waiting:
            raise TooBusy(retry_after_seconds=1)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, weight, answer))
        self.waiting_weight += weight
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Commit what comes in until ``close`` is called and nothing waits."""
        try:
            while self._waiting or not self._closing:
                if self._waiting:
                    await self._step()
                    continue
                self._answer()
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._answer()

    async def _step(self) -> None:
        """Start the next commit, answer the one before it, and wait for the next."""
        batch = self._take()
        if not batch:
            return
        commit = asyncio.ensure_future(self._commit(batch))
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        self._answer()
        await commit

    def close(self) -> None:
        """Take no more items; ``run`` returns once what waits is committed."""
        self._closing = True
        self._wake.set()

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        weight = 0
        while self._waiting:
            first = self._waiting[0]
            if batch and weight + first.weight > self.limits.max_batch:
                break
            self._waiting.popleft()
            weight += first.weight
            if not first.answer.done():  # a caller who has gone is promised nothing
                batch.append(first)
        self.waiting_weight -= weight
        return batch

    async def _commit(self, batch: list[_Waiting[Item, Result]]) -> None:
        """Commit a batch; where that fails for a reason of its own, each item alone."""
        if not batch:
            return
        try:
            results = await self._attempt([waiting.item for waiting in batch])
        except HomeroomError as error:
            _refuse(batch, error)
        except Exception as error:
            if len(batch) > 1:  # one poisonous item must not fail its neighbours
                log.warning(
                    "group_commit_split", writer=self.name, items=len(batch), error=repr(error)
                )
                for waiting in batch:
                    await self._commit([waiting])
                return
            log.exception("group_commit_failed", writer=self.name)
            _refuse(batch, error)
        else:
            self.last_commit_at = self._db.clock.now()
            for waiting, result in zip(batch, results, strict=True):
                self._answers.append((waiting.answer, result))

    def _answer(self) -> None:
        """Answer what is committed."""
        answers, self._answers = self._answers, []
        for answer, result in answers:
            if not answer.done():
                answer.set_result(result)

    async def _attempt(self, items: list[Item]) -> Sequence[Result]:
        """Try a commit up to ``1 + max_retries`` times; only an unavailable database is retried."""
        for attempt in range(self.limits.max_retries + 1):
            try:
                return await self._watched(items)
            except Unavailable:
                if self.stuck or attempt == self.limits.max_retries:
                    raise
                log.warning("group_commit_retry", writer=self.name, attempt=attempt + 1)
                await asyncio.sleep(self.limits.retry_delay_seconds)
        raise AssertionError("the loop above returns or raises")

    async def _watched(self, items: list[Item]) -> Sequence[Result]:
        """Run one commit under the eyes of a timer that interrupts it, or gives the process up."""
        running = asyncio.ensure_future(self._once(items))
        done, _ = await asyncio.wait([running], timeout=self.limits.timeout_seconds)
        if not done:
            log.error("group_commit_hangs", writer=self.name, seconds=self.limits.timeout_seconds)
            await self._db.interrupt()
            done, _ = await asyncio.wait([running], timeout=self.limits.interrupt_seconds)
        if not done:
            self.stuck = True
            _refuse(list(self._waiting), Unavailable(retry_after_seconds=5))
            self._waiting.clear()
            if self._on_stuck is not None:
                self._on_stuck(self.name)
            raise Unavailable(
                "The database does not answer; send it again later.", retry_after_seconds=5
            )
        return running.result()

    async def _once(self, items: list[Item]) -> Sequence[Result]:
        async def work(tx: Tx) -> Sequence[Result]:
            return await self._apply(tx, items)

        return await self._db.transact(work, self._lane)


def _refuse(batch: Sequence[_Waiting[Item, Result]], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
