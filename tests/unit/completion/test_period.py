"""The period of the report."""

from __future__ import annotations

import pytest

from homeroom.completion.api import CompletionFilter
from homeroom.completion.period import parse_period
from homeroom.instant import to_rfc3339


def test_a_period_of_dates_includes_its_last_day() -> None:
    wanted = parse_period("2026-11-01", "2026-11-30")
    assert wanted.completed_from is not None
    assert wanted.completed_before is not None
    assert to_rfc3339(wanted.completed_from) == "2026-11-01T00:00:00.000000Z"
    assert to_rfc3339(wanted.completed_before) == "2026-12-01T00:00:00.000000Z"


def test_a_period_of_times_is_taken_to_the_instant() -> None:
    wanted = parse_period("2026-11-01T09:00:00+01:00", "2026-11-01T09:00:00 01:00")
    assert wanted.completed_from == wanted.completed_before
    assert wanted.completed_from is not None
    assert to_rfc3339(wanted.completed_from) == "2026-11-01T08:00:00.000000Z"
    assert parse_period(None, None) == CompletionFilter()


@pytest.mark.parametrize("wrong", ["yesterday", "2026-13-01", "2026-11-01T09:00:00", "9999-12-31"])
def test_what_is_no_day_or_has_no_zone_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="to must be a date"):
        parse_period(None, wrong)
