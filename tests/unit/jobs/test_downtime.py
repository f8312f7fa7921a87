"""The heartbeat of schedulers, and the downtimes that it finds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.support.kernel import Kernel

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.instant import DAY, SECOND
from homeroom.jobs.api import Downtime, downtimes, workers
from homeroom.jobs.downtime import Uptime, find_downtime
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.queue_store import record_heartbeat

pytestmark = pytest.mark.anyio
MINUTE = 60 * SECOND


def scheduler(db: Database) -> JobMaintenance:
    return JobMaintenance(db, Registry(), SqlEngine(), records_uptime=True)


async def recorded(db: Database) -> list[Downtime]:
    async with db.read() as tx:
        return await downtimes(tx, 0)


@pytest.mark.parametrize(
    ("alive_at", "latest_at", "now", "found"),
    [
        (100 * DAY, 100 * DAY, 100 * DAY + 9 * MINUTE, None),
        (100 * DAY, 100 * DAY, 100 * DAY + 10 * MINUTE, (100 * DAY, 100 * DAY + 10 * MINUTE)),
        (100 * DAY, 100 * DAY, 99 * DAY, None),  # the clock has gone back
        (3 * MINUTE, 100 * DAY, 101 * DAY, (100 * DAY, 101 * DAY)),  # it started in the past
        (100 * DAY, 500 * DAY, 101 * DAY, (100 * DAY, 101 * DAY)),  # it was ahead once
    ],
)
def test_a_silence_of_ten_minutes_is_a_downtime(
    alive_at: int, latest_at: int, now: int, found: tuple[int, int] | None
) -> None:
    expected = None if found is None else Downtime(*found)
    assert find_downtime(Uptime(alive_at, latest_at), now) == expected


async def test_a_restart_is_no_downtime_and_a_night_is_one(db: Database, clock: Clock) -> None:
    await scheduler(db).tick()
    clock.advance(timedelta(minutes=5))
    await scheduler(db).tick()
    assert await recorded(db) == []
    clock.advance(timedelta(hours=9))
    await scheduler(db).tick()
    await scheduler(db).tick()  # another process, or the next tick
    [downtime] = await recorded(db)
    length = downtime.ended_at - downtime.started_at
    assert 9 * 60 * MINUTE <= length < 9 * 60 * MINUTE + 5 * MINUTE


async def test_a_running_process_records_a_suspended_machine_and_writes_once_a_minute(
    db: Database, clock: Clock
) -> None:
    running = scheduler(db)
    for _ in range(30):
        await running.tick()
        clock.advance(timedelta(minutes=1))
    assert await recorded(db) == []
    clock.advance(timedelta(hours=3))
    await running.tick()
    assert len(await recorded(db)) == 1


async def test_a_command_that_runs_jobs_itself_ends_no_downtime(db: Database, clock: Clock) -> None:
    await scheduler(db).tick()
    clock.advance(timedelta(hours=1))
    await Kernel(db).maintenance.tick()
    clock.advance(timedelta(hours=1))
    await scheduler(db).tick()
    [downtime] = await recorded(db)
    assert downtime.ended_at - downtime.started_at >= 120 * MINUTE


async def test_a_downtime_of_a_clock_that_was_ahead_is_removed(db: Database, clock: Clock) -> None:
    running = scheduler(db)
    await running.tick()
    clock.advance(timedelta(hours=1))
    await running.tick()
    right = await recorded(db)
    clock.advance(timedelta(days=400))
    await running.tick()
    assert len(await recorded(db)) == 2
    clock.advance(timedelta(days=-400))
    await running.tick()
    assert await recorded(db) == right
    clock.advance(timedelta(hours=2))  # the next one is found as well
    await running.tick()
    assert len(await recorded(db)) == 2


async def test_what_a_clock_ahead_of_time_wrote_about_the_future_is_corrected(
    db: Database, clock: Clock
) -> None:
    running = scheduler(db)
    kernel = Kernel(db)
    kernel.handle()
    await running.tick()
    clock.advance(timedelta(days=400))
    await running.tick()
    retried = await kernel.add(delay=timedelta(hours=1))
    held = await kernel.add()
    async with db.write() as tx:
        await tx.execute(
            "UPDATE job SET state = 'active', lease_token = 'dead', lease_until = ? WHERE id = ?",
            (tx.now + 30 * SECOND, held),
        )
        await record_heartbeat(tx, "dead", "host", 1, {}, lease=30 * SECOND)
    clock.advance(timedelta(days=-400))
    await running.tick()
    now = clock.now()
    assert now < (await kernel.job(retried)).run_at <= now + 61 * MINUTE
    lease_until = (await kernel.job(held)).lease_until
    assert lease_until is not None
    assert now < lease_until <= now + MINUTE
    async with db.read() as tx:
        assert [worker.heartbeat_at <= now for worker in await workers(tx)] == [True]
