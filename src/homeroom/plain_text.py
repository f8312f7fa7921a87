"""Rules of ids, names and links that come from outside.

All parsers share them, so that an id that one route accepts can be addressed on every other.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import urlsplit

ID_RULE = (
    "an id has 1 to 128 characters that can be seen, no control characters or text direction"
    " overrides, and is not . or .."
)
LINE_RULE = "one line of printable text that is not blank, without text direction overrides"

_FORBIDDEN = (
    r"\x00-\x1f\x7f-\x9f"  # control characters
    r"\u2028\u2029"  # line and paragraph separator
    r"\u202a-\u202e\u2066-\u2069"  # change the direction in which a whole line is shown
    r"\ud800-\udfff"  # halves of surrogate pairs
)
_ID = re.compile(rf"[^{_FORBIDDEN}]{{1,128}}")
_NOT_IN_A_LINE = re.compile(rf"[{_FORBIDDEN}]")
_PATH_STEPS = frozenset({".", ".."})
"""Clients and proxies resolve these in a URL, so no request would reach the record."""
_INVISIBLE_CATEGORIES = frozenset({"Cf", "Zs", "Cn", "Mn"})
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that Unicode shows as nothing."""


def is_external_id(text: str) -> bool:
    """Return whether a caller's text may be an id; see ``ID_RULE``."""
    return _ID.fullmatch(text) is not None and text not in _PATH_STEPS and is_visible(text)


def is_line(text: str) -> bool:
    """Return whether text may be a name or a title; see ``LINE_RULE``."""
    return _NOT_IN_A_LINE.search(text) is None and is_visible(text)


def is_visible(text: str) -> bool:
    """Return whether at least one character of a text can be seen."""
    if text.isascii():
        return bool(text.strip())
    return any(
        unicodedata.category(character) not in _INVISIBLE_CATEGORIES
        and character not in _BLANK_LETTERS
        for character in text
    )


def check_link(text: str) -> str:
    """Return the URL of a page that people open; raise ValueError for any other text.

    A user and a password in it would be shown to every reader, in mails too.
    """
    message = (
        "must be a whole URL without user and password, such as https://learn.example.org/logs"
    )
    if not text.isprintable() or " " in text:
        raise ValueError(message)
    parts = urlsplit(text)
    if parts.scheme not in {"https", "http"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError(message)
    return text
