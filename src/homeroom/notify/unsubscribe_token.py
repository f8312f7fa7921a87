"""Tokens of unsubscribe links: person, types, channel (pure).

A token is encrypted, so that a link which is forwarded, logged or scanned names no person. Tokens
of the first form were signed and could be read; links in mails that were sent then go on working.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_TAG_BYTES = 16
_PURPOSE = b"unsubscribe token 2"
_BLOCK_BYTES = 32


@dataclass(frozen=True, slots=True)
class Subscription:
    """The person, types and channel that an unsubscribe link ends."""

    user_id: str
    type: str
    """One type of message, or several joined by ``+``."""
    channel: str


def encode_unsubscribe_token(subscription: Subscription, key: bytes) -> str:
    """Return a token for a URL. It does not expire: links in old mails must work too.

    AES-SIV (RFC 5297) needs no nonce: the same subscription has the same token. Its length is
    rounded up, since it would tell ids of different lengths apart.
    """
    body = _encode_body(subscription)
    padded = body.ljust(-(-len(body) // _BLOCK_BYTES) * _BLOCK_BYTES)  # JSON ignores the spaces
    sealed = _cipher(key).encrypt(padded, [_PURPOSE])
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def decode_unsubscribe_token(token: str, key: bytes) -> Subscription | None:
    """Return the subscription of a token; None if it was not made with this key."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    if len(raw) <= _TAG_BYTES:
        return None
    try:
        return _decode_body(_cipher(key).decrypt(raw, [_PURPOSE]))
    except InvalidTag:
        pass
    tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
    if not hmac.compare_digest(tag, hmac.digest(key, body, hashlib.sha256)[:_TAG_BYTES]):
        return None
    return _decode_body(body)


def _cipher(key: bytes) -> AESSIV:
    """Return the cipher; its key is not the one that signed the first tokens."""
    return AESSIV(hmac.digest(key, _PURPOSE, hashlib.sha512))


def _encode_body(subscription: Subscription) -> bytes:
    return msgspec.json.encode([subscription.user_id, subscription.type, subscription.channel])


def _decode_body(body: bytes) -> Subscription:
    user_id, type, channel = msgspec.json.decode(body, type=tuple[str, str, str])
    return Subscription(user_id, type, channel)
