"""Keys of partners that have a limited lifetime."""

from __future__ import annotations

from datetime import UTC, datetime, time

from homeroom.instant import from_datetime
from homeroom.partner.key_expiry import CREDLY_KEY_LIFETIME, PartnerKey, key_digest
from homeroom.settings import Settings


def credly_key(settings: Settings) -> PartnerKey | None:
    """Return Credly's key with its lifetime, or None without a key."""
    if settings.credly_token is None:
        return None
    last_day, expires_at = settings.credly_token_expires_on, None
    if last_day is not None:
        expires_at = from_datetime(datetime.combine(last_day, time(), UTC))
    digest = key_digest(settings.credly_token.get_secret_value())
    return PartnerKey(digest, CREDLY_KEY_LIFETIME, expires_at)
