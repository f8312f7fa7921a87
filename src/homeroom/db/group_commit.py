"""Group commit: all waiting items go into one transaction, without a delay.

While one transaction is written, items for the next one arrive. Measured for ingest, a window of
2 ms was slower than no window. Where several transactions may run at a time, waiting items are
split between two (decision 0013). Where more waits than one commit takes, items of a higher
priority go first, and a share of each commit is left for the lower ones (decision 0045). Progress
ingest and the job worker use this file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from homeroom.commit_priority import CommitPriority
from homeroom.db.bulk import bulk_tx
from homeroom.db.database import Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.errors import DatabaseFault, HomeroomError, TooBusy, TooLarge, Unavailable

log = structlog.get_logger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
CommitResult = TypeVar("CommitResult")
ApplyBatch = Callable[[Tx, Sequence[Item]], Coroutine[Any, Any, Sequence[Result]]]

SPLIT_MIN_WEIGHT = 200
"""Smallest waiting weight that is split into two commits."""
LOWER_SHARE = 10
"""A commit leaves a tenth of its weight to each lower priority that waits."""


@dataclass(frozen=True, slots=True)
class GroupCommitLimits:
    """Limits of the queue, of one commit, and of the time that a commit may take."""

    max_waiting: int = 100_000
    """Weight that may wait; more is refused with ``TooBusy``. See ``room_for``."""
    max_batch: int = 5_000
    """Most weight of one commit."""
    timeout_seconds: float = 30.0
    """Time after which a commit is interrupted and tried again."""
    interrupt_seconds: float = 5.0
    """Time after which a commit that ignores its interrupt counts as stuck."""
    max_retries: int = 3
    retry_delay_seconds: float = 1.0

    def room_for(self, priority: CommitPriority) -> int:
        """Return the weight that may wait when an item of this priority comes.

        That is all of ``max_waiting`` for high, nine tenths for normal, eight for low.
        """
        return self.max_waiting - int(priority) * (self.max_waiting // LOWER_SHARE)


@dataclass(slots=True)
class _WaitingItem(Generic[Item, Result]):
    item: Item
    weight: int
    result: asyncio.Future[Result]


@dataclass(slots=True)
class _WaitingQueue(Generic[Item, Result]):
    """The waiting items of one priority, oldest first."""

    room: int
    items: deque[_WaitingItem[Item, Result]] = field(default_factory=deque)
    # Each of the two is counted by one thread only.
    weight_enqueued: int = 0
    weight_dequeued: int = 0

    @property
    def weight(self) -> int:
        return self.weight_enqueued - self.weight_dequeued

    def reserved_weight(self, share: int) -> int:
        """Return the weight that a commit leaves for this queue: its share, or one item."""
        return min(self.weight, max(share, self.items[0].weight)) if self.items else 0


class GroupCommit(Generic[Item, Result]):
    """Collects items, applies them in one transaction, returns results afterwards."""

    def __init__(
        self,
        db: Database,
        write_class: WriteClass,
        apply: ApplyBatch[Item, Result],
        *,
        name: str,
        limits: GroupCommitLimits | None = None,
        on_stuck: Callable[[str], None] | None = None,
        max_concurrent: int = 1,
    ) -> None:
        """Use ``apply``, which applies items in a transaction, with one result an item.

        ``on_stuck`` is called with ``name`` when a commit can neither finish nor be interrupted.
        With a ``max_concurrent`` of more than one, the next transaction begins when ``apply``
        calls ``BulkTx.reads_done``.
        """
        self._db, self._write_class, self._apply, self.name = db, write_class, apply, name
        self.limits = limits or GroupCommitLimits()
        self._on_stuck = on_stuck
        self._commit_slots = asyncio.Semaphore(max_concurrent)
        self._max_concurrent = max_concurrent
        self._running_commits = 0
        self._queues: tuple[_WaitingQueue[Item, Result], ...] = tuple(
            _WaitingQueue(self.limits.room_for(priority)) for priority in CommitPriority
        )
        self._wake = asyncio.Event()
        self._closing = False
        self.stuck = False
        self.last_commit_at: int | None = None

    @property
    def waiting_weight(self) -> int:
        """Return the weight of the items that wait for a commit to begin."""
        high, normal, low = self._queues
        return high.weight + normal.weight + low.weight

    def waiting_weight_of(self, priority: CommitPriority) -> int:
        """Return the weight of the waiting items of one priority."""
        return self._queues[priority].weight

    async def put(
        self, item: Item, weight: int = 1, priority: CommitPriority = CommitPriority.NORMAL
    ) -> Result:
        """Wait until the item is committed and return its result.

        The priority counts only while more waits than one commit takes.

        Raises ``TooBusy`` if too much waits already, ``Unavailable`` if it could not be committed.
        In both cases the caller may send it again: nothing of it was stored, or (if the answer of
        the database was lost) the same. Raises ``TooLarge`` for an item over the limit, which
        would be refused however often it was sent.
        """
        if self.stuck or self._closing:
            raise Unavailable(
                f"The writer of {self.name} is stopping. Send the request again later.",
                retry_after_seconds=5,
            )
        limit = self.limits.max_waiting
        if weight > limit:
            raise TooLarge(
                f"{weight} at once are more than the {limit} that may wait. Send them in parts."
            )
        queue = self._queues[priority]
        waiting = self.waiting_weight
        if waiting and waiting + weight > queue.room:
            raise TooBusy(retry_after_seconds=1)
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        queue.items.append(_WaitingItem(item, weight, result))
        queue.weight_enqueued += weight
        self._wake.set()
        return await result

    async def run(self) -> None:
        """Commit items until ``close`` is called and none waits."""
        async with asyncio.TaskGroup() as commits:
            while (items_wait := self._items_wait()) or not self._closing:
                if not items_wait:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await self._commit_slots.acquire()
                self._running_commits += 1
                may_continue = asyncio.Event()
                commit = commits.create_task(self._commit_batch(may_continue))
                commit.add_done_callback(partial(self._commit_ended, may_continue))
                await may_continue.wait()
                await asyncio.sleep(0)  # results reach their callers before the next batch begins

    def close(self) -> None:
        """Refuse new items; ``run`` returns once all waiting ones are committed."""
        self._closing = True
        self._wake.set()

    def _items_wait(self) -> bool:
        high, normal, low = self._queues
        return bool(normal.items or high.items or low.items)

    def _commit_ended(self, may_continue: asyncio.Event, _: asyncio.Task[None]) -> None:
        self._running_commits -= 1
        self._commit_slots.release()
        may_continue.set()

    async def _commit_batch(self, may_continue: asyncio.Event) -> None:
        """Commit one batch, or retry it; the next commit may begin after the event."""
        batch: list[_WaitingItem[Item, Result]] = []

        async def work(tx: Tx) -> None:
            if self._max_concurrent > 1:
                bulk_tx(tx).on_reads_done = may_continue.set
            if not batch:  # only now: more items have arrived while this writer waited
                batch.extend(self._take_batch())
            await self._apply_batch(tx, batch)

        error = await self._commit(work)
        if error is not None:
            await self._retry_or_split(batch or self._take_batch(), error)

    def _take_batch(self) -> list[_WaitingItem[Item, Result]]:
        """Dequeue the items of one commit; runs on the thread of the transaction.

        The highest priority goes first. At least one item of each priority that waits is in it, so
        that none starves.
        """
        batch: list[_WaitingItem[Item, Result]] = []
        limit = self._batch_weight_limit()
        share = limit // LOWER_SHARE
        reserved = [queue.reserved_weight(share) for queue in self._queues]
        weight = 0
        for queue, lower in zip(self._queues, (sum(reserved[1:]), reserved[2], 0), strict=True):
            weight += _take_from(queue, limit - weight - lower, batch)
        return batch

    def _batch_weight_limit(self) -> int:
        """Return the most weight of the next commit.

        If one commit had all items, all callers would be answered at once, send at once, and wait
        for one commit again: this process idle while the database works, and the reverse. Two
        halves alternate.
        """
        only_commit = self._max_concurrent > 1 and self._running_commits == 1
        if only_commit and self.waiting_weight >= SPLIT_MIN_WEIGHT:
            return min(self.waiting_weight // 2, self.limits.max_batch)
        return self.limits.max_batch

    async def _apply_batch(self, tx: Tx, batch: list[_WaitingItem[Item, Result]]) -> None:
        """Apply a batch and resolve its results after the commit."""
        if batch:  # not all callers were cancelled
            results = await self._apply(tx, [waiting.item for waiting in batch])
            tx.after_commit(partial(self._resolve_batch, batch, results))

    def _resolve_batch(
        self, batch: list[_WaitingItem[Item, Result]], results: Sequence[Result]
    ) -> None:
        self.last_commit_at = self._db.clock.now()
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.result.done():
                waiting.result.set_result(result)

    async def _retry_or_split(
        self, batch: list[_WaitingItem[Item, Result]], error: Exception
    ) -> None:
        """Retry a failed batch, commit each of its items alone, or refuse it.

        Only ``Unavailable`` is retried, and not while this process stops.
        """
        for retry in range(self.limits.max_retries):
            if not isinstance(error, Unavailable) or self.stuck or self._closing:
                break
            if isinstance(error, DatabaseFault):  # its cause is logged once for all commits
                if not error.retry_is_useful:
                    break
            else:
                log.warning(
                    "group_commit_retried", writer=self.name, attempt=retry + 1, error=repr(error)
                )
            await asyncio.sleep(self.limits.retry_delay_seconds)
            failed = await self._commit_again(batch)
            if failed is None:
                return
            error = failed
        if isinstance(error, HomeroomError) or len(batch) == 1:
            if not isinstance(error, HomeroomError):
                log.error("group_commit_failed", writer=self.name, exc_info=error)
            _fail_waiting(batch, error)
            return
        # One faulty item must not fail the others of its batch.
        log.warning("group_commit_split", writer=self.name, items=len(batch), error=repr(error))
        for waiting in batch:
            alone = await self._commit_again([waiting])
            if alone is not None:
                await self._retry_or_split([waiting], alone)

    async def _commit_again(self, batch: list[_WaitingItem[Item, Result]]) -> Exception | None:
        return await self._commit(lambda tx: self._apply_batch(tx, batch))

    async def _commit(self, work: Callable[[Tx], Coroutine[Any, Any, None]]) -> Exception | None:
        """Commit one batch; return the error that it failed with."""
        try:
            await self._commit_with_timeout(self._db.transact(work, self._write_class))
        except Exception as error:
            return error
        return None

    async def _commit_with_timeout(self, commit: Coroutine[Any, Any, CommitResult]) -> CommitResult:
        """Run a commit; interrupt it after the time-out, and report a stuck one."""
        running = asyncio.ensure_future(commit)
        done, _ = await asyncio.wait([running], timeout=self.limits.timeout_seconds)
        if done:
            return running.result()
        log.error("group_commit_timed_out", writer=self.name, seconds=self.limits.timeout_seconds)
        await self._db.interrupt()
        done, _ = await asyncio.wait([running], timeout=self.limits.interrupt_seconds)
        if not done:
            self.stuck = True
            for queue in self._queues:
                _fail_waiting(list(queue.items), Unavailable(retry_after_seconds=5))
                queue.items.clear()
            if self._on_stuck is not None:
                self._on_stuck(self.name)
            raise Unavailable(
                "The database does not answer. Send the request again later.",
                retry_after_seconds=5,
            )
        return running.result()


def _take_from(
    queue: _WaitingQueue[Item, Result], limit: int, batch: list[_WaitingItem[Item, Result]]
) -> int:
    """Move items of up to a weight, at least one, to the batch; return their weight."""
    weight = 0
    while queue.items:
        first = queue.items[0]
        if weight and weight + first.weight > limit:
            break
        queue.items.popleft()
        weight += first.weight
        if not first.result.done():  # the caller was cancelled: its item is not stored
            batch.append(first)
    queue.weight_dequeued += weight
    return weight


def _fail_waiting(batch: Sequence[_WaitingItem[Item, Result]], error: Exception) -> None:
    for waiting in batch:
        if not waiting.result.done():
            waiting.result.set_exception(error)
