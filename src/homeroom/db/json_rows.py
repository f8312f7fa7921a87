"""Rows as one JSON text, which msgspec decodes faster than a driver makes rows of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def row_text(names: Sequence[str], array: str) -> str:
    """Return the SQL expression of one row: ``array`` makes a JSON text of columns.

    Columns named ``..._json`` come last and are JSON already; parsing them would take long.
    """
    json_names = [name for name in names if name.endswith("_json")]
    plain = ", ".join(names[: len(names) - len(json_names)])
    row = array.format(plain)
    if json_names:
        row = " || ',' || ".join([f"rtrim({row}, ']')", *json_names]) + " || ']'"
    return row


def decoder(of: Any) -> msgspec.json.Decoder[Any]:
    """Return what decodes a list of rows of a type; there are as many as the stores have."""
    known = _decoders.get(of)
    if known is None:
        known = _decoders[of] = msgspec.json.Decoder(list[of])
    return known
