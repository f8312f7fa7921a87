"""The expiry of a partner's key, foreseen from a setting or its first use (pure).

Instants and spans are microseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from homeroom.instant import DAY, to_datetime

CREDLY_KEY_LIFETIME = 180 * DAY
"""The lifetime of a key of Credly."""
WARN_BEFORE = 30 * DAY
"""The time before the expiry in which log and ``homeroom check`` warn: people have to act."""
DEGRADED_BEFORE = 14 * DAY
"""The time before the expiry in which ``/readyz`` is degraded."""


@dataclass(frozen=True, slots=True)
class PartnerKey:
    """A key with a limited lifetime, without the key itself."""

    digest: str
    """Distinguishes the key from the one before; see ``key_digest``."""
    lifetime: int
    expires_at: int | None = None
    """As the settings say."""

    def expiry(self, digest: str | None, since: int | None) -> int | None:
        """Return the instant at which the key expires, or None while nothing is known.

        ``digest`` and ``since`` are those of the partner's row. Without a setting it is the latest
        possible instant: a key may be older than its first use here.
        """
        if self.expires_at is not None:
            return self.expires_at
        return since + self.lifetime if since is not None and digest == self.digest else None


def key_digest(key: str) -> str:
    """Return a text that tells two keys apart and discloses neither: they are random."""
    return hashlib.sha256(b"homeroom partner key\0" + key.encode()).hexdigest()[:32]


def describe_expiry(name: str, expires_at: int, now: int) -> str:
    """Return a sentence about a key that expires, or has expired."""
    day = to_datetime(expires_at).date().isoformat()
    if expires_at <= now:
        return f"The key of {name} expired on {day}"
    return f"The key of {name} expires on {day}, in {(expires_at - now) // DAY} days"
