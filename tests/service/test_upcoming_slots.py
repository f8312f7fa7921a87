"""What the coming slots would send, as of now, is what they send if nothing changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import httpx
import pytest
from tests.support.activity_school import ActivitySchool, at, build, local, smtp
from tests.support.api_client import AUTH, as_, client

from homeroom.access.api import record_audit
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs import routes as job_routes
from homeroom.jobs import schedule_store
from homeroom.notify import preference_store
from homeroom.notify.api import Channel, ChannelPreference

pytestmark = [pytest.mark.anyio, pytest.mark.service]
NEXT = "/api/v1/schedules/next"
VIEWER = as_("viewer")


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-22T20:00"))
    return clock


@pytest.fixture
async def school(db: SqliteDatabase, clock: Clock) -> ActivitySchool:
    made = build(db, clock, {Channel.EMAIL: smtp(9)})  # no mail is sent here
    await made.programme()
    for name in ("mara", "ada", "ben", "cleo", "dan"):
        await made.person(name)
    await made.offering("art", "ada")
    await made.offering("law", "ben")
    await made.offering("sql", "cleo")
    await made.offering("new", "dan", starts=date(2026, 11, 30))
    await made.exempt("lab", date(2026, 11, 23), date(2026, 11, 29), user_id="cleo")
    return made


@pytest.fixture
async def api(school: ActivitySchool) -> AsyncIterator[httpx.AsyncClient]:
    router = job_routes.router(school.db, AUTH, school.kernel.registry, record_audit)
    async with client(router) as opened:
        yield opened


async def upcoming(api: httpx.AsyncClient) -> dict[str, Any]:
    answer = await api.get(NEXT, headers=VIEWER)
    assert answer.status_code == 200, answer.text
    return {each["schedule"]: each for each in answer.json()}


def recipients(slot: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["type"], each["userId"]) for each in slot["preview"]["messages"]]


async def sent(school: ActivitySchool) -> list[tuple[str, str]]:
    async with school.db.read() as tx:
        return await tx.fetch("SELECT type, user_id FROM notification ORDER BY 1, 2")


async def test_coming_slots_list_whom_they_write_to_and_why_not_the_others(
    school: ActivitySchool, api: httpx.AsyncClient
) -> None:
    slots = await upcoming(api)
    assert [(each["schedule"], each["slot"]) for each in slots.values()] == [
        ("reminder.lab", "2026-11-23T09:00[Europe/Berlin]"),
        ("report.lab", "2026-11-24T10:00[Europe/Berlin]"),
        ("deadline_warning.lab", "2026-11-26T08:00[Europe/Berlin]"),
    ]
    reminder, report, warning = slots.values()
    assert reminder["slotAt"] == "2026-11-23T08:00:00.000000Z"
    assert recipients(reminder) == [("log_reminder", id) for id in ("ada", "ben")]
    assert recipients(warning) == [("deadline_warning", id) for id in ("ada", "ben")]
    on_leave = [{"userId": "cleo", "reason": "exempt: leave"}]
    assert reminder["preview"]["others"] == warning["preview"]["others"] == on_leave
    nothing = [{"userId": "mara", "reason": "there is nothing to report"}]
    assert (recipients(report), report["preview"]["others"]) == ([], nothing)
    assert await sent(school) == []
    school.move_to(local("2026-11-23T09:00"))
    await school.work()
    assert await sent(school) == recipients(reminder)


async def test_a_log_that_arrives_changes_what_the_coming_slots_send(
    school: ActivitySchool, api: httpx.AsyncClient
) -> None:
    school.move_to(local("2026-11-25T12:00"))
    await school.work()
    await school.log("art", "2026-W48")
    slots = await upcoming(api)
    warning, report = slots["deadline_warning.lab"], slots["report.lab"]
    assert warning["preview"]["others"] == [
        {"userId": "ada", "reason": "submitted"},
        {"userId": "cleo", "reason": "exempt: leave"},
    ]
    assert report["slot"] == "2026-12-01T10:00[Europe/Berlin]"
    assert recipients(report) == [("manager_report", "mara")]
    # The next Monday's reminders are about a week that has not begun.
    reminder = slots["reminder.lab"]
    assert recipients(reminder) == [("log_reminder", id) for id in ("ada", "ben", "cleo", "dan")]
    before = await sent(school)
    for instant in ("2026-11-26T08:00", "2026-11-30T09:00", "2026-12-01T10:00"):
        school.move_to(local(instant))
        await school.work()
    expected = recipients(warning) + recipients(reminder) + recipients(report)
    assert sorted(await sent(school)) == sorted(before + expected)


async def test_a_coming_message_says_on_which_channels_it_goes(
    school: ActivitySchool, api: httpx.AsyncClient
) -> None:
    await school.person("ben", email=None)
    async with school.db.write() as tx:
        off = ChannelPreference("ada", "log_reminder", Channel.EMAIL, False, "person")
        await preference_store.put_preferences(tx, [off])
    to_ada, to_ben = (await upcoming(api))["reminder.lab"]["preview"]["messages"]
    assert [
        (each["channel"], each["reasonCode"])
        for message in (to_ada, to_ben)
        for each in message["deliveries"]
    ] == [("in_app", None), ("email", "preference_off"), ("in_app", None), ("email", "no_address")]


async def test_one_schedule_a_paused_one_and_one_without_a_preview(
    school: ActivitySchool, api: httpx.AsyncClient
) -> None:
    async with school.db.write() as tx:
        await schedule_store.pause_schedule(tx, "reminder.lab")
    [paused] = (await api.get(f"{NEXT}?schedule=reminder.lab", headers=VIEWER)).json()
    assert (paused["paused"], paused["slot"], paused["preview"]) == (True, None, None)
    assert list(await upcoming(api)) == ["report.lab", "deadline_warning.lab", "reminder.lab"]
    assert len((await api.get(f"{NEXT}?limit=1", headers=VIEWER)).json()) == 1
    assert (await api.get(f"{NEXT}?schedule=none", headers=VIEWER)).status_code == 404
    assert (await api.get(f"{NEXT}?schedule=open_week.lab", headers=VIEWER)).status_code == 409
    assert (await api.get(NEXT, headers=as_("learner:leo"))).status_code == 403
