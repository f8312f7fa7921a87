"""Inboxes, preferences, unsubscribe links, bounces and suppressions: over HTTP, by SMTP."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.support.activity_school import ActivitySchool, at, build, local, smtp
from tests.support.api_client import AUTH, as_, client
from tests.support.mail_server import MailServer, mail_server

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.notify import routes
from homeroom.notify.api import EXAMPLE_PARAMS, Channel, Message
from homeroom.notify.email_hook_routes import EmailHooks, EmailHookSecrets

pytestmark = [pytest.mark.anyio, pytest.mark.service]
ADA, BEN = as_("facilitator:ada"), as_("facilitator:ben")
SERVICE, VIEWER, OPERATOR = as_("service"), as_("viewer"), as_("operator")
SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
PREFERENCES = "/api/v1/people/ada/notification-preferences"
MINUTE = 60_000_000


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-23T21:59"))
    return clock


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
async def school(db: SqliteDatabase, clock: Clock, mail: MailServer) -> ActivitySchool:
    made = build(db, clock, {Channel.EMAIL: smtp(mail.port)})
    await made.person("ada", time_zone="Europe/Berlin", locale="de-DE")
    return made


@pytest.fixture
async def api(school: ActivitySchool) -> AsyncIterator[httpx.AsyncClient]:
    hooks = EmailHooks(school.notifications, EmailHookSecrets(SECRET))
    router = routes.router(school.db, AUTH, school.notifications, hooks)
    async with client(router) as opened:
        yield opened


async def send(
    school: ActivitySchool, type: str = "log_reminder", key: str = "k", **given: Any
) -> None:
    async with school.db.write() as tx:
        message = Message(key, type, "ada", EXAMPLE_PARAMS[type], **given)
        await school.notifications.send(tx, [message])


async def test_an_inbox_has_the_language_of_its_owner(
    school: ActivitySchool, api: httpx.AsyncClient
) -> None:
    await send(school)
    await send(school, key="other", metadata={"programmeId": "lab"})
    answer = (await api.get("/api/v1/notifications?limit=1", headers=ADA)).json()
    assert (answer["unreadCount"], len(answer["items"])) == (2, 1)
    newest = answer["items"][0]
    assert newest["title"].startswith("Data for all: Das Protokoll für 23.")
    assert newest["metadata"] == {"programmeId": "lab"}
    more = f"/api/v1/notifications?limit=1&cursor={answer['nextCursor']}"
    assert (await api.get(more, headers=ADA)).json()["nextCursor"] is None
    path = f"/api/v1/notifications/{newest['id']}/read"
    assert (await api.post(path, headers=BEN)).status_code == 404
    assert (await api.post(path, headers=ADA)).json()["readAt"] is not None
    unread = (await api.get("/api/v1/notifications?unread=true", headers=ADA)).json()
    assert (unread["unreadCount"], len(unread["items"])) == (1, 1)
    assert (await api.post("/api/v1/notifications/read-all", headers=ADA)).json() == {"count": 1}
    assert (await api.get("/api/v1/notifications?userId=ada", headers=BEN)).status_code == 403


async def test_a_type_that_is_switched_off_is_skipped_with_its_reason_unless_mandatory(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    body = {"channels": {"log_reminder": {"email": False}, "late_log": {"in_app": False}}}
    assert (await api.put(PREFERENCES, json=body, headers=BEN)).status_code == 403
    shown = (await api.put(PREFERENCES, json=body, headers=ADA)).json()
    wanted = {each["type"]: each["channels"] for each in shown["preferences"]}
    assert wanted["log_reminder"] == {"in_app": True, "email": False, "sms": False, "chat": False}
    await send(school)
    await send(school, "late_log", "late")
    await school.work()
    assert [got["Subject"][:12] for got in mail.mails] == ["Ben Li hat d"]
    assert await school.statuses("in_app") == {"ada": "delivered"}
    found = {note.type: delivery for delivery, note in await school.deliveries()}
    assert found["log_reminder"].reason_code == "preference_off"
    path = f"/api/v1/deliveries/{found['log_reminder'].id}"
    delivery = (await api.get(path, headers=VIEWER)).json()
    assert (delivery["status"], delivery["reasonCode"]) == ("skipped", "preference_off")
    assert delivery["reason"] == "The recipient has switched this type off for this channel."
    off = {"channels": {"compliance_warning": {"email": False}}}
    assert (await api.put(PREFERENCES, json=off, headers=ADA)).status_code == 422
    unknown = {"channels": {"gossip": {"email": True}}}
    assert (await api.put(PREFERENCES, json=unknown, headers=ADA)).status_code == 422


async def test_mails_wait_for_the_end_of_quiet_hours_and_the_inbox_does_not(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    await api.put(PREFERENCES, json={"quietHours": {"start": "22:00", "end": "07:00"}}, headers=ADA)
    await send(school)
    await school.work()
    assert len(mail.mails) == 1  # 21:59
    school.move_to(local("2026-11-23T22:00"))
    await send(school, key="quiet")
    await send(school, "schedule_missed", "critical")
    await school.work()
    assert [got["Subject"] for got in mail.mails[1:]] == ["Versäumte Läufe von Zeitplänen: 2"]
    assert (await api.get("/api/v1/notifications", headers=ADA)).json()["unreadCount"] == 3
    school.move_to(local("2026-11-24T07:00"))
    await school.work()
    assert len(mail.mails) == 3


async def test_a_digest_is_one_mail_a_day_for_types_that_may_wait(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    await api.put(PREFERENCES, json={"digestAt": "17:00"}, headers=ADA)
    await send(school)
    await send(school, "late_log", "late")
    await send(school, "deadline_warning", "urgent")
    await school.work()
    assert len(mail.mails) == 1  # the warning is in no digest
    school.move_to(local("2026-11-24T17:00"))
    await school.work()
    digest = mail.mails[1]
    text = digest.get_body(("plain",))
    assert text is not None
    assert digest["Subject"] == "2 Nachrichten von Homeroom"
    assert "Das Protokoll für" in text.get_content()
    assert "Ben Li hat" in text.get_content()
    assert set((await school.statuses()).values()) == {"accepted"}


async def test_late_logs_within_ten_minutes_are_bundled_after_the_first(
    school: ActivitySchool, mail: MailServer
) -> None:
    for number in range(4):
        await send(school, "late_log", f"late{number}", group="late_log:lab:ada")
        await school.work()
        school.move_to(school.clock.now() + MINUTE)
    assert len(mail.mails) == 1
    await school.work(skip_waits=True)
    assert [got["Subject"] for got in mail.mails[1:]] == ["3 Nachrichten von Homeroom"]


async def test_an_unsubscribe_link_ends_a_type_by_post_and_changes_nothing_by_get(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    await send(school)
    await school.work()
    link = str(mail.mails[0]["List-Unsubscribe"])[1:-1]
    path = link.removeprefix("https://homeroom.example.org")
    shown = await api.get(path)
    assert shown.status_code == 200
    assert "<button" in shown.text
    assert "style-src 'sha256-" in shown.headers["content-security-policy"]
    preferences = (await api.get(PREFERENCES, headers=ADA)).json()["preferences"]
    assert preferences[0]["channels"]["email"] is True
    for _ in range(2):  # mail programs repeat the request
        response = await api.post(path, data={"List-Unsubscribe": "One-Click"})
        assert (response.status_code, response.history) == (200, [])
    files = {"List-Unsubscribe": (None, "One-Click")}
    assert (await api.post(path, files=files)).status_code == 200
    await send(school, key="next")
    await school.work()
    assert len(mail.mails) == 1
    assert (await api.post(path[:-3] + "AAA")).status_code == 404
    async with school.db.read() as tx:
        audited = await tx.fetch("SELECT COUNT(*) FROM audit WHERE action = 'mail.unsubscribed'")
    assert audited == [(3,)]


async def test_mandatory_mails_have_no_unsubscribe_link(
    school: ActivitySchool, mail: MailServer
) -> None:
    await send(school, "compliance_warning")
    await school.work()
    assert mail.mails[0]["List-Unsubscribe"] is None


DSN = """From: mailer-daemon@example.org
To: bounces@example.org
Subject: Undelivered
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

