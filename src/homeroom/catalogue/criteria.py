"""When a course is complete: a tree of criteria, all or any of which must hold (pure).

Rule B8: complete means that all criteria are true, not that the percentage reached 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from homeroom.catalogue.fault import SCALE, Faults, Place, unscaled

MAX_DEPTH = 8
MAX_CRITERIA = 100
MAX_SECONDS = 10_000 * 3_600


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one learner in one attempt when criteria are evaluated."""

    satisfied: Set[str]
    """Chapters whose own condition (``moveOn``, waiver) is met, optional ones included."""
    required: Set[str]
    """``Course.required``: the chapters that count for the percentage."""
    grade: int | None = None
    """The course grade in units of 1e-4; None while there is none, which is not 0."""
    time_spent: int = 0
    """Whole seconds in this attempt."""
    completed_courses: Set[str] = frozenset()
    """Which of the criteria's prerequisites the learner has completed."""
    approved: bool = False
    """Somebody approved the enrolment by hand."""


@dataclass(frozen=True, slots=True)
class AllItems:
    """Every required chapter is satisfied. Never true where a course requires none (B7)."""


@dataclass(frozen=True, slots=True)
class NOfM:
    """At least ``n`` of some chapters are satisfied; of the required ones if none are named."""

    n: int
    of: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class MinCourseGrade:
    """The course grade is at least this, in units of 1e-4."""

    grade: int


@dataclass(frozen=True, slots=True)
class MinTime:
    """At least so many seconds were spent in the attempt."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """Another course is completed."""

    course_id: str


@dataclass(frozen=True, slots=True)
class Manual:
    """Somebody approved the enrolment."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every branch holds."""

    branches: tuple[Criteria, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one branch holds."""

    branches: tuple[Criteria, ...]


Criteria = AllItems | NOfM | MinCourseGrade | MinTime | Prerequisite | Manual | AllOf | AnyOf

_NEED: Mapping[type, str] = {
    AllItems: "items",
    NOfM: "items",
    MinCourseGrade: "grade",
    MinTime: "time",
    Prerequisite: "prerequisite",
    Manual: "manual",
}
_KEYS: Mapping[str, frozenset[str]] = {
    "all_items": frozenset({"type"}),
    "n_of_m": frozenset({"type", "n", "of"}),
    "min_course_grade": frozenset({"type", "grade"}),
    "min_time": frozenset({"type", "seconds"}),
    "prerequisite": frozenset({"type", "courseId"}),
    "manual": frozenset({"type"}),
}


def evaluate(criteria: Criteria, facts: Facts) -> bool:
    """Say whether the criteria hold."""
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
            return all(evaluate(branch, facts) for branch in branches)
        case AnyOf(branches):
            return any(evaluate(branch, facts) for branch in branches)


def leaves(criteria: Criteria) -> Iterator[Criteria]:
    """Yield the single criteria of a tree, in order."""
    if isinstance(criteria, (AllOf, AnyOf)):
        for branch in criteria.branches:
            yield from leaves(branch)
    else:
        yield criteria


def needs(criteria: Criteria) -> frozenset[str]:
    """Say which facts decide: ``items``, ``grade``, ``time``, ``prerequisite``, ``manual``.

    Who evaluates needs to read no others.
    """
    return frozenset(_NEED[type(leaf)] for leaf in leaves(criteria))


def prerequisites(criteria: Criteria) -> frozenset[str]:
    """Return the courses that the criteria name."""
    return frozenset(leaf.course_id for leaf in leaves(criteria) if isinstance(leaf, Prerequisite))


def dump(criteria: Criteria) -> dict[str, Any]:
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
            return {"all": [dump(branch) for branch in branches]}
        case AnyOf(branches):
            return {"any": [dump(branch) for branch in branches]}


class Reader:
    """Read criteria from JSON, with all their faults."""

    def __init__(
        self, faults: Faults, course_id: str, chapters: Set[str], required: Set[str]
    ) -> None:
        """Take where faults go, and the course: its chapters that can be satisfied."""
        self._faults, self._course_id = faults, course_id
        self._chapters, self._required = chapters, required
        self._count = 0

    def read(self, value: Any, at: Place, depth: int = 1) -> Criteria:
        """Return the criteria; ``AllItems`` stands in for what is faulty."""
        self._count += 1
        if self._count == MAX_CRITERIA + 1:
            self._faults.add(at, f"a course has at most {MAX_CRITERIA} criteria")
        if depth > MAX_DEPTH:
            self._faults.add(at, f"criteria are nested at most {MAX_DEPTH} deep")
        if depth > MAX_DEPTH or self._count > MAX_CRITERIA:
            return AllItems()
        if not isinstance(value, Mapping):
            self._faults.add(at, "must be an object with type, all or any")
            return AllItems()
        for word, kind in (("all", AllOf), ("any", AnyOf)):
            if word in value:
                self._faults.mapping(value, at, {word})
                branches = self._faults.items(value[word], (*at, word))
                if not branches:
                    self._faults.add((*at, word), "must hold at least one criterion")
                return kind(
                    tuple(
                        self.read(branch, (*at, word, index), depth + 1)
                        for index, branch in enumerate(branches)
                    )
                )
        return self._leaf(value, at)

    def _leaf(self, value: Mapping[str, Any], at: Place) -> Criteria:
        faults = self._faults
        name = faults.one_of(value.get("type"), (*at, "type"), _KEYS)
        if name is None:
            return AllItems()
        faults.mapping(value, at, _KEYS[name])
        match name:
            case "n_of_m":
                return self._n_of_m(value, at)
            case "min_course_grade":
                return MinCourseGrade(faults.scaled(value.get("grade"), (*at, "grade"), 1))
            case "min_time":
                return MinTime(faults.whole(value.get("seconds"), (*at, "seconds"), 1, MAX_SECONDS))
            case "prerequisite":
                course_id = faults.id(value.get("courseId"), (*at, "courseId"))
                if course_id == self._course_id:
                    faults.add((*at, "courseId"), "a course cannot be its own prerequisite")
                return Prerequisite(course_id)
            case "manual":
                return Manual()
        return AllItems()

    def _n_of_m(self, value: Mapping[str, Any], at: Place) -> NOfM:
        faults = self._faults
        of: tuple[str, ...] | None = None
        among = len(self._required)
        if value.get("of") is not None:
            named = faults.items(value["of"], (*at, "of"))
            for index, chapter in enumerate(named):
                if not isinstance(chapter, str) or chapter not in self._chapters:
                    faults.add(
                        (*at, "of", index),
                        "must be the id of a chapter here whose moveOn is not NotApplicable",
                    )
                elif chapter in named[:index]:
                    faults.add((*at, "of", index), "names a chapter twice")
            of = tuple(str(chapter) for chapter in named)
            among = len(of)
        n = faults.whole(value.get("n"), (*at, "n"), 1, SCALE)
        if n > among:
            faults.add((*at, "n"), f"asks for {n} of {among} chapters")
        return NOfM(n, of)
