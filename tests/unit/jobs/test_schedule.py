"""Slots of a cron in a time zone, also where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from homeroom.instant import from_datetime, to_rfc3339
from homeroom.jobs.schedule import due_slots, iter_slots, latest_slot, next_slot_time

BERLIN = "Europe/Berlin"


def at(text: str) -> int:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


def names(cron: str, after: str, until: str, zone: str = BERLIN) -> list[str]:
    return [slot.name for slot in due_slots(cron, zone, at(after), at(until), 1_000)]


def instants(cron: str, after: str, until: str, zone: str = BERLIN) -> list[str]:
    return [to_rfc3339(slot.at)[:16] for slot in due_slots(cron, zone, at(after), at(until), 1_000)]


def test_a_slot_is_named_by_its_local_time() -> None:
    assert names("0 9 * * 1", "2026-11-22T00:00", "2026-12-01T00:00") == [
        "2026-11-23T09:00[Europe/Berlin]",
        "2026-11-30T09:00[Europe/Berlin]",
    ]


def test_an_interval_is_named_by_the_utc_instant() -> None:
    assert names("*/30 * * * *", "2026-11-22T08:00", "2026-11-22T09:00") == [
        "2026-11-22T08:30Z",
        "2026-11-22T09:00Z",
    ]


def test_monday_is_the_first_day_and_not_tuesday() -> None:
    (slot,) = due_slots("0 9 * * 1", "UTC", at("2026-11-22T00:00"), at("2026-11-24T23:00"), 10)
    assert to_rfc3339(slot.at) == "2026-11-23T09:00:00.000000Z"


def test_a_fixed_time_in_the_repeated_hour_fires_once() -> None:
    assert instants("30 2 * * *", "2026-10-24T12:00", "2026-10-26T12:00") == [
        "2026-10-25T00:30",
        "2026-10-26T01:30",
    ]


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_a_start_in_the_repeated_hour_does_not_fire_the_slot_again(minute: int) -> None:
    after = f"2026-10-25T01:{minute:02}"
    assert instants("30 2 * * *", after, "2026-10-26T12:00") == ["2026-10-26T01:30"]


def test_an_interval_runs_through_the_repeated_hour_by_elapsed_time() -> None:
    found = instants("0 * * * *", "2026-10-24T23:30", "2026-10-25T03:00")
    assert found == [
        "2026-10-25T00:00",
        "2026-10-25T01:00",
        "2026-10-25T02:00",
        "2026-10-25T03:00",
    ]
    assert len(set(names("0 * * * *", "2026-10-24T23:30", "2026-10-25T03:00"))) == 4


def test_a_fixed_time_in_the_skipped_hour_fires_at_its_end() -> None:
    assert instants("30 2 * * *", "2026-03-28T12:00", "2026-03-30T12:00") == [
        "2026-03-29T01:00",
        "2026-03-30T00:30",
    ]


def test_two_fixed_times_that_fall_together_after_the_skipped_hour_are_one_slot() -> None:
    found = names("0,30 2,3 * * *", "2026-03-28T12:00", "2026-03-29T12:00")
    assert found == ["2026-03-29T03:00[Europe/Berlin]", "2026-03-29T03:30[Europe/Berlin]"]


def test_slots_do_not_depend_on_the_intervals_of_the_checks() -> None:
    start, end = at("2026-10-20T00:00"), at("2026-11-01T00:00")
    for cron in ("30 2 * * *", "*/20 * * * *", "15 1,2,3 * * 0", "0 */2 * * *"):
        whole = due_slots(cron, BERLIN, start, end, 10_000)
        step = 7 * 60 * 1_000_000
        pieces = [
            slot
            for moment in range(start, end, step)
            for slot in due_slots(cron, BERLIN, moment, min(moment + step, end), 10_000)
        ]
        assert pieces == whole


def test_a_cron_that_never_matches_is_refused() -> None:
    assert next_slot_time("0 0 29 2 1", "UTC", at("2026-01-01T00:00")) is not None
    with pytest.raises(ValueError, match="cannot be read"):
        next_slot_time("0 0 31 2 *", "UTC", at("2026-01-01T00:00"))


@pytest.mark.parametrize(
    ("cron", "zone", "error"),
    [
        ("0 9 * *", "UTC", "five fields"),
        ("0 0 9 * * *", "UTC", "five fields"),
        ("61 * * * *", "UTC", "cannot be read"),
        ("0 9 * * *", "Mars/Olympus", "no IANA time zone"),
        ("0 9 * * *", "../etc/passwd", "no IANA time zone"),
    ],
)
def test_an_invalid_schedule_is_refused_with_its_fault(cron: str, zone: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        next(iter_slots(cron, zone, at("2026-01-01T00:00")))


def test_slots_are_whole_minutes_after_the_given_instant() -> None:
    after = at("2026-11-22T08:29") + round(timedelta(seconds=59.5).total_seconds() * 1e6)
    assert due_slots("30 8 * * *", "UTC", after, after + 60_000_000, 5)[0].at == at(
        "2026-11-22T08:30"
    )


@pytest.mark.parametrize(
    ("cron", "until", "expected"),
    [
        ("0 9 * * 1", "2026-11-23T07:59", "2026-11-16T09:00[Europe/Berlin]"),
        ("0 9 * * 1", "2026-11-23T08:00", "2026-11-23T09:00[Europe/Berlin]"),
        ("*/15 * * * *", "2026-11-23T08:01", "2026-11-23T08:00Z"),
        ("0 0 29 2 *", "2026-11-23T08:00", "2024-02-29T00:00[Europe/Berlin]"),
    ],
)
def test_the_latest_slot_is_found_however_rare(cron: str, until: str, expected: str) -> None:
    found = latest_slot(cron, BERLIN, at(until))
    assert found is not None
    assert found.name == expected
