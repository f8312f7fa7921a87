"""From a slot of a schedule to a mail in a mailbox, through the real worker and a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import pytest
from tests.support.activity_school import ActivitySchool, at, build, local, smtp
from tests.support.mail_server import MailServer, mail_server

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.notify.api import Channel

pytestmark = [pytest.mark.anyio, pytest.mark.service]
SUNDAY = local("2026-11-22T20:00")
MONDAY = local("2026-11-23T09:00")


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, SUNDAY)
    return clock


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
async def school(db: SqliteDatabase, clock: Clock, mail: MailServer) -> ActivitySchool:
    made = build(db, clock, {Channel.EMAIL: smtp(mail.port)})
    await made.programme()
    for name in ("mara", "ada", "ben"):
        await made.person(name)
    await made.offering("stats", "ada")
    await made.offering("sql", "ada")
    await made.offering("art", "ben")
    return made


async def test_monday_reminds_each_facilitator_once_of_all_offerings(
    school: ActivitySchool, mail: MailServer
) -> None:
    school.move_to(MONDAY)
    await school.work()
    assert await school.keys() == ["log_reminder:lab:2026-W48:ada", "log_reminder:lab:2026-W48:ben"]
    [to_ada] = mail.to("ada@example.org")
    text = to_ada.get_body(("plain",))
    assert text is not None
    assert "Course sql" in text.get_content()
    assert "Course stats" in text.get_content()
    assert await school.statuses() == {"ada": "accepted", "ben": "accepted"}
    assert await school.statuses("in_app") == {"ada": "delivered", "ben": "delivered"}
    await school.run_now("reminder.lab")
    await school.work()
    assert len(mail.mails) == 2


async def test_no_reminder_is_sent_for_a_log_that_arrived_before_the_mail_went_out(
    school: ActivitySchool, mail: MailServer
) -> None:
    school.move_to(MONDAY)
    mail.plan("rcpt", "450 4.2.0 busy", times=2)
    await school.work()
    assert set((await school.statuses()).values()) == {"pending"}
    await school.log("art", "2026-W48")
    await school.work(skip_waits=True)
    assert await school.statuses() == {"ada": "accepted", "ben": "cancelled"}
    assert len(mail.mails) == 1


async def test_a_late_log_is_told_of_at_once_and_listed_on_tuesday(
    school: ActivitySchool, mail: MailServer
) -> None:
    school.move_to(MONDAY)
    await school.work()
    await school.log("stats", "2026-W48")
    school.move_to(local("2026-11-30T00:00"))
    await school.log("sql", "2026-W48")
    await school.work()
    [alert] = mail.to("mara@example.org")
    assert "late" in alert["Subject"]
    school.move_to(local("2026-12-01T10:00"))
    await school.work()
    assert "manager_report:lab:2026-W48:mara" in await school.keys()
    bodies = [each.get_body(("plain",)) for each in mail.to("mara@example.org")]
    texts = [body.get_content() for body in bodies if body is not None]
    # A warning of the logs that Ben has missed comes at the same time, before or after it.
    [report] = [text for text in texts if "Ben Example: Course art" in text]
    assert "Ada Example: Course sql" in report


async def test_leave_takes_back_what_was_asked(school: ActivitySchool) -> None:
    school.move_to(MONDAY)
    await school.work()
    await school.exempt("lab", date(2026, 11, 23), date(2026, 11, 29), user_id="ben")
    async with school.db.read() as tx:
        rows = await tx.fetch(
            "SELECT resolved_at IS NOT NULL FROM notification WHERE user_id = 'ben'"
        )
    assert rows == [(1,)]
    school.move_to(local("2026-11-26T08:00"))
    await school.work()
    assert [key for key in await school.keys() if key.endswith("ben")] == [
        "log_reminder:lab:2026-W48:ben"
    ]
