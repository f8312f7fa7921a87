"""Reading of bounce and complaint mails: reports and free forms (pure).

Reports follow RFC 3464 and RFC 5965. Exim, qmail, Gmail, Exchange and many others write text for
people instead; of those the machine-readable rest (``X-Failed-Recipients``, reply codes) and the
usual phrases are read. No library does both: ``flufl.bounce`` finds addresses, but not the cause.

Anyone can write to a return path, so all work is bounded: the size of the mail, the number of its
parts, and the length of the text that is searched.
"""

from __future__ import annotations

import email
import email.header
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.message import Message
from typing import Literal

from homeroom.notify import bounce_phrases
from homeroom.notify.refusal import (
    MAX_REFUSAL_LENGTH,
    Refusal,
    find_reply_code,
    find_status,
    judge_refusal,
    worst_refusal,
)

NoticeKind = Literal[
    "hard", "soft", "block", "complaint", "delivered", "delayed", "auto_reply", "no_complaint"
]
"""The last three are about no final outcome: they are counted and ignored."""
DELIVERY_HEADER = "X-Homeroom-Delivery"
"""The header that carries the delivery's id, for providers that rewrite the Message-ID."""
ID_PLACEHOLDER = "{id}"
"""The place of the delivery's id in a return path, such as ``bounces+{id}@example.org``."""
MAX_BOUNCE_BYTES = 1024 * 1024
MAX_NOTICES = 50
_MAX_PARTS = 50
_MAX_TEXT = 16_000
_MAX_REFERENCES = 10
_DETAIL_LENGTH = 300
_REPLY_START = 500
_COPY_TYPES = frozenset({"message/rfc822", "text/rfc822-headers", "message/global"})


@dataclass(frozen=True, slots=True)
class DeliveryNotice:
    """A later report about one recipient of one mail."""

    kind: NoticeKind
    message_id: str | None
    """Of the original mail, with its angle brackets."""
    recipient: str | None
    detail: str
    references: tuple[str, ...] = ()
    """Ids that may be those of the delivery, the likeliest first."""
    server_id: str | None = None
    """The id by which the accepting server named the mail in its answer."""
    event_id: str | None = None
    """The provider's id of this report, the same when it is sent again."""


def bounce_address(return_path: str, delivery_id: str) -> str:
    """Return the envelope sender of a delivery, by which its bounces are recognised."""
    return return_path.replace(ID_PLACEHOLDER, delivery_id)


class UnreadableNotice(ValueError):
    """A text is neither a bounce nor a complaint."""


def parse_notices(raw: bytes) -> list[DeliveryNotice]:
    """Return the notices of a bounce or complaint mail, one per recipient.

    Raises ``UnreadableNotice``.
    """
    if len(raw) > MAX_BOUNCE_BYTES:
        raise UnreadableNotice(f"it is larger than {MAX_BOUNCE_BYTES} bytes")
    try:
        # The legacy policy: the modern one parses headers so slowly that a crafted mail to the
        # return path blocks for minutes.
        message = email.message_from_bytes(raw)
    except RecursionError as error:
        raise UnreadableNotice("it is nested too deeply") from error
    parts = [part for part, _ in zip(message.walk(), range(_MAX_PARTS), strict=False)]
    original = _original_message_id(parts)
    references = _find_references(message, parts, raw)
    text = _reason_text(parts)
    notices = _parse_reports(parts, text, original, references)
    if not notices:
        has_copy = any(part.get_content_type() in _COPY_TYPES for part in parts)
        notices = _parse_free_form(message, text, has_copy, original, references)
    return notices[:MAX_NOTICES]  # a mail of Homeroom has one recipient


_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
"""Of RFC 3464, and of RFC 6533 for addresses in UTF-8."""


def _parse_reports(
    parts: Sequence[Message], text: str, original: str | None, references: tuple[str, ...]
) -> list[DeliveryNotice]:
    """Parse the machine-readable parts."""
    notices: list[DeliveryNotice] = []
    for part in parts:
        content_type = part.get_content_type()
        if content_type in _STATUS_TYPES:
            for group in _status_groups(part):
                notice = _parse_status_group(group, text, original, references)
                if notice is not None:
                    notices.append(notice)
        elif content_type == "message/feedback-report":
            notices.append(_parse_complaint(part, original, references))
        if len(notices) >= MAX_NOTICES:
            break
    return notices


