"""How far a plan is, from its rows alone (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

PlanStatus = Literal["pending", "in_progress", "complete", "failed", "cancelled"]


class ModuleState(Protocol):
    """What is looked at of a module."""

    @property
    def idx(self) -> int:
        """Its position."""

    @property
    def state(self) -> str:
        """Where it is."""

    @property
    def round(self) -> int:
        """Which round its lessons are due in."""


class LessonPace(Protocol):
    """What is looked at of a lesson."""

    @property
    def module_idx(self) -> int:
        """Its module's position."""

    @property
    def minutes(self) -> int:
        """How long it is."""

    @property
    def round(self) -> int:
        """In which round it was written last; 0: never."""

    @property
    def took_ms(self) -> int | None:
        """How long writing it took."""


def plan_status(states: Sequence[str]) -> PlanStatus:
    """Return a plan's status from the states of its modules."""
    found = set(states)
    if "queued" in found:
        return "in_progress"
    if "failed" in found:
        return "failed"
    if "cancelled" in found:
        return "cancelled"
    return "complete" if found == {"complete"} else "pending"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is."""

    percent: float
    """0 to 100, to one decimal and rounded down: 100 means all of it."""
    lessons_left: int
    seconds_left: int | None
    """None: no lesson was written yet, so nobody knows."""


def progress(modules: Sequence[ModuleState], lessons: Sequence[LessonPace]) -> Progress:
    """Return how far these modules are, by the minutes of their lessons.

    Lessons are written one after another, so what is left takes as long as the written ones took
    on average. It grows with every lesson and never shrinks within a round.
    """
    rounds = {module.idx: module.round for module in modules}
    within = [lesson for lesson in lessons if lesson.module_idx in rounds]
    written = [lesson for lesson in within if lesson.round >= rounds[lesson.module_idx]]
    total = sum(lesson.minutes for lesson in within)
    done = sum(lesson.minutes for lesson in written)
    left = len(within) - len(written)
    took = [lesson.took_ms for lesson in within if lesson.took_ms is not None]
    seconds = None
    if left == 0:
        seconds = 0
    elif took:
        seconds = -(-left * sum(took) // (len(took) * 1_000))
    return Progress((done * 1_000 // total) / 10 if total else 100.0, left, seconds)
