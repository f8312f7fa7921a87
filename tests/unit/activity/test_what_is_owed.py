"""What is owed for a week, who misses again and again, and when that is news."""

from __future__ import annotations

from datetime import date

import pytest

from homeroom.activity.compliance import Mark, News, judge, mark
from homeroom.activity.owed import Exemption, Offering, State, at, owed, satisfied
from homeroom.activity.week import Week

WEEK = Week(2026, 48)  # 2026-11-23 to 2026-11-29


def offering(starts: date = date(2026, 1, 1), ends: date = date(2026, 12, 31)) -> Offering:
    return Offering("art", "lab", "Art", "ada", starts, ends)


def day_off(first: int, last: int, **given: str) -> Exemption:
    return Exemption("x", date(2026, 11, first), date(2026, 11, last), "leave", **given)


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        (date(2026, 11, 26), State.OPEN),  # on Thursday
        (date(2026, 11, 27), State.EXEMPT),
        (date(2026, 11, 29), State.EXEMPT),
        (date(2026, 11, 30), None),
    ],
)
def test_who_joins_until_thursday_owes_the_week(starts: date, expected: State | None) -> None:
    found = owed(offering(starts), WEEK)
    assert (None if found is None else found.state) is expected


def test_an_offering_that_ended_before_the_week_owes_nothing() -> None:
    assert owed(offering(ends=date(2026, 11, 22)), WEEK) is None
    last = owed(offering(ends=date(2026, 11, 23)), WEEK)
    assert last is not None
    assert last.state is State.OPEN


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([day_off(23, 27)], State.EXEMPT),
        ([day_off(23, 26)], State.OPEN),
        ([day_off(23, 24), day_off(25, 29)], State.EXEMPT),  # taken together
        ([day_off(23, 27, user_id="ben")], State.OPEN),
        ([day_off(23, 27, user_id="ada")], State.EXEMPT),
        ([day_off(23, 27, offering_id="sql")], State.OPEN),
        ([day_off(28, 29)], State.OPEN),  # a free weekend is none
    ],
)
def test_leave_and_holidays_exempt_if_they_cover_the_working_days(
    days: list[Exemption], expected: State
) -> None:
    found = owed(offering(), WEEK, days)
    assert found is not None
    assert found.state is expected


def test_only_the_days_on_which_the_offering_runs_have_to_be_covered() -> None:
    found = owed(offering(starts=date(2026, 11, 25)), WEEK, [day_off(25, 27)])
    assert found is not None
    assert found.state is State.EXEMPT
    weekend = owed(
        offering(date(2026, 11, 28), date(2026, 11, 29)),
        WEEK,
        [day_off(28, 29)],
        last_day_to_join=7,
    )
    assert weekend is not None
    assert weekend.state is State.EXEMPT


def test_a_programme_that_is_closed_before_the_week_has_ended_asks_for_nothing() -> None:
    for day, expected in ((29, State.EXEMPT), (30, State.OPEN)):
        closed = owed(offering(), WEEK, closed_on=date(2026, 11, day))
        assert closed is not None
        assert closed.state is expected


def test_the_deadline_is_exclusive() -> None:
    assert satisfied(100, 99) is State.SUBMITTED
    assert satisfied(100, 100) is State.LATE
    assert at(State.OPEN, 100, 99) is State.OPEN
    assert at(State.OPEN, 100, 100) is State.MISSED
    assert at(State.EXEMPT, 100, 200) is State.EXEMPT


def test_the_worst_of_several_offerings_marks_a_week() -> None:
    assert mark([State.SUBMITTED, State.MISSED]) is Mark.MISSED
    assert mark([State.SUBMITTED, State.LATE]) is Mark.LATE
    assert mark([State.EXEMPT, State.SUBMITTED]) is Mark.DONE
    assert mark([State.EXEMPT]) is Mark.EXEMPT
    assert mark([]) is None


M, D, L, E = Mark.MISSED, Mark.DONE, Mark.LATE, Mark.EXEMPT
KEYS = ("w1", "w2", "w3", "w4")


@pytest.mark.parametrize(
    ("marks", "warned", "news"),
    [
        ((D, D, D, M), None, News.NOTHING),
        ((D, M, D, M), None, News.WARN),
        ((D, M, D, M), ("w2", "w4"), News.CONTINUING),
        ((D, M, M, M), ("w2", "w4"), News.WARN),
        ((D, D, D, M), ("w2", "w4"), News.RESOLVED),
        ((E, M, E, M), None, News.WARN),
        ((None, None, None, M), None, News.NOTHING),
        ((L, L, L, L), None, News.NOTHING),
    ],
)
def test_two_of_four_closed_weeks_are_too_many_and_only_news_is_news(
    marks: tuple[Mark | None, ...], warned: tuple[str, ...] | None, news: News
) -> None:
    assert judge(list(zip(KEYS, marks, strict=True)), warned).news is news


def test_late_counts_as_missed_where_the_programme_says_so() -> None:
    marks = list(zip(KEYS, (D, L, D, L), strict=True))
    assert judge(marks, None, late_is_missed=True).missed == ("w2", "w4")
