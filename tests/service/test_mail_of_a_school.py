"""A school's own words: look, templates, links, and test messages, by a real mail server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from tests.support.activity_school import ActivitySchool, at, build, local, smtp
from tests.support.api_client import AUTH, client
from tests.support.mail_server import MailServer, mail_server

from homeroom.bootstrap.partners import build_templates
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.notify import routes
from homeroom.notify.api import EXAMPLE_PARAMS, MESSAGE_TYPES, Channel, DeliveryStatus, Message
from homeroom.notify.email_hook_routes import EmailHooks, EmailHookSecrets
from homeroom.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.service]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3
SCHOOL_FILE = """
name = "Lernhaus, Pflege"
address = "Nebenstr. 2, 10115 Berlin"
colour = "#ffcc00"
reply_to = "Pflege <pflege@lernhaus.example>"
facilitator_link = "https://team.example/{programme}/{user}?week={week}"
"""


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-23T08:00"))
    return clock


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of templates: one for all programmes, one for the programme ``a/lab``."""
    own = tmp_path / "programmes" / "a%2Flab"
    own.mkdir(parents=True)
    (tmp_path / "log_reminder.txt").write_text("For all: {{ programme }}\n\nPlease write.")
    (tmp_path / "late_log.txt").write_text("Late, for all\n\nSee there.")
    (own / "log_reminder.txt").write_text("For the lab: {{ programme }}\n\nPlease write.")
    (own / "school.toml").write_text(SCHOOL_FILE)
    (own / "logo.png").write_bytes(PNG)
    return tmp_path


@pytest.fixture
async def school(
    sqlite: SqliteDatabase, clock: Clock, mail: MailServer, folder: Path
) -> ActivitySchool:
    settings = Settings(
        template_dir=folder,
        school_name="Lernhaus Mitte",
        school_address="Hauptstr. 1, 10115 Berlin",
        school_colour="#123456",
        programme_link="https://learn.example/{programme}/{week}",
    )
    senders = {Channel.EMAIL: smtp(mail.port)}
    made = build(sqlite, clock, senders, templates=build_templates(settings))
    for id in ("mara", "ada", "ben"):
        await made.person(id)
    return made


