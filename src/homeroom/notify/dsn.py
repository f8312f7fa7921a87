"""Read what a server says of a mail that it could not deliver: RFC 3464 and 5965 (pure)."""

from __future__ import annotations

import email
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage, Message
from typing import Literal

from homeroom.notify.reply import hardness

MAX_BYTES = 1024 * 1024
_MAX_PARTS = 50


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened to one recipient of one mail of ours."""

    what: Literal["hard", "soft", "complaint", "delivered"]
    message_id: str | None
    """Of the original mail, with its angle brackets."""
    recipient: str | None
    detail: str


class Unreadable(ValueError):
    """A text is no delivery status notification and no feedback report."""


def read(raw: bytes) -> list[Notice]:
    """Return the notices of a bounce or a complaint, one a recipient; raise ``Unreadable``."""
    if len(raw) > MAX_BYTES:
        raise Unreadable(f"it is larger than {MAX_BYTES} bytes")
    try:
        # Not the policy of today: it takes headers apart in ways of which anybody who writes to our
        # return path can make minutes.
        message = email.message_from_bytes(raw)
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error
    parts = [part for part, _ in zip(message.walk(), range(_MAX_PARTS), strict=False)]
    original = _original(parts)
    found: list[Notice] = []
    for part in parts:
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            found += _statuses(part, original)
        elif kind == "message/feedback-report":
            found.append(_complaint(part, original))
    found = found[:_MAX_PARTS]  # a mail of ours has one recipient
    if not found:
        raise Unreadable("it has neither a message/delivery-status nor a message/feedback-report")
    return found


def _original(parts: Sequence[Message]) -> str | None:
    """Return the Message-ID of the mail that came back."""
    for part in parts:
        kind = part.get_content_type()
        if kind == "text/rfc822-headers":
            text = str(part.get_payload(decode=False))
            return _header(email.message_from_string(text), "Message-ID")
        if kind == "message/rfc822":
            inner = part.get_payload()
            if isinstance(inner, list) and inner and isinstance(inner[0], Message):
                return _header(inner[0], "Message-ID")
    return None


def _header(message: Message, name: str) -> str | None:
    value = message.get(name)
    return None if value is None else str(value).strip()


def _statuses(part: Message, original: str | None) -> list[Notice]:
    """Read the groups of fields; the first is about the message, each other about a recipient."""
    groups = part.get_payload()
    found: list[Notice] = []
    for group in groups if isinstance(groups, list) else []:
        if not isinstance(group, Message):
            continue
        action = (_header(group, "Action") or "").lower()
        if not action:
            continue
        status = (_header(group, "Status") or "").split(" ")[0]
        recipient = _header(group, "Final-Recipient") or _header(group, "Original-Recipient")
        address = None if recipient is None else recipient.rpartition(";")[2].strip()
        said = _header(group, "Diagnostic-Code") or status or action
        what = _what(action, status)
        if what is not None:
            found.append(Notice(what, original, address, said))
    return found


def _what(action: str, status: str) -> Literal["hard", "soft", "delivered"] | None:
    if action == "delivered":
        return "delivered"
    if action == "delayed":
        return None  # their server still tries
    if action != "failed":
        return None  # relayed and expanded say nothing about the end
    try:
        return hardness(status) or "soft"
    except ValueError:
        return "soft"


def _complaint(part: Message, original: str | None) -> Notice:
    inner = part.get_payload()
    fields: Message = EmailMessage()
    if isinstance(inner, list) and inner and isinstance(inner[0], Message):
        fields = inner[0]
    else:
        fields = email.message_from_string(str(inner))
    return Notice(
        "complaint",
        original,
        _header(fields, "Original-Rcpt-To"),
        _header(fields, "Feedback-Type") or "abuse",
    )
