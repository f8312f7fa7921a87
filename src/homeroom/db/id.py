"""Ids: UUIDv7 for what is made here; 1 to 128 printable characters for what comes from outside."""

from __future__ import annotations

import re

import uuid_utils

_OUTSIDE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
_UNSAFE_PART = re.compile(r"[.:%/\s]")


def new_id() -> str:
    """Return a new UUIDv7 as text; later ones sort after earlier ones."""
    return str(uuid_utils.uuid7())


def is_outside_id(text: str) -> bool:
    """Say whether text may be an id from outside: 1-128 characters, none of them control."""
    return _OUTSIDE.fullmatch(text) is not None


def natural_id(*parts: str) -> str:
    """Join parts by ``.`` to a job's natural id; what a part may not hold is percent-encoded.

    BullMQ in Node refuses colons in ids, and the dot must stay the separator.
    """
    return ".".join(_UNSAFE_PART.sub(lambda hit: f"%{ord(hit[0]):02X}", part) for part in parts)
