"""Convert instants, which are integer microseconds since 1970 UTC (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MILLISECOND = 1_000
SECOND = 1_000_000
DAY = 86_400 * SECOND


def to_microseconds(span: timedelta) -> int:
    """Return a span of time in whole microseconds."""
    return round(span.total_seconds() * SECOND)


def to_datetime(instant: int) -> datetime:
    """Return an instant as an aware datetime in UTC."""
    return datetime.fromtimestamp(instant // SECOND, UTC).replace(microsecond=instant % SECOND)


def from_datetime(moment: datetime) -> int:
    """Return an aware datetime as an instant; raise ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be placed; add Z or an offset")
    whole = moment.replace(microsecond=0)
    return round(whole.timestamp()) * SECOND + moment.microsecond


def to_rfc3339(instant: int) -> str:
    """Return an instant as RFC 3339 text in UTC, to the microsecond: always one form."""
    return to_datetime(instant).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
