"""Sessions with a mail server: reuse, end, greeting, and addresses beyond ASCII."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.activity_school import SENDER
from tests.support.condition import until_async
from tests.support.mail_server import MailServer, mail_server

from homeroom.notify import smtp_connection
from homeroom.notify.api import (
    Channel,
    DeliveryDecision,
    DeliveryStatus,
    MailIdentity,
    OutgoingMessage,
    ReasonCode,
    RenderedMessage,
    SmtpProgress,
    SmtpSender,
    SmtpServer,
    SmtpSessionOptions,
)

pytestmark = [pytest.mark.anyio, pytest.mark.service]
TEXT = RenderedMessage("Grüße", "", "Text\n", "<p>Text</p>")


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


def sender_to(
    server: MailServer, identity: MailIdentity = SENDER, connections: int = 10
) -> SmtpSender:
    options = SmtpSessionOptions("homeroom.example.org", timeout_seconds=2, end_timeout_seconds=2)
    return SmtpSender(
        SmtpServer("127.0.0.1", server.port, "none"), identity, options, connections=connections
    )


async def send(
    sender: SmtpSender, address: str = "ada@example.org", id: str = "id"
) -> DeliveryDecision:
    message = OutgoingMessage(id, Channel.EMAIL, address, TEXT, None, "log_reminder")
    return await sender.send(message, SmtpProgress())


async def said_quit(server: MailServer, times: int) -> None:
    async def has_quit() -> bool:
        return server.quits == times

    await until_async(has_quit, 0.01)


async def test_mails_share_a_connection_that_ends_with_quit(mail: MailServer) -> None:
    sender = sender_to(mail)
    for _ in range(3):
        assert (await send(sender)).status is DeliveryStatus.ACCEPTED
    assert (mail.sessions, mail.quits, len(mail.mails)) == (1, 0, 3)
    assert mail.ehlo_names == ["homeroom.example.org"]
    await sender.close()
    assert mail.quits == 1


async def test_connections_at_once_are_limited(mail: MailServer) -> None:
    sender = sender_to(mail, connections=2)
    decisions = await asyncio.gather(*(send(sender) for _ in range(20)))
    assert {each.status for each in decisions} == {DeliveryStatus.ACCEPTED}
    assert mail.sessions == 2
    await sender.close()


async def test_a_connection_ends_after_a_time_and_after_many_mails(
    mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_connection, "MAX_MAILS_PER_CONNECTION", 2)
    monkeypatch.setattr(smtp_connection, "IDLE_SECONDS", 0.05)
    sender = sender_to(mail)
    for _ in range(3):
        await send(sender)
    assert mail.sessions == 2
    await said_quit(mail, 2)


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("answer", ["550 5.7.1 no", "450 4.2.0 later"])
async def test_a_session_ends_with_quit_after_a_refusal(
    mail: MailServer, step: str, answer: str
) -> None:
    sender = sender_to(mail)
    mail.plan(step, answer)
    assert (await send(sender)).status is not DeliveryStatus.ACCEPTED
    await said_quit(mail, 1)
    assert (await send(sender)).status is DeliveryStatus.ACCEPTED
    assert mail.sessions == 2
    await sender.close()


@pytest.mark.parametrize("how", ["closed", "cut", "421 4.7.0 too many mails"])
async def test_a_kept_connection_that_has_ended_costs_no_attempt(
    mail: MailServer, how: str
) -> None:
    sender = sender_to(mail)
    await send(sender)
    if how == "closed":
        mail.cut_idle()
    else:
        mail.plan("mail", how)
    assert (await send(sender, id="2")).status is DeliveryStatus.ACCEPTED
    assert (mail.sessions, len(mail.mails)) == (2, 2)
    await sender.close()


async def test_a_cut_after_the_recipient_was_named_is_not_repeated_at_once(
    mail: MailServer,
) -> None:
    sender = sender_to(mail)
    await send(sender)
    mail.plan("end", "cut")
    assert (await send(sender, id="2")).status is DeliveryStatus.UNKNOWN
    assert (mail.sessions, len(mail.mails)) == (1, 2)
    await sender.close()


async def test_domains_beyond_ascii_are_sent_by_idna(mail: MailServer) -> None:
    identity = MailIdentity("Schule Süd <post@süd.example>", None, "zurück@süd.example")
    plain = sender_to(mail, MailIdentity("Schule Süd <post@süd.example>"))
    assert (await send(plain, "ida@müller.example")).status is DeliveryStatus.ACCEPTED
    sent = mail.mails[0]
    assert mail.envelopes == [("post@xn--sd-xka.example", ["ida@xn--mller-kva.example"])]
    assert sent["To"] == "ida@xn--mller-kva.example"
    assert sent["From"] == "Schule Süd <post@xn--sd-xka.example>"
    assert sent["Message-ID"] == "<id@xn--sd-xka.example>"
    assert mail.raw[0].isascii()
    failed = await send(plain, "ida@-müller.example")
    assert failed.reason_code is ReasonCode.INVALID_MESSAGE
    refused = await send(sender_to(mail, identity))
    assert refused.reason_code is ReasonCode.SMTPUTF8_UNSUPPORTED
    await plain.close()


async def test_an_address_beyond_ascii_needs_a_server_with_smtputf8(mail: MailServer) -> None:
    refused = await send(sender_to(mail), "jürgen@müller.example")
    assert (refused.status, refused.reason_code, refused.bounce) == (
        DeliveryStatus.FAILED,
        ReasonCode.SMTPUTF8_UNSUPPORTED,
        None,
    )
    async with mail_server(enable_SMTPUTF8=True) as modern:
        sender = sender_to(modern)
        accepted = await send(sender, "jürgen@müller.example")
        assert accepted.status is DeliveryStatus.ACCEPTED, accepted
        assert modern.envelopes[0][1] == ["jürgen@xn--mller-kva.example"]
        assert "To: jürgen@xn--mller-kva.example\r\n".encode() in modern.raw[0]
        await sender.close()
