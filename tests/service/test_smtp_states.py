"""Status of a delivery after each response, hang and cut of a mail server."""

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
from tests.support.activity_school import SENDER, ActivitySchool, at, build, local, smtp
from tests.support.mail_server import MailServer, mail_server

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs import job_actions
from homeroom.jobs.api import cancel, retry
from homeroom.notify import store, suppression
from homeroom.notify.api import (
    Channel,
    DeliveryStatus,
    Message,
    OutgoingMessage,
    ReasonCode,
    RenderedMessage,
    SmtpProgress,
    SmtpSender,
    SmtpServer,
    SmtpSessionOptions,
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
    channel_sender = smtp(mail.port, timeout_seconds=0.5, end_timeout_seconds=0.5)
    made = build(db, clock, {Channel.EMAIL: channel_sender})
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
        tries = await store.list_attempts(tx, (await delivery(school)).id)
    return [(each.outcome, each.code) for each in tries]


async def suppression_reasons(school: ActivitySchool) -> list[str]:
    async with school.db.read() as tx:
        return [each.reason for each in await suppression.list_suppressions(tx, None, 10)]


async def test_250_is_accepted_and_the_mail_is_complete(
    school: ActivitySchool, mail: MailServer
) -> None:
    await send(school)
    await school.work()
    found = await delivery(school)
    assert (found.status, found.attempts) == (DeliveryStatus.ACCEPTED, 1)
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
async def test_4xx_at_any_step_is_retried_until_it_is_accepted(
    school: ActivitySchool, mail: MailServer, step: str, answer: str
) -> None:
    mail.plan(step, answer, times=2)
    await send(school)
    await school.work()
    found = await delivery(school)
    assert found.status is DeliveryStatus.PENDING
    assert found.reason_code == ReasonCode.TEMPORARY_FAILURE
    await school.work(skip_waits=True)
    assert await outcomes(school) == [
        ("pending", int(answer[:3])),
        ("pending", int(answer[:3])),
        ("accepted", None),
    ]
    assert len(mail.mails) == 1


async def test_4xx_at_every_attempt_fails_with_its_reason_and_can_be_resent(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("rcpt", "450 4.2.0 try later", times=6)
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert (found.status, found.attempts) == (DeliveryStatus.FAILED, 6)
    assert found.reason_code == ReasonCode.ATTEMPTS_EXHAUSTED
    assert found.reason == "The delivery failed after 6 attempts: 450 4.2.0 try later"
    assert found.job is not None
    jobs = [found.job]
    await school.kernel.maintenance.tick()
    assert await school.kernel.call(job_actions.outstanding_ids, jobs) == {found.job}
    await school.notifications.resend(found.id, "olga", "their server is back")
    await school.work()
    await school.kernel.maintenance.tick()
    assert await school.kernel.call(job_actions.outstanding_ids, jobs) == set()  # another sent it
    resent = await delivery(school)
    assert (resent.status, resent.reason_code) == (DeliveryStatus.ACCEPTED, None)
    async with school.db.read() as tx:
        last = (await store.list_attempts(tx, found.id))[-1]
    assert (last.actor, last.why) == ("olga", "their server is back")
    assert len(await school.keys()) == 1


async def test_no_attempt_is_made_after_the_message_has_expired(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("rcpt", "450 4.2.0 try later", times=6)
    await send(school, life=4 * 60_000_000)  # one minute's wait fits, five minutes' does not
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert (found.status, found.attempts) == (DeliveryStatus.FAILED, 2)
    assert mail.sessions == 2


async def test_an_expired_message_is_not_sent(school: ActivitySchool, mail: MailServer) -> None:
    await send(school, life=DAY)
    school.move_to(school.clock.now() + DAY)
    await school.work()
    found = await delivery(school)
    assert (found.status, found.reason_code) == (DeliveryStatus.EXPIRED, ReasonCode.EXPIRED)
    assert found.reason == "The message expired before it could be sent."
    assert mail.sessions == 0


@pytest.mark.parametrize(
    ("step", "answer", "code", "suppressed"),
    [
        ("rcpt", "550 5.1.1 no such user", "recipient_refused", ["hard"]),
        ("rcpt", "550 no such user", "recipient_refused", ["hard"]),
        ("rcpt", "552 5.2.2 mailbox full", "recipient_refused", []),
        ("rcpt", "550 5.7.1 policy", "message_refused", []),
        ("end", "554 5.7.1 spam", "message_refused", []),
        ("end", "550 5.1.1 no such user", "recipient_refused", ["hard"]),
        ("mail", "552 5.3.4 too big", "message_refused", []),
    ],
)
async def test_5xx_fails_at_once_and_only_a_bad_address_is_suppressed(
    school: ActivitySchool,
    mail: MailServer,
    step: str,
    answer: str,
    code: str,
    suppressed: list[str],
) -> None:
    mail.plan(step, answer)
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert (found.status, found.reason, found.reason_code) == (DeliveryStatus.FAILED, answer, code)
    assert mail.sessions == 1
    assert await suppression_reasons(school) == suppressed


async def test_a_suppressed_address_gets_a_suppressed_delivery_and_no_mail(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("rcpt", "550 5.1.1 no such user")
    await send(school)
    await school.work()
    async with school.db.write() as tx:
        await school.notifications.send(tx, [Message("other", "deadline_warning", "ada")])
    await school.work()
    (found, _), _ = await school.deliveries()
    assert (found.status, found.reason_code) == (
        DeliveryStatus.SUPPRESSED,
        ReasonCode.SUPPRESSED,
    )
    assert mail.sessions == 1
    async with school.db.read() as tx:
        [row] = await suppression.list_suppressions(tx, None, 10)
    await school.notifications.lift_suppression(row.id, "olga")
    await school.notifications.resend(found.id, "olga", "the address is right again")
    assert await suppression_reasons(school) == []


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "text"])
async def test_a_connection_cut_before_the_end_of_the_mail_is_retried(
    school: ActivitySchool, mail: MailServer, step: str
) -> None:
    mail.plan(step, "cut")
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    attempts = [outcome for outcome, _ in await outcomes(school)]
    if step == "text" and attempts == ["unknown"]:
        # The end of the mail was written before the cut was noticed, so it is not sent twice.
        assert (found.status, len(mail.mails)) == (DeliveryStatus.UNKNOWN, 0)
        return
    assert attempts == ["pending", "accepted"]
    assert len(mail.mails) == 1


@pytest.mark.parametrize("how", ["cut", "hang"])
async def test_a_connection_cut_after_the_end_is_unknown_and_a_reminder_is_sent_once(
    school: ActivitySchool, mail: MailServer, how: str
) -> None:
    mail.plan("end", how)
    await send(school)
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert found.status is DeliveryStatus.UNKNOWN
    assert found.reason_code == ReasonCode.OUTCOME_UNKNOWN
    assert len(mail.mails) == 1
    assert await school.statuses("in_app") == {"ada": "delivered"}
    await school.notifications.resend(found.id, "olga", "she did not get it")
    await school.work()
    assert (await delivery(school)).status is DeliveryStatus.ACCEPTED
    assert {got["Message-ID"] for got in mail.mails} == {f"<{found.id}@example.org>"}


async def test_a_report_with_an_unknown_outcome_is_sent_once_more(
    school: ActivitySchool, mail: MailServer
) -> None:
    mail.plan("end", "cut")
    await send(school, "manager_report")
    await school.work(skip_waits=True)
    assert [outcome for outcome, _ in await outcomes(school)] == ["unknown", "accepted"]
    assert len({got["Message-ID"] for got in mail.mails}) == 1


@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_a_server_that_hangs_before_the_mail_is_retried(
    school: ActivitySchool, mail: MailServer, step: str
) -> None:
    mail.plan(step, "hang")
    await send(school)
    await school.work(skip_waits=True)
    assert [outcome for outcome, _ in await outcomes(school)] == ["pending", "accepted"]


async def test_an_unreachable_server_is_retried(
    db: SqliteDatabase, clock: Clock, mail: MailServer
) -> None:
    school = build(db, clock, {Channel.EMAIL: smtp(1)})
    await school.person("ada")
    await send(school)
    await school.work()
    found = await delivery(school)
    assert found.status is DeliveryStatus.PENDING
    assert found.reason_code == ReasonCode.SERVER_UNREACHABLE


async def test_a_mail_with_lines_of_dots_arrives_unchanged(mail: MailServer) -> None:
    rendered = RenderedMessage("Dots", "", ".\n..two\nend.\n", "<p>.</p>")
    message = OutgoingMessage("id", Channel.EMAIL, "ada@example.org", rendered)
    assert (await smtp(mail.port).send(message, SmtpProgress())).status is DeliveryStatus.ACCEPTED
    text = mail.mails[0].get_body(("plain",))
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == rendered.text
    assert mail.mails[0]["List-Unsubscribe"] is None


async def test_a_worker_that_died_while_sending_leaves_unknown_and_no_second_mail(
    school: ActivitySchool, mail: MailServer
) -> None:
    await send(school)
    found = await delivery(school)
    async with school.db.write() as tx:  # the claim of the dead worker
        await store.begin_attempt(tx, found, "ada@example.org")
    await school.work(skip_waits=True)
    found = await delivery(school)
    assert (found.status, found.reason_code) == (DeliveryStatus.UNKNOWN, ReasonCode.WORKER_LOST)
    assert mail.sessions == 0


async def test_a_cancelled_job_fails_its_delivery_and_a_retried_one_sends_it(
    school: ActivitySchool,
) -> None:
    await send(school)
    found = await delivery(school)
    async with school.db.write() as tx:
        await cancel(tx, school.kernel.registry, found.job or "")
    found = await delivery(school)
    assert (found.status, found.reason_code) == (DeliveryStatus.FAILED, ReasonCode.JOB_FAILED)
    async with school.db.write() as tx:
        await retry(tx, school.kernel.registry, found.job or "")
    await school.work()
    assert (await delivery(school)).status is DeliveryStatus.ACCEPTED


async def test_mails_and_the_password_are_sent_over_tls(tmp_path: Path) -> None:
    server_side, client_side = certificates(tmp_path)

    def allowed(*credentials: object) -> AuthResult:
        return AuthResult(success=True)

    async with mail_server(
        tls_context=server_side, require_starttls=True, authenticator=allowed, auth_required=True
    ) as running:
        server = SmtpServer("localhost", running.port, "required", "homeroom", "secret")
        channel_sender = SmtpSender(
            server, SENDER, SmtpSessionOptions(timeout_seconds=5, tls_context=client_side)
        )
        message = OutgoingMessage(
            "id", Channel.EMAIL, "ada@example.org", RenderedMessage("T", "", "t", "<p>t</p>")
        )
        decision = await channel_sender.send(message, SmtpProgress())
        assert decision.status is DeliveryStatus.ACCEPTED, decision
        assert len(running.mails) == 1


async def test_a_server_without_tls_gets_no_mail_unless_the_url_allows_it(mail: MailServer) -> None:
    channel_sender = SmtpSender(SmtpServer("127.0.0.1", mail.port, "required"), SENDER)
    message = OutgoingMessage(
        "id", Channel.EMAIL, "ada@example.org", RenderedMessage("T", "", "t", "<p>t</p>")
    )
    decision = await channel_sender.send(message, SmtpProgress())
    assert decision.status is DeliveryStatus.PENDING
    assert mail.mails == []


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Create a certificate for localhost; return the contexts of a server and a client."""
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
