"""Learners hear of their credentials: when one is issued, and before it expires."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage

import pytest
from tests.support.activity_school import SENDER
from tests.support.badge_school import BASE_URL, BadgeSchool, badge_school
from tests.support.mail_server import MailServer, mail_server
from tests.support.partner_school import running_sandbox
from tests.support.partner_school import school as partner_school

from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.credentials.api import AnnounceExpiries
from homeroom.db.database import Database
from homeroom.instant import DAY
from homeroom.jobs.api import enqueue
from homeroom.notify import preference_store
from homeroom.notify.api import (
    Channel,
    ChannelPreference,
    MessageTemplates,
    Notifications,
    SmtpSender,
    SmtpServer,
)
from homeroom.people import api as people

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
async def notifications(db: Database, mail: MailServer) -> AsyncIterator[Notifications]:
    sender = SmtpSender(SmtpServer("127.0.0.1", mail.port, "none"), SENDER)
    made = Notifications(
        db,
        channel_senders={Channel.EMAIL: sender},
        templates=MessageTemplates(),
        public_url=BASE_URL,
        text_retention=timedelta(days=180),
    )
    yield made
    await made.close()


@pytest.fixture
async def school(db: Database, notifications: Notifications) -> AsyncIterator[BadgeSchool]:
    async with badge_school(db, notifications=notifications) as built:
        yield built


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


async def announce(school: BadgeSchool, after: timedelta = timedelta()) -> None:
    """Run the job of the schedule after a time."""
    school.db.clock.advance(after)
    async with school.db.write() as tx:
        await enqueue(tx, AnnounceExpiries())
    await school.kernel.run_jobs()


async def complete_now(school: BadgeSchool, attempt: int = 1, **course: str) -> str:
    id = await school.complete(
        await school.publish(**course), attempt=attempt, completed_at=school.db.clock.now()
    )
    await school.kernel.run_jobs()
    return id


async def test_a_completion_becomes_a_mail_with_credential_and_certificate(
    school: BadgeSchool, mail: MailServer
) -> None:
    id = await complete_now(school)
    [sent] = mail.mails
    assert sent["To"] == "Ada@Example.org"
    assert sent["Subject"] == "You have completed Data für alle"
    assert sent["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    async with school.db.read() as tx:
        credential = (await school.credentials.list_by_completions(tx, [id]))[id]
    lines = text_of(sent).splitlines()
    assert f"Show and share it: {credential.url}" in lines
    assert f"Download it as PDF: {credential.url}.pdf" in lines
    assert credential.url is not None
    for address in (credential.url, f"{credential.url}.pdf"):
        assert (await school.http.get(address.removeprefix(BASE_URL))).status_code == 200
    job = (await school.step(id)).job_id
    assert job is not None
    await school.kernel.run_jobs()
    assert len(mail.mails) == 1


@pytest.mark.parametrize(
    ("locale", "subject"),
    [
        ("de-AT", "Sie haben Data für alle abgeschlossen"),
        ("fr", "Vous avez terminé « Data für alle »"),
        ("es", "Ha completado Data für alle"),
    ],
)
async def test_it_is_in_the_learners_language(
    school: BadgeSchool, mail: MailServer, locale: str, subject: str
) -> None:
    async with school.db.write() as tx:
        person = await people.get(tx, "ada")
        assert person is not None
        await people.put(tx, replace(person, locale=locale))
    await complete_now(school)
    assert [each["Subject"] for each in mail.mails] == [subject]


async def test_a_learner_switches_it_off(school: BadgeSchool, mail: MailServer) -> None:
    async with school.db.write() as tx:
        off = ChannelPreference("ada", "credential_issued", Channel.EMAIL, False, "person")
        await preference_store.put_preferences(tx, [off])
    await complete_now(school)
    assert mail.mails == []


async def test_an_old_completion_is_no_news(school: BadgeSchool, mail: MailServer) -> None:
    """An import of earlier years must not write to every learner of them."""
    old = school.db.clock.now() - 61 * DAY
    id = await school.complete(await school.publish(), completed_at=old)
    await school.kernel.run_jobs()
    assert (await school.step(id)).status == "completed"
    assert mail.mails == []


async def test_a_learner_is_told_30_and_7_days_before_the_end_and_no_attempt_opens(
    school: BadgeSchool, mail: MailServer
) -> None:
    await complete_now(school, validity="P100D")
    mail.mails.clear()
    await announce(school, timedelta(days=69))
    assert mail.mails == []
    await announce(school, timedelta(days=1, hours=1))
    await announce(school)
    await announce(school, timedelta(days=22))
    [first] = mail.mails
    assert first["Subject"].startswith("Data für alle: your certificate expires on ")
    assert "Nothing starts by itself." in text_of(first)
    await announce(school, timedelta(days=1))
    assert len(mail.mails) == 2
    await announce(school, timedelta(days=1))
    await announce(school, timedelta(days=10))
    assert len(mail.mails) == 2
    async with school.db.read() as tx:
        assert await tx.fetch("SELECT count(*) FROM completion") == [(1,)]
        assert await tx.fetch("SELECT count(*) FROM enrolment WHERE attempt > 1") == [(0,)]


async def test_after_a_downtime_only_the_later_notice_is_sent(
    school: BadgeSchool, mail: MailServer
) -> None:
    await complete_now(school, validity="P100D")
    mail.mails.clear()
    await announce(school, timedelta(days=95))
    await announce(school)
    assert len(mail.mails) == 1


@pytest.mark.parametrize("cause", ["renewed", "revoked"])
async def test_who_has_renewed_it_or_lost_it_is_not_told(
    school: BadgeSchool, mail: MailServer, cause: str
) -> None:
    id = await complete_now(school, validity="P100D")
    school.db.clock.advance(timedelta(days=60))
    if cause == "renewed":
        await complete_now(school, attempt=2)
    else:
        async with school.db.read() as tx:
            credential = (await school.credentials.list_by_completions(tx, [id]))[id]
        await school.credentials.revoke(credential.id, "a mistake", "test")
    mail.mails.clear()
    await announce(school, timedelta(days=15))
    assert mail.mails == []


async def test_a_credential_revoked_before_its_mail_is_sent_is_not_announced(
    school: BadgeSchool, mail: MailServer
) -> None:
    mail.plan("mail", "450 4.3.0 later")
    id = await complete_now(school)
    assert mail.mails == []
    async with school.db.read() as tx:
        credential = (await school.credentials.list_by_completions(tx, [id]))[id]
    await school.credentials.revoke(credential.id, "a mistake", "test")
    school.db.clock.advance(timedelta(minutes=10))
    await school.kernel.maintenance.tick()
    await school.kernel.run_jobs()
    async with school.db.read() as tx:
        statuses = await tx.fetch("SELECT status FROM delivery WHERE channel = 'email'")
    assert statuses == [("cancelled",)]


async def test_credly_s_badge_is_announced_to_the_address_of_the_partners_directory(
    db: Database, notifications: Notifications, mail: MailServer
) -> None:
    async with (
        running_sandbox() as sandbox,
        partner_school(
            db, sandbox, with_dispatch=False, only=("credential",), notifications=notifications
        ) as school,
    ):
        await school.complete(await school.publish(), user_id="u-7", completed_at=db.clock.now())
        await school.kernel.run_jobs()
        [badge] = await sandbox.badges()
        [credential] = await school.credential_of("u-7")
        [sent] = mail.mails
        assert sent["To"] == badge["recipient_email"]
        assert f"Show and share it: {credential.url}" in text_of(sent)
        assert "PDF" not in text_of(sent)
        async with db.read() as tx:
            [(stored,)] = await tx.fetch("SELECT recipient FROM notification")
        assert badge["recipient_email"] in stored
        exported = await PERSONAL_DATA.export(db, "u-7", "test")
        [message] = exported["records"]["notification"]
        assert badge["recipient_email"] in bytes(message["recipient"]).decode()
        await PERSONAL_DATA.erase(db, "u-7", "test")
        async with db.read() as tx:
            assert await tx.fetch("SELECT * FROM notification") == []


async def test_a_school_may_switch_them_off(
    db: Database, notifications: Notifications, mail: MailServer
) -> None:
    async with badge_school(db, notifications=notifications, tells_learners=False) as school:
        await complete_now(school, validity="P100D")
        await announce(school, timedelta(days=95))
    assert mail.mails == []
    async with db.read() as tx:
        assert await tx.fetch("SELECT * FROM notification") == []
