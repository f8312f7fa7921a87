"""Alerts by figures: spans before they are raised and cleared, groups, snoozes, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from homeroom.errors import Invalid
from homeroom.instant import SECOND
from homeroom.monitoring.alert_evaluation import (
    REOPEN_WITHIN,
    Alert,
    AlertChange,
    Figures,
    Reading,
    messages_of,
    plan_changes,
)
from homeroom.monitoring.alert_rules import DEFAULT_RULES, THOUSAND, RuleChange, change_rule

T0 = 1_000_000 * SECOND
AGE = DEFAULT_RULES["queue_age"]  # 300 s for 600 s, cleared after 120 s


class Course:
    """Evaluations one after the other, and the rows that they leave."""

    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}
        self.rules = dict(DEFAULT_RULES)
        self.messages: list[tuple[Alert, ...]] = []
        self.observed_from = T0
        self.numbers = count()

    def at(
        self, seconds: int, readings: Sequence[Reading], unread: Sequence[str] = ()
    ) -> list[str]:
        """Evaluate; return the kinds of the changes."""
        now = T0 + seconds * SECOND
        before = list(self.alerts.values())
        changes: list[AlertChange] = plan_changes(
            self.rules,
            Figures(readings, unread),
            before,
            now,
            self.observed_from,
            lambda: f"a{next(self.numbers)}",
        )
        self.messages += messages_of(changes, before)
        for change in changes:
            if change.kind == "forgotten":
                del self.alerts[change.alert.id]
            else:
                self.alerts[change.alert.id] = change.alert
        return [change.kind for change in changes]

    @property
    def only(self) -> Alert:
        [alert] = self.alerts.values()
        return alert


def age(seconds: int, queue: str = "hr", since: int | None = None) -> Reading:
    return Reading("queue_age", queue, seconds * THOUSAND, f"{seconds} s", since)


def away(name: str = "hr") -> Reading:
    return Reading("destination", name, THOUSAND, "It is away.", T0, f"partner:{name}")


def test_an_alert_is_raised_once_its_condition_has_held_for_the_whole_span() -> None:
    course = Course()
    assert course.at(0, [age(300)]) == []  # not above
    assert course.at(15, [age(301)]) == ["pending"]
    assert course.at(30, [age(316)]) == []
    assert course.at(45, [age(10)]) == ["forgotten"]
    assert course.at(60, [age(301)]) == ["pending"]
    assert course.at(659, [age(900)]) == []
    assert course.messages == []
    assert course.at(660, [age(901)]) == ["raised"]
    assert (course.only.state, course.only.value, course.only.threshold) == (
        "open",
        901 * THOUSAND,
        300 * THOUSAND,
    )
    assert [[alert.subject for alert in told] for told in course.messages] == [["hr"]]


def test_a_condition_that_comes_back_within_the_clear_span_keeps_the_alert() -> None:
    course = Course()
    course.at(0, [age(400)])
    assert course.at(600, [age(1_000)]) == ["raised"]
    assert course.at(615, []) == ["kept"]
    assert course.at(700, []) == []
    assert course.at(714, [age(301)]) == ["kept"]
    assert course.only.quiet_since is None
    assert course.at(730, []) == ["kept"]
    assert course.at(849, []) == []
    assert course.at(850, []) == ["cleared"]
    assert (course.only.state, course.only.open_key) == ("cleared", None)
    assert course.at(865, []) == []
    assert len(course.messages) == 1


def test_an_alert_that_comes_back_soon_is_the_same_one_and_sends_nothing() -> None:
    course = Course()
    course.rules["queue_age"] = replace(AGE, for_seconds=0, clear_seconds=0)
    assert course.at(0, [age(400)]) == ["raised"]
    assert course.at(15, []) == ["cleared"]
    assert course.at(30, [age(400)]) == ["reopened"]
    assert (course.only.raised_count, course.only.cleared_at) == (2, None)
    assert course.at(45, []) == ["cleared"]
    assert len(course.messages) == 1
    later = 46 + REOPEN_WITHIN // SECOND
    assert course.at(later, [age(400)]) == ["raised"]
    assert len(course.messages) == 2


def test_an_outage_of_a_partner_is_one_message_and_another_partner_is_another() -> None:
    course = Course()
    owed = Reading("owed_steps", "hr", 4_000 * THOUSAND, group="partner:hr")
    assert course.at(299, [away()]) == ["pending"]
    assert course.at(300, [away()]) == ["raised"]
    assert course.at(360, [away(), owed]) == ["pending"]
    assert course.at(420, [away(), owed]) == ["raised"]
    assert course.at(435, [away(), owed, away("credly")]) == ["raised"]  # since T0
    assert [[alert.subject for alert in told] for told in course.messages] == [["hr"], ["credly"]]


def test_what_follows_from_no_worker_is_in_its_message() -> None:
    course = Course()
    none = Reading("no_worker", "", 0, since=T0)
    course.at(0, [none, age(400), age(500, "credentials")])
    assert course.at(120, [none, age(520), age(620, "credentials")]) == ["raised"]
    assert course.at(600, [none, age(1_000), age(1_100, "credentials")]) == ["raised", "raised"]
    assert [[alert.rule for alert in told] for told in course.messages] == [["no_worker"]]


def test_several_subjects_of_a_rule_at_once_are_one_message() -> None:
    course = Course()
    course.at(0, [age(400), age(500, "credentials")])
    assert course.at(600, [age(1_000), age(1_100, "credentials")]) == ["raised", "raised"]
    assert [len(told) for told in course.messages] == [2]


def test_missed_slots_are_an_alert_whose_message_is_another_one() -> None:
    course = Course()
    assert course.at(0, [Reading("missed_schedule", "reminder.a", THOUSAND)]) == ["raised"]
    assert course.messages == []


def test_a_snoozed_alert_is_sent_again_unless_it_was_acknowledged() -> None:
    course = Course()
    course.rules["queue_age"] = replace(AGE, for_seconds=0)
    course.at(0, [age(400)])
    snoozed = replace(course.only, snoozed_until=T0 + 3_600 * SECOND)
    course.alerts[snoozed.id] = snoozed
    assert course.at(3_599, [age(4_000)]) == ["kept"]
    assert course.at(3_600, [age(4_000)]) == ["reminded"]
    assert course.at(3_615, [age(4_000)]) == []
    assert len(course.messages) == 2
    course.alerts[snoozed.id] = replace(
        course.only, snoozed_until=T0 + 3_630 * SECOND, acknowledged_at=T0
    )
    assert course.at(3_630, [age(4_000)]) == ["reminded"]
    assert len(course.messages) == 2


def test_figures_that_cannot_be_read_change_nothing() -> None:
    course = Course()
    course.rules["queue_age"] = replace(AGE, for_seconds=0, clear_seconds=0)
    course.at(0, [age(400)])
    assert course.at(15, [], unread=["queue_age"]) == []
    assert course.only.state == "open"
    assert course.at(30, []) == ["cleared"]


def test_a_rule_that_is_disabled_clears_its_alerts_at_once() -> None:
    course = Course()
    course.rules["queue_age"] = replace(AGE, for_seconds=0)
    course.at(0, [age(400)])
    course.rules["queue_age"] = replace(AGE, enabled=False)
    assert course.at(15, [age(415)]) == ["cleared"]
    assert course.at(30, [age(430)]) == []


def test_nothing_is_taken_to_have_held_before_it_was_observed() -> None:
    course = Course()
    course.observed_from = T0 + 60 * SECOND
    assert course.at(60, [age(9_000, since=T0 - 9_000 * SECOND)]) == ["pending"]
    assert course.only.since == T0 + 60 * SECOND


def test_an_open_alert_is_stored_again_once_a_minute_at_most() -> None:
    course = Course()
    course.rules["queue_age"] = replace(AGE, for_seconds=0)
    course.at(0, [age(400)])
    assert [course.at(second, [age(400 + second)]) for second in (15, 30, 45, 60, 75)] == [
        [],
        [],
        [],
        ["kept"],
        [],
    ]
    assert course.only.value == 460 * THOUSAND


@pytest.mark.parametrize(
    "change",
    [
        RuleChange("error_rate", threshold=1.01),
        RuleChange("no_worker", threshold=0.5),
        RuleChange("queue_age", threshold=-1),
        RuleChange("queue_age", for_seconds=7 * 86_400 + 1),
        RuleChange("queue_age", clear_seconds=-1),
    ],
)
def test_a_rule_keeps_within_its_bounds(change: RuleChange) -> None:
    with pytest.raises(Invalid):
        change_rule(DEFAULT_RULES[change.kind], change)
