"""HTTP route of the webhooks about mails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import floor
from typing import Any, Literal

import msgspec
import structlog
from fastapi import APIRouter, Request
from standardwebhooks.webhooks import Webhook, WebhookVerificationError, hmac_data

from homeroom.errors import BadRequest, NotFound, TooLarge, Unauthenticated
from homeroom.instant import SECOND, to_datetime
from homeroom.notify.api import Notifications, parse_dsn, parse_provider_events
from homeroom.notify.bounce_mail import DeliveryNotice
from homeroom.notify.hook_signature import (
    InvalidHook,
    check_sns_topic,
    verify_mailgun,
    verify_postmark,
    verify_sendgrid,
    verify_sns,
)
from homeroom.notify.provider_events import parse_events_of
from homeroom.notify.sns_client import SnsClient
from homeroom.web.model import ResponseModel

log = structlog.get_logger(__name__)
MAX_HOOK_BYTES = 1024 * 1024
HookName = Literal["events", "dsn", "ses", "sendgrid", "postmark", "mailgun"]


@dataclass(frozen=True, slots=True)
class EmailHookSecrets:
    """Secrets that verify webhooks, by source; a source without one is off."""

    standard: str | None = field(default=None, repr=False)
    """Of ``events`` and ``dsn``: a secret of Standard Webhooks."""
    ses_topic: str | None = None
    sendgrid_key: str | None = None
    postmark_login: str | None = field(default=None, repr=False)
    mailgun_key: str | None = field(default=None, repr=False)


_SETTINGS: Mapping[HookName, str] = {
    "events": "HOMEROOM_EMAIL_HOOK_SECRET",
    "dsn": "HOMEROOM_EMAIL_HOOK_SECRET",
    "ses": "HOMEROOM_EMAIL_HOOK_SES_TOPIC",
    "sendgrid": "HOMEROOM_EMAIL_HOOK_SENDGRID_KEY",
    "postmark": "HOMEROOM_EMAIL_HOOK_POSTMARK_LOGIN",
    "mailgun": "HOMEROOM_EMAIL_HOOK_MAILGUN_KEY",
}


class NoticeCountsView(ResponseModel):
    """Counts of notices: about mails of Homeroom, about others, ignored."""

    known: int
    unknown: int
    ignored: int


class _BytesWebhook(Webhook):
    """Standard Webhooks over any bytes: a returned mail need not be UTF-8.

    Callers pass Latin-1 to ``verify``, which has a character for each byte.
    """

    def sign(self, msg_id: str, timestamp: datetime, data: str) -> str:
        head = f"{msg_id}.{floor(timestamp.timestamp())}.".encode()
        signature = hmac_data(self._whsecret, head + data.encode("latin-1"))
        return f"v1,{base64.b64encode(signature).decode()}"


class EmailHooks:
    """Verifies webhooks and reads the notices in them."""

    def __init__(
        self,
        notifications: Notifications,
        secrets: EmailHookSecrets,
        sns: SnsClient | None = None,
        now: Callable[[], int] | None = None,
    ) -> None:
        """Use the secrets; ``sns`` fetches certificates, ``now`` is microseconds UTC."""
        self._notifications, self._secrets = notifications, secrets
        if sns is None and secrets.ses_topic is not None:
            sns = SnsClient(secrets.ses_topic)
        self._sns = sns
        self._now = now or notifications.now

    def is_enabled(self, name: HookName) -> bool:
        """Return whether what verifies a source is set."""
        secrets = self._secrets
        found = {
            "ses": self._sns,
            "sendgrid": secrets.sendgrid_key,
            "postmark": secrets.postmark_login,
            "mailgun": secrets.mailgun_key,
        }
        return found.get(name, secrets.standard) is not None

    async def read(
        self, name: HookName, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, list[DeliveryNotice]]:
        """Return the id of a webhook and its notices.

        Raises ``InvalidHook`` if it is not genuine, ``BadRequest`` if it cannot be read, and
        ``Unavailable`` if that cannot be found out now.
        """
        if name == "events" or name == "dsn":
            return await self._read_standard(name, headers, body)
        if name == "sendgrid":
            verify_sendgrid(self._secrets.sendgrid_key or "", headers, body)
        elif name == "postmark":
            verify_postmark(self._secrets.postmark_login or "", headers)
        payload = _decode(body)
        if name == "mailgun":
            key = self._secrets.mailgun_key or ""
            token = verify_mailgun(key, payload, self._now() / SECOND)
            if not await self._notifications.use_hook_token(token, body):
                raise InvalidHook
        elif name == "ses":
            payload = await self._read_sns(payload)
            if payload is None:
                return name, []
        notices = parse_events_of(name, payload)
        return f"{name}:{hashlib.sha256(body).hexdigest()}", notices

    async def _read_standard(
        self, name: Literal["events", "dsn"], headers: Mapping[str, str], body: bytes
    ) -> tuple[str, list[DeliveryNotice]]:
        secret = self._secrets.standard or ""
        try:
            _BytesWebhook(secret).verify(body.decode("latin-1"), dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            raise InvalidHook from error
        parse = parse_dsn if name == "dsn" else parse_provider_events
        # In a thread: parsing takes up to a few seconds.
        return f"{name}:{headers['webhook-id']}", await asyncio.to_thread(parse, body)

    async def _read_sns(self, message: Any) -> Any:
        """Verify a message of SNS and return its event; None: it has none."""
        assert self._sns is not None
        type = check_sns_topic(message, self._sns.topic_arn)
        certificate = await self._sns.get_certificate(message.get("SigningCertURL"))
        verify_sns(message, certificate, to_datetime(self._now()))
        if type == "SubscriptionConfirmation":
            await self._sns.confirm_subscription(message.get("SubscribeURL"))
            log.info("sns_subscription_confirmed", topic=self._sns.topic_arn)
            return None
        text = str(message.get("Message"))
        # SES announces a new destination with a plain sentence.
        return _decode(text.encode()) if text.lstrip().startswith("{") else None


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error


def router(notifications: Notifications, hooks: EmailHooks) -> APIRouter:
    """Return the route of the webhooks about mails."""
    routes = APIRouter()

    @routes.post(
        "/hooks/email/{provider}",
        status_code=202,
        openapi_extra={
            "security": [],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "message/rfc822": {"schema": {"type": "string", "format": "binary"}},
                },
            },
        },
    )
    async def receive_email_webhook(provider: HookName, request: Request) -> NoticeCountsView:
        """Receive bounces and complaints as signed webhooks of providers, or as a mail."""
        if not hooks.is_enabled(provider):
            raise NotFound(f"This webhook is disabled: {_SETTINGS[provider]} is not set.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_HOOK_BYTES:
                raise TooLarge(f"The body is larger than {MAX_HOOK_BYTES} bytes.")
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            source, notices = await hooks.read(provider, headers, bytes(body))
        except InvalidHook as error:
            raise Unauthenticated("The signature of this webhook is not valid.") from error
        counts = await notifications.receive_notices(source, notices)
        return NoticeCountsView.model_validate(counts)

    return routes
