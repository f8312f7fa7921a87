"""What becomes of a delivery for everything that a mail server may answer, hang on, or cut."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.service.activity_school import SENDER, ActivitySchool, at, build, local, smtp
from tests.service.mail_server import MailServer, mail_server

from homeroom.clock import Clock
from homeroom.db.sqlite import SqliteDatabase
from homeroom.jobs.api import cancel, retry
from homeroom.notify import store, want
from homeroom.notify.api import (
    Channel,
    Letter,
    Message,
    Server,
    SmtpCarrier,
    Status,
    Talk,
    Words,
)

pytestmark = [pytest.mark.anyio, pytest.mark.service]
DAY = 86_400_000_000


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
    carrier = smtp(mail.port, timeout_seconds=0.5, end_timeout_seconds=0.5)
    made = build(db, clock, {Channel.EMAIL: carrier})
    await made.person("ada")
    return made


async def send(school: ActivitySchool, type: str = "log_reminder", life: int = 30 * DAY) -> None:
    params = {
        "log_reminder": {
            "programme": "Lab",
            "week": "2026-W48",
            "timeZone": "Europe/Berlin",
            "deadlineAt": school.clock.now() + DAY,
            "url": None,
            "offerings": [{"id": "a", "title": "Art"}],
        },
        "manager_report": {
            "programme": "Lab",
            "week": "2026-W48",
            "timeZone": "Europe/Berlin",
            "missing": [],
            "late": [],
            "compliance": [],
        },
    }
    expires_at = school.clock.now() + life
    message = Message("key", type, "ada", params[type], expires_at=expires_at)
    async with school.db.write() as tx:
        await school.notifications.send(tx, [message])


async def delivery(school: ActivitySchool) -> store.Delivery:
    [(found, _)] = await school.deliveries()
    return found


async def outcomes(school: ActivitySchool) -> list[tuple[str | None, int | None]]:
    async with school.db.read() as tx:
        tries = await store.attempts(tx, (await delivery(school)).id)
    return [(each.outcome, each.code) for each in tries]


async def suppressed(school: ActivitySchool) -> list[str]:
    async with school.db.read() as tx:
        return [each.reason for each in await want.newest_suppressions(tx, None, 10)]


async def test_250_is_accepted_and_the_mail_is_whole(
    school: ActivitySchool, mail: MailServer
) -> None:
    await send(school)
    await school.work()
    found = await delivery(school)
    assert (found.status, found.attempts) == (Status.ACCEPTED, 1)
    [got] = mail.mails
    assert mail.envelopes == [("bounces@example.org", ["ada@example.org"])]
    assert got["Message-ID"] == f"<{found.id}@example.org>"
    assert got["To"] == "ada@example.org"
    assert got["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert got["List-Unsubscribe"].startswith("<https://homeroom.example.org/u/")
    # On the wire too: a longer line than others, and no encoded word.
    assert b"\r\nList-Unsubscribe: <https://homeroom.example.org/u/" in mail.raw[0]
    assert [part.get_content_type() for part in got.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("answer", ["421 4.3.2 shutting down", "450 4.2.0 try later"])
async def test_4xx_at_any_step_is_tried_again_until_it_is_taken(
    school: ActivitySchool, mail: MailServer, step: str, answer: str
) -> None:
    mail.plan(step, answer, times=2)
    await send(school)
    await school.work()
    assert (await delivery(school)).status is Status.PENDING
    await school.work(skip_waits=True)
    assert await outcomes(school) == [
        ("pending", int(answer[:3])),
        ("pending", int(answer[:3])),
        ("accepted", None),
    ]
    assert len(mail.mails) == 1


async def test_4xx_for_ever_is_given_up_with_its_reason_and_can_be_sent_again_by_hand(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("rcpt", "450 4.2.0 try later", times=6)
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert (found.status, found.attempts) == (Status.FAILED, 6)
    assert found.reason == "given up after 6 attempts: 450 4.2.0 try later"
    await school.notifications.resend(found.id, "olga", "their server is back")
    await school.work()
    assert (await delivery(school)).status is Status.ACCEPTED
    async with school.db.read() as tx:
        last = (await store.attempts(tx, found.id))[-1]
    assert (last.actor, last.why) == ("olga", "their server is back")
    assert len(await school.keys()) == 1


async def test_no_attempt_is_made_after_the_message_has_expired(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("rcpt", "450 4.2.0 try later", times=6)
    await send(school, life=4 * 60_000_000)  # one minute's wait fits, five minutes' does not
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert (found.status, found.attempts) == (Status.FAILED, 2)
    assert mail.conversations == 2


async def test_a_message_that_waited_too_long_is_expired_and_not_sent(
    school: ActivitySchool, mail: MailServer
) -> None:
    await send(school, life=DAY)
    school.move_to(school.clock.now() + DAY)
    await school.work()
    assert (await delivery(school)).status is Status.EXPIRED
    assert mail.conversations == 0


@pytest.mark.parametrize(
    ("step", "answer", "reason"),
    [
        ("rcpt", "550 5.1.1 no such user", ["hard"]),
        ("rcpt", "550 no such user", ["hard"]),
        ("rcpt", "552 5.2.2 mailbox full", []),
        ("rcpt", "550 5.7.1 policy", []),
        ("end", "554 5.7.1 spam", []),
        ("end", "550 5.1.1 no such user", ["hard"]),
        ("mail", "550 5.1.8 sender refused", []),
    ],
)
async def test_5xx_fails_at_once_and_only_a_bad_address_is_suppressed(
    school: ActivitySchool, mail: MailServer, step: str, answer: str, reason: list[str]
) -> None:
    mail.plan(step, answer)
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert (found.status, found.reason) == (Status.FAILED, answer)
    assert mail.conversations == 1
    assert await suppressed(school) == reason


async def test_a_suppressed_address_gets_nothing_more_but_a_row_that_says_so(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("rcpt", "550 5.1.1 no such user")
    await send(school)
    await school.work()
    async with school.db.write() as tx:
        await school.notifications.send(tx, [Message("other", "deadline_warning", "ada")])
    await school.work()
    (found, _), _ = await school.deliveries()
    assert (found.status, found.reason) == (
        Status.SUPPRESSED,
        "the address is suppressed: hard",
    )
    assert mail.conversations == 1
    async with school.db.read() as tx:
        [row] = await want.newest_suppressions(tx, None, 10)
    await school.notifications.lift(row.id, "olga")
    await school.notifications.resend(found.id, "olga", "the address is right again")
    assert await suppressed(school) == []


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "text"])
async def test_a_line_cut_before_the_end_of_the_mail_is_tried_again(
    school: ActivitySchool, mail: MailServer, step: str
) -> None:
    mail.plan(step, "cut")
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    tries = [outcome for outcome, _ in await outcomes(school)]
    if step == "text" and tries == ["unknown"]:
        # the end of the mail had left when the news of the cut came: honest, and not sent twice
        assert (found.status, len(mail.mails)) == (Status.UNKNOWN, 0)
        return
    assert tries == ["pending", "accepted"]
    assert len(mail.mails) == 1


@pytest.mark.parametrize("how", ["cut", "hang"])
async def test_a_line_cut_after_the_end_of_the_mail_is_unknown_and_a_reminder_goes_out_once(
    school: ActivitySchool, mail: MailServer, how: str
) -> None:
    mail.plan("end", how)
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert found.status is Status.UNKNOWN
    assert "it may be sent" in (found.reason or "")
    assert len(mail.mails) == 1
    assert await school.statuses("in_app") == {"ada": "delivered"}
    await school.notifications.resend(found.id, "olga", "she did not get it")
    await school.work()
    assert (await delivery(school)).status is Status.ACCEPTED
    assert {got["Message-ID"] for got in mail.mails} == {f"<{found.id}@example.org>"}


async def test_a_report_whose_fate_is_unknown_is_sent_once_more(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("end", "cut")
    await send(school, "manager_report")
    await school.work(skip_waits=True)
    assert [outcome for outcome, _ in await outcomes(school)] == ["unknown", "accepted"]
    assert len({got["Message-ID"] for got in mail.mails}) == 1


@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_a_server_that_hangs_before_the_mail_is_tried_again(
    school: ActivitySchool, mail: MailServer, step: str
) -> None:
    mail.plan(step, "hang")
    await send(school)
    await school.work(skip_waits=True)
    assert [outcome for outcome, _ in await outcomes(school)] == ["pending", "accepted"]


async def test_a_server_that_is_not_there_is_tried_again(
    db: SqliteDatabase, clock: Clock, mail: MailServer
) -> None:
    school = build(db, clock, {Channel.EMAIL: smtp(1)})
    await school.person("ada")
    await send(school)
    await school.work()
    found = await delivery(school)
    assert found.status is Status.PENDING
    assert "cannot be reached" in (found.reason or "")


async def test_a_mail_with_lines_of_dots_arrives_as_it_was(mail: MailServer) -> None:
    words = Words("Dots", "", ".\n..two\nend.\n", "<p>.</p>")
    letter = Letter("id", Channel.EMAIL, "ada@example.org", words)
    assert (await smtp(mail.port).carry(letter, Talk())).status is Status.ACCEPTED
    text = mail.mails[0].get_body(("plain",))
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == words.text
    assert mail.mails[0]["List-Unsubscribe"] is None


async def test_a_worker_that_died_in_the_middle_leaves_unknown_and_no_second_mail(
    school: ActivitySchool, mail: MailServer
) -> None:
    await send(school)
    found = await delivery(school)
    async with school.db.write() as tx:  # what the dead worker had committed before it spoke
        await store.begin(tx, found, "ada@example.org")
    await school.work(skip_waits=True)
    assert (await delivery(school)).status is Status.UNKNOWN
    assert mail.conversations == 0


async def test_a_job_that_is_cancelled_by_hand_ends_its_delivery(school: ActivitySchool) -> None:
    await send(school)
    found = await delivery(school)
    async with school.db.write() as tx:
        await cancel(tx, school.registry, found.job or "")
    found = await delivery(school)
    assert (found.status, found.reason) == (Status.FAILED, "cancelled")
    async with school.db.write() as tx:
        await retry(tx, school.registry, found.job or "")
    await school.work()
    assert (await delivery(school)).status is Status.ACCEPTED


async def test_mails_go_over_tls_and_the_password_only_there(tmp_path: Path) -> None:
    server_side, client_side = certificates(tmp_path)

    def allowed(*credentials: object) -> AuthResult:
        return AuthResult(success=True)

    async with mail_server(
        tls_context=server_side, require_starttls=True, authenticator=allowed, auth_required=True
    ) as running:
        server = Server("localhost", running.port, "required", "homeroom", "secret")
        carrier = SmtpCarrier(server, SENDER, timeout_seconds=5, tls_context=client_side)
        letter = Letter("id", Channel.EMAIL, "ada@example.org", Words("T", "", "t", "<p>t</p>"))
        verdict = await carrier.carry(letter, Talk())
        assert verdict.status is Status.ACCEPTED, verdict
        assert len(running.mails) == 1


async def test_a_server_without_tls_gets_no_mail_unless_that_is_meant(mail: MailServer) -> None:
    carrier = SmtpCarrier(Server("127.0.0.1", mail.port, "required"), SENDER, timeout_seconds=5)
    letter = Letter("id", Channel.EMAIL, "ada@example.org", Words("T", "", "t", "<p>t</p>"))
    verdict = await carrier.carry(letter, Talk())
    assert verdict.status is Status.PENDING
    assert mail.mails == []


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate for localhost; return the contexts of a server and of a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "tls.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + made.public_bytes(Encoding.PEM)
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=file)
