"""Connections to a mail server, kept open for the next mails."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, cast

import aiosmtplib
import structlog
from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPHeloError,
    SMTPResponse,
    SMTPResponseException,
)

from homeroom.notify.channel_sender import SmtpProgress
from homeroom.notify.smtp_response import SmtpPhase

log = structlog.get_logger(__name__)
SMTP_TIMEOUT_SECONDS = 15.0
"""For each response of the server."""
SMTP_END_TIMEOUT_SECONDS = 30.0
"""For the response to the end of a mail: servers scan it first."""
MAX_MAILS_PER_CONNECTION = 100
"""Many servers end a connection after so many."""
IDLE_SECONDS = 5.0
"""A connection that waits longer for a mail is closed: servers count open ones."""
_QUIT_SECONDS = 1.0
SmtpTls = Literal["required", "implicit", "none"]
_BARE_LINE_END = re.compile(rb"\r\n|\r|\n")
_SMTP_OK, _SMTP_START_INPUT = 250, 354


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A mail server, as ``HOMEROOM_SMTP_URL`` names it."""

    host: str
    port: int
    tls: SmtpTls
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class SmtpSessionOptions:
    """Settings of every session with a server."""

    ehlo_name: str | None = None
    """The name in EHLO; None: that of this machine."""
    timeout_seconds: float = SMTP_TIMEOUT_SECONDS
    end_timeout_seconds: float = SMTP_END_TIMEOUT_SECONDS
    tls_context: ssl.SSLContext | None = None


class SmtpUtf8Unsupported(Exception):
    """The address needs SMTPUTF8 (RFC 6531), which the server does not offer."""


class SmtpConnection:
    """One session with a mail server, for one mail after another."""

    def __init__(self, server: SmtpServer, options: SmtpSessionOptions) -> None:
        """Configure the session; ``open`` begins it."""
        self._server, self._options = server, options
        self.mails = 0
        """The mails that the server has accepted in this session."""
        self.idle_since = 0.0
        self._client = SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=options.ehlo_name,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "required",
            tls_context=options.tls_context,
            timeout=options.timeout_seconds,
        )

    @property
    def is_open(self) -> bool:
        """Return whether the connection is open, as far as this side knows."""
        return self._client.is_connected

    async def open(self) -> None:
        """Connect, greet, encrypt, log in; raise SMTPException, OSError, ValueError."""
        client = self._client
        await client.connect()
        if client.is_ehlo_or_helo_needed:
            try:
                await client.ehlo()
            except SMTPHeloError:
                if not client.is_connected:
                    raise
                await client.helo()
        if self._server.user is not None:
            await client.login(self._server.user, self._server.password or "")

    async def send(self, sender: str, to: str, mail: bytes, progress: SmtpProgress) -> SMTPResponse:
        """Send one mail and return the response to its end; raise as ``open`` does.

        Raises ``SMTPResponseException`` for every refusal. ``progress`` shows the phase in which
        it ended.
        """
        client = self._client
        progress.phase = SmtpPhase.MAIL
        options: list[str] = []
        if not (sender.isascii() and to.isascii()):
            if not client.supports_extension("smtputf8"):
                raise SmtpUtf8Unsupported
            options = ["SMTPUTF8", "BODY=8BITMIME"]
        await client.mail(sender, options=options, encoding="utf-8")
        progress.phase = SmtpPhase.RCPT
        await client.rcpt(to, encoding="utf-8")
        progress.phase = SmtpPhase.DATA
        start = await client.execute_command(b"DATA")
        if start.code != _SMTP_START_INPUT:
            raise SMTPResponseException(start.code, start.message)
        await self._write_text(mail)
        progress.phase = SmtpPhase.END
        end = await client.execute_command(b".", timeout=self._options.end_timeout_seconds)
        if end.code != _SMTP_OK:
            raise SMTPResponseException(end.code, end.message)
        self.mails += 1
        return end

    async def _write_text(self, mail: bytes) -> None:
        """Write the text without its end and check that the connection is still open.

        A server whose connection is lost by now cannot have accepted the mail: it may be retried.
        """
        client = self._client
        protocol = client.protocol
        # A cast without a check: uvloop's transports are none of asyncio's classes.
        transport = cast(asyncio.WriteTransport | None, client.transport)
        if protocol is None or transport is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        lines = _BARE_LINE_END.split(mail.rstrip(b"\r\n"))
        stuffed = b"".join(
            (b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines
        )
        protocol.write(stuffed)
        async with asyncio.timeout(self._options.timeout_seconds):
            # A transport reports an empty buffer to its protocol alone, so it is polled here.
            while not transport.is_closing() and transport.get_write_buffer_size():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        if not client.is_connected:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")

    async def quit(self) -> None:
        """Say QUIT and close. Every mail's outcome is known by now, so no error matters."""
        try:
            if self.is_open:
                await self._client.quit(timeout=_QUIT_SECONDS)
        except (SMTPException, OSError, TimeoutError) as error:
            log.debug("smtp_quit_failed", host=self._server.host, error=type(error).__name__)
        finally:
            self._client.close()

    def close(self) -> None:
        """Close without a word, where the server does not answer."""
        self._client.close()


class SmtpConnectionPool:
    """Connections to one server: at most ``limit`` in use, and the idle ones.

    An idle connection is closed with QUIT after ``IDLE_SECONDS``. It belongs to a task, so a loop
    that ends closes it too.
    """

    def __init__(self, server: SmtpServer, options: SmtpSessionOptions, limit: int) -> None:
        """Configure the server and the number of connections that send at once."""
        self._server, self._options = server, options
        self.slots = asyncio.Semaphore(limit)
        """Hold one while a connection sends."""
        self._idle: deque[SmtpConnection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closer: asyncio.Task[None] | None = None

    def new_connection(self) -> SmtpConnection:
        """Return a connection that is not open yet."""
        return SmtpConnection(self._server, self._options)

    def take_idle(self) -> SmtpConnection | None:
        """Return the connection that was used last, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        return None

    def put_back(self, connection: SmtpConnection) -> None:
        """Keep a connection for the next mail, or end it after many."""
        if connection.mails >= MAX_MAILS_PER_CONNECTION or not connection.is_open:
            self.retire(connection)
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if self._closer is None or self._closer.done():
            self._closer = self._start(self._close_idle())

    def retire(self, connection: SmtpConnection) -> None:
        """End a session with QUIT, without a wait for the answer."""
        if connection.is_open:
            self._start(connection.quit())
        else:
            connection.close()

    async def close(self) -> None:
        """End all idle sessions with QUIT."""
        if self._closer is not None:
            self._closer.cancel()
        while self._idle:
            self._start(self._idle.pop().quit())
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=2 * _QUIT_SECONDS)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._idle:
                oldest = self._idle[0]
                await asyncio.sleep(oldest.idle_since + IDLE_SECONDS - loop.time())
                while self._idle and self._idle[0].idle_since + IDLE_SECONDS <= loop.time():
                    self.retire(self._idle.popleft())
        finally:
            # Only a loop that ends cancels this; `close` has taken its connections out by then.
            for connection in self._idle:
                connection.close()
            self._idle.clear()
