"""The sequence of lessons: their purposes and phases (pure).

Lessons on one outcome follow the gradual release of responsibility: opening, modelling, guided
practice, independent practice, transfer, check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from homeroom.lessonplans.curriculum import LearningOutcome


class LessonStage(StrEnum):
    """The purpose of a lesson."""

    WHOLE = "whole"
    """The only lesson on its outcomes: a complete round."""
    OPEN = "open"
    MODEL = "model"
    GUIDED = "guided"
    INDEPENDENT = "independent"
    TRANSFER = "transfer"
    CHECK = "check"
    REVIEW = "review"
    ASSESSMENT = "assessment"
    FIELD_PRACTICE = "field_practice"


_W, _O, _M, _G, _I, _T, _C = (
    LessonStage.WHOLE,
    LessonStage.OPEN,
    LessonStage.MODEL,
    LessonStage.GUIDED,
    LessonStage.INDEPENDENT,
    LessonStage.TRANSFER,
    LessonStage.CHECK,
)
_LADDERS: Mapping[int, tuple[LessonStage, ...]] = {
    1: (_W,),
    2: (_M, _I),
    3: (_M, _G, _I),
    4: (_M, _G, _I, _C),
    5: (_O, _M, _G, _I, _T),
    6: (_O, _M, _G, _I, _T, _C),
}
_LONGEST = 6
_REPEATED = (_G, _I, _T)

_PHASES: Mapping[LessonStage, tuple[tuple[str, ...], ...]] = {
    LessonStage.WHOLE: (
        ("retrieve", "teach", "guided", "independent", "check", "exit"),
        ("retrieve", "probe", "teach", "guided", "check", "exit"),
        ("retrieve", "teach", "check", "guided", "independent", "exit"),
    ),
    LessonStage.OPEN: (
        ("retrieve", "probe", "teach", "guided", "exit"),
        ("retrieve", "probe", "teach", "check", "guided", "exit"),
    ),
    LessonStage.MODEL: (
        ("retrieve", "teach", "check", "teach", "guided", "exit"),
        ("retrieve", "teach", "guided", "teach", "exit"),
    ),
    LessonStage.GUIDED: (
        ("retrieve", "teach", "guided", "guided", "check", "exit"),
        ("retrieve", "teach", "guided", "independent", "exit"),
        ("retrieve", "guided", "check", "guided", "independent", "exit"),
    ),
    LessonStage.INDEPENDENT: (
        ("retrieve", "guided", "independent", "check", "exit"),
        ("retrieve", "independent", "check", "independent", "exit"),
        ("retrieve", "teach", "independent", "independent", "check", "exit"),
    ),
    LessonStage.TRANSFER: (
        ("retrieve", "transfer", "check", "exit"),
        ("retrieve", "independent", "transfer", "check", "exit"),
        ("retrieve", "teach", "transfer", "transfer", "exit"),
    ),
    LessonStage.CHECK: (
        ("retrieve", "independent", "check", "check", "exit"),
        ("retrieve", "check", "guided", "check", "exit"),
    ),
    LessonStage.REVIEW: (
        ("retrieve", "review", "review", "check", "exit"),
        ("retrieve", "review", "independent", "review", "exit"),
    ),
    LessonStage.ASSESSMENT: (("retrieve", "brief", "assess", "exit"),),
    LessonStage.FIELD_PRACTICE: (("retrieve", "brief", "field", "debrief"),),
}
_WEIGHTS: Mapping[str, int] = {
    "retrieve": 2, "probe": 2, "teach": 4, "guided": 5, "independent": 5, "transfer": 6,
    "check": 3, "exit": 1, "review": 5, "brief": 1, "assess": 12, "field": 14, "debrief": 3,
}  # fmt: skip
_SHORTEST_PHASE_MINUTES = 5
_DROPPED_FIRST = ("probe", "brief", "check", "teach", "independent", "review")


def lesson_stages(count: int) -> tuple[LessonStage, ...]:
    """Return the purposes of ``count`` lessons on one outcome, in their order."""
    if count <= _LONGEST:
        return _LADDERS[count]
    extra = [_REPEATED[index % len(_REPEATED)] for index in range(count - _LONGEST)]
    middle = [stage for stage in _REPEATED for _ in range(1 + extra.count(stage))]
    return (_O, _M, *middle, _C)


def lesson_phases(
    stage: LessonStage, turn: int, minutes: int, *, can_retrieve: bool
) -> tuple[str, ...]:
    """Return the phases of a lesson; ``turn`` counts those of its stage.

    A short lesson has fewer phases. Without an earlier outcome it opens with what is known.
    """
    options = _PHASES[stage]
    phases = list(options[turn % len(options)])
    if not can_retrieve:
        phases[0] = "probe"
        if "probe" in phases[1:]:
            phases.remove("probe")
    most = max(3, minutes // _SHORTEST_PHASE_MINUTES)
    for name in _DROPPED_FIRST:
        while len(phases) > most and name in phases[1:]:
            phases.reverse()
            phases.remove(name)
            phases.reverse()
    return tuple(phases)


def phase_weights(phases: Sequence[str]) -> list[int]:
    """Return the weights by which a lesson's minutes are divided."""
    return [_WEIGHTS[phase] for phase in phases]


def prerequisite_order(
    outcomes: tuple[LearningOutcome, ...],
) -> tuple[list[LearningOutcome], list[str]]:
    """Return outcomes ordered by prerequisites, and the ids of a circle.

    The author's order is kept wherever the prerequisites allow it.
    """
    left = list(outcomes)
    ordered: list[LearningOutcome] = []
    while left:
        waiting = {outcome.id for outcome in left}
        ready = next(
            (each for each in left if not (waiting - {each.id}) & set(each.prerequisites)
             and each.id not in each.prerequisites),
            None,
        )  # fmt: skip
        if ready is None:
            return ordered, sorted(waiting)
        ordered.append(ready)
        left.remove(ready)
    return ordered, []
