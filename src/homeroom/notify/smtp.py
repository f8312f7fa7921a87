"""Send mails by SMTP: one recipient a mail, over TLS, and honest about a line that was cut.

One recipient, because a server's refusal then is about that recipient and nobody else.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, formataddr, parseaddr
from typing import Literal, cast
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib
import structlog
from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from homeroom.clock import Clock, to_datetime
from homeroom.errors import ConfigurationError
from homeroom.notify.carrier import Letter, Talk
from homeroom.notify.reply import ACCEPTED, Phase, Verdict, judge, said
from homeroom.notify.state import Status

log = structlog.get_logger(__name__)
TIMEOUT_SECONDS = 15.0
"""For each answer of the server."""
END_TIMEOUT_SECONDS = 30.0
"""For the answer to the end of a mail: servers scan it first."""
Tls = Literal["required", "implicit", "none"]
_BARE_LINE_END = re.compile(rb"\r\n|\r|\n")
_OK, _START = 250, 354


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server as ``HOMEROOM_SMTP_URL`` names it."""

    host: str
    port: int
    tls: Tls
    user: str | None = None
    password: str | None = None


def parse_url(url: str) -> Server:
    """Read ``smtp://user:password@host:587`` (STARTTLS) or ``smtps://host:465`` (TLS at once).

    ``smtp://localhost:25?tls=none`` sends in the clear. Raises ``ConfigurationError``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its words would repeat a part of the URL, which may be the password
        raise ConfigurationError("HOMEROOM_SMTP_URL cannot be read as a URL.") from None
    options = parse_qs(parts.query)
    asked = options.pop("tls", ["required"])[-1]
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or options:
        raise ConfigurationError(
            "HOMEROOM_SMTP_URL is not the address of a mail server.",
            hint="Write smtp://user:password@mail.example.org:587 or smtps://mail.example.org.",
        )
    if asked not in {"required", "none"} or (asked == "none" and parts.scheme == "smtps"):
        raise ConfigurationError(
            f"HOMEROOM_SMTP_URL asks for tls={asked}; there are tls=required and, for smtp, none."
        )
    tls: Tls = "implicit" if parts.scheme == "smtps" else "none" if asked == "none" else "required"
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    default = {"implicit": 465, "required": 587, "none": 25}[tls]
    return Server(parts.hostname, port or default, tls, user, password)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who mails are from: the ``From``, where answers go, and where bounces go."""

    mail_from: str
    reply_to: str | None = None
    return_path: str | None = None

    @property
    def address(self) -> str:
        """Return the bare address of the sender."""
        return parseaddr(self.mail_from)[1]

    @property
    def name(self) -> str:
        """Return what the sender is called."""
        return parseaddr(self.mail_from)[0] or self.address

    @property
    def domain(self) -> str:
        """Return the domain of the sender."""
        return self.address.rpartition("@")[2]

    def message_id(self, delivery_id: str) -> str:
        """Return the Message-ID of a delivery: the same at each attempt."""
        return f"<{delivery_id}@{self.domain}>"


