"""Words for settings that cannot be read, with values that are not secret."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from homeroom.redaction import hide_secrets

_FAULT_TEXTS = {
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "float_parsing": "write a number",
    "bool_parsing": "write true or false",
    "greater_than_equal": "write {ge} or more",
    "greater_than": "write more than {gt}",
    "less_than_equal": "write {le} or less",
    "less_than": "write less than {lt}",
    "literal_error": "write {expected}",
    "string_pattern_mismatch": "write text of the form {pattern}",
}
"""What to write instead, by pydantic's type of a fault."""
_SECRET_ENDINGS = ("url", "key", "secret", "token", "password", "login", "database")
_MAX_SHOWN = 80


def describe_fault(fault: ErrorDetails, settings: Iterable[tuple[str, str, FieldInfo]]) -> str:
    """Return the name of an invalid setting, its value and what to write.

    ``settings`` are the names in the environment and of the fields, with the fields.
    """
    place = str(fault["loc"][0]) if fault["loc"] else ""
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in _FAULT_TEXTS:
        message = _FAULT_TEXTS[fault["type"]].format(**fault.get("ctx") or {})
    for name, field, info in settings:
        if place in {name, field}:  # pydantic names a field with an alias by that
            value = fault["input"]
            if isinstance(value, str | int | float) and not _may_hold_secret(field, info):
                message += f", not {hide_secrets(str(value)[:_MAX_SHOWN])!r}"
            return f"{name}: {message}"
    return f"{place}: {message}" if place else message


def _may_hold_secret(field: str, info: FieldInfo) -> bool:
    """Return whether a value may be a secret or, as URLs do, contain one."""
    return field.endswith(_SECRET_ENDINGS) or "Secret" in str(info.annotation)
