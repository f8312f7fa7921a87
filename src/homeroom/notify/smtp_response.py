"""Meaning of SMTP responses for a delivery (pure).

Only one moment is delicate: after the line with the single dot was written, the server may have
accepted the mail whether or not its response arrives (RFC 5321, 4.2.5 and 6.1). Before that, and
after any negative response, the mail was certainly not sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from homeroom.notify.delivery_rules import DeliveryStatus, Reason, ReasonCode
from homeroom.notify.refusal import find_status, judge_refusal
from homeroom.redaction import redact_line

_MAX_RESPONSE_LENGTH = 300
_SERVER_ID = re.compile(r"(?<![\w.@-])(?=[\w.@-]*\d)[A-Za-z0-9][\w.@-]{15,127}(?![\w.@-])")
"""Providers' ids are long; the short queue ids of Postfix are used again within hours."""
_TOO_BIG = 552
RefusalScope = Literal["session", "relay"]
"""``session``: refused before RCPT, so every mail is. ``relay``: refused at RCPT or later for
something that is not about the recipient; three recipients show whether every mail is."""


class SmtpPhase(IntEnum):
    """The phases of an SMTP session."""

    CONNECT = 0
    """Connection, TLS and log-in."""
    MAIL = 1
    RCPT = 2
    DATA = 3
    """The DATA command and the text without its end."""
    END = 4
    """The final dot was written."""


@dataclass(frozen=True, slots=True)
class DeliveryDecision:
    """The outcome of one attempt; ``pending`` means that it is retried later."""

    status: DeliveryStatus
    error: str | None = None
    code: int | None = None
    """The status code of the server's response."""
    bounce: Literal["hard", "soft"] | None = None
    """The server refused the recipient: a bounce; a hard one suppresses the address."""
    reason_code: ReasonCode | None = None
    refusal: RefusalScope | None = None
    """The server refused Homeroom, not the recipient: the mail waits."""
    phase: SmtpPhase | None = None
    """The phase that the session reached; None where it is not known."""
    server_id: str | None = None
    """The id by which the server named the accepted mail in its answer."""

    @property
    def reason(self) -> Reason | None:
        """Return the error with its code, or None after a success."""
        if self.reason_code is None or self.error is None:
            return None
        return Reason(self.reason_code, self.error)


ACCEPTED_DECISION = DeliveryDecision(DeliveryStatus.ACCEPTED)


def response_class(decision: DeliveryDecision) -> str:
    """Return ``4xx`` or ``5xx`` of a failed attempt; ``timeout`` without a response.

    ``other`` is a failure that no server has answered for, such as an address it cannot write to.
    """
    if decision.code is not None:
        return f"{decision.code // 100}xx"
    unanswered = (ReasonCode.SERVER_UNREACHABLE, ReasonCode.OUTCOME_UNKNOWN)
    return "timeout" if decision.reason_code in unanswered else "other"


def redact_response(text: str) -> str:
    """Return a response on one line, without the local parts of addresses."""
    return redact_line(text, max_length=_MAX_RESPONSE_LENGTH)


def accept_delivery(answer: str) -> DeliveryDecision:
    """Return the outcome of an accepted mail, with the id in the server's answer."""
    return DeliveryDecision(
        DeliveryStatus.ACCEPTED, phase=SmtpPhase.END, server_id=find_server_id(answer)
    )


def find_server_id(answer: str) -> str | None:
    """Return the id in an answer such as ``Ok 010201...``; None without one."""
    found = _SERVER_ID.findall(answer[:_MAX_RESPONSE_LENGTH])
    return found[-1] if found else None


def decide_delivery(phase: SmtpPhase, code: int | None, text: str) -> DeliveryDecision:
    """Return the outcome of a failed session; ``code`` None: no response.

    There is no response after a time-out or a lost connection. 4xx and failures before the end of
    the text are retried. 5xx about the recipient or the text is final. 5xx about Homeroom, its
    relay or its rate does not concern this mail: it waits until the operator has fixed the cause.
    """
    pending = DeliveryStatus.PENDING
    if code is None:
        if phase is SmtpPhase.END:
            return DeliveryDecision(
                DeliveryStatus.UNKNOWN,
                f"{text} after the end of the mail: the mail may have been sent",
                reason_code=ReasonCode.OUTCOME_UNKNOWN,
            )
        return DeliveryDecision(pending, text, reason_code=ReasonCode.SERVER_UNREACHABLE)
    error = f"{code} {text}".strip()
    if not 500 <= code < 600:
        # Other codes than 4xx and 5xx break the protocol here, so they are retried too.
        return DeliveryDecision(
            pending, error, code, reason_code=ReasonCode.TEMPORARY_FAILURE, phase=phase
        )
    if phase is SmtpPhase.CONNECT or (phase is SmtpPhase.MAIL and not _is_about_mail(code, text)):
        return DeliveryDecision(
            pending,
            error,
            code,
            reason_code=ReasonCode.SENDER_REFUSED,
            refusal="session",
            phase=phase,
        )
    judged = judge_refusal(text, reply_code=code, answers_rcpt=phase is SmtpPhase.RCPT)
    if judged.kind == "block" and judged.is_session:
        return DeliveryDecision(
            pending,
            error,
            code,
            reason_code=ReasonCode.SENDER_REFUSED,
            refusal="relay",
            phase=phase,
        )
    bounce = None if judged.kind == "block" else judged.kind
    reason_code = ReasonCode.MESSAGE_REFUSED if bounce is None else ReasonCode.RECIPIENT_REFUSED
    return DeliveryDecision(DeliveryStatus.FAILED, error, code, bounce, reason_code, phase=phase)


def _is_about_mail(code: int, text: str) -> bool:
    """Return whether a refusal of MAIL is about the mail's size or addresses."""
    status = find_status(text) or ""
    return code == _TOO_BIG or status.startswith(("5.3.4", "5.2.3", "5.6."))
