"""Homeroom was down at a deadline: what could not be handed in does not count."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from tests.support.activity_school import ActivitySchool, at, build, local

from homeroom.activity.api import build_compliance_report, format_compliance_csv, parse_week
from homeroom.activity.fanout import build_week_report
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs.downtime import record_scheduler_heartbeat

pytestmark = [pytest.mark.anyio, pytest.mark.service]
LAST_HEARTBEAT, RETURN = "2026-11-20T20:00", "2026-11-24T10:30"


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-09T08:00"))
    return clock


async def play(db: SqliteDatabase, clock: Clock, *, was_down: bool) -> ActivitySchool:
    """Miss week 46 and hand nothing in until Tuesday of week 48, at half past ten.

    With ``was_down`` Homeroom was down from Friday of week 47 until then; without, only its
    schedules were slow.
    """
    school = build(db, clock)
    await school.programme()
    for person in ("ada", "ben", "mara"):
        await school.person(person)
    await school.offering("art", "ada", starts=date(2026, 11, 9))
    await school.offering("sql", "ben", starts=date(2026, 11, 9))
    for moment in ("2026-11-17T10:00", LAST_HEARTBEAT):
        school.move_to(local(moment))
        await school.work()
    if was_down:
        async with db.write() as tx:
            await record_scheduler_heartbeat(tx)
    school.move_to(local(RETURN))
    returned = build(db, clock, records_uptime=was_down)
    await returned.work()
    return returned


def about_compliance(keys: list[str]) -> list[str]:
    return [key for key in keys if key.startswith("compliance")]


async def marks(school: ActivitySchool) -> dict[str, list[str]]:
    async with school.db.read() as tx:
        programme = await school.activity.programmes.get(tx, "lab")
        first, last = parse_week("2026-W46"), parse_week("2026-W47")
        report = await build_compliance_report(tx, programme, first, last)
    lines = format_compliance_csv(report).splitlines()[1:]
    assert [line.split(",")[2:4] for line in lines] == [list(row.marks) for row in report.rows]
    return {row.user_id: [str(mark) for mark in row.marks] for row in report.rows}


async def listed(school: ActivitySchool) -> tuple[bool, list[str]]:
    """Return whether the report on week 47 says that Homeroom was down, and who is missing."""
    async with school.db.read() as tx:
        programme = await school.activity.programmes.get(tx, "lab")
        report = await build_week_report(tx, programme, parse_week("2026-W47"))
    return report["down"], [row["userId"] for row in report["missing"]]


async def test_without_a_downtime_two_missed_weeks_are_a_warning(
    db: SqliteDatabase, clock: Clock
) -> None:
    school = await play(db, clock, was_down=False)
    assert len(about_compliance(await school.keys())) == 4  # the manager and each facilitator
    assert await marks(school) == {"ada": ["missed", "missed"], "ben": ["missed", "missed"]}
    assert await listed(school) == (False, ["ada", "ben"])


async def test_a_week_that_ended_in_a_downtime_is_marked_and_warns_of_nothing(
    db: SqliteDatabase, clock: Clock
) -> None:
    school = await play(db, clock, was_down=True)
    assert "report.lab" in await fired(school)  # Tuesday's report was caught up
    assert about_compliance(await school.keys()) == []
    assert await marks(school) == {"ada": ["missed", "down"], "ben": ["missed", "down"]}
    assert await listed(school) == (True, [])
    school.clock.advance(timedelta(hours=23))
    await school.log("art", "2026-W47")
    assert ("art", "2026-W47", "submitted") in await school.obligations()
    school.clock.advance(timedelta(hours=2))
    await school.log("sql", "2026-W47")
    assert ("sql", "2026-W47", "late") in await school.obligations()
    assert await marks(school) == {"ada": ["missed", "done"], "ben": ["missed", "down"]}
    late = [key for key in await school.keys() if key.startswith("late_log")]
    assert [key.rsplit(":", 1)[1] for key in late] == ["mara"]


async def test_after_the_extension_managers_read_who_is_missing_and_that_it_does_not_count(
    db: SqliteDatabase, clock: Clock
) -> None:
    school = await play(db, clock, was_down=True)
    school.clock.advance(timedelta(hours=25))
    assert await listed(school) == (True, ["ada", "ben"])
    school.move_to(local("2026-12-01T10:00"))  # the next report: week 48 is missed as well
    async with db.write() as tx:
        await record_scheduler_heartbeat(tx)
        await tx.execute("DELETE FROM downtime WHERE started_at > ?", (local(RETURN),))
    await school.work()
    warned = about_compliance(await school.keys())
    assert len(warned) == 4
    async with db.read() as tx:
        rows = await tx.fetch("SELECT DISTINCT missed FROM compliance_warning")
    assert rows == [('["2026-W46","2026-W48"]',)]


async def fired(school: ActivitySchool) -> set[str]:
    async with school.db.read() as tx:
        rows = await tx.fetch(
            "SELECT schedule FROM schedule_slot WHERE state = 'fired' AND slot_at > ?",
            (local("2026-11-24T00:00"),),
        )
    return {schedule for (schedule,) in rows}
