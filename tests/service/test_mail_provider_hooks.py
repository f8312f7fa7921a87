"""Webhooks of mail providers: verified as documented, refused when changed, counted once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.support.activity_school import ActivitySchool, at, build, local, smtp
from tests.support.api_client import AUTH, as_, client
from tests.support.asgi_server import serving
from tests.support.mail_server import MailServer, mail_server

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.instant import SECOND, to_datetime
from homeroom.notify import routes, suppression
from homeroom.notify.api import EXAMPLE_PARAMS, Channel, Message
from homeroom.notify.email_hook_routes import EmailHooks, EmailHookSecrets
from homeroom.notify.hook_signature import SENDGRID_SIGNATURE, SENDGRID_TIMESTAMP
from homeroom.notify.sns_client import SnsClient

UNMATCHED = "/api/v1/unmatched-reports"
pytestmark = [pytest.mark.anyio, pytest.mark.service]
TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"
SNS = "https://sns.eu-west-1.amazonaws.com"
LOGIN, MAILGUN_KEY = "homeroom:a-password-of-some-length", "key-of-mailgun"
SENDGRID_KEY = ec.generate_private_key(ec.SECP256R1())
AMAZON_KEY = rsa.generate_private_key(65537, 2048)
Sign = Callable[[Any], tuple[bytes, dict[str, str]]]


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
    await made.person("ada")
    return made


class Amazon:
    """The two pages of SNS that Homeroom fetches, on loopback."""

    def __init__(self, clock: Clock) -> None:
        self.fetched: list[str] = []
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = to_datetime(clock.now())
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(AMAZON_KEY.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=30))
            .sign(AMAZON_KEY, hashes.SHA256())
        )
        self.pem = made.public_bytes(Encoding.PEM)
        self.app = Starlette(routes=[Route("/{path:path}", self.answer)])

    async def answer(self, request: Request) -> Response:
        self.fetched.append(request.url.path)
        return Response(self.pem if request.url.path.endswith(".pem") else b"<Confirmed/>")


@pytest.fixture
async def amazon(clock: Clock) -> AsyncIterator[tuple[Amazon, str]]:
    found = Amazon(clock)
    async with serving(found.app) as served:
        yield found, str(served.base_url).rstrip("/")


@pytest.fixture
async def api(
    school: ActivitySchool, amazon: tuple[Amazon, str]
) -> AsyncIterator[httpx.AsyncClient]:
    key = SENDGRID_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secrets = EmailHookSecrets(
        ses_topic=TOPIC,
        sendgrid_key=base64.b64encode(key).decode(),
        postmark_login=LOGIN,
        mailgun_key=MAILGUN_KEY,
    )
    sns = SnsClient(TOPIC, locate=lambda url: url.replace(SNS, amazon[1]))
    hooks = EmailHooks(school.notifications, secrets, sns)
    async with client(routes.router(school.db, AUTH, school.notifications, hooks)) as opened:
        yield opened


def sns(message: dict[str, Any], version: str = "2") -> dict[str, Any]:
    """Sign a message as SNS documents it."""
    message = {
        "MessageId": str(uuid.uuid4()),
        "TopicArn": TOPIC,
        "Timestamp": "2026-11-23T08:00:00.000Z",
        "SignatureVersion": version,
        "SigningCertURL": f"{SNS}/SimpleNotificationService-1.pem",
        **message,
    }
    names = sorted({*message} - {"SignatureVersion", "SigningCertURL"})
    text = "".join(f"{name}\n{message[name]}\n" for name in names)
    algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()
    signature = AMAZON_KEY.sign(text.encode(), padding.PKCS1v15(), algorithm)
    return {**message, "Signature": base64.b64encode(signature).decode()}


def sign_ses(event: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps(sns({"Type": "Notification", "Message": json.dumps(event)})).encode(), {}


def sign_sendgrid(event: Any) -> tuple[bytes, dict[str, str]]:
    body, timestamp = json.dumps([event]).encode(), "1795422000"
    signature = SENDGRID_KEY.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    encoded = base64.b64encode(signature).decode()
    return body, {SENDGRID_SIGNATURE: encoded, SENDGRID_TIMESTAMP: timestamp}


def sign_postmark(event: Any) -> tuple[bytes, dict[str, str]]:
    login = base64.b64encode(LOGIN.encode()).decode()
    return json.dumps(event).encode(), {"authorization": f"Basic {login}"}


def sign_mailgun(event: Any) -> tuple[bytes, dict[str, str]]:
    at_seconds = str(local("2026-11-23T09:00") // SECOND)
    token = hashlib.sha256(json.dumps(event).encode()).hexdigest()[:50]
    text = (at_seconds + token).encode()
    signature = {
        "timestamp": at_seconds,
        "token": token,
        "signature": hmac.new(MAILGUN_KEY.encode(), text, hashlib.sha256).hexdigest(),
    }
    return json.dumps({"signature": signature, "event-data": event}).encode(), {}


def ses_event(sent: dict[str, str], text: str, kind: str = "Permanent") -> dict[str, Any]:
    recipient = {"emailAddress": "ada@example.org", "status": "5.1.1", "diagnosticCode": text}
    bounce = {
        "bounceType": kind,
        "bounceSubType": "General",
        "feedbackId": f"feedback of {text}",
        "bouncedRecipients": [recipient],
    }
    mail = {"messageId": sent["server_id"], "commonHeaders": {"messageId": "<rewritten@ses>"}}
    return {"notificationType": "Bounce", "bounce": bounce, "mail": mail}


def sendgrid_event(sent: dict[str, str], text: str) -> dict[str, Any]:
    return {
        "event": "bounce",
        "type": "bounce",
        "email": "ada@example.org",
        "reason": text,
        "smtp-id": sent["message_id"],
        "sg_event_id": f"event of {text}",
        "sg_message_id": "14c5d75ce93.dfd.64b469",
    }


def postmark_event(sent: dict[str, str], text: str) -> dict[str, Any]:
    return {
        "RecordType": "Bounce",
        "Type": "HardBounce",
        "ID": int(hashlib.sha256(text.encode()).hexdigest()[:8], 16),
        "MessageID": "a-new-id-of-postmark",
        "Email": "ada@example.org",
        "Details": text,
        "Metadata": {"homeroom-delivery": sent["id"]},
    }


def mailgun_event(sent: dict[str, str], text: str) -> dict[str, Any]:
    return {
        "event": "failed",
        "severity": "permanent",
        "reason": "generic",
        "id": f"event of {text}",
        "recipient": "ada@example.org",
        "message": {"headers": {"message-id": sent["message_id"].strip("<>")}},
        "delivery-status": {"code": int(text[:3]), "message": text[4:]},
    }


PROVIDERS: list[Any] = [
    pytest.param("ses", ses_event, sign_ses, id="ses"),
    pytest.param("sendgrid", sendgrid_event, sign_sendgrid, id="sendgrid"),
    pytest.param("postmark", postmark_event, sign_postmark, id="postmark"),
    pytest.param("mailgun", mailgun_event, sign_mailgun, id="mailgun"),
]
Event = Callable[[dict[str, str], str], dict[str, Any]]


async def send(school: ActivitySchool, mail: MailServer, key: str = "k") -> dict[str, str]:
    """Send a mail through a server that answers as SES does; return its ids."""
    server_id = f"0102018f-{key}-{uuid.uuid4()}"
    mail.accept_answer = f"250 Ok {server_id}"
    async with school.db.write() as tx:
        message = Message(key, "log_reminder", "ada", EXAMPLE_PARAMS["log_reminder"])
        await school.notifications.send(tx, [message])
    await school.work()
    sent = mail.mails[-1]
    return {
        "id": str(sent["X-Homeroom-Delivery"]),
        "message_id": str(sent["Message-ID"]),
        "server_id": server_id,
    }


async def reasons(school: ActivitySchool) -> list[str]:
    async with school.db.read() as tx:
        return [each.reason for each in await suppression.list_suppressions(tx, None, 10)]


@pytest.mark.parametrize(("name", "event", "sign"), PROVIDERS)
async def test_a_bounce_is_verified_matched_judged_and_counted_once(
    school: ActivitySchool,
    api: httpx.AsyncClient,
    mail: MailServer,
    name: str,
    event: Event,
    sign: Sign,
) -> None:
    sent = await send(school, mail)

    async def post(body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await api.post(f"/hooks/email/{name}", content=body, headers=headers)

    body, headers = sign(event(sent, "550 5.7.1 your IP is blocked"))
    known = {"known": 1, "unknown": 0, "ignored": 0}
    assert (await post(body, headers)).json() == known
    assert (await school.statuses(), await reasons(school)) == ({"ada": "bounced"}, [])
    body, headers = sign(event(sent, "550 5.1.1 No such user"))
    changed = body.replace(b"No such user", b"No such usex")
    if name == "postmark":  # it signs nothing: another password is what an attacker lacks
        headers_changed = {"authorization": headers["authorization"][:-4] + "AAA="}
        assert (await post(body, headers_changed)).status_code == 401
        assert (await post(body, {})).status_code == 401
    elif name != "mailgun":
        assert (await post(changed, headers)).status_code == 401
    assert await reasons(school) == []
    for _ in range(2):
        assert (await post(body, headers)).json() == known
    if name == "mailgun":  # it signs a token, which is good for one body
        assert (await post(changed, headers)).status_code == 401
        assert (await post(body.replace(b'"token": "', b'"token": "x'), {})).status_code == 401
    assert await reasons(school) == ["hard"]
    async with school.db.read() as tx:
        assert await tx.fetch("SELECT COUNT(*) FROM bounce") == [(2,)]


@pytest.mark.parametrize(("name", "event", "sign"), PROVIDERS)
async def test_a_late_repeat_and_an_unknown_mail_change_nothing(
    school: ActivitySchool,
    api: httpx.AsyncClient,
    mail: MailServer,
    name: str,
    event: Event,
    sign: Sign,
) -> None:
    sent = await send(school, mail)
    body, headers = sign(event(sent, "550 5.1.1 No such user"))
    hook = f"/hooks/email/{name}"
    assert (await api.post(hook, content=body, headers=headers)).status_code == 202
    async with school.db.read() as tx:
        [row] = await suppression.list_suppressions(tx, None, 10)
    await school.notifications.lift_suppression(row.id, "olga")
    await school.notifications.resend(sent["id"], "olga", "the address is right again")
    await school.work()
    assert (await api.post(hook, content=body, headers=headers)).json()["known"] == 1
    assert (await school.statuses(), await reasons(school)) == ({"ada": "accepted"}, [])
    other = {"id": str(uuid.uuid4()), "message_id": "<x@y.example>", "server_id": "0" * 40}
    body, headers = sign(event(other, "550 5.1.1 Unknown user"))
    for _ in range(2):
        answer = await api.post(hook, content=body, headers=headers)
        assert answer.json() == {"known": 0, "unknown": 1, "ignored": 0}
    async with school.db.read() as tx:
        [kept] = await suppression.list_unmatched(tx, 10)
    assert (kept.kind, kept.recipient) == ("hard", "a***@example.org")
    assert (await api.get(UNMATCHED, headers=as_("learner:leo"))).status_code == 403
    page = (await api.get(UNMATCHED, headers=as_("viewer"))).json()
    [listed] = page["items"]
    assert (listed["source"], listed["kind"]) == (name, "hard")
    assert listed["recipient"] == "a***@example.org"
    assert page["nextCursor"] is None
    school.move_to(school.clock.now() + suppression.UNMATCHED_RETENTION_US + SECOND)
    async with school.db.write() as tx:
        assert await suppression.prune_expired(tx) == 1


async def test_a_bounce_that_overtakes_the_servers_answer_is_applied(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    server_id = "0102018f-early-0000-000000000000"
    event = ses_event({"server_id": server_id}, "550 5.1.1 No such user")
    body, headers = sign_ses(event)
    answer = await api.post("/hooks/email/ses", content=body, headers=headers)
    assert answer.json()["unknown"] == 1
    mail.accept_answer = f"250 Ok {server_id}"
    async with school.db.write() as tx:
        message = Message("k", "log_reminder", "ada", EXAMPLE_PARAMS["log_reminder"])
        await school.notifications.send(tx, [message])
    await school.work()
    assert (await school.statuses(), await reasons(school)) == ({"ada": "bounced"}, ["hard"])
    async with school.db.read() as tx:
        assert await suppression.list_unmatched(tx, 10) == []


async def test_delays_and_automatic_replies_are_counted_and_ignored(
    school: ActivitySchool, api: httpx.AsyncClient, mail: MailServer
) -> None:
    sent = await send(school, mail)
    events: list[tuple[str, Sign, dict[str, Any]]] = [
        ("sendgrid", sign_sendgrid, {**sendgrid_event(sent, "later"), "event": "deferred"}),
        ("postmark", sign_postmark, {**postmark_event(sent, "away"), "Type": "AutoResponder"}),
        ("mailgun", sign_mailgun, {**mailgun_event(sent, "450 later"), "severity": "temporary"}),
        ("ses", sign_ses, {"eventType": "DeliveryDelay", "mail": {}}),
    ]
    for name, sign, event in events:
        body, headers = sign(event)
        answer = await api.post(f"/hooks/email/{name}", content=body, headers=headers)
        assert answer.json() == {"known": 0, "unknown": 0, "ignored": 1}, name
    body, headers = sign_sendgrid({"event": "open", "smtp-id": sent["message_id"]})
    answer = await api.post("/hooks/email/sendgrid", content=body, headers=headers)
    assert answer.json() == {"known": 0, "unknown": 0, "ignored": 0}
    assert await school.statuses() == {"ada": "accepted"}


async def test_sns_is_confirmed_and_only_amazons_hosts_are_fetched(
    api: httpx.AsyncClient, amazon: tuple[Amazon, str]
) -> None:
    async def post(message: dict[str, Any]) -> int:
        return (await api.post("/hooks/email/ses", json=message)).status_code

    confirm = {
        "Type": "SubscriptionConfirmation",
        "Message": "Confirm it.",
        "Token": "t",
        "SubscribeURL": f"{SNS}/?Action=ConfirmSubscription",
    }
    for url in (
        "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://x@sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
        "https://sns.us-east-1.amazonaws.com/a.pem",
        f"{SNS}\n/SimpleNotificationService-1.pem",
        "https://s3.eu-west-1.amazonaws.com/a.pem",
        "https://127.0.0.1/a.pem",
        "https://[::1/a.pem",
    ):
        assert await post({**sns(confirm), "SigningCertURL": url}) == 401, url
        assert await post(sns({**confirm, "SubscribeURL": url})) == 401, url
    assert await post(sns({**confirm, "TopicArn": TOPIC.replace("1234", "4321")})) == 401
    assert amazon[0].fetched == ["/SimpleNotificationService-1.pem"]
    for version in ("1", "2"):
        assert await post(sns(confirm, version)) == 202
    assert amazon[0].fetched[1:] == ["/", "/"]


async def test_a_certificate_that_a_customer_of_sns_stored_is_not_fetched(
    api: httpx.AsyncClient, amazon: tuple[Amazon, str]
) -> None:
    message = sns({"Type": "Notification", "Message": "{}"})
    for page in (
        "/?Action=GetEndpointAttributes&EndpointArn=x.pem",
        "/SimpleNotificationService-1.pem?Action=GetTopicAttributes",
        "/x/../SimpleNotificationService-1.pem",
        "/SimpleNotificationService-1.pem\n",
        "",
    ):
        sent = {**message, "SigningCertURL": SNS + page}
        assert (await api.post("/hooks/email/ses", json=sent)).status_code == 401, page
    for odd in ({"Type": []}, {"SignatureVersion": {}}, {"SigningCertURL": None}):
        answer = await api.post("/hooks/email/ses", json=message | odd)
        assert answer.status_code == 401, odd
    assert amazon[0].fetched == []


async def test_a_hook_without_its_setting_is_off(school: ActivitySchool) -> None:
    hooks = EmailHooks(school.notifications, EmailHookSecrets())
    async with client(routes.router(school.db, AUTH, school.notifications, hooks)) as api:
        for name in ("events", "dsn", "ses", "sendgrid", "postmark", "mailgun"):
            answer = await api.post(f"/hooks/email/{name}", content=b"{}", headers=as_("viewer"))
            assert answer.status_code == 404
        assert (await api.post("/hooks/email/other", content=b"{}")).status_code == 422
