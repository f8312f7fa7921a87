"""What is owed for a week, who misses again and again, and when that is news."""

from __future__ import annotations

from datetime import date

import pytest

from homeroom.activity.obligation_rules import (
    ComplianceMark,
    Exemption,
    ObligationState,
    Offering,
    WarningChange,
    Week,
    decide_obligation,
    evaluate_compliance,
    mark_week,
    state_after_submission,
    state_at,
)

WEEK = Week(2026, 48)  # 2026-11-23 to 2026-11-29


def offering(starts: date = date(2026, 1, 1), ends: date = date(2026, 12, 31)) -> Offering:
    return Offering("art", "lab", "Art", "ada", starts, ends)


def day_off(first: int, last: int, **given: str) -> Exemption:
    return Exemption("x", date(2026, 11, first), date(2026, 11, last), "leave", **given)


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        (date(2026, 11, 26), ObligationState.OPEN),  # on Thursday
        (date(2026, 11, 27), ObligationState.EXEMPT),
        (date(2026, 11, 29), ObligationState.EXEMPT),
        (date(2026, 11, 30), None),
    ],
)
def test_who_joins_until_thursday_owes_the_week(
    starts: date, expected: ObligationState | None
) -> None:
    found = decide_obligation(offering(starts), WEEK)
    assert (None if found is None else found.state) is expected


def test_an_offering_that_ended_before_the_week_owes_nothing() -> None:
    assert decide_obligation(offering(ends=date(2026, 11, 22)), WEEK) is None
    last = decide_obligation(offering(ends=date(2026, 11, 23)), WEEK)
    assert last is not None
    assert last.state is ObligationState.OPEN


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([day_off(23, 27)], ObligationState.EXEMPT),
        ([day_off(23, 26)], ObligationState.OPEN),
        ([day_off(23, 24), day_off(25, 29)], ObligationState.EXEMPT),  # taken together
        ([day_off(23, 27, user_id="ben")], ObligationState.OPEN),
        ([day_off(23, 27, user_id="ada")], ObligationState.EXEMPT),
        ([day_off(23, 27, offering_id="sql")], ObligationState.OPEN),
        ([day_off(28, 29)], ObligationState.OPEN),  # a free weekend is none
    ],
)
def test_leave_and_holidays_exempt_if_they_cover_the_working_days(
    days: list[Exemption], expected: ObligationState
) -> None:
    found = decide_obligation(offering(), WEEK, days)
    assert found is not None
    assert found.state is expected


def test_only_the_days_on_which_the_offering_runs_have_to_be_covered() -> None:
    found = decide_obligation(offering(starts=date(2026, 11, 25)), WEEK, [day_off(25, 27)])
    assert found is not None
    assert found.state is ObligationState.EXEMPT
    weekend = decide_obligation(
        offering(date(2026, 11, 28), date(2026, 11, 29)),
        WEEK,
        [day_off(28, 29)],
        last_day_to_join=7,
    )
    assert weekend is not None
    assert weekend.state is ObligationState.EXEMPT


def test_a_programme_that_is_closed_before_the_week_has_ended_asks_for_nothing() -> None:
    for day, expected in ((29, ObligationState.EXEMPT), (30, ObligationState.OPEN)):
        closed = decide_obligation(offering(), WEEK, closed_on=date(2026, 11, day))
        assert closed is not None
        assert closed.state is expected


def test_the_deadline_is_exclusive() -> None:
    assert state_after_submission(100, 99) is ObligationState.SUBMITTED
    assert state_after_submission(100, 100) is ObligationState.LATE
    assert state_at(ObligationState.OPEN, 100, 99) is ObligationState.OPEN
    assert state_at(ObligationState.OPEN, 100, 100) is ObligationState.MISSED
    assert state_at(ObligationState.EXEMPT, 100, 200) is ObligationState.EXEMPT


def test_the_worst_of_several_offerings_marks_a_week() -> None:
    assert mark_week([ObligationState.SUBMITTED, ObligationState.MISSED]) is ComplianceMark.MISSED
    assert mark_week([ObligationState.SUBMITTED, ObligationState.LATE]) is ComplianceMark.LATE
    assert mark_week([ObligationState.EXEMPT, ObligationState.SUBMITTED]) is ComplianceMark.DONE
    assert mark_week([ObligationState.EXEMPT]) is ComplianceMark.EXEMPT
    assert mark_week([]) is None


M, D, L, E = ComplianceMark.MISSED, ComplianceMark.DONE, ComplianceMark.LATE, ComplianceMark.EXEMPT
KEYS = ("w1", "w2", "w3", "w4")


@pytest.mark.parametrize(
    ("marks", "warned", "change"),
    [
        ((D, D, D, M), None, WarningChange.NOTHING),
        ((D, M, D, M), None, WarningChange.WARN),
        ((D, M, D, M), ("w2", "w4"), WarningChange.CONTINUING),
        ((D, M, M, M), ("w2", "w4"), WarningChange.WARN),
        ((D, D, D, M), ("w2", "w4"), WarningChange.RESOLVED),
        ((E, M, E, M), None, WarningChange.WARN),
        ((None, None, None, M), None, WarningChange.NOTHING),
        ((L, L, L, L), None, WarningChange.NOTHING),
    ],
)
def test_two_of_four_closed_weeks_are_too_many_and_only_a_change_is_new(
    marks: tuple[ComplianceMark | None, ...], warned: tuple[str, ...] | None, change: WarningChange
) -> None:
    assert evaluate_compliance(list(zip(KEYS, marks, strict=True)), warned).warning_change is change


def test_late_counts_as_missed_where_the_programme_says_so() -> None:
    marks = list(zip(KEYS, (D, L, D, L), strict=True))
    assert evaluate_compliance(marks, None, late_is_missed=True).missed == ("w2", "w4")
