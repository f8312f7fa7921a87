"""Unmet completion criteria in words: why a course is not complete (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from homeroom.catalogue.criteria import (
    SCALE,
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
    evaluate_criteria,
)

_MAX_TITLES = 5
"""Chapters that one text names; more are counted."""


@dataclass(frozen=True, slots=True)
class UnmetCriterion:
    """A criterion that does not hold, by the name of its document, and its words."""

    type: str
    text: str
    chapter_ids: tuple[str, ...] = ()
    """Chapters that would help, in the course's order."""


def unmet_criteria(
    criteria: Criteria, facts: CompletionFacts, titles: Mapping[str, str]
) -> list[UnmetCriterion]:
    """Return what is missing for the criteria to hold; empty if they do.

    ``titles`` are those of the course's chapters, in its order.
    """
    return list(_unmet(criteria, facts, titles))


def _unmet(
    criteria: Criteria, facts: CompletionFacts, titles: Mapping[str, str]
) -> Iterator[UnmetCriterion]:
    if evaluate_criteria(criteria, facts):
        return
    match criteria:
        case AllItems():
            yield _missing_items(facts, titles)
        case NOfM(n, of):
            among = facts.required if of is None else of
            missing = [id for id in titles if id in among and id not in facts.satisfied]
            done = sum(id in facts.satisfied for id in among)
            text = f"{n} of {len(among)} chapters are needed and {done} are done. Open: "
            yield UnmetCriterion("n_of_m", text + _listed(missing, titles), tuple(missing))
        case MinCourseGrade(grade):
            needed = f"the course needs a grade of {_percent(grade)}"
            reached = (
                "There is no score yet"
                if facts.grade is None
                else (f"The grade is {_percent(facts.grade)}")
            )
            yield UnmetCriterion("min_course_grade", f"{reached}; {needed}.")
        case MinTime(seconds):
            left = _duration(seconds - facts.time_spent)
            text = f"The course needs {_duration(seconds)} of learning time; {left} are missing."
            yield UnmetCriterion("min_time", text)
        case Prerequisite(course_id):
            yield UnmetCriterion(
                "prerequisite", f"The course {course_id!r} has to be completed first."
            )
        case Manual():
            yield UnmetCriterion("manual", "The completion has not been approved yet.")
        case AllOf(branches):
            yield from chain.from_iterable(_unmet(branch, facts, titles) for branch in branches)
        case AnyOf(branches):
            ways = [" ".join(each.text for each in _unmet(way, facts, titles)) for way in branches]
            yield UnmetCriterion("any", "One of these is needed: " + " Or: ".join(ways))


def _missing_items(facts: CompletionFacts, titles: Mapping[str, str]) -> UnmetCriterion:
    if not facts.required:
        text = "The course has no required chapter, so that its chapters cannot complete it."
        return UnmetCriterion("all_items", text)
    missing = [id for id in titles if id in facts.required and id not in facts.satisfied]
    done = len(facts.required) - len(missing)
    text = f"{done} of {len(facts.required)} required chapters are done. Open: "
    return UnmetCriterion("all_items", text + _listed(missing, titles), tuple(missing))


def _listed(ids: Sequence[str], titles: Mapping[str, str]) -> str:
    named = ", ".join(titles[id] for id in ids[:_MAX_TITLES])
    more = len(ids) - _MAX_TITLES
    return f"{named} and {more} more." if more > 0 else f"{named}."


def _percent(units: int) -> str:
    return f"{units * 100 / SCALE:g} %"


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min" if rest == 0 else f"{minutes} min {rest} s"
