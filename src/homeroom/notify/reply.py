"""What an SMTP conversation that ended in some way means for its mail (pure).

Only one moment is delicate: once the line with the single dot is on its way, the server may have
taken the mail over whether or not its answer comes back (RFC 5321, 4.2.5 and 6.1). Before that, and
with any answer that says no, the mail was certainly not sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from homeroom.notify.state import Status


class Phase(IntEnum):
    """How far a conversation got."""

    CONNECT = 0
    """Up to TLS and the log-in."""
    MAIL = 1
    RCPT = 2
    DATA = 3
    """The command and the text, without its end."""
    END = 4
    """The dot is on its way."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery. ``pending`` means that it is tried again later."""

    status: Status
    error: str | None = None
    code: int | None = None
    bounce: Literal["hard", "soft"] | None = None
    """The recipient's server refused: recorded, and a hard one suppresses the address."""


ACCEPTED = Verdict(Status.ACCEPTED)
_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_BAD_ADDRESS = frozenset({550, 551, 553})
_FULL = 552
_SAID = 300
_ADDRESS = re.compile(r"(?<![^\s@<>])[^\s@<>]++@([^\s<>]+)")


def said(text: str) -> str:
    """Return a server's words on one line, without the address that they may repeat."""
    return _ADDRESS.sub(r"***@\1", " ".join(text[: 8 * _SAID].split()))[:_SAID]


def judge(phase: Phase, code: int | None, said: str) -> Verdict:
    """Return what a failed conversation means; ``code`` None is a time-out or a cut connection.

    4xx and all that fails before the text's end is tried again. 5xx of the recipient or the text is
    final. 5xx while connecting or logging in is no answer about this mail: somebody has to mend the
    configuration, and what waits goes out then.
    """
    if code is None:
        if phase is Phase.END:
            return Verdict(Status.UNKNOWN, f"{said}, after the end of the mail: it may be sent")
        return Verdict(Status.PENDING, said)
    error = f"{code} {said}".strip()
    if 400 <= code < 500 or phase is Phase.CONNECT:
        return Verdict(Status.PENDING, error, code)
    if 500 <= code < 600:
        return Verdict(Status.FAILED, error, code, _bounce(phase, code, said))
    return Verdict(Status.PENDING, error, code)  # neither success nor failure: not understood


def _bounce(phase: Phase, code: int, said: str) -> Literal["hard", "soft"] | None:
    """Say whether the address itself is bad; a full mailbox or a policy may change."""
    found = _ENHANCED.search(said)
    if found is not None:
        return hardness(found[1])
    if phase is Phase.MAIL:
        return None  # it is our own address that was refused
    if phase is Phase.RCPT and code in _BAD_ADDRESS:
        return "hard"
    return "soft"


def hardness(enhanced: str) -> Literal["hard", "soft"] | None:
    """Say of an enhanced status code (RFC 3463) whether its address is bad for good."""
    if enhanced.startswith(("4.", "2.")):
        return "soft" if enhanced.startswith("4.") else None
    subject, detail = (int(part) for part in enhanced.split(".")[1:])
    bad = (subject == 1 and detail not in (7, 8)) or (subject, detail) == (2, 1)
    return "hard" if bad else "soft"
