"""Events of mail providers as notices: SES, SendGrid, Postmark, Mailgun (pure).

Each event is judged by its text first, as a bounce mail is, because a provider's ``Permanent`` or
``bounce`` also means a blocked sender. Its own class decides where the text says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from homeroom.errors import BadRequest
from homeroom.notify.bounce_mail import DELIVERY_HEADER, DeliveryNotice, NoticeKind
from homeroom.notify.refusal import MAX_REFUSAL_LENGTH, BounceKind, find_status, read_refusal

MAX_EVENTS = 1_000
POSTMARK_METADATA = "homeroom-delivery"
"""The name under which Postmark returns the delivery's id, from ``X-PM-Metadata-...``."""
Provider = Literal["ses", "sendgrid", "postmark", "mailgun"]
_ID = re.compile(r"[\w.@+=-]{1,128}\Z")


class ProviderEvent(msgspec.Struct, frozen=True, rename="camel"):
    """A report about one mail in Homeroom's own format."""

    event: Literal["bounce", "complaint", "delivered"]
    message_id: str | None = None
    recipient: str | None = None
    kind: BounceKind = "hard"
    detail: str = ""


class ProviderEvents(msgspec.Struct, frozen=True):
    """The body of a webhook in Homeroom's own format."""

    events: list[ProviderEvent]


def trace_headers(delivery_id: str, host: str) -> dict[str, str]:
    """Return the headers by which the events of a mail's provider name the delivery."""
    headers = {DELIVERY_HEADER: delivery_id}
    if host.endswith(".postmarkapp.com"):
        headers[f"X-PM-Metadata-{POSTMARK_METADATA}"] = delivery_id
    return headers


def parse_provider_events(body: bytes) -> list[DeliveryNotice]:
    """Parse events in Homeroom's own format; raise ``BadRequest``."""
    try:
        events = msgspec.json.decode(body, type=ProviderEvents)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not a list of events: {error}.") from error
    return [
        DeliveryNotice(
            event.kind if event.event == "bounce" else event.event,
            event.message_id,
            event.recipient,
            event.detail,
        )
        for event in events.events[:MAX_EVENTS]
    ]


def parse_events_of(provider: Provider, payload: object) -> list[DeliveryNotice]:
    """Return the notices of a provider's decoded JSON.

    Events about no outcome, such as an opened mail, are none. Raises ``BadRequest``.
    """
    parse = _PARSERS[provider]
    given = payload if isinstance(payload, list) else [payload]
    events = [event for event in given if isinstance(event, dict)]
    if not events or len(events) < len(given):
        raise BadRequest(f"The body has no events of {provider}.")
    return [notice for event in events[:MAX_EVENTS] for notice in parse(event)]


def _text(fields: Mapping[str, Any], *names: str) -> str:
    """Return the first text among some fields, bounded."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int) and value != "":
            return str(value)[:MAX_REFUSAL_LENGTH]
    return ""


def _map(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _list(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = fields.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _judge(text: str, status: str, usual: BounceKind) -> BounceKind:
    """Return the kind that a text and a status say; else the provider's own class."""
    judged = read_refusal(text, status=find_status(status))
    return usual if judged is None else judged.kind


def _event_id(provider: str, *parts: str) -> str | None:
    id = ":".join((provider, *parts))
    return id[:250] if all(parts) else None


def _references(*ids: str) -> tuple[str, ...]:
    return tuple(id for id in ids if _ID.match(id))


def _parse_ses(event: Mapping[str, Any]) -> list[DeliveryNotice]:
    mail = _map(event, "mail")
    server_id = _text(mail, "messageId")
    headers = {_text(each, "name").lower(): _text(each, "value") for each in _list(mail, "headers")}
    references = _references(headers.get(DELIVERY_HEADER.lower(), ""))
    original = headers.get("message-id") or _text(_map(mail, "commonHeaders"), "messageId") or None

    def notice(kind: NoticeKind, recipient: str, detail: str, id: str | None) -> DeliveryNotice:
        return DeliveryNotice(kind, original, recipient, detail, references, server_id, id)

    type = _text(event, "notificationType", "eventType")
    if type == "Bounce":
        bounce = _map(event, "bounce")
        return [
            notice(
                _ses_kind(bounce, each),
                _text(each, "emailAddress"),
                _text(each, "diagnosticCode") or _text(bounce, "bounceSubType"),
                _event_id("ses", _text(bounce, "feedbackId"), str(index)),
            )
            for index, each in enumerate(_list(bounce, "bouncedRecipients"))
        ]
    if type == "Complaint":
        complaint = _map(event, "complaint")
        feedback = _text(complaint, "complaintFeedbackType")
        kind: NoticeKind = "no_complaint" if feedback == "not-spam" else "complaint"
        return [
            notice(
                kind,
                _text(each, "emailAddress"),
                feedback or "complaint",
                _event_id("ses", _text(complaint, "feedbackId"), str(index)),
            )
            for index, each in enumerate(_list(complaint, "complainedRecipients"))
        ]
    if type == "Delivery":
        answer = _text(_map(event, "delivery"), "smtpResponse")
        return [notice("delivered", "", answer or "delivered", None)]
    return [notice("delayed", "", type, None)] if type == "DeliveryDelay" else []