class _Policy(EmailPolicy):
    """Mails as SMTP wants them, in which a link stays as it is.

    The policy it is made of encodes a word that is too long for a line (RFC 2047), and a mail
    program that looks for ``<https:`` in ``List-Unsubscribe`` then finds none.
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        if name == "List-Unsubscribe":
            return f"{name}: {value}{self.linesep}".encode("ascii")
        return super().fold_binary(name, value)


_POLICY = _Policy(linesep="\r\n")


def compose(letter: Letter, sender: Sender, now: int) -> EmailMessage:
    """Return a mail with a text and an HTML part and the headers of an automatic message.

    The two ``List-Unsubscribe`` headers are those of RFC 8058; whoever signs the mail with DKIM
    has to cover them.
    """
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = formataddr(parseaddr(sender.mail_from))
    mail["To"] = letter.address
    mail["Subject"] = letter.words.title
    mail["Date"] = format_datetime(to_datetime(now))
    mail["Message-ID"] = sender.message_id(letter.id)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "OOF, AutoReply"
    if sender.reply_to is not None:
        mail["Reply-To"] = sender.reply_to
    if letter.stop_url is not None:
        mail["List-Unsubscribe"] = f"<{letter.stop_url}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(letter.words.text, cte="quoted-printable")
    mail.add_alternative(letter.words.html, subtype="html", cte="quoted-printable")
    return mail


class SmtpCarrier:
    """Sends mails to one server, each in a conversation of its own."""

    off: str | None = None

    def __init__(
        self,
        server: Server,
        sender: Sender,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        end_timeout_seconds: float = END_TIMEOUT_SECONDS,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        """Take the server, who sends, and how long each answer may take."""
        self.server, self.sender = server, sender
        self._timeout, self._end_timeout = timeout_seconds, end_timeout_seconds
        self._tls_context = tls_context
        self._wall = Clock()  # mails carry the real date, whatever Homeroom's own clock shows

    def stops(self) -> bool:
        """Say that mails carry a link that stops them."""
        return True

    async def carry(self, letter: Letter, talk: Talk) -> Verdict:
        """Send a mail; say what became of it by how far the conversation got."""
        try:
            mail = compose(letter, self.sender, self._wall.now()).as_bytes()
        except (ValueError, IndexError, MessageError) as error:
            return Verdict(Status.FAILED, f"the mail cannot be written: {_fault(error)}")
        client = self._client()
        try:
            return await self._converse(client, letter.address, mail, talk)
        except SMTPResponseException as error:
            return judge(talk.phase, error.code, said(error.message))
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            return judge(talk.phase, None, _fault(error))
        finally:
            client.close()

    async def greet(self) -> str | None:
        """Connect and log in as for a mail, and say goodbye; return what is wrong, or None."""
        client = self._client()
        try:
            await self._open(client)
            await self._part(client)
        except SMTPResponseException as error:
            return f"the mail server answered {error.code} {said(error.message)}"
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            return _fault(error)
        finally:
            client.close()
        return None

    async def _open(self, client: SMTP) -> None:
        await client.connect()
        if self.server.user is not None:
            await client.login(self.server.user, self.server.password or "")

    def _client(self) -> SMTP:
        server = self.server
        return SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "required",
            tls_context=self._tls_context,
            timeout=self._timeout,
        )

    async def _converse(self, client: SMTP, to: str, mail: bytes, talk: Talk) -> Verdict:
        await self._open(client)
        talk.phase = Phase.MAIL
        await client.mail(self.sender.return_path or self.sender.address)
        talk.phase = Phase.RCPT
        await client.rcpt(to)
        talk.phase = Phase.DATA
        start = await client.execute_command(b"DATA")
        if start.code != _START:
            return judge(talk.phase, start.code, said(start.message))
        await self._text(client, mail)
        talk.phase = Phase.END
        end = await client.execute_command(b".", timeout=self._end_timeout)
        if end.code != _OK:
            return judge(talk.phase, end.code, said(end.message))
        await self._part(client)
        return ACCEPTED

    async def _text(self, client: SMTP, mail: bytes) -> None:
        """Write the text without its end, and look whether the line still holds.

        A server that is gone by now cannot have taken the mail, so it may be sent again.
        """
        protocol = client.protocol
        # A cast and no look: uvloop's transports are none of asyncio's classes.
        transport = cast(asyncio.WriteTransport | None, client.transport)
        if protocol is None or transport is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        lines = _BARE_LINE_END.split(mail.rstrip(b"\r\n"))
        stuffed = b"".join(
            (b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines
        )
        protocol.write(stuffed)
        async with asyncio.timeout(self._timeout):
            # a transport tells nobody but its protocol when its buffer is empty
            while not transport.is_closing() and transport.get_write_buffer_size():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        if not client.is_connected:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")

    async def _part(self, client: SMTP) -> None:
        """Say goodbye; a server that does not answer it has the mail all the same."""
        try:
            await client.quit(timeout=1)
        except (SMTPException, OSError, TimeoutError):
            log.debug("smtp_no_goodbye", host=self.server.host)


def _fault(error: Exception) -> str:
    if isinstance(error, TimeoutError | aiosmtplib.SMTPTimeoutError):
        return "the mail server did not answer in time"
    if isinstance(error, aiosmtplib.SMTPConnectError):
        return f"the mail server cannot be reached: {said(str(error))}"
    if isinstance(error, aiosmtplib.SMTPServerDisconnected | ConnectionError):
        return "the mail server cut the connection"
    return said(f"{type(error).__name__}: {error}")
