"""Programmes without managers, with other clocks, for the week before, and with a grace."""

from __future__ import annotations

from datetime import date

import pytest
from tests.support.activity_school import ActivitySchool, at, build, local

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-22T20:00"))
    return clock


@pytest.fixture
async def school(db: SqliteDatabase, clock: Clock) -> ActivitySchool:
    made = build(db, clock)
    await made.person("ada", time_zone="America/New_York")
    await made.person("ben", time_zone="Asia/Tokyo")
    await made.person("root", roles=("admin",))
    return made


async def both(school: ActivitySchool) -> None:
    await school.offering("art", "ada")
    await school.offering("sql", "ben")


async def test_a_report_without_a_manager_goes_to_admins(school: ActivitySchool) -> None:
    await school.programme(managers=())
    await both(school)
    school.move_to(local("2026-12-01T10:00"))
    await school.work()
    found = [key for key in await school.keys() if not key.startswith("schedule_missed")]
    assert found == ["unmanaged_programme:lab:2026-W48:root"]


async def test_reminders_by_ones_own_clock_come_at_nine_there_and_once(
    school: ActivitySchool,
) -> None:
    await school.programme(per_user_time=True)
    await both(school)
    remind = "log_reminder:lab:2026-W48:"
    school.move_to(local("2026-11-23T00:59"))  # a minute to nine in Tokyo
    await school.work()
    assert await school.keys() == []
    school.move_to(local("2026-11-23T01:01"))
    await school.work()
    assert await school.keys() == [f"{remind}ben"]
    for moment in ("2026-11-23T09:00", "2026-11-23T14:59"):
        school.move_to(local(moment))
        await school.work()
    assert await school.keys() == [f"{remind}ben"]
    school.move_to(local("2026-11-23T15:01"))  # nine in New York
    await school.work()
    school.move_to(local("2026-11-23T15:31"))
    await school.work()
    assert await school.keys() == [f"{remind}ada", f"{remind}ben"]


async def test_a_reminder_may_ask_for_the_week_that_has_ended(school: ActivitySchool) -> None:
    school.move_to(local("2026-11-19T20:00"))  # Thursday: later on, no log of this week is due
    await school.programme(target_week="previous")
    await both(school)
    await school.log("art", "2026-W47")
    school.move_to(local("2026-11-23T09:00"))
    await school.work()
    assert await school.keys() == ["log_reminder:lab:2026-W47:ben"]


async def test_within_the_grace_a_log_is_neither_late_nor_missing(school: ActivitySchool) -> None:
    await school.programme(grace_minutes=3 * 24 * 60)
    await both(school)
    school.move_to(local("2026-12-01T10:00"))
    await school.work()
    assert not any(key.startswith("manager_report") for key in await school.keys())
    school.move_to(local("2026-12-02T23:59:59"))
    await school.log("art", "2026-W48")
    school.move_to(local("2026-12-03T00:00:00"))
    await school.log("sql", "2026-W48")
    late = [key for key in await school.keys() if key.startswith("late_log")]
    assert len(late) == 1


async def test_a_holiday_that_is_said_late_takes_missed_weeks_back(school: ActivitySchool) -> None:
    await school.programme()
    await both(school)
    for offering in ("art", "sql"):
        await school.log(offering, "2026-W47")
    school.move_to(local("2026-12-08T10:00"))
    await school.work()
    assert "compliance:lab:ada:2026-W49:mara" in await school.keys()
    await school.exempt("lab", date(2026, 11, 23), date(2026, 11, 27), reason="holiday")
    async with school.db.read() as tx:
        warned = await tx.fetch("SELECT user_id FROM compliance_warning WHERE resolved_at IS NULL")
        unread = await tx.fetch(
            "SELECT COUNT(*) FROM notification WHERE type = 'compliance_warning'"
            " AND resolved_at IS NULL"
        )
    assert (warned, unread) == ([], [(0,)])