def _original_message_id(parts: Sequence[Message]) -> str | None:
    """Return the Message-ID of the returned mail."""
    for part in parts:
        content_type = part.get_content_type()
        if content_type == "text/rfc822-headers":
            text = str(part.get_payload(decode=False))
            return _header(email.message_from_string(text), "Message-ID")
        if content_type == "message/rfc822":
            inner = part.get_payload()
            if isinstance(inner, list) and inner and isinstance(inner[0], Message):
                return _header(inner[0], "Message-ID")
    return None


def _header(message: Message, name: str) -> str | None:
    value = message.get(name)
    return None if value is None else str(value).strip()


_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OWN_HEADER = re.compile(rf"{DELIVERY_HEADER}:\s*({_ID})", re.IGNORECASE)
_VERP = re.compile(rf"[^\s<]({_ID})@", re.IGNORECASE)
_ANY_ID = re.compile(rf"<({_ID})@", re.IGNORECASE)
_TRACE_HEADERS = ("To", "Delivered-To", "X-Original-To", "Envelope-To", "In-Reply-To", "References")


def _find_references(message: Message, parts: Sequence[Message], raw: bytes) -> tuple[str, ...]:
    """Return the ids of deliveries that a mail may be about, the surest first.

    These are the return path that it was sent to, the own header of the returned copy, and any
    Message-ID in the form of Homeroom's.
    """
    to = " ".join(str(value) for name in _TRACE_HEADERS for value in message.get_all(name, []))
    places = [to[:_MAX_TEXT], raw.decode("latin-1")]
    places += [_decode_text(part) for part in parts if part.get_content_maintype() == "text"]
    found: dict[str, None] = {}
    for pattern in (_VERP, _OWN_HEADER, _ANY_ID):
        for place in places:
            for hit in pattern.finditer(place):
                found[hit[1].lower()] = None
                if len(found) >= _MAX_REFERENCES:
                    return tuple(found)
    return tuple(found)


def _status_groups(part: Message) -> Iterator[Message]:
    """Yield the groups of fields: one about the message, the others per recipient."""
    groups = part.get_payload()
    if part.get_content_type() == "message/global-delivery-status" and isinstance(groups, list):
        # The email package takes it for a mail: the groups after the first one are its text.
        text = str(groups[0])[:_MAX_TEXT] if groups else ""
        groups = [email.message_from_string(each) for each in text.split("\n\n")]
    for group in groups[: MAX_NOTICES + 1] if isinstance(groups, list) else []:
        if isinstance(group, Message):
            yield group


def _parse_status_group(
    group: Message, reason_text: str, original: str | None, references: tuple[str, ...]
) -> DeliveryNotice | None:
    action = (_header(group, "Action") or "").lower().partition(" ")[0]
    if not action:
        return None
    status_field = _header(group, "Status") or ""
    status = find_status(status_field)
    recipient = _header(group, "Final-Recipient") or _header(group, "Original-Recipient")
    address = None if recipient is None else recipient.rpartition(";")[2].strip(" \t<>")
    diagnostic = _header(group, "Diagnostic-Code") or ""
    detail = diagnostic or status or action
    text = diagnostic.partition(";")[2] or diagnostic
    comment = status_field.removeprefix(status or "")
    kind = _action_kind(action, status, f"{text} {comment}".strip(), reason_text)
    return DeliveryNotice(kind, original, address, detail[:MAX_REFUSAL_LENGTH], references)


def _action_kind(action: str, status: str | None, text: str, reason_text: str) -> NoticeKind:
    if action in {"delivered", "delayed"}:
        return "delivered" if action == "delivered" else "delayed"
    if action in {"relayed", "expanded"}:
        return "delayed"  # no final outcome either
    judged = judge_refusal(text, status=status)
    if judged.kind == "soft" and (find_reply_code(text) is None or _says_nothing(status)):
        # Some servers give the reason in the text for people only, beside a bare 5.0.0.
        return worst_refusal([judged, _judge_text(reason_text, status)]).kind
    return judged.kind


