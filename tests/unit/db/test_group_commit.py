"""Group commit: accepted items are stored, refused ones are not, and a hang is detected."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing

import pytest

from homeroom.commit_priority import CommitPriority
from homeroom.db.bulk import bulk_tx
from homeroom.db.database import WriteClass
from homeroom.db.group_commit import SPLIT_MIN_WEIGHT, GroupCommit, GroupCommitLimits
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden, TooBusy, TooLarge, Unavailable

pytestmark = pytest.mark.anyio
ENDLESS = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
Commits = GroupCommit[int, int]
Apply = Callable[[Tx, Sequence[int]], Awaitable[Sequence[int]]]


@pytest.fixture
async def counter(db: SqliteDatabase) -> SqliteDatabase:
    async with db.write() as tx:
        await tx.execute("CREATE TABLE item (id INTEGER PRIMARY KEY)")
    return db


async def store(tx: Tx, items: Sequence[int]) -> Sequence[int]:
    await tx.executemany("INSERT INTO item (id) VALUES (?)", [(item,) for item in items])
    return [item * 2 for item in items]


def _stored(db: SqliteDatabase) -> set[int]:
    with closing(sqlite3.connect(db.path)) as other:
        return {row[0] for row in other.execute("SELECT id FROM item")}


@asynccontextmanager
async def _running(
    db: SqliteDatabase,
    apply: Apply = store,
    limits: GroupCommitLimits | None = None,
    on_stuck: Callable[[str], None] | None = None,
    max_concurrent: int = 1,
) -> AsyncIterator[Commits]:
    commits = Commits(
        db,
        WriteClass.INGEST,
        apply,
        name="items",
        limits=limits,
        on_stuck=on_stuck,
        max_concurrent=max_concurrent,
    )
    task = asyncio.create_task(commits.run())
    yield commits
    commits.close()
    async with asyncio.timeout(20):
        await task


async def test_an_item_is_stored_before_its_result_is_returned(counter: SqliteDatabase) -> None:
    async def put(commits: Commits, item: int) -> None:
        assert await commits.put(item) == item * 2
        assert item in _stored(counter)

    async with _running(counter) as commits:
        await asyncio.gather(*(put(commits, item) for item in range(40)))


async def test_items_that_wait_together_are_committed_together(counter: SqliteDatabase) -> None:
    sizes = []

    async def counted(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        return await store(tx, items)

    async with _running(counter, counted) as commits:
        await asyncio.gather(*(commits.put(item) for item in range(300)))
    assert sum(sizes) == 300
    assert max(sizes) >= 100


async def test_one_commit_takes_no_more_than_its_limit(counter: SqliteDatabase) -> None:
    sizes = []

    async def counted(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        return await store(tx, items)

    async with _running(counter, counted, GroupCommitLimits(max_batch=30)) as commits:
        await asyncio.gather(*(commits.put(item, weight=10) for item in range(20)))
        await commits.put(99, weight=1_000)  # heavier than a batch may be: it goes alone
    assert max(sizes) == 3
    assert sum(sizes) == 21


@pytest.mark.parametrize(
    ("waiting", "first"), [(SPLIT_MIN_WEIGHT + 100, (SPLIT_MIN_WEIGHT + 100) // 2), (100, 100)]
)
async def test_waiting_items_are_split_if_two_commits_may_run(
    counter: SqliteDatabase, waiting: int, first: int
) -> None:
    sizes = []

    async def counted(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        bulk_tx(tx).reads_done()
        return await store(tx, items)

    async with _running(counter, counted, max_concurrent=2) as commits:
        answers = await asyncio.gather(*(commits.put(item) for item in range(waiting)))
    assert answers == [item * 2 for item in range(waiting)]
    assert sizes[0] == first
    assert sum(sizes) == waiting


async def test_items_beyond_the_limit_are_refused_and_waiting_ones_are_committed(
    counter: SqliteDatabase,
) -> None:
    commits = Commits(
        counter, WriteClass.INGEST, store, name="items", limits=GroupCommitLimits(max_waiting=3)
    )
    waiting = [asyncio.create_task(commits.put(item)) for item in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooBusy) as refused:
        await commits.put(3)
    assert refused.value.retry_after_seconds == 1
    with pytest.raises(TooLarge):  # no pause would make room for it
        await commits.put(4, weight=4)
    task = asyncio.create_task(commits.run())
    assert await asyncio.gather(*waiting) == [0, 2, 4]
    assert commits.waiting_weight == 0
    commits.close()
    await task
    assert _stored(counter) == {0, 1, 2}


HIGH, NORMAL, LOW = CommitPriority


async def _batches_of_a_backlog(
    db: SqliteDatabase, max_batch: int, *items: tuple[CommitPriority, int, int]
) -> list[list[int]]:
    """Return the items of each commit; an item is priority, id and weight."""
    batches = list[list[int]]()

    async def noted(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        return await store(tx, items)

    limits = GroupCommitLimits(max_batch=max_batch)
    commits = Commits(db, WriteClass.INGEST, noted, name="items", limits=limits)
    waiting = [
        asyncio.create_task(commits.put(id, weight, priority)) for priority, id, weight in items
    ]
    await asyncio.sleep(0)
    commits.close()
    await commits.run()
    assert await asyncio.gather(*waiting) == [id * 2 for _, id, _ in items]
    assert commits.waiting_weight == 0
    return batches


async def test_of_a_backlog_higher_priorities_go_first_and_none_starves(
    counter: SqliteDatabase,
) -> None:
    backlog = [(priority, 100 * priority + n, 1) for priority in (LOW, NORMAL, HIGH)
               for n in range(40)]  # fmt: skip
    batches = await _batches_of_a_backlog(counter, 20, *backlog)
    first = batches[0]
    assert [id // 100 for id in first] == [0] * 16 + [1] * 2 + [2] * 2
    assert first[:16] == list(range(16)), "within a priority the oldest goes first"
    kinds = [{CommitPriority(id // 100) for id in batch} for batch in batches]
    ends = {
        priority: max(n for n, found in enumerate(kinds) if priority in found)
        for priority in CommitPriority
    }
    assert ends[HIGH] < ends[NORMAL] < ends[LOW]
    assert [len(batch) for batch in batches] == [20] * 6
    for found in kinds[: ends[HIGH]]:
        assert found == set(CommitPriority)


async def test_an_item_heavier_than_the_share_of_its_priority_goes_with_the_first_commit(
    counter: SqliteDatabase,
) -> None:
    items = [(LOW, 900, 9), *((HIGH, n, 5) for n in range(4))]
    batches = await _batches_of_a_backlog(counter, 20, *items)
    assert batches == [[0, 1, 900], [2, 3]]
    batches = await _batches_of_a_backlog(
        counter, 20, (LOW, 901, 19), (HIGH, 10, 30), (HIGH, 11, 1)
    )
    assert batches == [[10, 901], [11]]


async def test_without_a_backlog_one_commit_takes_all_priorities(counter: SqliteDatabase) -> None:
    batches = await _batches_of_a_backlog(
        counter, 20, *((priority, n, 1) for n, priority in enumerate([LOW, NORMAL, HIGH, LOW]))
    )
    assert [sorted(batch) for batch in batches] == [[0, 1, 2, 3]]


async def test_a_full_queue_refuses_low_before_normal_before_high(
    counter: SqliteDatabase,
) -> None:
    limits = GroupCommitLimits(max_waiting=100)
    commits = Commits(counter, WriteClass.INGEST, store, name="items", limits=limits)
    waiting, room = [], dict[CommitPriority, int]()
    for priority in (LOW, NORMAL, HIGH):
        for _ in range(101):
            item = asyncio.create_task(commits.put(len(waiting), 1, priority))
            await asyncio.sleep(0)
            if item.done():
                with pytest.raises(TooBusy):
                    item.result()
                break
            waiting.append(item)
        room[priority] = commits.waiting_weight
    assert room == {LOW: 80, NORMAL: 90, HIGH: 100}
    assert [commits.waiting_weight_of(priority) for priority in CommitPriority] == [10, 10, 80]
    for priority in (LOW, NORMAL):
        with pytest.raises(TooBusy):
            await commits.put(999, 1, priority)
    commits.close()
    await commits.run()
    assert len(await asyncio.gather(*waiting)) == 100


async def test_an_item_as_heavy_as_the_whole_queue_finds_room_when_nothing_waits(
    counter: SqliteDatabase,
) -> None:
    async with _running(counter, limits=GroupCommitLimits(max_waiting=100)) as commits:
        assert await commits.put(1, 100, LOW) == 2


async def test_one_bad_item_fails_alone(counter: SqliteDatabase) -> None:
    async def picky(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        results = await store(tx, items)
        if 7 in items:
            raise LookupError("seven")
        return results

    async with _running(counter, picky) as commits:
        answers = await asyncio.gather(
            *(commits.put(item) for item in range(10)), return_exceptions=True
        )
    assert isinstance(answers[7], LookupError)
    assert answers[:7] + answers[8:] == [item * 2 for item in range(10) if item != 7]
    assert _stored(counter) == set(range(10)) - {7}


async def test_an_error_of_homeroom_reaches_the_caller(counter: SqliteDatabase) -> None:
    async def refuse(_tx: Tx, _items: Sequence[int]) -> Sequence[int]:
        raise Forbidden("Not here.")

    async with _running(counter, refuse) as commits:
        with pytest.raises(Forbidden):
            await commits.put(1)


async def test_a_commit_is_retried_while_the_database_is_away(
    counter: SqliteDatabase,
) -> None:
    attempts = 0

    async def away_twice(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        nonlocal attempts
        attempts += 1
        results = await store(tx, items)
        if attempts < 3:
            raise Unavailable
        return results

    async with _running(
        counter, away_twice, GroupCommitLimits(retry_delay_seconds=0.001)
    ) as commits:
        assert await commits.put(5) == 10
    assert attempts == 3
    assert _stored(counter) == {5}


async def test_callers_get_unavailable_if_the_database_stays_away(
    counter: SqliteDatabase,
) -> None:
    async def away(_tx: Tx, _items: Sequence[int]) -> Sequence[int]:
        raise Unavailable

    limits = GroupCommitLimits(retry_delay_seconds=0.001, max_retries=2)
    async with _running(counter, away, limits) as commits:
        with pytest.raises(Unavailable):
            await commits.put(5)
    assert _stored(counter) == set()


async def test_a_commit_that_hangs_is_interrupted_and_retried(
    counter: SqliteDatabase,
) -> None:
    hung = False

    async def hang_once(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        nonlocal hung
        results = await store(tx, items)
        if not hung:
            hung = True
            await tx.fetch(ENDLESS)
        return results

    limits = GroupCommitLimits(timeout_seconds=0.2, retry_delay_seconds=0.001)
    async with _running(counter, hang_once, limits) as commits:
        assert await commits.put(4) == 8
    assert hung
    assert _stored(counter) == {4}


async def test_a_commit_that_cannot_be_interrupted_is_reported_as_stuck(
    counter: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck: list[str] = []
    interrupt = counter.interrupt

    async def ignore() -> None:
        """Simulate a disk that does not answer: the statement ignores the interrupt."""

    async def hang(tx: Tx, items: Sequence[int]) -> Sequence[int]:
        await tx.fetch(ENDLESS)
        return items

    monkeypatch.setattr(counter, "interrupt", ignore)
    limits = GroupCommitLimits(timeout_seconds=0.05, interrupt_seconds=0.05)
    async with _running(counter, hang, limits, stuck.append) as commits:
        first = asyncio.create_task(commits.put(1))
        await asyncio.sleep(0)
        later = asyncio.create_task(commits.put(2))
        answers = await asyncio.gather(first, later, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
        assert stuck == ["items"]
        with pytest.raises(Unavailable):
            await commits.put(3)
        await interrupt()
    assert _stored(counter) == set()


async def test_closing_commits_waiting_items_and_refuses_new_ones(counter: SqliteDatabase) -> None:
    commits = Commits(counter, WriteClass.INGEST, store, name="items")
    waiting = [asyncio.create_task(commits.put(item)) for item in range(3)]
    await asyncio.sleep(0)
    commits.close()
    with pytest.raises(Unavailable):
        await commits.put(3)
    await commits.run()
    assert await asyncio.gather(*waiting) == [0, 2, 4]


async def test_an_item_of_a_cancelled_caller_is_not_stored(counter: SqliteDatabase) -> None:
    commits = Commits(counter, WriteClass.INGEST, store, name="items")
    cancelled, waiting = (asyncio.create_task(commits.put(item)) for item in (1, 2))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    commits.close()
    await commits.run()
    assert await waiting == 4
    assert _stored(counter) == {2}
