"""Group commit: everything that waits goes into one transaction, with no delay added.

While one transaction is being written, the next one gathers. Measured for ingest: a window of 2 ms
made it slower than no window at all (architecture page). Where several may be under way, what waits
is shared among two (decision 0013). Progress ingest and job settlement share this file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from homeroom.db.database import Database, Lane
from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError, TooBusy, Unavailable

log = structlog.get_logger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
Done = TypeVar("Done")
Apply = Callable[[Tx, Sequence[Item]], Coroutine[Any, Any, Sequence[Result]]]

WORTH_SHARING = 200
"""Weight from which what waits is worth two commits."""


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
        at_once: int = 1,
    ) -> None:
        """Take ``apply``, which gets a transaction and items and returns one result an item.

        ``on_stuck`` is called when a commit can neither finish nor be interrupted. With ``at_once``
        more than one may be under way: another begins when ``Tx.only_writes_follow`` is called.
        """
        self._db, self._lane, self._apply, self.name = db, lane, apply, name
        self.limits = limits or Limits()
        self._on_stuck = on_stuck
        self._room = asyncio.Semaphore(at_once)
        self._at_once = at_once
        self._under_way = 0
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self.stuck = False
        # Each is counted by one thread only.
        self._weight_put = self._weight_taken = 0
        self.last_commit_at: int | None = None

    @property
    def waiting_weight(self) -> int:
        """Return the weight of what waits and is not being committed."""
        return self._weight_put - self._weight_taken

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
        self._weight_put += weight
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Commit what comes in until ``close`` is called and nothing waits."""
        async with asyncio.TaskGroup() as under_way:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await self._room.acquire()
                self._under_way += 1
                next_one = asyncio.Event()
                commit = under_way.create_task(self._commit_next(next_one))
                commit.add_done_callback(partial(self._ended, next_one))
                await next_one.wait()
                await asyncio.sleep(0)  # answers go out before the next batch is worked on

    def close(self) -> None:
        """Take no more items; ``run`` returns once what waits is committed."""
        self._closing = True
        self._wake.set()

    def _ended(self, next_one: asyncio.Event, _: asyncio.Task[None]) -> None:
        self._under_way -= 1
        self._room.release()
        next_one.set()

    async def _commit_next(self, next_one: asyncio.Event) -> None:
        """Commit one batch; one that fails is seen to. The next one may begin with the event."""
        batch: list[_Waiting[Item, Result]] = []

        async def work(tx: Tx) -> None:
            if self._at_once > 1:
                tx.on_only_writes = next_one.set
            if not batch:  # not before it is this writer's turn: more has come in meanwhile
                batch.extend(self._take())
            await self._work_on(tx, batch)

        error = await self._commit(work)
        if error is not None:
            await self._see_to(batch or self._take(), error)

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Take what goes into one commit; called on the thread of the transaction."""
        batch: list[_Waiting[Item, Result]] = []
        weight, most = 0, self._most()
        while self._waiting:
            first = self._waiting[0]
            if batch and weight + first.weight > most:
                break
            self._waiting.popleft()
            weight += first.weight
            if not first.answer.done():  # a caller who has gone is promised nothing
                batch.append(first)
        self._weight_taken += weight
        return batch

    def _most(self) -> int:
        """Return the weight that the next commit takes.

        If all that waits went into one, all who were waiting would be answered at once, send again
        at once, and wait again for one commit: this process idle while the database works, and the
        other way round. Two halves are worked on in turns.
        """
        alone = self._at_once > 1 and self._under_way == 1
        if alone and self.waiting_weight >= WORTH_SHARING:
            return min(self.waiting_weight // 2, self.limits.max_batch)
        return self.limits.max_batch

    async def _work_on(self, tx: Tx, batch: list[_Waiting[Item, Result]]) -> None:
        """Do what a batch asks for, and answer it as soon as that is committed."""
        if batch:  # not all callers have gone
            results = await self._apply(tx, [waiting.item for waiting in batch])
            tx.after_commit(partial(self._answer, batch, results))

    def _answer(self, batch: list[_Waiting[Item, Result]], results: Sequence[Result]) -> None:
        """Answer what is committed."""
        self.last_commit_at = self._db.clock.now()
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(result)

    async def _see_to(self, batch: list[_Waiting[Item, Result]], error: Exception) -> None:
        """Try a batch that failed again, or each of its items alone, or refuse it.

        Only what failed for want of the database is tried again, and not while this process stops.
        """
        for retry in range(self.limits.max_retries):
            if not isinstance(error, Unavailable) or self.stuck or self._closing:
                break
            log.warning("group_commit_retry", writer=self.name, attempt=retry + 1)
            await asyncio.sleep(self.limits.retry_delay_seconds)
            failed = await self._commit_again(batch)
            if failed is None:
                return
            error = failed
        if isinstance(error, HomeroomError) or len(batch) == 1:
            if not isinstance(error, HomeroomError):
                log.error("group_commit_failed", writer=self.name, exc_info=error)
            _refuse(batch, error)
            return
        # One poisonous item must not fail its neighbours.
        log.warning("group_commit_split", writer=self.name, items=len(batch), error=repr(error))
        for waiting in batch:
            alone = await self._commit_again([waiting])
            if alone is not None:
                await self._see_to([waiting], alone)

    async def _commit_again(self, batch: list[_Waiting[Item, Result]]) -> Exception | None:
        return await self._commit(lambda tx: self._work_on(tx, batch))

    async def _commit(self, work: Callable[[Tx], Coroutine[Any, Any, None]]) -> Exception | None:
        """Commit one batch; return the error that it failed with."""
        try:
            await self._watched(self._db.transact(work, self._lane))
        except Exception as error:
            return error
        return None

    async def _watched(self, commit: Coroutine[Any, Any, Done]) -> Done:
        """Run a commit under the eyes of a timer that interrupts it, or gives the process up."""
        running = asyncio.ensure_future(commit)
        done, _ = await asyncio.wait([running], timeout=self.limits.timeout_seconds)
        if done:
            return running.result()
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


def _refuse(batch: Sequence[_Waiting[Item, Result]], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
