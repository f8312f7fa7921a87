"""Ids: UUIDv7 for new records, UUIDv5 for derived ones, external ids."""

from __future__ import annotations

import re
import uuid

import uuid_utils

from homeroom.plain_text import is_external_id as is_external_id

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "homeroom.org")
_UNSAFE_PART = re.compile(r"[.:%/\s]")


def new_id() -> str:
    """Return a new UUIDv7 as text; later ones sort after earlier ones."""
    return str(uuid_utils.uuid7())


def derived_id(*parts: str) -> str:
    """Return the one id that follows from its parts, a UUIDv5 (RFC 9562) as text.

    Never change how the parts are joined: receivers know messages by these ids.
    """
    return str(uuid.uuid5(_NAMESPACE, natural_id(*parts)))


def natural_id(*parts: str) -> str:
    """Join parts with ``.`` to a natural id; percent-encode reserved characters.

    BullMQ in Node refuses colons in ids, and the dot must remain the separator.
    """
    return ".".join(_UNSAFE_PART.sub(lambda hit: f"%{ord(hit[0]):02X}", part) for part in parts)
