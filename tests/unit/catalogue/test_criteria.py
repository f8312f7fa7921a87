"""When a course is complete, criterion by criterion and in combination."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.catalogue.criteria import (
    AllItems,
    AllOf,
    AnyOf,
    Criteria,
    Facts,
    Manual,
    MinCourseGrade,
    MinTime,
    NOfM,
    Prerequisite,
    Reader,
    dump,
    evaluate,
    needs,
    prerequisites,
)
from homeroom.catalogue.fault import Faults

CHAPTERS = ("a", "b", "c", "d")
NOTHING = Facts(satisfied=frozenset(), required=frozenset({"a", "b", "c"}))

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
    Facts,
    satisfied=st.frozensets(st.sampled_from(CHAPTERS)),
    required=st.just(frozenset({"a", "b", "c"})),
    grade=st.none() | st.integers(0, 10_000),
    time_spent=st.integers(0, 200),
    completed_courses=st.frozensets(st.sampled_from(["other", "another", "third"])),
    approved=st.booleans(),
)


def read(value: object) -> tuple[Criteria, Faults]:
    faults = Faults()
    found = Reader(faults, "course", set(CHAPTERS), {"a", "b", "c"}).read(value, ())
    return found, faults


def test_all_items_wants_every_required_chapter_and_no_optional_one() -> None:
    assert not evaluate(AllItems(), replace(NOTHING, satisfied={"a", "b", "d"}))
    assert evaluate(AllItems(), replace(NOTHING, satisfied={"a", "b", "c"}))


def test_nobody_completes_an_empty_course_by_itself() -> None:
    empty = Facts(satisfied=frozenset(), required=frozenset())
    assert not evaluate(AllItems(), empty)
    assert not evaluate(AllItems(), replace(empty, satisfied={"optional"}))


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
def test_each_criterion_has_its_line(
    criterion: Criteria, short: dict[str, object], enough: dict[str, object]
) -> None:
    assert not evaluate(criterion, NOTHING)
    assert not evaluate(criterion, replace(NOTHING, **short))  # type: ignore[arg-type]  # names vary
    assert evaluate(criterion, replace(NOTHING, **enough))  # type: ignore[arg-type]  # names vary


def test_a_grade_of_zero_is_a_grade_and_none_is_not() -> None:
    assert evaluate(MinCourseGrade(0), replace(NOTHING, grade=0))
    assert not evaluate(MinCourseGrade(0), replace(NOTHING, grade=None))


@given(st.lists(TREES, min_size=1, max_size=4), FACTS)
def test_all_and_any_combine_as_their_names_say(branches: list[Criteria], facts: Facts) -> None:
    each = [evaluate(branch, facts) for branch in branches]
    assert evaluate(AllOf(tuple(branches)), facts) == all(each)
    assert evaluate(AnyOf(tuple(branches)), facts) == any(each)


@given(TREES, FACTS, FACTS)
def test_only_the_facts_that_are_needed_decide(tree: Criteria, facts: Facts, other: Facts) -> None:
    wanted = needs(tree)
    same = Facts(
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
    assert evaluate(tree, same) == evaluate(tree, facts)


@given(TREES, FACTS, st.frozensets(st.sampled_from(CHAPTERS)), st.integers(0, 100))
def test_more_achieved_never_takes_a_completion_back(
    tree: Criteria, facts: Facts, more: frozenset[str], seconds: int
) -> None:
    further = replace(
        facts,
        satisfied=facts.satisfied | more,
        time_spent=facts.time_spent + seconds,
        grade=10_000,
        approved=True,
    )
    assert evaluate(tree, further) or not evaluate(tree, facts)


@given(TREES)
def test_criteria_survive_being_written_and_read(tree: Criteria) -> None:
    found, faults = read(dump(tree))
    assert not faults.found
    assert found == tree


def test_criteria_nested_too_deep_or_too_many_are_refused() -> None:
    deep: object = {"type": "manual"}
    for _ in range(5_000):
        deep = {"all": [deep]}
    assert [message for _, message in read(deep)[1].found] == ["criteria are nested at most 8 deep"]
    many = {"any": [{"type": "manual"}] * 5_000}
    assert [message for _, message in read(many)[1].found] == ["a course has at most 100 criteria"]


def test_a_chapter_named_twice_cannot_count_twice() -> None:
    _, faults = read({"type": "n_of_m", "n": 2, "of": ["a", "a"]})
    assert [at for at, _ in faults.found] == [("of", 1)]
