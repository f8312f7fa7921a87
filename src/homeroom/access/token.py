"""Make tokens and the hashes that are stored of them (pure but for the randomness)."""

from __future__ import annotations

import hashlib
import re
import secrets

KEY_PREFIX = "hr_"
SIGN_IN_PREFIX = "once_"
_FORM = re.compile(r"(?:hr|once)_[A-Za-z0-9_-]{43}")


def new_token(prefix: str) -> str:
    """Return a new token of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def looks_made_here(token: str) -> bool:
    """Say whether a token has the form of those made here; others need no look in the database."""
    return _FORM.fullmatch(token) is not None


def digest(token: str) -> str:
    """Return what is stored of a token. A plain hash is enough for 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
