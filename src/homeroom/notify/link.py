"""The signed link that stops one type of mail to one person (pure)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

import msgspec

_TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a link can end: one person, one type, one channel."""

    user_id: str
    type: str
    channel: str


def seal(subscription: Subscription, key: bytes) -> str:
    """Return a token for a URL. It does not expire: old mails must be stoppable too."""
    body = msgspec.json.encode([subscription.user_id, subscription.type, subscription.channel])
    tag = hmac.digest(key, body, hashlib.sha256)[:_TAG_BYTES]
    return base64.urlsafe_b64encode(tag + body).decode().rstrip("=")


def unseal(token: str, key: bytes) -> Subscription | None:
    """Return what a token stands for; None for one that was not made with this key."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
    if not hmac.compare_digest(tag, hmac.digest(key, body, hashlib.sha256)[:_TAG_BYTES]):
        return None
    user_id, type, channel = msgspec.json.decode(body, type=tuple[str, str, str])
    return Subscription(user_id, type, channel)
