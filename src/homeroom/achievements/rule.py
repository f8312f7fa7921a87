"""Conditions of achievement rules, and learners' progress (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.completion.api import CourseResult

SCORE_UNITS = 10_000


@dataclass(frozen=True, slots=True)
class Condition:
    """A number of different courses that a learner has to complete."""

    count: int
    course_ids: tuple[str, ...] | None = None
    """Only these count; None: every course."""
    minimum_score: int | None = None
    """Units of 1e-4; a completion without a score does not reach it."""

    def counts(self, result: CourseResult) -> bool:
        """Return whether a completion counts for this condition."""
        if self.course_ids is not None and result.course_id not in self.course_ids:
            return False
        if self.minimum_score is None:
            return True
        return result.score is not None and result.score >= self.minimum_score


@dataclass(frozen=True, slots=True)
class RuleProgress:
    """A learner's progress towards a condition."""

    done: int
    """Courses that count, at most ``required``."""
    required: int
    missing_course_ids: tuple[str, ...]
    """Courses of the rule that do not count yet; empty where every course may count."""
    met_by: CourseResult | None
    """The completion with which the condition was met; None: it is not met yet."""

    @property
    def fraction(self) -> float:
        """Return the part that is done, from 0 to 1."""
        return self.done / self.required


def measure(condition: Condition, results: Sequence[CourseResult]) -> RuleProgress:
    """Return a learner's progress; ``results`` are in the order of their dates."""
    counted: dict[str, CourseResult] = {}
    for result in results:
        if condition.counts(result):
            counted.setdefault(result.course_id, result)
    first = list(counted.values())[: condition.count]
    is_met = len(first) == condition.count
    return RuleProgress(
        done=len(first),
        required=condition.count,
        missing_course_ids=()
        if is_met
        else tuple(id for id in condition.course_ids or () if id not in counted),
        met_by=first[-1] if is_met else None,
    )


def describe(condition: Condition) -> str:
    """Return the condition as a sentence: the criteria of its credential."""
    courses = "1 course" if condition.count == 1 else f"{condition.count} courses"
    if condition.course_ids is not None:
        named = ", ".join(condition.course_ids)
        if condition.count == len(condition.course_ids):
            courses = f"all of these courses: {named}"
        else:
            courses += f" of these: {named}"
    if condition.minimum_score is None:
        return f"Complete {courses}."
    percent = condition.minimum_score * 100 / SCORE_UNITS
    return f"Reach a score of at least {percent:g} % in {courses}."
