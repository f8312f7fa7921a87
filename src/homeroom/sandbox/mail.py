"""A mail server that keeps what it gets, checks it, and can be told to refuse, hang or cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Annotated, Any, Literal, cast

from aiosmtpd.smtp import SMTP
from msgspec import Meta, Struct

from homeroom.sandbox import wall

MAX_MAILS = 20_000
_MAX_BYTES = 2 * 1024 * 1024
At = Literal["mail", "rcpt", "end"]


class MailFault(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Describe what goes wrong with mails, `times` times or for ever.

    `at` is the step: `mail` and `rcpt` are the commands, `end` comes after the whole text.
    `answer` is what is said there (`450 4.2.0 busy`, `550 5.1.1 no such user`), or `cut` for a
    connection that is closed. A mail whose line is cut at its end was taken, and shows here: that
    makes a mail that is sent twice visible. `to` aims at one recipient.
    """

    at: At = "rcpt"
    answer: Annotated[str, Meta(min_length=3, max_length=200)] = "450 4.2.0 the sandbox is busy"
    times: Annotated[int, Meta(ge=1)] | None = None
    to: str | None = None


class Mail(Struct, frozen=True, rename="camel", kw_only=True):
    """Hold one mail as it was taken."""

    number: int
    at: str
    sender: str
    recipients: list[str]
    message_id: str
    subject: str
    headers: dict[str, str]
    text: str
    html: str
    problems: list[str]


class Mailroom:
    """Keep mails, count them, and hand out faults in the order of their asking."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.forgotten = 0
        self.refused = 0
        self.seen: Counter[str] = Counter()
        self._faults: list[MailFault] = []
        self._left: dict[int, int] = {}

    def add(self, fault: MailFault) -> int:
        """Put up a fault and return its number."""
        self._faults.append(fault)
        number = len(self._faults)
        if fault.times is not None:
            self._left[number] = fault.times
        return number

    def draw(self, at: At, to: str | None) -> str | None:
        """Return what is to be answered instead of a yes, and use the fault up once."""
        for number, fault in enumerate(self._faults, 1):
            if fault.at != at or self._left.get(number) == 0 or fault.to not in (None, to):
                continue
            if number in self._left:
                self._left[number] -= 1
            self.refused += 1
            return fault.answer
        return None

    def take(self, sender: str, recipients: list[str], raw: bytes) -> None:
        """Keep a mail with what is wrong with it."""
        mail = message_from_bytes(raw, policy=policy.default)
        text, html = mail.get_body(("plain",)), mail.get_body(("html",))
        message_id = str(mail["Message-ID"] or "")
        self.seen[message_id] += 1
        self.mails.append(
            Mail(
                number=len(self.mails) + self.forgotten + 1,
                at=wall.rfc3339(wall.now()),
                sender=sender,
                recipients=recipients,
                message_id=message_id,
                subject=str(mail["Subject"] or ""),
                headers={name: str(value) for name, value in mail.items()},
                text="" if text is None else text.get_content(),
                html="" if html is None else html.get_content(),
                problems=problems(mail, recipients, raw),
            )
        )
        if len(self.mails) > MAX_MAILS:
            del self.mails[0]
            self.forgotten += 1

    def summary(self) -> dict[str, Any]:
        """Count mails, people, repeats, and mails with something wrong in them."""
        return {
            "accepted": len(self.mails) + self.forgotten,
            "refused": self.refused,
            "recipients": len({name for mail in self.mails for name in mail.recipients}),
            "repeated": {id: count for id, count in self.seen.items() if count > 1},
            "faulty": sum(bool(mail.problems) for mail in self.mails),
        }


def problems(mail: EmailMessage, recipients: list[str], raw: bytes) -> list[str]:
    """Say what a careful receiver would hold against a mail."""
    found = []
    if len(recipients) != 1:
        found.append("it has more than one recipient")
    for name in ("From", "To", "Subject", "Date", "Message-ID"):
        if not mail[name]:
            found.append(f"it has no {name}")
    if mail.get_body(("plain",)) is None or mail.get_body(("html",)) is None:
        found.append("it does not come as text and as HTML")
    link, post = mail["List-Unsubscribe"], mail["List-Unsubscribe-Post"]
    if (link is None) != (post is None) or post not in (None, "List-Unsubscribe=One-Click"):
        found.append("its List-Unsubscribe headers are not those of RFC 8058")
    # As it came: `mail` shows words decoded that no program decodes in this header.
    written = message_from_bytes(raw)["List-Unsubscribe"]
    if written is not None and not str(written).strip().startswith("<http"):
        found.append("its List-Unsubscribe does not begin with a link")
    return found


class _Handler:
    """Answer one connection after the other; the names are those that aiosmtpd calls."""

    def __init__(self, room: Callable[[], Mailroom]) -> None:
        self._room = room

    def _met(self, at: At, smtp: SMTP, to: str | None) -> str | None:
        answer = self._room().draw(at, to)
        if answer == "cut":
            _cut(smtp)
            return "421 4.4.2 cut"
        return answer

    async def handle_MAIL(  # noqa: N802
        self, smtp: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        answer = self._met("mail", smtp, None)
        if answer is None:
            envelope.mail_from = address
        return answer or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, smtp: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        answer = self._met("rcpt", smtp, address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, smtp: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        room = self._room()
        to = envelope.rcpt_tos[0]
        answer = room.draw("end", to)
        if answer in (None, "cut"):
            room.take(envelope.mail_from or "", list(envelope.rcpt_tos), envelope.content)
        if answer == "cut":
            _cut(smtp)
            return "421 4.4.2 cut"
        return answer or "250 2.0.0 kept in the sandbox"


def _cut(smtp: SMTP) -> None:
    if smtp.transport is not None:
        # A cast and no look: uvloop's transports are none of asyncio's classes.
        cast(asyncio.WriteTransport, smtp.transport).abort()


async def listen(room: Callable[[], Mailroom], host: str, port: int) -> asyncio.Server:
    """Take mails on a port; 0 takes a free one. Raises OSError when it can't be had."""
    loop = asyncio.get_running_loop()
    handler = _Handler(room)
    return await loop.create_server(
        lambda: SMTP(handler, hostname="sandbox.test", loop=loop, data_size_limit=_MAX_BYTES),
        host,
        port,
    )
