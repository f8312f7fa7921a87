"""Build the channels that the settings name; an unset one is off, with its reason."""

from __future__ import annotations

from homeroom.db.database import Database
from homeroom.monitoring.api import Metrics
from homeroom.notify.api import (
    AppriseCarrier,
    Carrier,
    Channel,
    NoCarrier,
    Notifications,
    Sender,
    SmtpCarrier,
    Templates,
    parse_url,
)
from homeroom.settings import Settings
from homeroom.wiring.partners import public_url, secret


def _mail(settings: Settings) -> Carrier:
    url = secret(settings.smtp_url)
    if url is None or settings.mail_from is None:
        missing = "SMTP_URL" if url is None else "MAIL_FROM"
        return NoCarrier(f"HOMEROOM_{missing} is not set")
    sender = Sender(settings.mail_from, settings.mail_reply_to, settings.mail_return_path)
    return SmtpCarrier(parse_url(url), sender)


def _service(name: str, url: str | None) -> Carrier:
    return NoCarrier(f"{name} is not set") if url is None else AppriseCarrier(name, url)


def notifications(settings: Settings, db: Database, metrics: Metrics) -> Notifications:
    """Return the room of messages; raise ``ConfigurationError`` for a channel that cannot be."""
    sender = "Homeroom" if settings.mail_from is None else Sender(settings.mail_from).name
    return Notifications(
        db,
        carriers={
            Channel.EMAIL: _mail(settings),
            Channel.SMS: _service("HOMEROOM_SMS_URL", secret(settings.sms_url)),
            Channel.CHAT: _service("HOMEROOM_CHAT_URL", secret(settings.chat_url)),
        },
        templates=Templates(settings.template_dir, sender),
        public_url=public_url(settings),
        texts_kept=settings.notification_retention,
        observe=metrics.notification,
    )
