"""Periods of reports: dates or times, as a filter of completions."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from homeroom.completion.store import CompletionFilter
from homeroom.instant import from_datetime


def parse_period(first: str | None, last: str | None) -> CompletionFilter:
    """Parse a period of dates or RFC 3339 times; raise ValueError otherwise."""
    return CompletionFilter(
        completed_from=None if first is None else _parse_instant("from", first, timedelta()),
        completed_before=None if last is None else _parse_instant("to", last, timedelta(days=1)),
    )


def _parse_instant(name: str, text: str, whole_day: timedelta) -> int:
    message = f"{name} must be a date, such as 2026-11-22, or an RFC 3339 time with a zone."
    try:
        if len(text) == len("2026-11-22"):
            return from_datetime(
                datetime.combine(date.fromisoformat(text), time(), UTC) + whole_day
            )
        # An unescaped plus sign arrives as a space.
        return from_datetime(datetime.fromisoformat(text[:11] + text[11:].replace(" ", "+")))
    except (ValueError, OverflowError) as error:
        raise ValueError(message) from error
