"""The sandbox's own clock."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the machine's time in UTC.

    A partner doesn't share Homeroom's clock, so a test that moves that one must not move this.
    """
    return datetime.now(UTC)  # noqa: TID251 - see above


def rfc3339(moment: datetime) -> str:
    """Write an instant as RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
