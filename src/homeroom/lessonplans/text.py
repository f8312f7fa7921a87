"""Text that every document format can hold (pure)."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return text with a space for each character that XML or a terminal cannot take."""
    return _UNPRINTABLE.sub(" ", text)


def one_line(text: str) -> str:
    """Return text in one line, every run of white space one space."""
    return " ".join(printable(text).split())
