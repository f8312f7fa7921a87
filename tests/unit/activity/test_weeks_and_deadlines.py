"""Weeks of a programme's own zone, their deadlines, and the hours at which messages end."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.activity.obligation_rules import (
    Week,
    closed_weeks,
    deadline_at,
    local_to_instant,
    opens_at,
    parse_week,
    reminder_expires_at,
    report_expires_at,
    week_at,
    week_of,
)

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
HOUR = 3_600_000_000


def utc(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return round(moment.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("day", "key"),
    [
        (date(2024, 12, 30), "2025-W01"),
        (date(2027, 1, 3), "2026-W53"),
        (date(2026, 11, 23), "2026-W48"),
    ],
)
def test_a_week_is_an_iso_week_also_at_the_turn_of_the_year(day: date, key: str) -> None:
    assert week_of(day).key == key
    assert parse_week(key) == week_of(day)


@pytest.mark.parametrize("text", ["2026-W54", "2025-W53", "2026-W00", "2026-48", "W48", ""])
def test_what_is_no_week_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="week"):
        parse_week(text)


def test_a_week_in_which_clocks_change_ends_at_midnight_all_the_same() -> None:
    autumn, spring = Week(2026, 43), Week(2026, 13)
    assert deadline_at(autumn, BERLIN) == utc("2026-10-25T23:00")
    assert deadline_at(autumn, BERLIN) - opens_at(autumn, BERLIN) == 169 * HOUR
    assert deadline_at(spring, BERLIN) - opens_at(spring, BERLIN) == 167 * HOUR
    assert deadline_at(autumn, BERLIN, grace_minutes=90) == utc("2026-10-26T00:30")


def test_an_hour_that_is_skipped_is_the_first_instant_after_it() -> None:
    beirut = ZoneInfo("Asia/Beirut")  # 2021-03-28, a Sunday: midnight does not exist
    assert local_to_instant(date(2021, 3, 28), time(), beirut) == utc("2021-03-27T22:00")


def test_messages_end_at_days_of_the_calendar_and_not_after_so_many_hours() -> None:
    week = Week(2026, 43)  # Berlin's clocks change on its Sunday
    assert reminder_expires_at(week, BERLIN) == utc("2026-10-22T06:00")
    assert report_expires_at(week, BERLIN) == utc("2026-11-03T09:00")
    three_days = deadline_at(week, BERLIN) - reminder_expires_at(week, BERLIN)
    assert three_days == (3 * 24 + 16 + 1) * HOUR


def test_a_week_is_closed_once_its_deadline_and_grace_have_passed() -> None:
    midnight = deadline_at(Week(2026, 47), NEW_YORK)

    def closed(now: int, grace: int = 0) -> list[str]:
        return [week.key for week in closed_weeks(now, NEW_YORK, grace, 2)]

    assert closed(midnight - 1) == ["2026-W45", "2026-W46"]
    assert closed(midnight) == ["2026-W46", "2026-W47"]
    assert closed(midnight, grace=1) == ["2026-W45", "2026-W46"]


@given(
    st.integers(946_684_800, 2_208_988_800),  # 2000 to 2040, in seconds
    st.sampled_from(["Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Africa/Cairo"]),
)
def test_every_instant_lies_in_the_week_that_opens_before_it_and_ends_after_it(
    second: int, name: str
) -> None:
    at = second * 1_000_000
    zone = ZoneInfo(name)
    week = week_at(at, zone)
    assert opens_at(week, zone) <= at < deadline_at(week, zone)
    assert week.shifted(1).shifted(-1) == week
    assert week.shifted(1).monday - week.monday == timedelta(weeks=1)
