"""The mail queue is held while the server refuses Homeroom itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.support.activity_school import ActivitySchool, at, build, local, smtp
from tests.support.mail_server import MailServer, mail_server

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.notify import store, suppression
from homeroom.notify.api import EXAMPLE_PARAMS, Channel, Message, ReasonCode
from homeroom.notify.bounce_mail import DeliveryNotice
from homeroom.notify.delivery_rules import MAIL_GATE
from homeroom.partner import store as partner_store
from homeroom.partner.backlog import PartnerBacklogs

pytestmark = [pytest.mark.anyio, pytest.mark.service]
RELAY = "554 5.7.1 <{}>: Relay access denied"


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-23T09:00"))
    return clock


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
async def school(db: SqliteDatabase, clock: Clock, mail: MailServer) -> ActivitySchool:
    made = build(db, clock, {Channel.EMAIL: smtp(mail.port)})
    for number in range(5):
        id = f"u{number}"
        await made.person(id, email=f"{id}@school{number}.example")
    return made


async def send(school: ActivitySchool, *people: str) -> None:
    async with school.db.write() as tx:
        messages = [
            Message(f"{id} {tx.now}", "log_reminder", id, EXAMPLE_PARAMS["log_reminder"])
            for id in people
        ]
        await school.notifications.send(tx, messages)
    await school.work()


async def is_held(school: ActivitySchool) -> bool:
    async with school.db.read() as tx:
        return (await partner_store.get(tx, MAIL_GATE)).is_open


async def suppressed(school: ActivitySchool) -> int:
    async with school.db.read() as tx:
        return len(await suppression.list_suppressions(tx, None, 10))


async def drain(school: ActivitySchool) -> None:
    """Let time pass until no job waits for the mail server."""
    backlogs = PartnerBacklogs(school.db)
    for _ in range(20):
        school.clock.advance(timedelta(seconds=70))
        await backlogs.release_partner_jobs()
        await school.work()


@pytest.mark.parametrize(
    ("step", "answer"),
    [("mail", "550 5.7.1 your address is not allowed here"), ("mail", "530 5.7.0 log in first")],
)
async def test_a_refusal_before_rcpt_holds_all_mails_until_it_ends(
    school: ActivitySchool, mail: MailServer, step: str, answer: str
) -> None:
    mail.plan(step, answer, times=3)
    await send(school, "u0")
    assert await is_held(school)
    sessions = mail.sessions
    await send(school, "u1", "u2")
    assert mail.sessions == sessions  # no session before the probe is due
    found = {note.user_id: each for each, note in await school.deliveries()}
    assert found["u0"].reason_code == ReasonCode.SENDER_REFUSED
    assert {found[id].reason_code for id in ("u1", "u2")} == {ReasonCode.MAIL_HELD}
    assert await school.statuses() == dict.fromkeys(("u0", "u1", "u2"), "pending")
    await drain(school)
    assert await school.statuses() == dict.fromkeys(("u0", "u1", "u2"), "accepted")
    assert len(mail.mails) == 3
    assert (await is_held(school), await suppressed(school)) == (False, 0)
    async with school.db.read() as tx:
        rows = await tx.fetch(
            "SELECT DISTINCT attempts FROM job WHERE kind = 'notify.send_reminder'"
        )
    assert rows == [(1,)]  # what waited has spent no attempt


async def test_the_same_refusal_for_three_domains_in_a_row_holds_all_mails(
    school: ActivitySchool, mail: MailServer
) -> None:
    for id in ("u0", "u0", "u1"):  # one domain twice is one domain
        mail.plan("rcpt", RELAY.format(f"{id}@school.example"))
        await send(school, id)
    assert not await is_held(school)
    mail.plan("rcpt", RELAY.format("u2@other.example"))
    await send(school, "u2")
    assert await is_held(school)
    await drain(school)
    assert set((await school.statuses()).values()) == {"accepted"}
    assert (len(mail.mails), await suppressed(school)) == (4, 0)


async def test_a_school_of_one_domain_is_held_after_three_recipients_in_a_row(
    school: ActivitySchool, mail: MailServer
) -> None:
    for number in range(4):
        await school.person(f"v{number}", email=f"v{number}@School.example")
    for id in ("v0", "v0", "v1"):  # one recipient twice is one recipient
        mail.plan("rcpt", RELAY.format(f"{id}@school.example"))
        await send(school, id)
    mail.plan("rcpt", "550 5.1.1 no such user")  # another answer breaks the row
    await send(school, "v3")
    for id in ("v0", "v1"):
        mail.plan("rcpt", RELAY.format(f"{id}@school.example"))
        await send(school, id)
    assert not await is_held(school)
    mail.plan("rcpt", RELAY.format("v2@school.example"))
    await send(school, "v2")
    assert await is_held(school)
    await drain(school)
    statuses = await school.statuses()
    assert statuses == {"v0": "accepted", "v1": "accepted", "v2": "accepted", "v3": "failed"}


async def test_one_domain_of_several_stops_no_mails_to_the_others(
    school: ActivitySchool, mail: MailServer
) -> None:
    await send(school, "u0")
    for number in range(9):
        await school.person(f"v{number}", email=f"v{number}@big.example")
        mail.plan("rcpt", RELAY.format(f"v{number}@big.example"))
        await send(school, f"v{number}")
    assert not await is_held(school)
    async with school.db.read() as tx:
        assert await tx.fetch("SELECT COUNT(*) FROM mail_refusal") == [(3,)]
    school.clock.advance(timedelta(days=31))  # no mail went elsewhere since
    mail.plan("rcpt", RELAY.format("v@big.example"), times=9)
    await school.work()  # the retries
    assert await is_held(school)


async def test_one_recipients_policy_and_forged_bounces_stop_nothing(
    school: ActivitySchool, mail: MailServer
) -> None:
    for id in ("u0", "u1"):
        mail.plan("rcpt", RELAY.format(id))
        await send(school, id)
    mail.plan("rcpt", "550 5.1.1 no such user")  # another answer breaks the row
    await send(school, "u2")
    mail.plan("rcpt", RELAY.format("u3"))
    await send(school, "u3")
    mail.plan("rcpt", "550 5.7.1 only members may write to this list")
    await send(school, "u4")
    await school.work()
    assert not await is_held(school)
    async with school.db.read() as tx:
        deliveries = await store.list_deliveries(
            tx, status=None, channel="email", user_id=None, before_id=None, count=10
        )
    text = "554 5.7.1 Client host rejected: Access denied"
    for number in range(3):
        notices = [DeliveryNotice("block", f"<{each.id}@x>", None, text) for each, _ in deliveries]
        await school.notifications.receive_notices(f"forged {number}", notices)
    assert (await is_held(school), await suppressed(school)) == (False, 1)


async def test_a_suppression_by_soft_bounces_ends_and_starts_anew(school: ActivitySchool) -> None:
    async def bounce(number: int, kind: str = "soft") -> None:
        async with school.db.write() as tx:
            await school.notifications.bounces.record(
                tx,
                f"s{number}",
                f"d{number}",
                Channel.EMAIL,
                "a@b.example",
                kind,
                "full",  # type: ignore[arg-type]
            )

    for number in range(5):
        assert await suppressed(school) == 0
        await bounce(number)
    assert await suppressed(school) == 1
    school.move_to(school.clock.now() + suppression.SOFT_SUPPRESSION_US)
    assert await suppressed(school) == 0
    for number in range(5, 10):
        assert await suppressed(school) == 0
        await bounce(number)
    assert await suppressed(school) == 1
    await bounce(10, "hard")  # this one lasts
    school.move_to(school.clock.now() + suppression.SOFT_SUPPRESSION_US)
    assert await suppressed(school) == 1
    for number in range(20, 26):  # one mail is one bounce, however many reports are forged
        async with school.db.write() as tx:
            await school.notifications.bounces.record(
                tx, f"f{number}", "d20", Channel.EMAIL, "c@d.example", "soft", "full"
            )
    assert await suppressed(school) == 1
