"""The wording of values that a model of pydantic rejects (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDINGS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "datetime_from_date_parsing": "must be an instant, such as 2026-11-22T09:00:00Z",
}
"""The sentence in place of pydantic's own, by its type of a fault."""


def validation_message(fault: Mapping[str, Any]) -> str:
    """Return what a value must be, to stand after its name."""
    known = _WORDINGS.get(str(fault["type"]))
    if known is not None:
        return known.format_map(fault.get("ctx") or {})
    message = str(fault["msg"]).removeprefix("Value error, ")
    return message.replace("Input should", "must", 1)
