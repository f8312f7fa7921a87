"""Evaluation of criteria, one by one and in combination, and their documents."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.catalogue.course_document import parse_course
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
    dump_criteria,
    evaluate_criteria,
    facts_needed,
    prerequisites,
)
from homeroom.errors import Invalid

CHAPTERS = ("a", "b", "c", "d")
NOTHING = CompletionFacts(satisfied=frozenset(), required=frozenset({"a", "b", "c"}))

LEAVES = st.one_of(
    st.just(AllItems()),
    st.just(Manual()),
    st.builds(NOfM, st.integers(1, 3)),
    st.integers(1, 4).flatmap(
        lambda n: st.builds(
            NOfM,
            st.integers(1, n),
            st.lists(st.sampled_from(CHAPTERS), min_size=n, max_size=n, unique=True).map(tuple),
        )
    ),
    st.builds(MinCourseGrade, st.integers(0, 10_000)),
    st.builds(MinTime, st.integers(1, 100)),
    st.builds(Prerequisite, st.sampled_from(["other", "another"])),
)
TREES: st.SearchStrategy[Criteria] = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(AllOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=8,
)
FACTS = st.builds(
    CompletionFacts,
    satisfied=st.frozensets(st.sampled_from(CHAPTERS)),
    required=st.just(frozenset({"a", "b", "c"})),
    grade=st.none() | st.integers(0, 10_000),
    time_spent=st.integers(0, 200),
    completed_courses=st.frozensets(st.sampled_from(["other", "another", "third"])),
    approved=st.booleans(),
)


def parse(criteria: object) -> Criteria:
    chapters = [{"id": id, "title": id, "required": id != "d"} for id in CHAPTERS]
    document = {"title": "C", "units": [{"id": "u", "title": "U", "chapters": chapters}]}
    return parse_course("course", 1, {**document, "criteria": criteria}).criteria


def faults(criteria: object) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        parse(criteria)
    return [(each["pointer"], each["detail"]) for each in caught.value.details["errors"]]


def test_all_items_needs_every_required_chapter_and_no_optional_one() -> None:
    assert not evaluate_criteria(AllItems(), replace(NOTHING, satisfied={"a", "b", "d"}))
    assert evaluate_criteria(AllItems(), replace(NOTHING, satisfied={"a", "b", "c"}))


def test_an_empty_course_is_never_complete_by_itself() -> None:
    empty = CompletionFacts(satisfied=frozenset(), required=frozenset())
    assert not evaluate_criteria(AllItems(), empty)
    assert not evaluate_criteria(AllItems(), replace(empty, satisfied={"optional"}))


@pytest.mark.parametrize(
    ("criterion", "short", "enough"),
    [
        (NOfM(2), {"satisfied": {"a", "d"}}, {"satisfied": {"a", "c"}}),
        (NOfM(2, ("a", "d")), {"satisfied": {"a", "b"}}, {"satisfied": {"a", "d"}}),
        (MinCourseGrade(7_000), {"grade": 6_999}, {"grade": 7_000}),
        (MinTime(60), {"time_spent": 59}, {"time_spent": 60}),
        (Prerequisite("x"), {"completed_courses": {"y"}}, {"completed_courses": {"x", "y"}}),
        (Manual(), {"approved": False}, {"approved": True}),
    ],
)
def test_each_criterion_has_its_threshold(
    criterion: Criteria, short: dict[str, object], enough: dict[str, object]
) -> None:
    assert not evaluate_criteria(criterion, NOTHING)
    assert not evaluate_criteria(criterion, replace(NOTHING, **short))  # type: ignore[arg-type]  # names vary
    assert evaluate_criteria(criterion, replace(NOTHING, **enough))  # type: ignore[arg-type]  # names vary


def test_a_grade_of_zero_is_a_grade_and_none_is_not() -> None:
    assert evaluate_criteria(MinCourseGrade(0), replace(NOTHING, grade=0))
    assert not evaluate_criteria(MinCourseGrade(0), replace(NOTHING, grade=None))


@given(st.lists(TREES, min_size=1, max_size=4), FACTS)
def test_all_and_any_combine_their_branches(
    branches: list[Criteria], facts: CompletionFacts
) -> None:
    each = [evaluate_criteria(branch, facts) for branch in branches]
    assert evaluate_criteria(AllOf(tuple(branches)), facts) == all(each)
    assert evaluate_criteria(AnyOf(tuple(branches)), facts) == any(each)


@given(TREES, FACTS, FACTS)
def test_only_the_facts_needed_decide(
    tree: Criteria, facts: CompletionFacts, other: CompletionFacts
) -> None:
    wanted = facts_needed(tree)
    same = CompletionFacts(
        satisfied=facts.satisfied if "items" in wanted else other.satisfied,
        required=facts.required,
        grade=facts.grade if "grade" in wanted else other.grade,
        time_spent=facts.time_spent if "time" in wanted else other.time_spent,
        completed_courses=(
            facts.completed_courses & prerequisites(tree)
            if "prerequisite" in wanted
            else other.completed_courses
        ),
        approved=facts.approved if "manual" in wanted else other.approved,
    )
    assert evaluate_criteria(tree, same) == evaluate_criteria(tree, facts)


@given(TREES, FACTS, st.frozensets(st.sampled_from(CHAPTERS)), st.integers(0, 100))
def test_further_achievements_never_undo_a_completion(
    tree: Criteria, facts: CompletionFacts, more: frozenset[str], seconds: int
) -> None:
    further = replace(
        facts,
        satisfied=facts.satisfied | more,
        time_spent=facts.time_spent + seconds,
        grade=10_000,
        approved=True,
    )
    assert evaluate_criteria(tree, further) or not evaluate_criteria(tree, facts)


@given(TREES)
def test_criteria_survive_dumping_and_parsing(tree: Criteria) -> None:
    assert parse(dump_criteria(tree)) == tree


def test_criteria_nested_too_deep_or_too_many_are_refused() -> None:
    deep: object = {"type": "manual"}
    for _ in range(5_000):
        deep = {"all": [deep]}
    assert faults(deep) == [("#/criteria", "criteria are nested at most 8 deep")]
    many = {"any": [{"type": "manual"}] * 5_000}
    assert faults(many) == [("#/criteria", "a course has at most 100 criteria")]


def test_a_chapter_named_twice_cannot_count_twice() -> None:
    twice = {"type": "n_of_m", "n": 2, "of": ["a", "a"]}
    assert faults(twice) == [("#/criteria/of", "names the chapter 'a' twice")]
