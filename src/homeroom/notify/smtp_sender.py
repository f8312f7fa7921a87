"""E-mail by SMTP: one server, several mails over one connection."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTPException, SMTPResponseException

from homeroom.clock import Clock
from homeroom.errors import ConfigurationError
from homeroom.notify.channel_sender import OutgoingMessage, SmtpProgress
from homeroom.notify.delivery_rules import DeliveryStatus, ReasonCode
from homeroom.notify.mail import MailIdentity, compose_mail, to_wire_address
from homeroom.notify.provider_events import trace_headers
from homeroom.notify.smtp_connection import (
    SmtpConnection,
    SmtpConnectionPool,
    SmtpServer,
    SmtpSessionOptions,
    SmtpTls,
    SmtpUtf8Unsupported,
)
from homeroom.notify.smtp_response import (
    DeliveryDecision,
    SmtpPhase,
    accept_delivery,
    decide_delivery,
    redact_response,
)

DEFAULT_CONNECTIONS = 10
_SHUTTING_DOWN = 421
_DEFAULT_OPTIONS = SmtpSessionOptions()


def parse_smtp_url(url: str) -> SmtpServer:
    """Parse ``smtp://user:password@host:587`` or ``smtps://host:465``.

    ``smtp`` uses STARTTLS, ``smtps`` implicit TLS; ``smtp://localhost:25?tls=none`` does not
    encrypt. Raises ``ConfigurationError``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text would repeat a part of the URL, which may be the password
        raise ConfigurationError("HOMEROOM_SMTP_URL cannot be read as a URL.") from None
    options = parse_qs(parts.query)
    tls_option = options.pop("tls", ["required"])[-1]
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or options:
        raise ConfigurationError(
            "HOMEROOM_SMTP_URL is not the address of a mail server.",
            hint="Write smtp://user:password@mail.example.org:587 or smtps://mail.example.org.",
        )
    if tls_option not in {"required", "none"} or (tls_option == "none" and parts.scheme == "smtps"):
        raise ConfigurationError(
            f"HOMEROOM_SMTP_URL has tls={tls_option}, which is not allowed.",
            hint="Write tls=required, or tls=none with smtp://.",
        )
    tls: SmtpTls = (
        "implicit" if parts.scheme == "smtps" else "none" if tls_option == "none" else "required"
    )
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    default = {"implicit": 465, "required": 587, "none": 25}[tls]
    return SmtpServer(parts.hostname, port or default, tls, user, password)


class SmtpSender:
    """Sends mails to one server over connections that are kept for the next mail."""

    disabled_reason: str | None = None

    def __init__(
        self,
        server: SmtpServer,
        sender: MailIdentity,
        options: SmtpSessionOptions = _DEFAULT_OPTIONS,
        *,
        connections: int = DEFAULT_CONNECTIONS,
    ) -> None:
        """Configure the server, the sender, and the number of connections at once."""
        self.server, self.sender = server, sender
        self._pool = SmtpConnectionPool(server, options, connections)
        self._real_clock = Clock()  # mails carry the real date, even if tests move the clock

    def has_unsubscribe_link(self) -> bool:
        """Return True: mails carry an unsubscribe link."""
        return True

    async def send(self, message: OutgoingMessage, progress: SmtpProgress) -> DeliveryDecision:
        """Send a mail; the outcome depends on the phase that the session reached."""
        try:
            recipient = to_wire_address(message.address)
            trace = trace_headers(message.id, self.server.host)
            mail = compose_mail(message, self.sender, self._real_clock.now(), trace)
            envelope = (self.sender.envelope_sender(message.id), recipient)
        except ValueError as error:
            return DeliveryDecision(
                DeliveryStatus.FAILED,
                f"the mail cannot be composed: {_describe_error(error)}",
                reason_code=ReasonCode.INVALID_MESSAGE,
            )
        async with self._pool.slots:
            connection = self._pool.take_idle()
            if connection is not None:
                decision = await self._attempt(connection, envelope, mail, progress)
                if not _has_gone_stale(decision, progress.phase):
                    return decision
                progress.phase = SmtpPhase.CONNECT
            return await self._attempt(self._pool.new_connection(), envelope, mail, progress)

    async def _attempt(
        self,
        connection: SmtpConnection,
        envelope: tuple[str, str],
        mail: bytes,
        progress: SmtpProgress,
    ) -> DeliveryDecision:
        """Send over one connection; return it to the pool only after a success.

        ``envelope`` is the sender and the recipient of MAIL and RCPT.
        """
        try:
            if not connection.mails:
                await connection.open()
            answer = await connection.send(*envelope, mail, progress)
        except SmtpUtf8Unsupported:
            self._pool.retire(connection)
            return DeliveryDecision(
                DeliveryStatus.FAILED,
                "the mail server does not offer SMTPUTF8, which this address needs",
                reason_code=ReasonCode.SMTPUTF8_UNSUPPORTED,
            )
        except SMTPResponseException as error:
            # QUIT and no RSET: servers count errors of a session and slow it down.
            self._pool.retire(connection)
            return decide_delivery(progress.phase, error.code, redact_response(error.message))
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            connection.close()
            return decide_delivery(progress.phase, None, _describe_error(error))
        except BaseException:  # cancelled: the session is in an unknown state
            connection.close()
            raise
        self._pool.put_back(connection)
        return accept_delivery(answer.message)

    async def check_connection(self) -> str | None:
        """Connect, log in and quit as for a mail; return the error, or None."""
        connection = self._pool.new_connection()
        try:
            await connection.open()
            await connection.quit()
        except SMTPResponseException as error:
            return f"the mail server answered {error.code} {redact_response(error.message)}"
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            return _describe_error(error)
        finally:
            connection.close()
        return None

    async def close(self) -> None:
        """End the connections that are kept for the next mail."""
        await self._pool.close()


def _has_gone_stale(decision: DeliveryDecision, phase: SmtpPhase) -> bool:
    """Return whether a kept connection had ended, so that the mail needs a new one.

    Before the recipient was named nothing was said about this mail: the server has closed the
    connection, or says so with 421 (after a number of mails, or a time).
    """
    is_over = decision.code is None or decision.code == _SHUTTING_DOWN
    return phase <= SmtpPhase.MAIL and is_over and decision.status is DeliveryStatus.PENDING


def _describe_error(error: Exception) -> str:
    if isinstance(error, TimeoutError | aiosmtplib.SMTPTimeoutError):
        return "the mail server did not answer in time"
    if isinstance(error, aiosmtplib.SMTPConnectError):
        return f"the mail server cannot be reached: {redact_response(str(error))}"
    if isinstance(error, aiosmtplib.SMTPServerDisconnected | ConnectionError):
        return "the mail server closed the connection"
    return redact_response(f"{type(error).__name__}: {error}")
