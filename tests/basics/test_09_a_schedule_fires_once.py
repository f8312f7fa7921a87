"""9. A slot of a schedule is a unique row: any number of schedulers fire it once."""

import asyncio
from datetime import timedelta

import pytest
from tests.support.basic_school import Applaud, School
from tests.support.kernel import Kernel

from homeroom.jobs.api import JobQuery, declare_schedule, search
from homeroom.jobs.schedule_store import get_schedule

pytestmark = pytest.mark.anyio


async def test_a_schedule_fires_once(school: School) -> None:
    async with school.db.write() as tx:
        args = Applaud(completion_id="c1")
        await declare_schedule(tx, "evening", "0 18 * * *", "Europe/Berlin", args)
        upcoming = (await get_schedule(tx, "evening")).next_slot_at
    assert upcoming is not None
    school.db.clock.advance(timedelta(microseconds=upcoming - school.db.clock.now()))

    schedulers = [Kernel(school.db, registry=school.kernel.registry).maintenance for _ in range(3)]
    fired = await asyncio.gather(*(each.fire_schedules() for each in schedulers))

    assert sorted(fired) == [0, 0, 1]
    async with school.db.read() as tx:
        [(_, job)] = await search(tx, JobQuery(queue="basics"), limit=10)
    assert job.id.startswith("schedule.evening.")  # the slot's own id: it cannot be added twice
