"""Verification of the webhooks of mail providers, as each documents it (pure).

Postmark signs nothing: it sends the user and password of the webhook's URL. Mailgun signs a time
and a token, not the event, so its tokens are accepted once (``email_hook_routes``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

MAILGUN_WINDOW_SECONDS = 86_400
"""Mailgun repeats a webhook for eight hours."""
SENDGRID_SIGNATURE = "x-twilio-email-event-webhook-signature"
SENDGRID_TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
_SNS_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message",
        "MessageId",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ),
}
_SNS_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}


class InvalidHook(Exception):
    """A webhook is not its provider's, or was changed on the way."""


def load_sendgrid_key(text: str) -> ec.EllipticCurvePublicKey:
    """Return SendGrid's verification key: base64 of DER; raise ``ValueError``."""
    key = load_der_public_key(base64.b64decode(text, validate=True))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("it is no key of an elliptic curve")
    return key


def verify_sendgrid(key_text: str, headers: Mapping[str, str], body: bytes) -> None:
    """Verify the ECDSA signature over timestamp and body; raise ``InvalidHook``."""
    try:
        signature = base64.b64decode(headers[SENDGRID_SIGNATURE], validate=True)
        signed = headers[SENDGRID_TIMESTAMP].encode() + body
        load_sendgrid_key(key_text).verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except (KeyError, ValueError, InvalidSignature) as error:
        raise InvalidHook from error


def verify_postmark(login: str, headers: Mapping[str, str]) -> None:
    """Verify user and password, ``user:password``; raise ``InvalidHook``."""
    expected = "Basic " + base64.b64encode(login.encode()).decode()
    given = headers.get("authorization", "")
    if not hmac.compare_digest(given.encode("latin-1", "replace"), expected.encode()):
        raise InvalidHook


def verify_mailgun(key: str, payload: Any, now_seconds: float) -> str:
    """Verify time and token and return the token; raise ``InvalidHook``."""
    signature = payload.get("signature") if isinstance(payload, dict) else None
    if not isinstance(signature, dict):
        raise InvalidHook
    timestamp, token, given = (str(signature.get(n)) for n in ("timestamp", "token", "signature"))
    expected = hmac.new(key.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise InvalidHook
    if not timestamp.isdigit() or abs(now_seconds - int(timestamp)) > MAILGUN_WINDOW_SECONDS:
        raise InvalidHook
    return token


def check_sns_topic(message: Any, topic_arn: str) -> str:
    """Return the type of a message of the expected topic; raise ``InvalidHook``.

    Anyone with an account at Amazon can sign messages of a topic of their own.
    """
    if not isinstance(message, dict) or message.get("TopicArn") != topic_arn:
        raise InvalidHook
    type, version = message.get("Type"), message.get("SignatureVersion")
    if not isinstance(type, str) or not isinstance(version, str):
        raise InvalidHook
    if type not in _SNS_FIELDS or version not in _SNS_HASHES:
        raise InvalidHook
    return type


def verify_sns(message: Mapping[str, Any], certificate_pem: bytes, now: datetime) -> None:
    """Verify a message of SNS with a certificate; raise ``InvalidHook``."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = certificate.public_key()
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise InvalidHook
        if not isinstance(key, rsa.RSAPublicKey):
            raise InvalidHook
        signature = base64.b64decode(str(message.get("Signature")), validate=True)
        algorithm = _SNS_HASHES[message["SignatureVersion"]]()
        key.verify(signature, _sns_text(message), padding.PKCS1v15(), algorithm)
    except (ValueError, binascii.Error, InvalidSignature) as error:
        raise InvalidHook from error


def _sns_text(message: Mapping[str, Any]) -> bytes:
    """Return the signed text: each name and value on a line of its own."""
    fields = [name for name in _SNS_FIELDS[message["Type"]] if message.get(name) is not None]
    return "".join(f"{name}\n{message[name]}\n" for name in fields).encode()
