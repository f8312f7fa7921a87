"""Holidays from an iCalendar file, such as ministries and schools publish (pure)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from icalendar import Calendar

from homeroom.errors import BadRequest


def read_holidays(content: bytes) -> list[dict[str, str]]:
    """Return the days of an iCalendar file as ``breaks`` of a curriculum, in order.

    Events of whole days count, each with its summary; events with a time of day do not. Raises
    ``BadRequest`` for a file that is no calendar or has an event that repeats.
    """
    try:
        events: list[Any] = Calendar.from_ical(content).walk("VEVENT")
    except (ValueError, IndexError) as error:
        raise BadRequest(f"The file is no calendar: {error}.") from error
    breaks: list[dict[str, str]] = []
    for event in events:
        if "RRULE" in event:
            raise BadRequest(
                f"The event {event.get('summary', '')!s:.100} repeats: give each of its days."
            )
        first: Any = event["dtstart"].dt if "dtstart" in event else None
        if type(first) is not date:
            continue
        after_last = event["dtend"].dt if "dtend" in event else first + timedelta(days=1)
        last = max(first, after_last - timedelta(days=1))  # the end of an event is exclusive
        days = {"from": first.isoformat(), "until": last.isoformat()}
        title = str(event.get("summary", "")).strip()
        breaks.append({"title": title[:200], **days} if title else days)
    return sorted(breaks, key=lambda each: (each["from"], each["until"]))
