"""A course in one version: units of chapters, and what each asks of a learner (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from homeroom.catalogue import criteria as criterion
from homeroom.catalogue.criteria import AllItems, Criteria
from homeroom.catalogue.fault import SCALE
from homeroom.catalogue.validity import Validity

QuizPolicy = Literal["best", "latest", "first", "average"]
"""Which of a quiz's attempts gives its score (B5)."""
LearnerPolicy = Literal["at_next_visit", "now", "never", "require_new"]
"""What a new version means for learners of the ones before (B11)."""


class MoveOn(StrEnum):
    """What satisfies a chapter (B6, the words of cmi5 13.1.4)."""

    PASSED = "Passed"
    COMPLETED = "Completed"
    COMPLETED_AND_PASSED = "CompletedAndPassed"
    COMPLETED_OR_PASSED = "CompletedOrPassed"
    NOT_APPLICABLE = "NotApplicable"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter: the item that learners make progress on."""

    id: str
    title: str
    unit_id: str
    weight: int = SCALE
    """Units of 1e-4; 10,000 is a weight of 1."""
    required: bool = True
    move_on: MoveOn = MoveOn.COMPLETED
    pass_threshold: int | None = None
    """A quiz attempt passes at this score, in units of 1e-4; None: the chapter has no quiz."""
    measured: bool = field(init=False, compare=False, repr=False)
    """Whether the course's percentage and ``all_items`` count it (B7): optional chapters do not
    count, nor do those that nothing needs to be done for."""

    def __post_init__(self) -> None:
        """Compute once what ingest reads for every event."""
        measured = self.required and self.move_on is not MoveOn.NOT_APPLICABLE
        object.__setattr__(self, "measured", measured)  # the class is frozen

    def satisfied(self, completed: bool, passed: bool, waived: bool = False) -> bool:
        """Say whether the chapter asks nothing more of a learner (B6). A fail satisfies nothing."""
        if waived:
            return True
        match self.move_on:
            case MoveOn.COMPLETED:
                return completed
            case MoveOn.PASSED:
                return passed
            case MoveOn.COMPLETED_AND_PASSED:
                return completed and passed
            case MoveOn.COMPLETED_OR_PASSED:
                return completed or passed
            case MoveOn.NOT_APPLICABLE:
                return True


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: a title over some chapters."""

    id: str
    title: str
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True, slots=True)
class Course:
    """One immutable version of a course."""

    id: str
    version: int
    title: str
    units: tuple[Unit, ...]
    criteria: Criteria = field(default_factory=AllItems)
    auto_enrol: bool = True
    """The first event of a learner enrols; otherwise it is rejected with ``not_enrolled``."""
    trust_client: bool = False
    """A learner's own token may post quiz attempts that count."""
    badge_template_id: str | None = None
    validity: Validity | None = None
    estimated_hours: float | None = None
    quiz_policy: QuizPolicy = "best"
    learner_policy: LearnerPolicy = "at_next_visit"
    """``require_new`` asks who has completed the course for what is new, and moves others now."""
    complete_on_edit: bool = False
    """Whether an edit (a removed chapter, say) may itself complete a learner (B11)."""
    chapters: Mapping[str, Chapter] = field(init=False, compare=False, repr=False)
    """All chapters by id, in the order of the course."""
    required: frozenset[str] = field(init=False, compare=False, repr=False)
    """Ids of the chapters that are measured: required and not ``NotApplicable`` (B7)."""
    total_weight: int = field(init=False, compare=False, repr=False)
    """Sum of the measured weights in units of 1e-4; 0: the course is not measurable (B7)."""
    needs: frozenset[str] = field(init=False, compare=False, repr=False)
    """Which facts decide completion, see ``criteria.needs``."""
    prerequisites: frozenset[str] = field(init=False, compare=False, repr=False)
    """The courses that the criteria ask for."""

    def __post_init__(self) -> None:
        """Compute once what ingest reads for every event."""
        chapters = {chapter.id: chapter for unit in self.units for chapter in unit.chapters}
        measured = [chapter for chapter in chapters.values() if chapter.measured]
        put = object.__setattr__  # the class is frozen
        put(self, "chapters", chapters)
        put(self, "required", frozenset(chapter.id for chapter in measured))
        put(self, "total_weight", sum(chapter.weight for chapter in measured))
        put(self, "needs", criterion.needs(self.criteria))
        put(self, "prerequisites", criterion.prerequisites(self.criteria))

    @property
    def moves_at_once(self) -> bool:
        """Say whether publishing moves open learners by itself, and not their next visit."""
        return self.learner_policy in ("now", "require_new")

    def valid_until(self, completed_at: int) -> int | None:
        """Return when a completion at that instant ends to be valid; None: never."""
        return None if self.validity is None else self.validity.end(completed_at)
