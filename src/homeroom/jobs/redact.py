"""What operators may see of a job: secrets hidden, e-mail addresses masked (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "[hidden]"
_SECRET = re.compile(r"token|secret|password|authorization|api_?-?key", re.IGNORECASE)
_SECRET_IN_TEXT = re.compile(
    r"(?i)(\b(?:bearer|basic)\s+|(?:token|secret|password|api_?-?key)[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s\"',;&]+"
)
# Looks at a word once, and not again from each of its letters: a Node service may send long ones.
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])\.*([A-Za-z0-9_%+\-])[A-Za-z0-9._%+\-]*+"
    r"@([A-Za-z0-9.\-]+\.[A-Za-z]{2,})"
)


def redact_text(text: str) -> str:
    """Mask e-mail addresses, and what looks like a credential, in free text."""
    hidden = _SECRET_IN_TEXT.sub(lambda hit: f"{hit[1]}{HIDDEN}", text)
    return _EMAIL.sub(lambda hit: f"{hit[1]}***@{hit[2]}", hidden)


def redact(value: Any) -> Any:
    """Return JSON with the values of secret keys hidden and e-mail addresses masked."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if _SECRET.search(str(key)) and item is not None else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, Sequence):
        return [redact(item) for item in value]
    return value