def _says_nothing(status: str | None) -> bool:
    return status is None or status.endswith(".0.0")


def _parse_complaint(
    part: Message, original: str | None, references: tuple[str, ...]
) -> DeliveryNotice:
    inner = part.get_payload()
    if isinstance(inner, list) and inner and isinstance(inner[0], Message):
        fields = inner[0]
    else:
        fields = email.message_from_string(str(inner))
    feedback = (_header(fields, "Feedback-Type") or "abuse")[:_DETAIL_LENGTH]
    return DeliveryNotice(
        "no_complaint" if feedback.lower() == "not-spam" else "complaint",
        original,
        _header(fields, "Original-Rcpt-To"),
        feedback,
        references,
    )


_CHARSET = re.compile(
    r"us-ascii|utf-?8|utf-?16(?:[bl]e)?|iso-?8859-\d{1,2}|latin-?\d|(?:windows|cp)-?\d{3,4}|koi8-[ru]"
    r"|iso-?2022-(?:jp|kr)(?:-\w{1,3})?|shift[_-]?jis|euc-(?:jp|kr)|gb(?:2312|k|18030)|big5|hz-gb-2312"
)
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_TAG = re.compile(r"<[^<>]{0,1000}>")
_MAX_STYLES = 20
_CODE_LINE = re.compile(
    r"(?:\A|[\s:;(\[#=])(?:[45][0-5]\d(?=[\s-])|#?[45]\.\d{1,3}\.\d{1,3})[^\r\n]*(?:\n[^\r\n]{0,200}){0,2}"
)

_TRANSCRIPT = re.compile(r"[\s><.-]*(?:[123]\d\d[\s-]|EHLO|HELO|MAIL FROM|RCPT TO|DATA\b|QUIT\b)")


_BOUNCE_SIGNS = (bounce_phrases.BOUNCE_TEXT, bounce_phrases.DELAY, _CODE_LINE)


def _parse_free_form(
    message: Message,
    text: str,
    has_copy: bool,
    original: str | None,
    references: tuple[str, ...],
) -> list[DeliveryNotice]:
    """Parse a bounce with its cause in its text; raise ``UnreadableNotice``."""
    failed = [
        address
        for value in message.get_all("X-Failed-Recipients", [])[:MAX_NOTICES]
        for address in _EMAIL.findall(str(value)[:_MAX_TEXT])
    ]
    subject = _plain_header(message, "Subject")
    sender = f"{_plain_header(message, 'From')} {_plain_header(message, 'Sender')}"
    is_daemon = bounce_phrases.DAEMON.search(sender) is not None
    return_path = _header(message, "Return-Path") or ""
    if not failed and not is_daemon and _is_auto_reply(message, subject, text):
        return [DeliveryNotice("auto_reply", original, None, subject[:_DETAIL_LENGTH], references)]
    signs = (
        is_daemon or return_path == "<>" or bounce_phrases.DAEMON.search(return_path) is not None,
        bounce_phrases.BOUNCE_SUBJECT.search(subject) is not None,
        any(each.search(text) is not None for each in _BOUNCE_SIGNS),
        is_daemon and (has_copy or bool(references)),
    )
    if not failed and sum(signs) < 2:
        raise UnreadableNotice("it is neither a bounce nor a report that is known")
    own = set(_EMAIL.findall(f"{sender} {_plain_header(message, 'To')}"))
    found = failed or [each for each in _EMAIL.findall(text) if each not in own]
    addresses: list[str | None] = list(dict.fromkeys(found))
    kind: NoticeKind
    if _is_delay(subject, text):
        kind, detail = "delayed", subject
    else:
        kind, detail = _judge_text(text, None).kind, _reason_line(text) or subject
    recipients = addresses[:MAX_NOTICES] if failed else addresses[:1]
    return [
        DeliveryNotice(kind, original, address, detail[:MAX_REFUSAL_LENGTH], references)
        for address in recipients or [None]
    ]


