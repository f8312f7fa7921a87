"""Validity of completions: durations on the calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.catalogue import course
from homeroom.instant import from_datetime, to_rfc3339


def end(duration: str, *start: int) -> str:
    moment = datetime(*start, tzinfo=UTC)  # type: ignore[misc,arg-type]  # year, month, day, ...
    return to_rfc3339(course.parse_validity(duration).end(from_datetime(moment)))


@pytest.mark.parametrize(
    ("duration", "start", "ends"),
    [
        ("P1Y", (2026, 11, 22, 9, 30), "2027-11-22T09:30:00.000000Z"),
        ("P1Y", (2024, 2, 29), "2025-02-28T00:00:00.000000Z"),
        ("P1M", (2026, 1, 31), "2026-02-28T00:00:00.000000Z"),
        ("P18M", (2026, 11, 30), "2028-05-30T00:00:00.000000Z"),
        ("P90D", (2026, 11, 22), "2027-02-20T00:00:00.000000Z"),
        ("P2W", (2026, 12, 25), "2027-01-08T00:00:00.000000Z"),
        ("PT36H", (2026, 11, 22), "2026-11-23T12:00:00.000000Z"),
        ("P1Y2M3DT4H5M6S", (2026, 1, 1), "2027-03-04T04:05:06.000000Z"),
    ],
)
def test_a_duration_is_counted_on_the_calendar(
    duration: str, start: tuple[int, ...], ends: str
) -> None:
    assert end(duration, *start) == ends


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P0D",
        "1Y",
        "P1",
        "P-1Y",
        "P1.5Y",
        "P1YT",
        "p1y",
        "P101Y",
        "P99999D",
        "P\u0661Y",
    ],
)
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        course.parse_validity(text)


@given(
    st.integers(0, 90 * 365 * 86_400).map(lambda seconds: seconds * 1_000_000),
    st.integers(0, 40),
    st.integers(0, 400),
    st.integers(0, 5 * 86_400),
)
def test_an_ended_validity_did_not_start_after_the_latest_start(
    began: int, months: int, days: int, later: int
) -> None:
    held = course.parse_validity(f"P{months}M{days}DT1S")
    now = held.end(began) + later * 1_000_000
    assert began <= held.latest_start(now)
