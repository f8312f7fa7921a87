"""Contact time is divided exactly, in whole lessons, as outcomes and modules ask."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.errors import Invalid
from homeroom.lessonplans.curriculum import TeachingPreferences
from homeroom.lessonplans.curriculum_file import read_curriculum_file
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.lesson_allocation import LessonSlot, allocate_lessons
from homeroom.lessonplans.lesson_time import split_into_lessons


def slots_of(
    hours: float, outcomes: list[dict[str, Any]], *, lesson: int = 60, **module: Any
) -> tuple[LessonSlot, ...]:
    texts = [{"id": f"o{at}", "text": "Explain it", **each} for at, each in enumerate(outcomes)]
    preferences = {"lessonMinutes": lesson, **module.pop("preferences", {})}
    body = {
        "title": "T",
        "modules": [{"id": "m", "title": "M", "contactHours": hours, "outcomes": texts, **module}],
        "preferences": preferences,
    }
    return allocate_lessons(parse_curriculum(body))


def minutes_by_outcome(slots: tuple[LessonSlot, ...]) -> dict[str, int]:
    minutes: dict[str, int] = {}
    for slot in slots:
        for outcome in slot.outcomes:
            minutes[outcome.id] = minutes.get(outcome.id, 0) + outcome.minutes
    return minutes


@pytest.mark.parametrize(
    ("leftover", "minutes", "lengths"),
    [
        ("shorter_lesson", 180, [60, 60, 60]),
        ("shorter_lesson", 200, [60, 60, 60, 20]),
        ("shorter_lesson", 190, [65, 65, 60]),
        ("shorter_lesson", 20, [20]),
        ("shorter_lesson", 7, [7]),
        ("spread", 200, [70, 65, 65]),
        ("spread", 163, [55, 55, 53]),
        ("spread", 0, []),
    ],
)
def test_what_is_left_over_makes_a_shorter_lesson_or_is_spread_in_fives(
    leftover: Any, minutes: int, lengths: list[int]
) -> None:
    preferences = TeachingPreferences(lessonMinutes=60, leftover=leftover)
    assert split_into_lessons(minutes, preferences) == lengths


def test_named_hours_are_met_exactly_and_weights_share_the_rest() -> None:
    slots = slots_of(10, [{"hours": 2.5}, {"weight": 3}, {"weight": 1}], reviewHours=0)
    assert sum(slot.minutes for slot in slots) == 600
    minutes = minutes_by_outcome(slots)
    assert minutes == {"o0": 150, "o1": 330, "o2": 120}
    assert {slot.minutes for slot in slots} == {60}


def test_the_level_alone_does_not_decide_the_hours() -> None:
    slots = slots_of(12, [{"text": "Name it"}, {"text": "Evaluate it"}], reviewHours=0,
                     assessmentHours=0)  # fmt: skip
    assert minutes_by_outcome(slots) == {"o0": 5 * 60, "o1": 7 * 60}


def test_special_lessons_come_as_asked_for_and_count() -> None:
    slots = slots_of(
        8, [{}, {}], reviewHours=1, assessmentHours=1.5, fieldPracticeHours=2, notes="n"
    )
    stages = [(slot.stage.value, slot.minutes) for slot in slots[-5:]]
    assert stages == [
        ("field_practice", 60), ("field_practice", 60), ("review", 60),
        ("assessment", 60), ("assessment", 30),
    ]  # fmt: skip
    assert sum(slot.minutes for slot in slots) == 480
    assert [slot.assesses for slot in slots if slot.assesses] == [("o0", "o1")]


@pytest.mark.parametrize(
    ("outcomes", "module", "numbers"),
    [
        ([{"hours": 3}, {"hours": 2}], {}, ["5 hours", "has 4", "1 too few"]),
        ([{"hours": 3}, {}], {"assessmentHours": 1}, ["0 minutes are left for 1 outcomes"]),
        ([{"hours": 1}, {"hours": 2}], {"reviewHours": 0}, ["1 have no purpose"]),
    ],
)
def test_hours_that_cannot_be_met_are_named_with_the_numbers(
    outcomes: list[dict[str, Any]], module: dict[str, Any], numbers: list[str]
) -> None:
    with pytest.raises(Invalid) as caught:
        slots_of(4, outcomes, **module)
    [error] = caught.value.details["errors"]
    assert error["pointer"] == "#/modules/0/contactHours"
    assert all(number in error["detail"] for number in numbers), error["detail"]


def test_prerequisites_change_the_order_and_faulty_ones_are_named() -> None:
    slots = slots_of(3, [{"prerequisites": ["o2"]}, {}, {}])
    assert [slot.outcomes[0].id for slot in slots] == ["o1", "o2", "o0"]
    for prerequisites, pointer in (
        ([["o9"], []], "#/modules/0/outcomes/0/prerequisites"),
        ([["o1"], ["o0"]], "#/modules/0/outcomes"),
        ([["o0"], []], "#/modules/0/outcomes"),
    ):
        with pytest.raises(Invalid) as caught:
            slots_of(3, [{"prerequisites": each} for each in prerequisites])
        assert [each["pointer"] for each in caught.value.details["errors"]] == [pointer]


def test_a_table_may_hold_hours_weights_criteria_and_prerequisites() -> None:
    text = (
        "module,hours,outcome,outcome_id,outcome_hours,weight,domain,criteria,prerequisites,"
        "review hours\n"
        "A,6,Name it,a,1.5,,skill,It is right | It is fast,,1\n"
        ",,Explain it,b,,2,,,a,\n"
    )
    [module] = parse_curriculum(read_curriculum_file(text.encode(), "csv", "T")).modules
    first, second = module.outcomes
    assert (first.minutes, first.criteria) == (90, ("It is right", "It is fast"))
    assert (first.domain, second.weight, second.prerequisites) == ("psychomotor", 2, ("a",))
    assert module.review_minutes == 60