def _is_delay(subject: str, text: str) -> bool:
    if bounce_phrases.GIVEN_UP.search(text) is not None:
        return False
    return (
        bounce_phrases.DELAY.search(subject) is not None
        or bounce_phrases.DELAY.search(text) is not None
    )


def _is_auto_reply(message: Message, subject: str, text: str) -> bool:
    submitted = (_header(message, "Auto-Submitted") or "").lower()
    precedence = (_header(message, "Precedence") or "").lower()
    return (
        submitted.startswith("auto-replied")
        or precedence == "auto_reply"
        or any(name in message for name in ("X-Autoreply", "X-Autorespond", "X-Vacation"))
        or _parameter(message, "report-type") == "disposition-notification"
        or bounce_phrases.AUTO_REPLY_SUBJECT.search(subject) is not None
        or (
            bounce_phrases.BOUNCE_SUBJECT.search(subject) is None
            and bounce_phrases.AUTO_REPLY_SUBJECT.search(text[:_REPLY_START]) is not None
        )
    )


def _plain_header(message: Message, name: str) -> str:
    """Return a header decoded and bounded; the raw text where that fails."""
    raw = str(message.get(name, ""))[:1_000]
    try:
        return str(email.header.make_header(email.header.decode_header(raw)))
    except (LookupError, ValueError, MessageError):
        return raw


def _reason_text(parts: Sequence[Message]) -> str:
    """Return the text for people, without the copy of the original mail."""
    texts: list[str] = []
    skipped: set[int] = set()
    for part in parts:
        if id(part) in skipped or part.get_content_type() == "message/rfc822":
            skipped.update(id(inner) for inner in _walk_bounded(part))
            continue
        if part.is_multipart() or part.get_content_maintype() != "text":
            continue
        if part.get_content_type() != "text/rfc822-headers":
            texts.append(_decode_text(part))
    kept: list[str] = []
    for line in "\n".join(texts)[:_MAX_TEXT].splitlines():
        if len(kept) > 2 and bounce_phrases.CUT.search(line[:400]) is not None:
            break
        kept.append(line)
    return "\n".join(kept)


def _walk_bounded(part: Message) -> Iterator[Message]:
    for inner, _ in zip(part.walk(), range(_MAX_PARTS), strict=False):
        yield inner


def _decode_text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    payload = payload[: 2 * _MAX_TEXT]
    charset = _parameter(part, "charset")
    try:
        # Only these: Python has text codecs too whose time grows with the square of the length.
        text = payload.decode(charset if _CHARSET.fullmatch(charset) else "utf-8", "replace")
    except (LookupError, ValueError):
        text = payload.decode("latin-1")
    if part.get_content_subtype() == "html":
        text = html.unescape(_TAG.sub(" ", _drop_styles(text)))
    return text[:_MAX_TEXT]


def _drop_styles(text: str) -> str:
    """Return HTML without what is not shown."""
    for tag in ("style", "script"):
        for _ in range(_MAX_STYLES):
            start = text.lower().find(f"<{tag}")
            if start < 0:
                break
            end = text.lower().find(f"</{tag}", start)
            text = text[:start] + (text[end:] if end > 0 else "")
    return text


def _parameter(part: Message, name: str) -> str:
    """Return a parameter of the content type, in linear time."""
    content_type = str(part.get("Content-Type", ""))[:1_000]
    found = re.search(rf"\b{name}\s*=\s*\"?([^\s\";]+)", content_type, re.IGNORECASE)
    return "" if found is None else found[1].lower()


def _judge_text(text: str, status: str | None) -> Refusal:
    """Judge a text for people: by its lines with a code, then as a whole."""
    lines = [hit[0].strip() for hit in _CODE_LINE.finditer(text)][:5]
    judged = [judge_refusal(line, status=status) for line in lines]
    if any(each.kind == "hard" for each in judged) or any(each.kind == "block" for each in judged):
        return worst_refusal(judged)
    spoken = (line for line in text.splitlines() if _TRANSCRIPT.match(line) is None)
    return judge_refusal(" ".join(" ".join(spoken).split()), status=status)


def _reason_line(text: str) -> str:
    found = _CODE_LINE.search(text)
    return "" if found is None else " ".join(found[0].split())[:_DETAIL_LENGTH]
