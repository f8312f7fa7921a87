"""Gather every fault of a document with its place, so that an author sees all of them at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from homeroom.errors import Invalid

SCALE = 10_000
"""Scores, thresholds and weights are integers in units of 1e-4."""
MAX_SHOWN = 50
"""A problem document names so many faults at most; it also says how many there are."""

Place = tuple[str | int, ...]
"""Where in a document: keys and list positions from the root."""

_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def pointer(at: Place) -> str:
    """Return a place as a JSON pointer in a URI fragment (RFC 6901), its steps kept short.

    A key may hold half of a surrogate pair, which no answer can carry; it is shown as ``?``.
    """
    steps = (str(part)[:100].replace("~", "~0").replace("/", "~1") for part in at)
    return "#" + "".join(f"/{step}" for step in steps).encode(errors="replace").decode()


class Faults:
    """The faults found so far, and the reading of values that may be faulty.

    Every reader returns a usable stand-in where the value is wrong, so that reading goes on.
    """

    def __init__(self) -> None:
        """Start without faults."""
        self.found: list[tuple[Place, str]] = []

    def add(self, at: Place, message: str) -> None:
        """Note a fault."""
        self.found.append((at, message))

    def check(self, what: str) -> None:
        """Raise ``Invalid`` with all faults, if there are any."""
        if not self.found:
            return
        count = len(self.found)
        faults = "1 fault" if count == 1 else f"{count} faults"
        first_at, first = self.found[0]
        raise Invalid(
            f"{what} has {faults}; the first: {pointer(first_at)}: {first}.",
            details={
                "errors": [
                    {"pointer": pointer(at), "detail": message, "code": "invalid"}
                    for at, message in self.found[:MAX_SHOWN]
                ],
                "errorCount": count,
            },
        )

    def mapping(self, value: Any, at: Place, known: Collection[str]) -> Mapping[str, Any]:
        """Read an object that has no other keys than the known ones."""
        if not isinstance(value, Mapping):
            self.add(at, "must be an object")
            return {}
        for key in value:
            if key not in known:
                self.add((*at, key), f"is not known here; known are {', '.join(sorted(known))}")
        return value

    def items(self, value: Any, at: Place) -> Sequence[Any]:
        """Read a list."""
        if isinstance(value, list):
            return value
        self.add(at, "must be a list")
        return ()

    def id(self, value: Any, at: Place) -> str:
        """Read an id from outside: 1 to 128 characters, none of them a control character."""
        if isinstance(value, str) and _ID.fullmatch(value):
            return value
        self.add(at, "must be an id: text of 1 to 128 characters without control characters")
        return ""

    def text(self, value: Any, at: Place, longest: int) -> str:
        """Read text that is not blank and not too long."""
        if not isinstance(value, str) or not value.strip():
            self.add(at, "must be text that is not blank")
        elif len(value) > longest:
            self.add(at, f"must have at most {longest} characters")
        elif _UNPRINTABLE.search(value):
            self.add(at, "must not hold control characters or half of a surrogate pair")
        else:
            return value
        return ""

    def flag(self, value: Any, at: Place) -> bool:
        """Read true or false."""
        if not isinstance(value, bool):
            self.add(at, "must be true or false")
        return value is True

    def whole(self, value: Any, at: Place, least: int, most: int) -> int:
        """Read a whole number within bounds; 3.0 is whole too."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.add(at, f"must be a whole number from {least} to {most}")
        return least

    def scaled(self, value: Any, at: Place, most: int) -> int:
        """Read a number from 0 to ``most`` with at most 4 decimals, in units of 1e-4."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= most:  # NaN and the infinities fail here too
            self.add(at, f"must be a number from 0 to {most}")
            return 0
        units = Decimal(repr(value)) * SCALE
        if units != units.to_integral_value():
            self.add(at, "must have at most 4 decimals")
            return 0
        return int(units)

    def one_of(self, value: Any, at: Place, allowed: Collection[str]) -> str | None:
        """Read one of a few words; None stands in for any other."""
        if isinstance(value, str) and value in allowed:
            return str(value)
        self.add(at, f"must be one of {', '.join(allowed)}")
        return None


def unscaled(units: int) -> int | float:
    """Return units of 1e-4 as the number that was read."""
    return units // SCALE if units % SCALE == 0 else units / SCALE
