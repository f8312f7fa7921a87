"""Names of time zones that come from outside."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

_NO_PLACES = frozenset({"Factory", "localtime"})
"""Files beside the zones: ``localtime`` is whatever this machine is set to."""


def check_time_zone(text: str) -> str:
    """Return the name of an IANA time zone; raise ValueError for any other text."""
    if text not in _time_zone_names():
        raise ValueError("must be an IANA time zone, such as Europe/Berlin")
    return text


@cache
def _time_zone_names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_PLACES
