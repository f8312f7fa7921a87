"""Completion criteria: types, evaluation and the facts that they need (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

SCALE = 10_000
"""Scores, thresholds and weights are integers in units of 1e-4."""


@dataclass(frozen=True, slots=True)
class CompletionFacts:
    """Facts about a learner's attempt on which criteria decide."""

    satisfied: Set[str]
    """Chapters that are satisfied (``moveOn``, waiver), optional ones included."""
    required: Set[str]
    """``Course.required``: the chapters that the percentage counts."""
    grade: int | None = None
    """The course grade in units of 1e-4; None without a score."""
    time_spent: int = 0
    """Whole seconds in this attempt."""
    completed_courses: Set[str] = frozenset()
    """Courses that the learner has completed; only the prerequisites matter."""
    approved: bool = False
    """The enrolment is approved by hand."""


@dataclass(frozen=True, slots=True)
class AllItems:
    """Every required chapter is satisfied. Never true without any (B7)."""


@dataclass(frozen=True, slots=True)
class NOfM:
    """At least ``n`` of some chapters, or of the required ones, are satisfied."""

    n: int
    of: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class MinCourseGrade:
    """The course grade is at least ``grade``, in units of 1e-4."""

    grade: int


@dataclass(frozen=True, slots=True)
class MinTime:
    """The time spent in the attempt is at least ``seconds``."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """Another course is completed."""

    course_id: str


@dataclass(frozen=True, slots=True)
class Manual:
    """The enrolment is approved by hand."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every branch holds."""

    branches: tuple[Criteria, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one branch holds."""

    branches: tuple[Criteria, ...]


Criteria = AllItems | NOfM | MinCourseGrade | MinTime | Prerequisite | Manual | AllOf | AnyOf

_FACT_BY_CRITERION: Mapping[type, str] = {
    AllItems: "items",
    NOfM: "items",
    MinCourseGrade: "grade",
    MinTime: "time",
    Prerequisite: "prerequisite",
    Manual: "manual",
}


def evaluate_criteria(criteria: Criteria, facts: CompletionFacts) -> bool:
    """Return whether the criteria hold."""
    match criteria:
        case AllItems():
            return bool(facts.required) and facts.required <= facts.satisfied
        case NOfM(n, of):
            among = facts.required if of is None else of
            return sum(chapter in facts.satisfied for chapter in among) >= n
        case MinCourseGrade(grade):
            return facts.grade is not None and facts.grade >= grade
        case MinTime(seconds):
            return facts.time_spent >= seconds
        case Prerequisite(course_id):
            return course_id in facts.completed_courses
        case Manual():
            return facts.approved
        case AllOf(branches):
            return all(evaluate_criteria(branch, facts) for branch in branches)
        case AnyOf(branches):
            return any(evaluate_criteria(branch, facts) for branch in branches)


def leaves(criteria: Criteria) -> Iterator[Criteria]:
    """Yield the single criteria of a tree, in order."""
    if isinstance(criteria, (AllOf, AnyOf)):
        for branch in criteria.branches:
            yield from leaves(branch)
    else:
        yield criteria


def facts_needed(criteria: Criteria) -> frozenset[str]:
    """Return the deciding facts: items, grade, time, prerequisite or manual.

    The caller of ``evaluate_criteria`` needs to read no others.
    """
    return frozenset(_FACT_BY_CRITERION[type(leaf)] for leaf in leaves(criteria))


def prerequisites(criteria: Criteria) -> frozenset[str]:
    """Return the ids of the courses that the criteria name."""
    return frozenset(leaf.course_id for leaf in leaves(criteria) if isinstance(leaf, Prerequisite))


def dump_criteria(criteria: Criteria) -> dict[str, Any]:
    """Return the criteria as their JSON document."""
    match criteria:
        case AllItems():
            return {"type": "all_items"}
        case NOfM(n, of):
            return {"type": "n_of_m", "n": n} | ({} if of is None else {"of": list(of)})
        case MinCourseGrade(grade):
            return {"type": "min_course_grade", "grade": unscaled(grade)}
        case MinTime(seconds):
            return {"type": "min_time", "seconds": seconds}
        case Prerequisite(course_id):
            return {"type": "prerequisite", "courseId": course_id}
        case Manual():
            return {"type": "manual"}
        case AllOf(branches):
            return {"all": [dump_criteria(branch) for branch in branches]}
        case AnyOf(branches):
            return {"any": [dump_criteria(branch) for branch in branches]}


def unscaled(units: int) -> int | float:
    """Return units of 1e-4 as the number of the document."""
    return units // SCALE if units % SCALE == 0 else units / SCALE
