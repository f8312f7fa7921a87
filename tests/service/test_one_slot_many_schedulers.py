"""One slot, twenty schedulers, crashes between chunks: one message a recipient; and downtimes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.support.activity_school import ActivitySchool, at, build, local
from tests.support.database import database_at

from homeroom.activity.jobs import SendLogReminders
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.db.tx import Tx
from homeroom.errors import Unavailable
from homeroom.jobs import schedule_store
from homeroom.jobs.api import JobArgs, JobContext, declare_schedule
from homeroom.notify.api import Channel, DisabledSender, Message, SendResult

pytestmark = [pytest.mark.anyio, pytest.mark.service]
FRIDAY = local("2026-11-20T18:00")
MONDAY = local("2026-11-23T09:00")
MONDAY_NAME = "2026-11-23T09:00[Europe/Berlin]"
SCHEDULERS, FACILITATORS, CHUNK = 20, 300, 25


class Sweep(JobArgs, frozen=True, kw_only=True):
    """Hourly housekeeping."""

    kind = "test.sweep"
    queue = "test"


class Carried(DisabledSender):
    """A channel that is in use; nothing is delivered in these tests."""


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, FRIDAY)
    return clock


class Crash(Exception):
    """The process is gone."""


def crashing(school: ActivitySchool, chance: random.Random, crashes: list[int]) -> None:
    """Let the fan-out die between two chunks: what it had committed stays."""
    send = school.notifications.send

    async def sometimes(tx: Tx, messages: Sequence[Message]) -> SendResult:
        if chance.random() < 0.25:
            crashes.append(1)
            raise Crash
        return await send(tx, messages)

    cast(Any, school.notifications).send = sometimes


async def settled(*_: object) -> None:
    """Take the outcome: the kernel is not what is tried here."""


CONTEXT = cast(JobContext, SimpleNamespace(settle=settled))


@pytest.fixture
async def schools(database: Path | str, clock: Clock) -> AsyncIterator[list[ActivitySchool]]:
    # On PostgreSQL they really run side by side, and wait for one another's keys at every chunk.
    number = SCHEDULERS if isinstance(database, Path) else 8
    databases = [database_at(database, clock) for _ in range(number)]
    for each in databases:
        await each.open()
    in_use = {Channel.EMAIL: Carried(cast(str, None))}
    yield [build(each, clock, in_use, chunk=CHUNK) for each in databases]
    for each in databases:
        await each.close()


async def test_twenty_schedulers_and_crashes_make_one_run_and_one_message_each(
    schools: list[ActivitySchool], clock: Clock
) -> None:
    first = schools[0]
    await first.programme()
    for number in range(FACILITATORS):
        await first.person(f"f{number:03}")
        await first.offering(f"o{number:03}", f"f{number:03}")
    at(clock, MONDAY)
    fired = await asyncio.gather(*(each.kernel.maintenance.fire_schedules() for each in schools))
    async with first.db.read() as tx:
        [slot] = [
            each
            for each in await schedule_store.fired_slots(tx, "reminder.lab")
            if each.slot_at == MONDAY
        ]
    assert sum(fired) == 2  # the week opens too, with the downtime since Friday: once each
    args = SendLogReminders(
        programme_id="lab", schedule="reminder.lab", slot=slot.slot, slot_at=slot.slot_at
    )
    chance, crashes = random.Random(5), []

    async def until_done(school: ActivitySchool) -> None:
        crashing(school, chance, crashes)
        while True:
            try:
                await school.activity.fan_out.send_reminders(CONTEXT, args)
            except (Crash, Unavailable):  # the file is locked for long where so many write
                continue
            return

    await asyncio.gather(*(until_done(school) for school in schools))
    assert len(crashes) >= 2 * len(schools)
    async with first.db.read() as tx:
        runs = await tx.fetch(
            "SELECT state, sent FROM activity_run WHERE schedule = 'reminder.lab'"
        )
        messages = await tx.fetch(
            "SELECT COUNT(*), COUNT(DISTINCT dedupe_key), COUNT(DISTINCT user_id) FROM notification"
        )
        deliveries = await tx.fetch(
            "SELECT d.channel, d.status, COUNT(*), COUNT(DISTINCT n.user_id) FROM delivery AS d"
            " JOIN notification AS n ON n.id = d.notification_id GROUP BY d.channel, d.status"
        )
        jobs = await tx.fetch(
            "SELECT COUNT(*), COUNT(DISTINCT payload) FROM job WHERE kind = 'notify.send_reminder'"
        )
    assert runs == [("done", FACILITATORS)]
    assert messages == [(FACILITATORS, FACILITATORS, FACILITATORS)]
    assert sorted(deliveries) == [
        ("email", "pending", FACILITATORS, FACILITATORS),
        ("in_app", "delivered", FACILITATORS, FACILITATORS),
    ]
    assert jobs == [(FACILITATORS, FACILITATORS)]


@pytest.fixture
async def school(db: SqliteDatabase, clock: Clock) -> ActivitySchool:
    made = build(db, clock)
    await made.programme()
    await made.person("olga", roles=("operator",))
    await made.person("ada")
    await made.offering("art", "ada")
    return made


async def slots(school: ActivitySchool) -> list[tuple[str, str]]:
    async with school.db.read() as tx:
        found = await schedule_store.fired_slots(tx, "reminder.lab")
    return [(each.slot, each.state) for each in found]


async def reported(school: ActivitySchool) -> list[str]:
    """Let the delayed report of missed slots run; return the keys of its messages."""
    school.clock.advance(timedelta(seconds=31))
    await school.work()
    return [key for key in await school.keys() if key.startswith("schedule_missed")]


async def missed_slots(db: SqliteDatabase) -> set[str]:
    async with db.read() as tx:
        rows = await tx.fetch("SELECT schedule FROM schedule_slot WHERE state = 'missed'")
    return {schedule for (schedule,) in rows}


async def test_a_weekend_of_downtime_fires_monday_once_and_marks_it_late(
    school: ActivitySchool,
) -> None:
    school.move_to(local("2026-11-23T19:59"))  # nothing ran from Friday on
    await school.work()
    await school.work()
    assert await slots(school) == [("2026-11-23T09:00[Europe/Berlin]", "fired")]
    async with school.db.read() as tx:
        runs = await tx.fetch(
            "SELECT state, late, sent FROM activity_run WHERE schedule = 'reminder.lab'"
        )
    assert runs == [("done", 1, 1)]
    assert await school.keys() == ["log_reminder:lab:2026-W48:ada"]


async def test_after_its_catch_up_window_monday_is_recorded_as_missed_and_admins_are_notified(
    school: ActivitySchool,
) -> None:
    school.move_to(local("2026-11-23T20:01"))
    await school.work()
    assert await slots(school) == [("2026-11-23T09:00[Europe/Berlin]", "missed")]
    assert await school.keys() == []
    missed = await reported(school)
    assert [key.rsplit(":", 1)[1] for key in missed] == ["olga"]
    await school.run_now("reminder.lab")  # by hand the window does not count
    await school.work()
    assert await slots(school) == [("2026-11-23T09:00[Europe/Berlin]", "fired")]
    assert await school.keys() == ["log_reminder:lab:2026-W48:ada", *missed]
    assert await reported(school) == missed


async def test_a_downtime_of_61_hours_is_one_message_about_what_people_did_not_get(
    db: SqliteDatabase, clock: Clock
) -> None:
    school = build(db, clock, {Channel.EMAIL: Carried(cast(str, None))})
    for name in ("one", "two", "three"):
        await school.programme(name)
    await school.person("olga", roles=("operator", "admin"))
    await school.person("otto", roles=("operator",))
    school.kernel.handle(args=Sweep)
    async with db.write() as tx:
        for hourly in ("access.prune", "progress.expire", "progress.fold_events"):
            await declare_schedule(tx, hourly, "17 * * * *", "UTC", Sweep())
    at(clock, local("2026-11-22T08:00"))
    await school.work()
    swept = len(school.kernel.ran)
    school.move_to(local("2026-11-24T21:00"))  # 61 hours later
    await school.work()
    assert len(school.kernel.ran) - swept == 3  # each housekeeping once, for its latest slot
    keys = await reported(school)
    assert sorted(key.rsplit(":", 1)[1] for key in keys) == ["olga", "otto"]
    mails = [note for _, note in await school.deliveries() if note.type == "schedule_missed"]
    assert len(mails) == 2
    # Tuesday's report is caught up; only Monday's reminders were missed.
    assert mails[0].params["schedules"] == [
        {"schedule": f"reminder.{name}", "runs": 1, "first": MONDAY_NAME, "last": MONDAY_NAME}
        for name in ("one", "three", "two")
    ]
    assert await missed_slots(db) == {f"reminder.{name}" for name in ("one", "two", "three")}
    school.move_to(local("2026-11-24T23:00"))
    assert await reported(school) == keys


async def test_a_run_by_hand_sends_nothing_that_has_expired(school: ActivitySchool) -> None:
    school.move_to(local("2026-11-26T08:00"))
    await school.work()
    before = await school.keys()
    assert before[0] == "deadline_warning:lab:2026-W48:ada"
    await school.run_now("reminder.lab")
    await school.work()
    assert await school.keys() == before


async def test_a_paused_schedule_sends_nothing_and_an_operators_cron_is_kept(
    school: ActivitySchool,
) -> None:
    async with school.db.write() as tx:
        await schedule_store.change_schedule(tx, "reminder.lab", cron="30 11 * * 1")
    await school.programme(title="Another title")
    school.move_to(MONDAY)
    await school.work()
    assert await school.keys() == []
    school.move_to(local("2026-11-23T11:30"))
    await school.work()
    assert await school.keys() == ["log_reminder:lab:2026-W48:ada"]
    async with school.db.write() as tx:
        await schedule_store.pause_schedule(tx, "reminder.lab")
    school.move_to(local("2026-11-30T12:00"))
    await school.work()
    assert [key for key in await school.keys() if "W49" in key] == []


async def test_a_dry_run_says_who_would_get_what_and_who_would_not(school: ActivitySchool) -> None:
    await school.person("ben", email=None)
    await school.offering("sql", "ben")
    await school.person("cleo")
    await school.offering("law", "cleo")
    school.move_to(MONDAY)
    await school.log("law", "2026-W48")
    async with school.db.read() as tx:
        slot, found = await schedule_store.preview_schedule(
            tx, school.kernel.registry, "reminder.lab"
        )
    assert slot.name == "2026-11-23T09:00[Europe/Berlin]"
    assert [each["userId"] for each in found["messages"]] == ["ada", "ben"]
    assert found["messages"][0]["deliveries"] == [
        {"channel": "in_app", "status": "delivered", "reason": None, "reasonCode": None},
        {
            "channel": "email",
            "status": "skipped",
            "reason": "not set up",
            "reasonCode": "channel_off",
        },
    ]
    assert found["others"] == [{"userId": "cleo", "reason": "submitted"}]
    assert found["sentBefore"] == []
    assert await school.keys() == []


async def test_a_dry_run_shows_who_was_sent_it_before_apart_and_names_too_early_and_too_late(
    school: ActivitySchool,
) -> None:
    async def preview() -> dict[str, Any]:
        async with school.db.read() as tx:
            _, found = await schedule_store.preview_schedule(
                tx, school.kernel.registry, "reminder.lab"
            )
        return dict(found)

    school.move_to(MONDAY)
    async with school.db.write() as tx:
        await schedule_store.run_schedule_now(tx, school.kernel.registry, "reminder.lab")
    await school.work()
    found = await preview()
    assert found["messages"] == []
    assert [(each["userId"], each["type"]) for each in found["sentBefore"]] == [
        ("ada", "log_reminder")
    ]
    school.move_to(local("2026-11-29T23:59"))
    found = await preview()
    assert (found["messages"], found["sentBefore"]) == ([], [])
    assert {each["reason"].split(":")[0] for each in found["others"]} == {"too late"}
