"""A sign-in that has begun, as its browser keeps it in a cookie (pure)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

import msgspec

PENDING_SECONDS = 600
CONSOLE_PATH = "/console"
_MAX_NEXT_LENGTH = 1_500
"""A cookie has at most 4,096 characters, and the path takes four thirds of its own."""
_NEXT: Final = re.compile(r"/console(?:[/?][!-\[\]-~]*)?", re.ASCII)
_PARENT: Final = re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)


class PendingSignIn(msgspec.Struct, frozen=True):
    """The secrets of one sign-in: no other browser has them, so none can end it."""

    state: str
    nonce: str
    verifier: str
    next: str


@dataclass(frozen=True, slots=True)
class PendingCookie:
    """The cookie of one sign-in; each has its own, so that two tabs can sign in."""

    secure: bool
    """Whether browsers reach Homeroom by HTTPS; then no other host of the domain can set it."""

    def name(self, state: str) -> str:
        """Return the cookie's name for a state."""
        prefix = "__Host-" if self.secure else ""
        return f"{prefix}homeroom_oidc_{state[:16]}"

    @staticmethod
    def encode(pending: PendingSignIn) -> str:
        """Return the cookie's value."""
        return base64.urlsafe_b64encode(msgspec.json.encode(pending)).decode().rstrip("=")

    @staticmethod
    def decode(value: str | None, state: str) -> PendingSignIn | None:
        """Return the sign-in of a cookie; None unless it is whole and of that state."""
        if value is None:
            return None
        try:
            padded = value + "=" * (-len(value) % 4)
            text = base64.b64decode(padded, altchars="-_", validate=True)
            pending = msgspec.json.decode(text, type=PendingSignIn)
        except (binascii.Error, msgspec.MsgspecError, ValueError):
            return None
        return pending if state and pending.state == state else None


def console_path(wanted: str | None) -> str:
    """Return the page of the console to open next; its first for other addresses."""
    if (
        wanted is None
        or len(wanted) > _MAX_NEXT_LENGTH
        or _NEXT.fullmatch(wanted) is None
        or _PARENT.search(wanted)
    ):
        return CONSOLE_PATH
    return wanted
