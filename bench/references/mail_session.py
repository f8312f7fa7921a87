"""Mails as before release 0.2: a session each, composed by ``EmailMessage``.

The sender of `bench/notify.py`'s reference. It does what Homeroom did, and no more than the
benchmark needs: it sends in plain text to a server that accepts everything.
"""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, formataddr, parseaddr

from aiosmtplib import SMTP

from homeroom.clock import Clock
from homeroom.instant import to_datetime
from homeroom.notify.api import (
    DeliveryDecision,
    DeliveryStatus,
    MailIdentity,
    OutgoingMessage,
    SmtpProgress,
    SmtpServer,
)


class _Policy(EmailPolicy):
    def fold_binary(self, name: str, value: str) -> bytes:
        if name == "List-Unsubscribe":
            return f"{name}: {value}{self.linesep}".encode("ascii")
        return super().fold_binary(name, value)


_POLICY = _Policy(linesep="\r\n")


class SessionForEachMail:
    """Sends each mail in a session of its own."""

    disabled_reason: str | None = None

    def __init__(self, server: SmtpServer, sender: MailIdentity) -> None:
        """Configure server and sender."""
        self._server, self._sender, self._clock = server, sender, Clock()

    def has_unsubscribe_link(self) -> bool:
        """Return True, as Homeroom's sender does."""
        return True

    async def send(self, message: OutgoingMessage, progress: SmtpProgress) -> DeliveryDecision:
        """Compose and send a mail; raise whatever goes wrong."""
        mail = self._compose(message).as_bytes()
        client = SMTP(hostname=self._server.host, port=self._server.port, start_tls=False)
        try:
            await client.connect()
            await client.mail(self._sender.address)
            await client.rcpt(message.address)
            await client.data(mail)
            await client.quit()
        finally:
            client.close()
        return DeliveryDecision(DeliveryStatus.ACCEPTED)

    async def close(self) -> None:
        """Do nothing: no session is kept."""

    def _compose(self, message: OutgoingMessage) -> EmailMessage:
        mail = EmailMessage(policy=_POLICY)
        mail["From"] = formataddr(parseaddr(self._sender.mail_from))
        mail["To"] = message.address
        mail["Subject"] = message.rendered.title
        mail["Date"] = format_datetime(to_datetime(self._clock.now()))
        mail["Message-ID"] = self._sender.message_id(message.id)
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Auto-Response-Suppress"] = "OOF, AutoReply"
        if message.unsubscribe_url is not None:
            mail["List-Unsubscribe"] = f"<{message.unsubscribe_url}>"
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        mail.set_content(message.rendered.text, cte="quoted-printable")
        mail.add_alternative(message.rendered.html, subtype="html", cte="quoted-printable")
        return mail
