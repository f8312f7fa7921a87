"""When a partner's breaker opens, is probed, closes and releases its backlog."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.instant import SECOND
from homeroom.partner.breaker import (
    FAILURES_TO_OPEN,
    Breaker,
    BreakerState,
    close,
    fail,
    failure_state,
    is_probe_due,
    may_release_probe,
    probe_interval,
    releasable,
)

HOUR = 3_600 * SECOND


def failed(times: int, state: BreakerState = "away", breaker: Breaker | None = None) -> Breaker:
    breaker = breaker or Breaker("credly")
    for second in range(times):
        breaker = fail(breaker, state, second * SECOND, "Credly answered 503", 503)
    return breaker


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        ("unreachable", None, "away"),
        ("timed out", None, "away"),
        ("lost", None, "away"),
        ("refused", 500, "away"),
        ("refused", 503, "away"),
        ("refused", 429, "away"),
        ("refused", 401, "refused"),
        ("refused", 403, "refused"),
        ("refused", 400, None),
        ("refused", 404, None),
        ("refused", 408, None),
        ("refused", 410, None),
        ("refused", 422, None),
        ("unreadable", None, None),
        ("misconfigured", None, None),
        ("away", None, None),
    ],
)
def test_only_failures_of_the_partner_itself_open_it(
    kind: str, status: int | None, state: str | None
) -> None:
    assert failure_state(kind, status) == state


@pytest.mark.parametrize("state", ["away", "refused"])
def test_five_failures_in_a_row_open_it_and_a_probe_follows_after_5_s(state: BreakerState) -> None:
    assert FAILURES_TO_OPEN == 5
    assert not failed(4, state).is_open
    opened = failed(5, state)
    assert (opened.state, opened.opened_at) == (state, 4 * SECOND)
    assert not is_probe_due(opened, 9 * SECOND - 1)
    assert is_probe_due(opened, 9 * SECOND)
    assert opened.last_error == "Credly answered 503"


def test_a_success_in_between_starts_the_count_again() -> None:
    assert not failed(4, breaker=close(failed(4), 0)).is_open


def test_a_later_failure_tells_away_from_refused_and_keeps_since_when() -> None:
    opened = fail(failed(5), "refused", HOUR, "Credly answered 401", 401)
    assert (opened.state, opened.opened_at, opened.last_status) == ("refused", 4 * SECOND, 401)


def test_probes_grow_apart_to_a_minute_and_to_five_after_an_hour() -> None:
    seconds = [probe_interval(probes, 0) / SECOND for probes in range(6)]
    assert seconds == [5, 10, 20, 40, 60, 60]
    assert probe_interval(10_000, HOUR - 1) == 60 * SECOND
    assert probe_interval(10_000, HOUR) == 300 * SECOND


def test_a_close_forgets_all_but_the_last_error() -> None:
    closed = close(failed(7), HOUR)
    assert closed == Breaker(
        "credly",
        closed_at=HOUR,
        released_at=HOUR,
        last_error="Credly answered 503",
        last_status=503,
    )


def test_one_job_in_5_s_is_released_to_probe() -> None:
    opened = failed(5)
    assert not may_release_probe(opened, 8 * SECOND)
    assert may_release_probe(opened, 9 * SECOND)
    released = Breaker(**{**_fields(opened), "released_at": 9 * SECOND})
    assert not may_release_probe(released, 13 * SECOND)
    assert may_release_probe(released, 14 * SECOND)


def _fields(breaker: Breaker) -> dict[str, object]:
    return {name: getattr(breaker, name) for name in breaker.__dataclass_fields__}


@given(
    rate=st.floats(0.01, 1_000),
    steps=st.lists(st.integers(0, 5 * SECOND), min_size=1, max_size=50),
)
def test_a_backlog_drains_at_its_rate_whatever_the_ticks(rate: float, steps: list[int]) -> None:
    breaker, now, released = close(failed(5), HOUR), HOUR, 0
    for step in steps:
        now += step
        count, released_at = releasable(breaker, rate, now)
        assert count >= 0
        if count:
            breaker = Breaker(**{**_fields(breaker), "released_at": released_at})
        released += count
        assert released <= rate * (now - HOUR) / SECOND + 1
    assert releasable(breaker, rate, now)[0] <= 1  # instants are whole microseconds


def test_a_backlog_that_waited_long_starts_with_two_seconds_worth() -> None:
    assert releasable(Breaker("hr"), 10, HOUR)[0] == 20
    assert releasable(Breaker("hr"), 0.1, HOUR)[0] == 1


def test_a_clock_that_was_ahead_delays_no_probe_and_no_backlog() -> None:
    ahead, now = 1_000 * HOUR, 100 * SECOND
    away = fail(failed(FAILURES_TO_OPEN - 1), "away", ahead, "Credly answered 503", 503)
    away = replace(away, released_at=ahead)
    assert is_probe_due(away, now)
    assert may_release_probe(away, now)
    assert releasable(close(away, ahead), 10.0, now) == (20, now)
