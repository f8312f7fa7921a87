"""Weeks in which Homeroom was down: marked so, and not counted against facilitators."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.activity_school import local

from homeroom.activity.downtime_rules import EXTENSION, extended_deadline, find_down_weeks
from homeroom.activity.obligation_rules import (
    ComplianceMark,
    Obligation,
    ObligationState,
    Programme,
    evaluate_compliance,
    mark_week,
)
from homeroom.jobs.api import Downtime

PROGRAMME = Programme("lab", "The lab", "Europe/Berlin")
DEADLINE = local("2026-11-23T00:00")
ROW = Obligation(
    offering_id="art",
    offering_title="Art",
    week_key="2026-W47",
    facilitator_id="ada",
    programme_id="lab",
    opens_at=local("2026-11-16T00:00"),
    deadline_at=DEADLINE,
    state=ObligationState.MISSED,
)


def down(*times: tuple[str, str]) -> list[Downtime]:
    return [Downtime(local(first), local(last)) for first, last in times]


@pytest.mark.parametrize(
    ("times", "returned"),
    [
        # the 61 hours of a weekend, and a quarter of an hour around midnight
        ([("2026-11-20T20:00", "2026-11-23T09:00")], "2026-11-23T09:00"),
        ([("2026-11-22T23:55", "2026-11-23T00:10")], "2026-11-23T00:10"),
        # back five minutes before the deadline, or down for most of Sunday in two parts
        ([("2026-11-20T20:00", "2026-11-22T23:55")], "2026-11-22T23:55"),
        (
            [("2026-11-22T02:00", "2026-11-22T10:00"), ("2026-11-22T11:00", "2026-11-22T16:00")],
            "2026-11-22T16:00",
        ),
        # down again before a day had passed
        (
            [("2026-11-22T10:00", "2026-11-23T09:00"), ("2026-11-23T20:00", "2026-11-25T08:00")],
            "2026-11-25T08:00",
        ),
    ],
)
def test_a_deadline_is_a_day_after_the_return(times: list[tuple[str, str]], returned: str) -> None:
    downtimes = down(*times)
    assert extended_deadline(DEADLINE, downtimes) == local(returned) + EXTENSION
    assert find_down_weeks(PROGRAMME, [ROW], downtimes) == {"2026-W47": local(returned) + EXTENSION}


@pytest.mark.parametrize(
    "times",
    [
        [],
        [("2026-11-17T08:00", "2026-11-19T21:00")],  # 61 hours within the week
        [("2026-11-22T12:01", "2026-11-22T23:00")],  # eleven hours of the last day
        [("2026-11-23T00:00", "2026-11-25T00:00")],  # from the deadline on
        # Monday's reminder could not go out, but Thursday's warning could, until Friday 18:00
        [("2026-11-15T20:00", "2026-11-20T17:00")],
    ],
)
def test_other_downtimes_change_no_deadline(times: list[tuple[str, str]]) -> None:
    if times[:1] != [("2026-11-15T20:00", "2026-11-20T17:00")]:
        assert extended_deadline(DEADLINE, down(*times)) == DEADLINE
    assert find_down_weeks(PROGRAMME, [ROW], down(*times)) == {}


def test_a_week_in_which_no_message_could_go_out_is_down_and_its_deadline_stays() -> None:
    times = down(("2026-11-16T08:00", "2026-11-16T20:30"), ("2026-11-19T07:00", "2026-11-20T18:00"))
    assert find_down_weeks(PROGRAMME, [ROW], times) == {"2026-W47": DEADLINE}
    assert find_down_weeks(PROGRAMME, [ROW], times[:1]) == {}
    assert find_down_weeks(PROGRAMME, [ROW], times[1:]) == {}
    previous = replace(PROGRAMME, target_week="previous")  # only the warning comes in time
    assert find_down_weeks(previous, [ROW], times[1:]) == {"2026-W47": DEADLINE}


def test_a_down_week_counts_neither_way() -> None:
    for state in (ObligationState.MISSED, ObligationState.LATE):
        assert mark_week([state, ObligationState.SUBMITTED], was_down=True) is ComplianceMark.DOWN
    assert mark_week([ObligationState.SUBMITTED], was_down=True) is ComplianceMark.DONE
    assert mark_week([ObligationState.EXEMPT], was_down=True) is ComplianceMark.EXEMPT
    marks = [
        ("w1", ComplianceMark.DOWN),
        ("w2", ComplianceMark.MISSED),
        ("w3", ComplianceMark.DOWN),
        ("w4", ComplianceMark.DONE),
    ]
    result = evaluate_compliance(marks, None, late_is_missed=True)
    assert (result.missed, result.expected, result.warning_change) == (("w2",), 2, "nothing")
