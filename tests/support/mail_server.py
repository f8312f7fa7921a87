"""An SMTP server (aiosmtpd) that stores mails, and answers, hangs or cuts as planned."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import TypedDict, Unpack, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session


@dataclass
class Plan:
    """The next fault: its step and its form; each plan applies to one session."""

    at: str
    """mail, rcpt, data (the command), text (after 354), end (after the dot)."""
    answer: str | None = None
    """A reply such as ``450 4.2.0 busy``; else ``hang`` or ``cut``."""


@dataclass
class MailServer:
    """The mails that the server received, and its planned faults."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    """The mails that it accepted, even if the connection was cut before its 250."""
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """The same mails as bytes; ``mails`` are decoded."""
    plans: list[Plan] = field(default_factory=list)
    sessions: int = 0
    ehlo_names: list[str] = field(default_factory=list)
    quits: int = 0
    open_sessions: list[SMTP] = field(default_factory=list)
    accept_answer: str = "250 2.0.0 taken"
    hanging: asyncio.Event = field(default_factory=asyncio.Event)

    def plan(self, at: str, answer: str, times: int = 1) -> None:
        self.plans += [Plan(at, answer)] * times

    def next_fault(self, at: str) -> str | None:
        if self.plans and self.plans[0].at == at:
            return self.plans.pop(0).answer
        return None

    def cut_idle(self) -> None:
        """Close the connections of all sessions."""
        for session in self.open_sessions:
            if session.transport is not None:
                _cut(session)
        self.open_sessions.clear()

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]


def _cut(smtp: SMTP) -> None:
    """Break the connection of a session without a reply."""
    cast(asyncio.WriteTransport, smtp.transport).abort()  # uvloop's is no subclass of it


class _Handler:
    def __init__(self, server: MailServer) -> None:
        self.server = server

    async def _apply_fault(self, at: str, smtp: SMTP) -> str | None:
        answer = self.server.next_fault(at)
        if answer == "hang":
            await self.server.hanging.wait()
            return "421 4.4.2 bye"
        if answer == "cut":
            _cut(smtp)
            return "421 4.4.2 cut"
        return answer

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's names
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._apply_fault("mail", smtp)
        if answer is None:
            envelope.mail_from = address
        return answer or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._apply_fault("rcpt", smtp)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, smtp: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self.server.next_fault("end")
        if answer is None or answer in ("cut", "hang"):
            content = envelope.content
            assert isinstance(content, bytes)
            assert envelope.mail_from is not None
            self.server.mails.append(message_from_bytes(content, policy=policy.default))
            self.server.raw.append(content)
            self.server.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        if answer == "hang":
            await self.server.hanging.wait()
        if answer == "cut":
            _cut(smtp)
        return answer if answer not in (None, "cut", "hang") else self.server.accept_answer


class _Smtp(SMTP):
    """aiosmtpd that counts greetings, with two more steps at which it can be cut."""

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        self.event_handler.server.ehlo_names.append(hostname)
        await super().smtp_EHLO(hostname)

    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        self.event_handler.server.quits += 1
        await super().smtp_QUIT(arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        server: MailServer = self.event_handler.server
        answer = server.next_fault("data")
        if answer == "cut":
            _cut(self)
            return
        if answer is not None:
            await self.push(answer)
            return
        if server.next_fault("text") == "cut":
            await self.push("354 go on")
            _cut(self)
            return
        await super().smtp_DATA(arg)


class SmtpOptions(TypedDict, total=False):
    """The options of aiosmtpd that a test may choose."""

    tls_context: ssl.SSLContext
    require_starttls: bool
    authenticator: Callable[..., AuthResult]
    auth_required: bool
    enable_SMTPUTF8: bool


@asynccontextmanager
async def mail_server(port: int = 0, **options: Unpack[SmtpOptions]) -> AsyncIterator[MailServer]:
    """Listen on a port of loopback; 0 takes a free one."""
    found = MailServer()
    handler = _Handler(found)

    def connection() -> SMTP:
        found.sessions += 1
        session = _Smtp(handler, hostname="mail.test", loop=asyncio.get_running_loop(), **options)
        found.open_sessions.append(session)
        return session

    listening = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", port)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        found.hanging.set()
        listening.close()
        await listening.wait_closed()
