"""The port of what writes lessons, and the writer that needs nothing but rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from homeroom.errors import HomeroomError
from homeroom.lessonplans import rule_based
from homeroom.lessonplans.check import Finding
from homeroom.lessonplans.curriculum import Curriculum, Module
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.skeleton import Slot

RULE_BASED = "rule-based"
RULES_VERSION = "1"
"""Of the rules' wordings and tables; it is kept with every lesson."""


class GeneratorError(HomeroomError):
    """The lesson could not be written."""

    status = 502
    code = "generator_failed"

    def __init__(
        self,
        message: str,
        *,
        again: bool,
        after: timedelta | None = None,
        hint: str | None = None,
    ) -> None:
        """Take whether trying again can help, and when at the earliest."""
        super().__init__(message, hint=hint)
        self.again = again
        self.after = after


class NotYet(GeneratorError):
    """The limits of the model's provider allow no call right now."""

    def __init__(self, message: str, after: timedelta) -> None:
        """Take how long to wait; waiting spends no attempt."""
        super().__init__(message, again=True, after=after)


@dataclass(frozen=True, slots=True)
class Task:
    """A lesson that is to be written, and what there is to know about it."""

    plan_id: str
    job_id: str
    curriculum: Curriculum
    module: Module
    slot: Slot
    titles: Sequence[str]
    """Of the plan's other lessons; working titles where they are not written yet."""
    allowed_links: Collection[str]


@dataclass(frozen=True, slots=True)
class Written:
    """A lesson, who wrote it, and what is missing in it."""

    body: LessonBody
    generator: str
    gaps: tuple[Finding, ...] = ()
    provenance: dict[str, object] = field(default_factory=dict)


class Generator(ABC):
    """Writes lessons one by one. It may be asked again for a lesson after a crash."""

    name: str
    """``rule-based`` or the kind of the model's API and the model."""
    is_model: bool

    @abstractmethod
    async def write(self, task: Task) -> Written:
        """Write a lesson. Raises ``GeneratorError``; ``NotYet`` where there is only a wait."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections."""


class RuleBased(Generator):
    """Writes by rule: instantly, the same each time, in the author's words."""

    name = RULE_BASED
    is_model = False

    async def write(self, task: Task) -> Written:
        """Write a lesson."""
        return Written(by_rule(task), RULE_BASED, provenance={"rules": RULES_VERSION})

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def by_rule(task: Task) -> LessonBody:
    """Return what the rules make of a lesson."""
    preferences = task.curriculum.preferences
    return rule_based.write(task.slot, task.module.title, preferences.delivery_mode)
