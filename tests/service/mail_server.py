"""A real SMTP server (aiosmtpd) that keeps mails and can be told to answer, hang and cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.smtp import SMTP


@dataclass
class Plan:
    """What goes wrong next: at which step, and how; each plan meets one conversation."""

    at: str
    """mail, rcpt, data (the command), text (after 354), end (after the dot)."""
    answer: str | None = None
    """A reply such as ``450 4.2.0 busy``; else ``hang`` or ``cut``."""


@dataclass
class MailServer:
    """What the server got, and what it is to do."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    """What it took over: it answered 250, or would have if the line had not been cut."""
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """The same as they came: what ``mails`` shows is decoded."""
    plans: list[Plan] = field(default_factory=list)
    conversations: int = 0
    hanging: asyncio.Event = field(default_factory=asyncio.Event)

    def plan(self, at: str, answer: str, times: int = 1) -> None:
        self.plans += [Plan(at, answer)] * times

    def draw(self, at: str) -> str | None:
        if self.plans and self.plans[0].at == at:
            return self.plans.pop(0).answer
        return None

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]


class _Handler:
    def __init__(self, server: MailServer) -> None:
        self.server = server

    async def _meet(self, at: str, smtp: SMTP) -> str | None:
        answer = self.server.draw(at)
        if answer == "hang":
            await self.server.hanging.wait()
            return "421 4.4.2 bye"
        if answer == "cut":
            smtp.transport.abort()
            return "421 4.4.2 cut"
        return answer

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's names
        self, smtp: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        answer = await self._meet("mail", smtp)
        if answer is None:
            envelope.mail_from = address
        return answer or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, smtp: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        answer = await self._meet("rcpt", smtp)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, smtp: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self.server.draw("end")
        if answer is None or answer in ("cut", "hang"):
            mail = message_from_bytes(envelope.content, policy=policy.default)
            self.server.mails.append(cast(EmailMessage, mail))
            self.server.raw.append(envelope.content)
            self.server.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        if answer == "hang":
            await self.server.hanging.wait()
        if answer == "cut":
            smtp.transport.abort()
        return answer if answer not in (None, "cut", "hang") else "250 2.0.0 taken"


class _Smtp(SMTP):
    """aiosmtpd with two more places at which the line may be cut."""

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        server: MailServer = self.event_handler.server
        answer = server.draw("data")
        if answer == "cut":
            self.transport.abort()
            return
        if answer is not None:
            await self.push(answer)
            return
        if server.draw("text") == "cut":
            await self.push("354 go on")
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


@asynccontextmanager
async def mail_server(**options: Any) -> AsyncIterator[MailServer]:
    """Listen on a free port of loopback."""
    found = MailServer()
    handler = _Handler(found)

    def connection() -> SMTP:
        found.conversations += 1
        return _Smtp(handler, hostname="mail.test", loop=asyncio.get_running_loop(), **options)

    listening = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        found.hanging.set()
        listening.close()
        await listening.wait_closed()
