"""Faults of JSON documents, all at once and with their places (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from homeroom.errors import Invalid

MAX_FAULTS_SHOWN = 50
"""Limits the faults in a problem document, which also has their number."""
TAG_PREFIX = "tag:"
"""Starts the tag of a union's member: pydantic adds tags to the places of faults."""

UNKNOWN_TYPE = "unknown_type"
"""Error type of a union for an object whose ``type`` is not known."""

DocumentPath = tuple[str | int, ...]
"""A place in a document: keys and list positions from the root."""

_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be text",
    "string_unicode": "must not hold half of a surrogate pair",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "greater_than_equal": "must be a number of at least {ge:.0f}",
    "less_than_equal": "must be a number of at most {le:.0f}",
}


def json_pointer(at: DocumentPath) -> str:
    """Return a place as a JSON pointer in a URI fragment (RFC 6901).

    Keys are cut to 100 characters. Half of a surrogate pair becomes ``?``: no response can hold it.
    """
    steps = (str(part)[:100].replace("~", "~0").replace("/", "~1") for part in at)
    return "#" + "".join(f"/{step}" for step in steps).encode(errors="replace").decode()


def check_id(text: str) -> str:
    """Return an external id; raise ``ValueError`` if it is none."""
    if not _ID.fullmatch(text):
        raise ValueError("must be an id: text of 1 to 128 characters without control characters")
    return text


def check_text(text: str) -> str:
    """Return a text; raise ``ValueError`` if it is blank or has control characters."""
    if not text.strip():
        raise ValueError("must be text that is not blank")
    if _UNPRINTABLE.search(text):
        raise ValueError("must not hold control characters or half of a surrogate pair")
    return text


def invalid_document(what: str, error: ValidationError) -> Invalid:
    """Return the problem of a document that its model rejects, with all faults."""
    # Unknown keys first: a misspelt key explains the missing one.
    errors = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    return _invalid(what, [(_path_of(each), _message_of(each)) for each in errors])


def _path_of(error: Mapping[str, Any]) -> DocumentPath:
    path = tuple(part for part in error["loc"] if not str(part).startswith(TAG_PREFIX))
    is_type = error["type"] == UNKNOWN_TYPE and isinstance(error["input"], Mapping)
    return (*path, "type") if is_type else path


def _message_of(error: Mapping[str, Any]) -> str:
    known = _MESSAGES.get(error["type"])
    if known is not None:
        return known.format_map(error.get("ctx", {}))
    message = str(error["msg"]).removeprefix("Value error, ")
    return message.replace("Input should", "must", 1)


def _invalid(what: str, found: Sequence[tuple[DocumentPath, str]]) -> Invalid:
    count = len(found)
    faults = "1 fault" if count == 1 else f"{count} faults"
    first_at, first = found[0]
    return Invalid(
        f"{what} has {faults}; the first: {json_pointer(first_at)}: {first}.",
        details={
            "errors": [
                {"pointer": json_pointer(at), "detail": message, "code": "invalid"}
                for at, message in found[:MAX_FAULTS_SHOWN]
            ],
            "errorCount": count,
        },
    )


class DocumentFaults:
    """Readers of values of a document that collect faults.

    Every reader returns a usable stand-in for a wrong value, so that reading continues.
    """

    def __init__(self) -> None:
        """Start without faults."""
        self.found: list[tuple[DocumentPath, str]] = []

    def add(self, at: DocumentPath, message: str) -> None:
        """Add a fault."""
        self.found.append((at, message))

    def check(self, what: str) -> None:
        """Raise ``Invalid`` with all faults, if there are any."""
        if self.found:
            raise _invalid(what, self.found)

    def items(self, value: Any, at: DocumentPath) -> Sequence[Any]:
        """Read a list."""
        if isinstance(value, list):
            return value
        self.add(at, "must be a list")
        return ()

    def id(self, value: Any, at: DocumentPath) -> str:
        """Read an external id: 1 to 128 characters, none of them a control character."""
        if isinstance(value, str) and _ID.fullmatch(value):
            return value
        self.add(at, "must be an id: text of 1 to 128 characters without control characters")
        return ""

    def text(self, value: Any, at: DocumentPath, longest: int) -> str:
        """Read text that is not blank and has at most ``longest`` characters."""
        if not isinstance(value, str) or not value.strip():
            self.add(at, "must be text that is not blank")
        elif len(value) > longest:
            self.add(at, f"must have at most {longest} characters")
        elif _UNPRINTABLE.search(value):
            self.add(at, "must not hold control characters or half of a surrogate pair")
        else:
            return value
        return ""

    def whole(self, value: Any, at: DocumentPath, least: int, most: int) -> int:
        """Read a whole number within bounds; 3.0 is whole too."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.add(at, f"must be a whole number from {least} to {most}")
        return least

    def one_of(self, value: Any, at: DocumentPath, allowed: Iterable[str]) -> str | None:
        """Read one of some words; None stands in for any other."""
        allowed = list(allowed)
        if isinstance(value, str) and value in allowed:
            return str(value)
        self.add(at, f"must be one of {', '.join(allowed)}")
        return None