It did not work.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Final-Recipient: rfc822; {recipient}
Action: failed
Status: {status}
Diagnostic-Code: smtp; 550 <{recipient}> no such user

--b
Content-Type: text/rfc822-headers

Message-ID: {message_id}
Subject: whatever
--b--
"""


def signed(id: str, body: str | bytes) -> dict[str, str]:
    """Return the headers of a signed webhook; the body may be any bytes."""
    at = str(int(time.time()))
    raw = body.encode() if isinstance(body, str) else body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{id}.{at}.".encode() + raw, "sha256")
    return {
        "webhook-id": id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


async def test_a_bounce_mail_suppresses_the_address_that_was_sent_to(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    await send(school)
    await school.work()
    [(delivery, _)] = await school.deliveries()
    body = DSN.format(
        recipient="victim@example.org", status="5.1.1", message_id=mail.mails[0]["Message-ID"]
    )
    hook = "/hooks/email/dsn"
    forged = await api.post(hook, content=body, headers={**signed("1", body), "webhook-id": "2"})
    assert forged.status_code == 401
    for _ in range(2):
        answer = await api.post(hook, content=body, headers=signed("1", body))
        assert answer.json() == {"known": 1, "unknown": 0, "ignored": 0}
    shown = (await api.get(f"/api/v1/deliveries/{delivery.id}", headers=VIEWER)).json()
    assert (shown["status"], shown["address"]) == ("bounced", "a***@example.org")
    assert shown["reasonCode"] == "hard_bounce"
    [row] = (await api.get("/api/v1/suppressions", headers=VIEWER)).json()["items"]
    assert (row["address"], row["reason"]) == ("a***@example.org", "hard")
    assert "victim@" not in row["detail"] + shown["reason"]
    assert row["detail"] == "smtp; 550 <v***@example.org> no such user"
    path = f"/api/v1/suppressions/{row['id']}"
    assert (await api.delete(path, headers=VIEWER)).status_code == 403
    assert (await api.delete(path, headers=OPERATOR)).status_code == 204
    assert (await api.delete(path, headers=OPERATOR)).status_code == 404


async def test_a_bounce_mail_need_not_be_utf_8(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    await send(school)
    await school.work()
    body = (
        DSN.replace("It did not work.", "Zurückgewiesen.")
        .format(recipient="x@y.z", status="5.1.1", message_id=mail.mails[0]["Message-ID"])
        .encode("latin-1")
    )
    answer = await api.post("/hooks/email/dsn", content=body, headers=signed("1", body))
    assert answer.json() == {"known": 1, "unknown": 0, "ignored": 0}
    late = {**signed("2", body), "webhook-timestamp": str(int(time.time()) - 400)}
    assert (await api.post("/hooks/email/dsn", content=body, headers=late)).status_code == 401


async def test_five_soft_bounces_of_a_provider_suppress_the_address(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    for number in range(5):
        await send(school, key=f"k{number}")
        await school.work()
        event = {
            "event": "bounce",
            "kind": "soft",
            "messageId": mail.mails[-1]["Message-ID"],
            "detail": "mailbox full",
        }
        body = json.dumps({"events": [event, {"event": "delivered", "messageId": "<x@y>"}]})
        answer = await api.post(
            "/hooks/email/events", content=body, headers=signed(str(number), body)
        )
        assert answer.json() == {"known": 1, "unknown": 1, "ignored": 0}
        rows = (await api.get("/api/v1/suppressions", headers=VIEWER)).json()["items"]
        assert len(rows) == (1 if number == 4 else 0)
    for body in ("[]", '{"events": [{"event": "party"}]}'):
        answer = await api.post("/hooks/email/events", content=body, headers=signed("x", body))
        assert answer.status_code == 400


async def test_a_delivery_is_resent_with_actor_and_reason(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    mail.plan("end", "cut")
    await send(school)
    await school.work()
    [item] = (await api.get("/api/v1/deliveries?status=unknown", headers=VIEWER)).json()["items"]
    path = f"/api/v1/deliveries/{item['id']}"
    again = {"reason": "she says that nothing came"}
    assert (await api.post(f"{path}/resend", json=again, headers=VIEWER)).status_code == 403
    assert (await api.post(f"{path}/resend", json={}, headers=OPERATOR)).status_code == 422
    assert (await api.post(f"{path}/resend", json=again, headers=OPERATOR)).status_code == 202
    assert (await api.post(f"{path}/resend", json=again, headers=OPERATOR)).status_code == 409
    await school.work()
    tries = (await api.get(path, headers=VIEWER)).json()["tries"]
    assert [each["outcome"] for each in tries] == ["unknown", "accepted"]


async def test_concurrent_resends_send_once(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    mail.plan("end", "cut")
    await send(school)
    await school.work()
    [item] = (await api.get("/api/v1/deliveries?status=unknown", headers=VIEWER)).json()["items"]
    path, again = f"/api/v1/deliveries/{item['id']}", {"reason": "nothing came"}
    answers = await asyncio.gather(
        *[api.post(f"{path}/resend", json=again, headers=OPERATOR) for _ in range(6)]
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409, 409]
    await school.work()
    tries = (await api.get(path, headers=VIEWER)).json()["tries"]
    assert [each["outcome"] for each in tries] == ["unknown", "accepted"]
    assert (tries[1]["actor"], tries[1]["why"]) == ("key operator", again["reason"])
