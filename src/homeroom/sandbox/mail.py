"""A mail server that stores and checks mails, with faults to inject."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Annotated, Any, Literal, cast

from aiosmtpd.smtp import SMTP
from msgspec import Meta, Struct

from homeroom.sandbox import sandbox_request

MAX_MAILS = 20_000
_MAX_BYTES = 2 * 1024 * 1024
MailStep = Literal["mail", "rcpt", "end"]


class MailFault(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A fault of the mail server, for `times` mails or for all.

    `at` is the step: `mail` and `rcpt` are the commands, `end` comes after the whole text.
    `answer` is the reply (`450 4.2.0 busy`, `550 5.1.1 no such user`), or `cut` for a connection
    that is closed. A mail whose connection is cut at its `end` was accepted and is stored: that
    makes a mail that is sent twice visible. `to` limits the fault to one recipient.
    """

    at: MailStep = "rcpt"
    answer: Annotated[str, Meta(min_length=3, max_length=200)] = "450 4.2.0 the sandbox is busy"
    times: Annotated[int, Meta(ge=1)] | None = None
    to: str | None = None


class ReceivedMail(Struct, frozen=True, rename="camel", kw_only=True):
    """One accepted mail."""

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


class SandboxMailbox:
    """The accepted mails with their counts, and the injected faults."""

    def __init__(self) -> None:
        self.mails: list[ReceivedMail] = []
        self.forgotten = 0
        self.refused = 0
        self.seen: Counter[str] = Counter()
        self._faults: list[MailFault] = []
        self._left: dict[int, int] = {}

    def add(self, fault: MailFault) -> int:
        """Add a fault and return its number."""
        self._faults.append(fault)
        number = len(self._faults)
        if fault.times is not None:
            self._left[number] = fault.times
        return number

    def next_fault(self, at: MailStep, to: str | None) -> str | None:
        """Return the reply of the first matching fault, and count it once."""
        for number, fault in enumerate(self._faults, 1):
            if fault.at != at or self._left.get(number) == 0 or fault.to not in (None, to):
                continue
            if number in self._left:
                self._left[number] -= 1
            self.refused += 1
            return fault.answer
        return None

    def store(self, sender: str, recipients: list[str], raw: bytes) -> None:
        """Store a mail with its problems."""
        mail = message_from_bytes(raw, policy=policy.default)
        text, html = mail.get_body(("plain",)), mail.get_body(("html",))
        message_id = str(mail["Message-ID"] or "")
        self.seen[message_id] += 1
        self.mails.append(
            ReceivedMail(
                number=len(self.mails) + self.forgotten + 1,
                at=sandbox_request.format_rfc3339(sandbox_request.utc_now()),
                sender=sender,
                recipients=recipients,
                message_id=message_id,
                subject=str(mail["Subject"] or ""),
                headers={name: str(value) for name, value in mail.items()},
                text="" if text is None else text.get_content(),
                html="" if html is None else html.get_content(),
                problems=mail_problems(mail, recipients, raw),
            )
        )
        if len(self.mails) > MAX_MAILS:
            del self.mails[0]
            self.forgotten += 1

    def summary(self) -> dict[str, Any]:
        """Count mails, recipients, repeats, and mails with problems."""
        return {
            "accepted": len(self.mails) + self.forgotten,
            "refused": self.refused,
            "recipients": len({name for mail in self.mails for name in mail.recipients}),
            "repeated": {id: count for id, count in self.seen.items() if count > 1},
            "faulty": sum(bool(mail.problems) for mail in self.mails),
        }


def mail_problems(mail: EmailMessage, recipients: list[str], raw: bytes) -> list[str]:
    """Return the faults that a strict receiver finds in a mail."""
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
    # The raw header: `mail` decodes words that mail programs do not decode in it.
    written = message_from_bytes(raw)["List-Unsubscribe"]
    if written is not None and not str(written).strip().startswith("<http"):
        found.append("its List-Unsubscribe does not begin with a link")
    return found


class _SmtpHandler:
    """The handler of SMTP commands; aiosmtpd calls its methods by name."""

    def __init__(self, mailbox: Callable[[], SandboxMailbox]) -> None:
        self._mailbox = mailbox

    def _fault_reply(self, at: MailStep, smtp: SMTP, to: str | None) -> str | None:
        answer = self._mailbox().next_fault(at, to)
        if answer == "cut":
            _abort_connection(smtp)
            return "421 4.4.2 cut"
        return answer

    async def handle_MAIL(  # noqa: N802
        self, smtp: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        answer = self._fault_reply("mail", smtp, None)
        if answer is None:
            envelope.mail_from = address
        return answer or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, smtp: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        answer = self._fault_reply("rcpt", smtp, address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, smtp: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        mailbox = self._mailbox()
        to = envelope.rcpt_tos[0]
        answer = mailbox.next_fault("end", to)
        if answer in (None, "cut"):
            mailbox.store(envelope.mail_from or "", list(envelope.rcpt_tos), envelope.content)
        if answer == "cut":
            _abort_connection(smtp)
            return "421 4.4.2 cut"
        return answer or "250 2.0.0 stored in the sandbox"


def _abort_connection(smtp: SMTP) -> None:
    if smtp.transport is not None:
        # A cast and no isinstance: the transports of uvloop are no classes of asyncio.
        cast(asyncio.WriteTransport, smtp.transport).abort()


async def start_mail_server(
    mailbox: Callable[[], SandboxMailbox], host: str, port: int
) -> asyncio.Server:
    """Accept mails on a port; 0 uses a free one. Raises OSError if it is in use."""
    loop = asyncio.get_running_loop()
    handler = _SmtpHandler(mailbox)
    return await loop.create_server(
        lambda: SMTP(handler, hostname="sandbox.test", loop=loop, data_size_limit=_MAX_BYTES),
        host,
        port,
    )
