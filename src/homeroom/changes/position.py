"""A position in the feed of changes, and the cursor that carries it (pure)."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import msgspec

_MAX_NUMBER = 2**63


class Position(NamedTuple):
    """The place of a change: that of its transaction, then its own within it."""

    xid: int
    """The number of the writing transaction on PostgreSQL; 0 on SQLite, which has one writer."""
    seq: int


FIRST = Position(0, 0)
"""The position before all changes."""


def encode_cursor(epoch: str, position: Position) -> str:
    """Return the text of a cursor; clients store it unread."""
    return base64.urlsafe_b64encode(msgspec.json.encode([epoch, *position])).decode()


def decode_cursor(cursor: str) -> tuple[str, Position]:
    """Return the epoch and the position of a cursor; raise ValueError."""
    try:
        epoch, xid, seq = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor.encode()), type=tuple[str, int, int]
        )
    except (binascii.Error, msgspec.MsgspecError) as error:
        raise ValueError("not a cursor") from error
    if not (0 <= xid < _MAX_NUMBER and 0 <= seq < _MAX_NUMBER):
        raise ValueError("not a cursor")
    return epoch, Position(xid, seq)
