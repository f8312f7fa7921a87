"""The writer's queue: the urgent lane first, but nobody is passed over for ever."""

from __future__ import annotations

import asyncio

import pytest

from homeroom.db.database import Lane
from homeroom.db.lane import PATIENCE, LaneLock

pytestmark = pytest.mark.anyio


async def _until_they_wait() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _enter(lock: LaneLock, lane: Lane, order: list[Lane]) -> asyncio.Task[None]:
    async def enter() -> None:
        await lock.acquire(lane)
        order.append(lane)
        lock.release()

    return asyncio.create_task(enter())


async def test_one_at_a_time_holds_the_lock() -> None:
    lock, inside, most = LaneLock(), 0, 0

    async def work(lane: Lane) -> None:
        nonlocal inside, most
        await lock.acquire(lane)
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        lock.release()

    await asyncio.gather(*(work(lane) for lane in Lane for _ in range(20)))
    assert most == 1


async def test_job_claims_go_before_requests_and_those_before_ingest() -> None:
    lock, order = LaneLock(), list[Lane]()
    await lock.acquire(Lane.REQUEST)
    waiting = [_enter(lock, lane, order) for lane in (Lane.INGEST, Lane.REQUEST, Lane.JOBS)]
    await _until_they_wait()
    lock.release()
    await asyncio.gather(*waiting)
    assert order == [Lane.JOBS, Lane.REQUEST, Lane.INGEST]


async def test_ingest_has_its_turn_after_a_few_job_claims() -> None:
    lock, order = LaneLock(), list[Lane]()
    await lock.acquire(Lane.REQUEST)
    waiting = [_enter(lock, Lane.INGEST, order)]
    waiting += [_enter(lock, Lane.JOBS, order) for _ in range(3 * PATIENCE)]
    await _until_they_wait()
    lock.release()
    await asyncio.gather(*waiting)
    assert order.index(Lane.INGEST) == PATIENCE


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    lock, order = LaneLock(), list[Lane]()
    await lock.acquire(Lane.REQUEST)
    gone, stays = _enter(lock, Lane.JOBS, order), _enter(lock, Lane.INGEST, order)
    await _until_they_wait()
    gone.cancel()
    await _until_they_wait()
    lock.release()
    await stays
    assert order == [Lane.INGEST]


async def test_a_turn_that_comes_to_somebody_cancelled_is_passed_on() -> None:
    lock, order = LaneLock(), list[Lane]()
    await lock.acquire(Lane.REQUEST)
    gone, stays = _enter(lock, Lane.JOBS, order), _enter(lock, Lane.INGEST, order)
    await _until_they_wait()
    lock.release()  # the turn is given to the first, which has not run since
    gone.cancel()
    await stays
    assert order == [Lane.INGEST]
    await asyncio.wait_for(lock.acquire(Lane.JOBS), 1)
