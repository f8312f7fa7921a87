"""Read how old something is from the command line (pure)."""

from __future__ import annotations

import re

from homeroom.errors import BadRequest

_FORM = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def read_age(text: str) -> int:
    """Return ``90s``, ``5m``, ``12h``, ``7d`` or ``2w`` in microseconds; raise ``BadRequest``."""
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise BadRequest(
            f"{text!r} is no age.", hint="Write it as 90s, 5m, 12h, 7d or 2w, such as 7d."
        )
    return int(found[1]) * _SECONDS[found[2]] * 1_000_000