def _ses_kind(bounce: Mapping[str, Any], recipient: Mapping[str, Any]) -> BounceKind:
    type, subtype = _text(bounce, "bounceType"), _text(bounce, "bounceSubType")
    if subtype in {"MessageTooLarge", "ContentRejected", "AttachmentRejected"}:
        return "block"
    if subtype in {"NoEmail", "Suppressed", "OnAccountSuppressionList"} and type == "Permanent":
        return "hard"
    if subtype == "MailboxFull":
        return "soft"
    usual: BounceKind = "hard" if type == "Permanent" else "soft"
    kind = _judge(_text(recipient, "diagnosticCode"), _text(recipient, "status"), usual)
    return "soft" if kind == "hard" and type == "Transient" else kind


_SENDGRID_CLASSES: Mapping[str, BounceKind] = {
    "invalid address": "hard",
    "mailbox unavailable": "soft",
    "content": "block",
    "reputation": "block",
    "frequency or volume too high": "block",
    "technical failure": "block",
}


def _parse_sendgrid(event: Mapping[str, Any]) -> list[DeliveryNotice]:
    type = _text(event, "event")
    reason = _text(event, "reason", "response") or type
    kind: NoticeKind | None = None
    if type == "bounce":
        usual = _SENDGRID_CLASSES.get(_text(event, "bounce_classification").lower(), "soft")
        kind = _judge(_text(event, "reason"), _text(event, "status"), usual)
        if kind == "hard" and _text(event, "type") == "blocked":
            kind = "block"
    elif type == "dropped":
        kind = _SENDGRID_DROPS.get(reason.lower(), "block")
    elif type in {"delivered", "spamreport", "deferred"}:
        kinds: dict[str, NoticeKind] = {"spamreport": "complaint", "deferred": "delayed"}
        kind = kinds.get(type, "delivered")
    if kind is None:
        return []
    return [
        DeliveryNotice(
            kind,
            _text(event, "smtp-id") or None,
            _text(event, "email"),
            reason,
            _references(_text(event, DELIVERY_HEADER)),
            None,
            _event_id("sendgrid", _text(event, "sg_event_id")),
        )
    ]


_SENDGRID_DROPS: Mapping[str, NoticeKind] = {
    "bounced address": "hard",
    "invalid": "hard",
    "spam reporting address": "complaint",
    "unsubscribed address": "auto_reply",
}
_POSTMARK_TYPES: Mapping[str, NoticeKind] = {
    "BadEmailAddress": "hard",
    "SoftBounce": "soft",
    "DnsError": "soft",
    "Transient": "delayed",
    "Blocked": "block",
    "SpamNotification": "block",
    "DMARCPolicy": "block",
    "VirusNotification": "block",
    "SMTPApiError": "block",
    "OpenRelayTest": "block",
    "ManuallyDeactivated": "block",
    "TemplateRenderingFailed": "block",
    "SpamComplaint": "complaint",
    "AutoResponder": "auto_reply",
    "AddressChange": "auto_reply",
    "ChallengeVerification": "auto_reply",
    "Subscribe": "auto_reply",
    "Unsubscribe": "auto_reply",
}


def _parse_postmark(event: Mapping[str, Any]) -> list[DeliveryNotice]:
    record, type = _text(event, "RecordType"), _text(event, "Type")
    detail = _text(event, "Details", "Description") or type or record
    kind: NoticeKind
    if record == "Delivery":
        kind = "delivered"
    elif record == "SpamComplaint":
        kind = "complaint"
    elif record != "Bounce":
        return []
    elif type in _POSTMARK_TYPES:
        kind = _POSTMARK_TYPES[type]
    else:  # HardBounce, Unknown
        usual: BounceKind = "hard" if type == "HardBounce" else "soft"
        kind = _judge(_text(event, "Details"), "", usual)
    return [
        DeliveryNotice(
            kind,
            None,
            _text(event, "Email", "Recipient"),
            detail,
            _references(_text(_map(event, "Metadata"), POSTMARK_METADATA)),
            _text(event, "MessageID") or None,
            _event_id("postmark", record, _text(event, "ID")),
        )
    ]


def _parse_mailgun(payload: Mapping[str, Any]) -> list[DeliveryNotice]:
    event = _map(payload, "event-data")
    type, reason = _text(event, "event"), _text(event, "reason")
    status = _map(event, "delivery-status")
    detail = _text(status, "message", "description") or reason or type
    kind: NoticeKind
    if type == "delivered":
        kind = "delivered"
    elif type == "complained":
        kind = "complaint"
    elif type != "failed":
        return []
    elif _text(event, "severity") == "temporary":
        kind = "delayed"  # Mailgun tries again
    elif reason in _MAILGUN_REASONS:
        kind = _MAILGUN_REASONS[reason]
    else:
        usual: BounceKind = "hard" if _text(status, "bounce-type") == "hard" else "soft"
        code = _text(status, "code")
        kind = _judge(f"{code} {_text(status, 'message')}".strip(), "", usual)
    headers = _map(_map(event, "message"), "headers")
    return [
        DeliveryNotice(
            kind,
            _text(headers, "message-id") or None,
            _text(event, "recipient"),
            detail,
            (),
            None,
            _event_id("mailgun", _text(event, "id")),
        )
    ]


_MAILGUN_REASONS: Mapping[str, NoticeKind] = {
    "suppress-bounce": "hard",
    "suppress-complaint": "complaint",
    "suppress-unsubscribe": "auto_reply",
    "espblock": "block",
}
_PARSERS: Mapping[Provider, Callable[[Mapping[str, Any]], list[DeliveryNotice]]] = {
    "ses": _parse_ses,
    "sendgrid": _parse_sendgrid,
    "postmark": _parse_postmark,
    "mailgun": _parse_mailgun,
}
