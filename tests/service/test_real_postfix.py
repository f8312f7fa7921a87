"""Deliveries and addresses after each refusal of a real Postfix, and after its repair.

What the relay says of us (client, greeting, sender, relaying, rate) or of itself counts against no
address: it waits, and goes out once when the relay is repaired. Only what is said of the recipient
ends the delivery.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from tests.support.activity_school import SENDER, ActivitySchool, at, build, local
from tests.support.condition import until_async
from tests.support.mail_server import MailServer, mail_server
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.port import free_port
from tools.servers.postfix import KNOWN_DOMAIN, Postfix, Postgrey, need_postgrey, need_program

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.notify import store, suppression
from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    Channel,
    Delivery,
    DeliveryStatus,
    Message,
    OutgoingMessage,
    ReasonCode,
    RenderedMessage,
    SmtpProgress,
    SmtpSender,
    SmtpServer,
    SmtpSessionOptions,
    parse_dsn,
)

pytestmark = [pytest.mark.anyio, pytest.mark.service]
PENDING, FAILED = DeliveryStatus.PENDING, DeliveryStatus.FAILED
TEMPORARY, REFUSED = ReasonCode.TEMPORARY_FAILURE, ReasonCode.RECIPIENT_REFUSED
NO_EXCEPTIONS = {"smtpd_client_event_limit_exceptions": ""}


@dataclass(frozen=True)
class Refusal:
    """One service of the relay, and what has to come of a mail that it refuses."""

    name: str
    parameters: dict[str, str]
    code: int
    status: DeliveryStatus = PENDING
    reason_code: ReasonCode | None = TEMPORARY
    address: str = "ida@example.org"
    ehlo_name: str = "homeroom.example.org"
    suppressed: list[str] = field(default_factory=list)
    mails_before: int = 0


TABLE = [
    Refusal("client", {"smtpd_client_restrictions": "reject"}, 554, reason_code=None),
    Refusal(
        "helo",
        {"smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname"},
        504,
        reason_code=None,
        ehlo_name="localhost",
    ),
    Refusal("sender", {"smtpd_sender_restrictions": "reject"}, 554, reason_code=None),
    Refusal("relay", {"mynetworks": "192.0.2.0/24"}, 554, reason_code=None),
    Refusal(
        "greeting",
        {"smtpd_client_restrictions": "reject", "smtpd_delay_reject": "no"},
        554,
        reason_code=ReasonCode.SENDER_REFUSED,
    ),
    Refusal("connections", {"smtpd_client_connection_rate_limit": "1", **NO_EXCEPTIONS}, 421),
    Refusal(
        "mails", {"smtpd_client_message_rate_limit": "1", **NO_EXCEPTIONS}, 450, mails_before=1
    ),
    Refusal("greylist", {}, 450),
    Refusal("later", {"smtpd_recipient_restrictions": "defer"}, 450),
    Refusal("full", {"queue_minfree": "9000000000000000"}, 452),
    Refusal(
        "unknown",
        {},
        550,
        FAILED,
        REFUSED,
        address=f"ida@{KNOWN_DOMAIN}",
        suppressed=["hard"],
    ),
]


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postfix]:
    """Run a Postfix with a service for each row, for the tests of this module."""
    folder = tmp_path_factory.mktemp("postfix")
    for each in (folder, *folder.parents):
        if each.stat().st_mode & 0o005 != 0o005:
            each.chmod(0o755)  # Postfix's own users have to reach their folders
    try:
        need_program()
        need_postgrey()
    except Missing as missing:
        skip_or_fail(missing)
    (folder / "postfix").mkdir()
    postgrey = Postgrey(folder / "postgrey")
    services = {row.name: row.parameters for row in TABLE}
    services["greylist"] = {
        "smtpd_recipient_restrictions": f"check_policy_service inet:127.0.0.1:{postgrey.port}"
    }
    running = Postfix(folder / "postfix", services, free_port())
    try:
        postgrey.start()
        running.start()
        yield running
    finally:
        running.stop()
        postgrey.stop()


@pytest.fixture
async def next_server(postfix: Postfix) -> AsyncIterator[MailServer]:
    async with mail_server(postfix.next_port) as running:
        yield running


def relay_sender(
    postfix: Postfix, name: str, ehlo_name: str = "homeroom.example.org"
) -> SmtpSender:
    server = SmtpServer("127.0.0.1", postfix.ports[name], "none")
    return SmtpSender(server, SENDER, SmtpSessionOptions(ehlo_name, 10, 10))


async def school_with_a_reminder(
    sqlite: SqliteDatabase, clock: Clock, channel_sender: SmtpSender, address: str
) -> ActivitySchool:
    at(clock, local("2026-11-23T09:00"))
    school = build(sqlite, clock, {Channel.EMAIL: channel_sender})
    await school.person("ida", email=address)
    params = EXAMPLE_PARAMS["log_reminder"]
    async with sqlite.write() as tx:
        await school.notifications.send(tx, [Message("key", "log_reminder", "ida", params)])
    return school


async def state_of(school: ActivitySchool) -> tuple[Delivery, int | None, list[str]]:
    """Return the delivery, the code of its last attempt, and the reasons of suppressions."""
    [(delivery, _)] = await school.deliveries()
    async with school.db.read() as tx:
        attempts = await store.list_attempts(tx, delivery.id)
        suppressions = await suppression.list_suppressions(tx, None, 10)
    return delivery, attempts[-1].code, [each.reason for each in suppressions]


async def arrived(postfix: Postfix, server: MailServer, count: int) -> None:
    """Wait until the next server has so many mails and Postfix has its answers."""

    async def is_done() -> bool:
        return len(server.mails) >= count and postfix.is_queue_empty()

    await until_async(is_done)
    assert len(server.mails) == count


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_a_refusal_ends_as_the_table_says_and_the_rest_goes_out_after_the_repair(
    row: Refusal, postfix: Postfix, next_server: MailServer, sqlite: SqliteDatabase, clock: Clock
) -> None:
    channel_sender = relay_sender(postfix, row.name, row.ehlo_name)
    for number in range(row.mails_before):
        text = RenderedMessage("Before", "", "before", "<p>before</p>")
        before = OutgoingMessage(str(number), Channel.EMAIL, "eve@example.org", text)
        await channel_sender.send(before, SmtpProgress())
    await channel_sender.close()
    await channel_sender.check_connection()  # counts against the limit of connections
    await arrived(postfix, next_server, row.mails_before)
    school = await school_with_a_reminder(sqlite, clock, channel_sender, row.address)
    await school.work()
    delivery, code, suppressed = await state_of(school)
    assert (delivery.status, code) == (row.status, row.code), delivery.reason
    assert suppressed == row.suppressed
    assert row.reason_code in (None, delivery.reason_code)
    postfix.change(row.name, {})
    await school.work(skip_waits=True)
    delivery, _, suppressed = await state_of(school)
    assert suppressed == row.suppressed
    if row.status is FAILED:
        assert delivery.status is FAILED
        return
    assert delivery.status is DeliveryStatus.ACCEPTED, delivery.reason
    await arrived(postfix, next_server, row.mails_before + 1)
    assert [mail["To"] for mail in next_server.mails[row.mails_before :]] == [row.address]
    await school.notifications.close()


async def test_a_mail_that_bounces_later_is_bounced_and_its_address_suppressed(
    postfix: Postfix, next_server: MailServer, sqlite: SqliteDatabase, clock: Clock
) -> None:
    postfix.change("later", {})
    next_server.plan("rcpt", "550 5.1.1 no such user")
    school = await school_with_a_reminder(
        sqlite, clock, relay_sender(postfix, "later"), "ida@example.org"
    )
    await school.work()
    delivery, _, suppressed = await state_of(school)
    assert (delivery.status, suppressed) == (DeliveryStatus.ACCEPTED, [])
    await arrived(postfix, next_server, 1)  # the report, to the return path
    assert next_server.envelopes == [("<>", ["bounces@example.org"])]
    notices = parse_dsn(next_server.raw[0])
    await school.notifications.receive_notices("relay-1", notices)
    delivery, _, suppressed = await state_of(school)
    assert (delivery.status, suppressed) == (DeliveryStatus.BOUNCED, ["hard"])
    await school.notifications.close()
