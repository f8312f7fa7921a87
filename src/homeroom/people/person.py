"""A person of the built-in directory, and what their data may look like (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import available_timezones

_LOCAL = r"[^\s@<>()\[\]\\,;:\"\x00-\x1f\x7f-\x9f]{1,64}"
_LABEL = r"(?!-)[\w-]{1,63}(?<!-)"
_EMAIL = re.compile(rf"{_LOCAL}@(?:{_LABEL}\.)+{_LABEL}")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
MAX_EMAIL = 254


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody the directory knows. What is None is not known."""

    id: str
    email: str | None
    given_name: str
    family_name: str
    locale: str | None = None
    time_zone: str | None = None
    manager_id: str | None = None
    roles: tuple[str, ...] = ()
    """Words of the directory; what a token may do is decided by the token alone."""


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check_email(text: str) -> str:
    """Return an e-mail address that mail could be sent to; raise ValueError for any other text.

    One ``@``, a local part without quotes or brackets, a domain with a dot (RFC 5321, the part of
    it that people use). Whether somebody reads it only a delivery can tell.
    """
    if len(text) > MAX_EMAIL or _EMAIL.fullmatch(text) is None or ".." in text:
        raise ValueError("must be an e-mail address, such as ada@example.org")
    local = text.partition("@")[0]
    if local.startswith(".") or local.endswith("."):
        raise ValueError("must be an e-mail address, such as ada@example.org")
    return text


def check_locale(text: str) -> str:
    """Return a language tag; raise ValueError for what is none."""
    if _LOCALE.fullmatch(text) is None:
        raise ValueError("must be a language tag, such as en or pt-BR")
    return text


def check_time_zone(text: str) -> str:
    """Return the name of an IANA time zone; raise ValueError for an unknown one."""
    if text not in _zones():
        raise ValueError("must be an IANA time zone, such as Europe/Berlin")
    return text


def masked(email: str) -> str:
    """Return an address of which only the first letter and the domain can be read."""
    local, _, domain = email.partition("@")
    return f"{local[:1]}***@{domain}"
