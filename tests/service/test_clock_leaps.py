"""A clock that leaps: no long transaction, and no schedule that is silent afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.support.activity_school import ActivitySchool, at, build, local

from homeroom.activity.obligation_update import open_and_close_weeks
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.db.tx import Tx
from homeroom.jobs.api import JobArgs, declare_schedule
from homeroom.jobs.slot_firing import SLOTS_PER_TRANSACTION

pytestmark = [pytest.mark.anyio, pytest.mark.service]
HOUSEKEEPING = ("access.prune", "progress.expire", "progress.fold_events", "progress.prune")


class Sweep(JobArgs, frozen=True, kw_only=True):
    """Hourly housekeeping."""

    kind = "test.sweep"
    queue = "test"


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-26T12:00"))
    return clock


@pytest.fixture
async def school(db: SqliteDatabase, clock: Clock) -> ActivitySchool:
    school = build(db, clock)
    await school.programme("one")
    await school.programme("two")
    await school.programme("own-time", per_user_time=True)  # a slot every 15 minutes
    school.kernel.handle(args=Sweep)
    async with db.write() as tx:
        for name in HOUSEKEEPING:
            await declare_schedule(tx, name, "17 * * * *", "UTC", Sweep())
    return school


def count_written_rows(monkeypatch: pytest.MonkeyPatch, of: type[Tx]) -> dict[int, int]:
    """Count the rows and statements that each transaction writes, by its number."""
    counted: dict[int, int] = {}
    alive: list[Tx] = []  # so that no two transactions have one id
    execute, executemany = of.execute, of.executemany

    async def counting_execute(tx: Tx, statement: Any, values: Sequence[Any] = ()) -> int:
        alive.append(tx)
        counted[id(tx)] = counted.get(id(tx), 0) + 1
        return await execute(tx, statement, values)

    async def counting_executemany(tx: Tx, statement: Any, rows: Any) -> int:
        alive.append(tx)
        counted[id(tx)] = counted.get(id(tx), 0) + len(list(rows))
        return await executemany(tx, statement, rows)

    monkeypatch.setattr(of, "execute", counting_execute)
    monkeypatch.setattr(of, "executemany", counting_executemany)
    return counted


async def fire_all(school: ActivitySchool) -> int:
    """Tick until no slot is due; return the number of ticks."""
    for tick in range(1, 1_000):
        await school.kernel.maintenance.fire_schedules()
        async with school.db.read() as tx:
            due = await tx.fetch("SELECT 1 FROM schedule WHERE next_slot_at <= ?", (tx.now,))
        if not due:
            return tick
    raise AssertionError("slots are due after 1,000 ticks")


async def slots(school: ActivitySchool, state: str) -> dict[str, int]:
    async with school.db.read() as tx:
        rows = await tx.fetch(
            "SELECT schedule, COUNT(*) FROM schedule_slot WHERE state = ? GROUP BY 1", (state,)
        )
    return dict(rows)


async def test_a_leap_of_400_days_writes_short_transactions_and_no_missed_housekeeping(
    school: ActivitySchool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with school.db.write() as tx:
        written = count_written_rows(monkeypatch, type(tx))
    clock.advance(timedelta(days=400))
    ticks = await fire_all(school)
    assert ticks <= 10
    assert max(written.values()) <= 4 * SLOTS_PER_TRANSACTION
    fired, missed = await slots(school, "fired"), await slots(school, "missed")
    assert {name: fired[name] for name in HOUSEKEEPING} == dict.fromkeys(HOUSEKEEPING, 1)
    assert not set(missed) & set(HOUSEKEEPING)
    assert missed["report.one"] == missed["reminder.two"] == 13  # of 57 weeks, the last 90 days
    assert missed["reminder.own-time"] > 2_000


async def test_a_clock_that_was_a_year_ahead_and_is_set_back_silences_no_schedule(
    school: ActivitySchool, clock: Clock
) -> None:
    clock.advance(timedelta(days=400))
    await fire_all(school)
    clock.advance(timedelta(days=-400))
    await school.kernel.maintenance.fire_schedules()  # the tick that notices it
    assert await slots(school, "missed") == {}
    clock.advance(timedelta(hours=1))
    at(clock, local("2026-11-30T09:00"))  # Monday
    await fire_all(school)
    async with school.db.read() as tx:
        rows = await tx.fetch(
            "SELECT schedule FROM schedule_slot WHERE state = 'fired' AND slot_at BETWEEN ? AND ?",
            (tx.now - 3_600_000_000, tx.now),
        )
    assert {name for (name,) in rows} >= {*HOUSEKEEPING, "reminder.one", "reminder.two"}


async def test_weeks_that_a_clock_ahead_of_time_closed_are_open_again(
    school: ActivitySchool, clock: Clock
) -> None:
    programme = await school.programme("one")
    await school.person("ada")
    await school.offering("art", "ada", "one")
    clock.advance(timedelta(days=60))
    async with school.db.write() as tx:
        await open_and_close_weeks(tx, programme)
    assert ("art", "2026-W49", "missed") in await school.obligations()
    clock.advance(timedelta(days=-60))
    await school.kernel.maintenance.fire_schedules()
    at(clock, local("2026-12-03T08:00"))  # Thursday of week 49
    await school.work()
    assert ("art", "2026-W49", "open") in await school.obligations()
    assert "deadline_warning:one:2026-W49:ada" in await school.keys()