def text_of(mail: EmailMessage, subtype: str = "plain") -> str:
    body = mail.get_body((subtype,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


async def test_a_programme_has_its_own_templates_look_logo_and_address_for_replies(
    school: ActivitySchool, mail: MailServer
) -> None:
    await school.programme("a/lab")
    await school.offering("art", "ada", "a/lab")
    await school.programme("data")
    await school.offering("sql", "ben", "data")
    school.move_to(local("2026-11-23T09:00"))
    await school.work()
    [own], [other] = mail.to("ada@example.org"), mail.to("ben@example.org")
    assert own["Subject"] == "For the lab: The a/lab"
    assert own["Reply-To"] == "Pflege <pflege@lernhaus.example>"
    assert "This mail was sent by Lernhaus, Pflege, Nebenstr. 2" in text_of(own)
    html = text_of(own, "html")
    assert "border-top: 4px solid #ffcc00" in html
    assert 'src="cid:logo@homeroom"' in html
    [image] = [part for part in own.walk() if part.get_content_maintype() == "image"]
    assert (image["Content-ID"], image.get_content()) == ("<logo@homeroom>", PNG)
    assert [part.defects for part in own.walk()] == [[]] * 5
    assert (other["Subject"], other["Reply-To"]) == ("For all: The data", None)
    assert "Lernhaus Mitte, Hauptstr. 1" in text_of(other)
    assert "#123456" in text_of(other, "html")
    assert "cid:" not in text_of(other, "html")


async def test_a_bundle_about_one_programme_has_its_look(
    school: ActivitySchool, mail: MailServer
) -> None:
    for programmes in (("a/lab", "a/lab"), ("a/lab", "data")):
        messages = [
            Message(
                f"{programmes} {number}",
                "late_log",
                "mara",
                EXAMPLE_PARAMS["late_log"],
                metadata={"programmeId": programme},
                group=f"late {programmes}",
            )
            for number, programme in enumerate(("first", *programmes))
        ]
        for message in messages:  # the first is mailed at once, the others together
            async with school.db.write() as tx:
                await school.notifications.send(tx, [message])
            await school.work()
    await school.work(skip_waits=True)
    bundles = [each for each in mail.mails if "2 messages" in each["Subject"]]
    assert [each["Reply-To"] for each in bundles] == ["Pflege <pflege@lernhaus.example>", None]


async def test_the_report_links_to_the_programme_and_to_each_facilitator_and_compares(
    school: ActivitySchool, mail: MailServer
) -> None:
    await school.programme("a/lab")
    for offering, facilitator in (("art", "ada"), ("law", "ben"), ("sql", "ada")):
        await school.offering(offering, facilitator, "a/lab")
    await school.log("law", "2026-W48")
    await school.log("sql", "2026-W48")
    school.move_to(local("2026-12-07T09:00"))  # of W49, which ends now, nothing was handed in
    await school.work()
    school.move_to(local("2026-12-08T10:00"))
    await school.work()
    text = next(
        text for text in map(text_of, reversed(mail.to("mara@example.org"))) if "handed in" in text
    )
    assert "0 of 3 handed in, 0 of them late." in text
    assert "): 2 of 3.\nMissing now, but not in the week before: Ben Example.\n" in text
    assert (
        "- Ada Example: Course art (also missing in the week before)\n"
        "  https://team.example/a%2Flab/ada?week=2026-W49\n"
        "- Ada Example: Course sql\n"
    ) in text
    assert "Open the programme: https://learn.example/a%2Flab/2026-W49" in text


@pytest.mark.parametrize("type", MESSAGE_TYPES)
async def test_a_test_message_has_the_headers_of_the_real_one(
    school: ActivitySchool, mail: MailServer, type: str
) -> None:
    async with school.db.write() as tx:
        await school.notifications.send(
            tx,
            [Message("k", type, "ada", EXAMPLE_PARAMS[type], metadata={"programmeId": "a/lab"})],
        )
    await school.work()
    decision = await school.notifications.send_test(
        Channel.EMAIL, "ada@example.org", type, given_name="Ada", programme_id="a/lab"
    )
    assert decision.status is DeliveryStatus.ACCEPTED
    real, test = mail.mails
    assert test.keys() == real.keys()
    id = real["X-Homeroom-Delivery"]
    for name, value in real.items():
        if name not in ("Date", "List-Unsubscribe"):
            assert test[name].replace(test["X-Homeroom-Delivery"], id) == value, name
    assert mail.envelopes[0][1] == mail.envelopes[1][1]
    links = ("/u/",)
    assert [line for line in text_of(test).splitlines() if not any(x in line for x in links)] == [
        line for line in text_of(real).splitlines() if not any(x in line for x in links)
    ]


async def test_the_unsubscribe_link_of_a_test_message_works_and_changes_nothing(
    school: ActivitySchool, mail: MailServer
) -> None:
    await school.notifications.send_test(Channel.EMAIL, "ada@example.org", "log_reminder")
    path = (
        mail.mails[0]["List-Unsubscribe"].strip("<>").removeprefix("https://homeroom.example.org")
    )
    hooks = EmailHooks(school.notifications, EmailHookSecrets(None))
    async with client(routes.router(school.db, AUTH, school.notifications, hooks)) as api:
        answer: httpx.Response = await api.post(path, content="List-Unsubscribe=One-Click")
    assert (answer.status_code, "You are unsubscribed" in answer.text) == (200, True)
    async with school.db.read() as tx:
        assert await tx.fetch("SELECT COUNT(*) FROM notification_preference") == [(0,)]
        assert await tx.fetch("SELECT COUNT(*) FROM notification") == [(0,)]
