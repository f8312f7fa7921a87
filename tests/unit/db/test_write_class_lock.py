"""The priority lock of SQLite's writer: urgent classes first, without starvation."""

from __future__ import annotations

import asyncio

import pytest

from homeroom.db.database import WriteClass
from homeroom.db.sqlite.database import MAX_OVERTAKES, WriteClassLock

pytestmark = pytest.mark.anyio


async def _run_waiting_tasks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _enter(
    lock: WriteClassLock, write_class: WriteClass, order: list[WriteClass]
) -> asyncio.Task[None]:
    async def enter() -> None:
        await lock.acquire(write_class)
        order.append(write_class)
        lock.release()

    return asyncio.create_task(enter())


async def test_one_at_a_time_holds_the_lock() -> None:
    lock, inside, most = WriteClassLock(), 0, 0

    async def work(write_class: WriteClass) -> None:
        nonlocal inside, most
        await lock.acquire(write_class)
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        lock.release()

    await asyncio.gather(*(work(write_class) for write_class in WriteClass for _ in range(20)))
    assert most == 1


async def test_job_claims_go_before_requests_and_those_before_ingest() -> None:
    lock, order = WriteClassLock(), list[WriteClass]()
    await lock.acquire(WriteClass.REQUEST)
    waiting = [
        _enter(lock, write_class, order)
        for write_class in (WriteClass.INGEST, WriteClass.REQUEST, WriteClass.JOBS)
    ]
    await _run_waiting_tasks()
    lock.release()
    await asyncio.gather(*waiting)
    assert order == [WriteClass.JOBS, WriteClass.REQUEST, WriteClass.INGEST]


async def test_ingest_gets_the_lock_after_a_few_job_claims() -> None:
    lock, order = WriteClassLock(), list[WriteClass]()
    await lock.acquire(WriteClass.REQUEST)
    waiting = [_enter(lock, WriteClass.INGEST, order)]
    waiting += [_enter(lock, WriteClass.JOBS, order) for _ in range(3 * MAX_OVERTAKES)]
    await _run_waiting_tasks()
    lock.release()
    await asyncio.gather(*waiting)
    assert order.index(WriteClass.INGEST) == MAX_OVERTAKES


async def test_a_cancelled_waiter_blocks_no_other() -> None:
    lock, order = WriteClassLock(), list[WriteClass]()
    await lock.acquire(WriteClass.REQUEST)
    cancelled, waiting = (
        _enter(lock, WriteClass.JOBS, order),
        _enter(lock, WriteClass.INGEST, order),
    )
    await _run_waiting_tasks()
    cancelled.cancel()
    await _run_waiting_tasks()
    lock.release()
    await waiting
    assert order == [WriteClass.INGEST]


async def test_a_lock_granted_to_a_cancelled_waiter_is_passed_on() -> None:
    lock, order = WriteClassLock(), list[WriteClass]()
    await lock.acquire(WriteClass.REQUEST)
    cancelled, waiting = (
        _enter(lock, WriteClass.JOBS, order),
        _enter(lock, WriteClass.INGEST, order),
    )
    await _run_waiting_tasks()
    lock.release()  # grants the lock to the first, which has not run since
    cancelled.cancel()
    await waiting
    assert order == [WriteClass.INGEST]
    await asyncio.wait_for(lock.acquire(WriteClass.JOBS), 1)
