"""Tuesday's report counts the logs of a week and compares it with the week before."""

from __future__ import annotations

from typing import Any

from homeroom.activity.obligation_rules import Obligation, ObligationState, Programme, Week
from homeroom.activity.recipient_selection import build_report_params

WEEK, BEFORE = Week(2026, 48), Week(2026, 47)
NOW, DEADLINE = 2_000, 1_000
PROGRAMME = Programme("lab", "The lab", "Europe/Berlin")


def row(week: Week, offering: str, facilitator: str, state: str) -> Obligation:
    return Obligation(
        offering, offering, week.key, facilitator, "lab", 0, DEADLINE, ObligationState(state)
    )


def report(*rows: Obligation, down: tuple[str, ...] = ()) -> dict[str, Any]:
    down_weeks = dict.fromkeys(down, DEADLINE)
    return build_report_params(PROGRAMME, WEEK, rows, [], str.title, NOW, down_weeks)


def test_logs_are_counted_without_exempt_ones() -> None:
    found = report(
        row(WEEK, "a", "ada", "submitted"),
        row(WEEK, "b", "ada", "late"),
        row(WEEK, "c", "ben", "open"),
        row(WEEK, "d", "chen", "missed"),
        row(WEEK, "e", "dora", "exempt"),
    )
    assert (found["handedIn"], found["expected"]) == (2, 4)
    assert [each["userId"] for each in found["missing"]] == ["ben", "chen"]
    assert found["previous"] is None


def test_the_report_says_who_misses_a_log_in_one_of_the_weeks_only() -> None:
    rows = (
        row(BEFORE, "a", "ada", "submitted"),
        row(BEFORE, "b", "ben", "missed"),
        row(BEFORE, "c", "chen", "missed"),
        row(WEEK, "a", "ada", "missed"),
        row(WEEK, "b", "ben", "missed"),
        row(WEEK, "c", "chen", "late"),
    )
    assert report(*rows)["previous"] == {
        "week": "2026-W47",
        "expected": 3,
        "handedIn": 1,
        "newlyMissing": [{"userId": "ada", "name": "Ada"}],
        "noLongerMissing": [{"userId": "chen", "name": "Chen"}],
    }
    assert report(*rows, down=(BEFORE.key,))["previous"] is None
    assert report(*rows, down=(WEEK.key,))["previous"] is None
