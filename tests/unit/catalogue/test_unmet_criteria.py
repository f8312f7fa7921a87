"""Why a course is not complete, in words."""

from __future__ import annotations

import pytest

from homeroom.catalogue.criteria import (
    AllItems,
    AllOf,
    AnyOf,
    CompletionFacts,
    Criteria,
    Manual,
    MinCourseGrade,
    MinTime,
    NOfM,
    Prerequisite,
)
from homeroom.catalogue.unmet_criteria import unmet_criteria

TITLES = {"a": "Alarms", "b": "Exits", "c": "Smoke"}
FACTS = CompletionFacts(satisfied={"a"}, required=TITLES.keys() - {"c"}, grade=5_500, time_spent=90)


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        (AllItems(), [("all_items", "1 of 2 required chapters are done. Open: Exits.", ("b",))]),
        (
            NOfM(2, ("a", "c")),
            [("n_of_m", "2 of 2 chapters are needed and 1 are done. Open: Smoke.", ("c",))],
        ),
        (NOfM(1), []),
        (
            MinCourseGrade(8_000),
            [("min_course_grade", "The grade is 55 %; the course needs a grade of 80 %.", ())],
        ),
        (
            MinTime(600),
            [
                (
                    "min_time",
                    "The course needs 10 min of learning time; 8 min 30 s are missing.",
                    (),
                )
            ],
        ),
        (
            Prerequisite("first"),
            [("prerequisite", "The course 'first' has to be completed first.", ())],
        ),
        (Manual(), [("manual", "The completion has not been approved yet.", ())]),
    ],
)
def test_an_unmet_criterion_has_words(
    criteria: Criteria, found: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    unmet = unmet_criteria(criteria, FACTS, TITLES)
    assert [(each.type, each.text, each.chapter_ids) for each in unmet] == found


def test_branches_of_all_are_listed_and_of_any_put_in_one_text() -> None:
    both = unmet_criteria(AllOf((AllItems(), NOfM(1), Manual())), FACTS, TITLES)
    assert [each.type for each in both] == ["all_items", "manual"]
    [one] = unmet_criteria(AnyOf((AllItems(), Manual())), FACTS, TITLES)
    assert one.type == "any"
    assert " Or: " in one.text
    assert unmet_criteria(AnyOf((NOfM(1), Manual())), FACTS, TITLES) == []


def test_many_chapters_are_counted() -> None:
    titles = {str(n): f"T{n}" for n in range(9)}
    facts = CompletionFacts(satisfied=frozenset(), required=titles.keys())
    [found] = unmet_criteria(AllItems(), facts, titles)
    assert found.text.endswith("T4 and 4 more.")
    assert len(found.chapter_ids) == 9
    none = CompletionFacts(satisfied=frozenset(), required=frozenset())
    assert unmet_criteria(AllItems(), none, titles)[0].chapter_ids == ()
