"""A person of the built-in directory, and the checks of their data (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LOCAL_PART = r"[^\s@<>()\[\]\\,;:\"\x00-\x1f\x7f-\x9f]{1,64}"
_DOMAIN_LABEL = r"(?!-)[\w-]{1,63}(?<!-)"
_EMAIL_PATTERN = re.compile(rf"{_LOCAL_PART}@(?:{_DOMAIN_LABEL}\.)+{_DOMAIN_LABEL}")
_LOCALE_PATTERN = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
MAX_EMAIL_LENGTH = 254


@dataclass(frozen=True, slots=True)
class Person:
    """A person in the directory. None is not known."""

    id: str
    email: str | None
    given_name: str
    family_name: str
    locale: str | None = None
    time_zone: str | None = None
    manager_id: str | None = None
    roles: tuple[str, ...] = ()
    """Roles in the directory; the roles of a token decide what a caller may do."""
    group_ids: tuple[str, ...] = ()
    """Groups such as wards or departments, by which reports select."""
    suspended_at: int | None = None
    """Since when no message is sent to the person; None: not suspended."""


def check_email(text: str) -> str:
    """Return an e-mail address; raise ValueError for text that is none.

    One ``@``, a local part without quotes or brackets, a domain with a dot: the part of RFC 5321
    that is in use. Only a delivery can show whether the mailbox exists.
    """
    if len(text) > MAX_EMAIL_LENGTH or _EMAIL_PATTERN.fullmatch(text) is None or ".." in text:
        raise ValueError("must be an e-mail address, such as ada@example.org")
    local = text.partition("@")[0]
    if local.startswith(".") or local.endswith("."):
        raise ValueError("must be an e-mail address, such as ada@example.org")
    return text


def check_locale(text: str) -> str:
    """Return a language tag; raise ValueError for any other text."""
    if _LOCALE_PATTERN.fullmatch(text) is None:
        raise ValueError("must be a language tag, such as en or pt-BR")
    return text


def mask_email(email: str) -> str:
    """Return an address with all but its first letter and its domain hidden."""
    local, _, domain = email.partition("@")
    return f"{local[:1]}***@{domain}"
