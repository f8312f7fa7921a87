"""The lesson generator interface, and the generator that writes by rules (pure)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from homeroom.errors import HomeroomError
from homeroom.lessonplans.curriculum import Curriculum, CurriculumModule
from homeroom.lessonplans.lesson import LessonBody, LessonFinding
from homeroom.lessonplans.lesson_allocation import LessonSlot
from homeroom.lessonplans.lesson_parts import PARTS, merge_parts
from homeroom.lessonplans.open_places import OpenPlace
from homeroom.lessonplans.rule_writer import write_lesson_by_rules

RULE_BASED = "rule-based"
PLACES = "places"
"""The name of the texts for open places in an answer, beside those of parts."""
RULES_VERSION = "2"
"""Version of the rules' wording and tables; stored with every lesson."""


class GeneratorError(HomeroomError):
    """A lesson could not be generated."""

    status = 502
    code = "generator_failed"

    def __init__(
        self,
        message: str,
        *,
        is_retryable: bool,
        retry_after: timedelta | None = None,
        hint: str | None = None,
    ) -> None:
        """Create an error; ``retry_after`` is the shortest useful delay before a retry."""
        super().__init__(message, hint=hint)
        self.is_retryable = is_retryable
        self.retry_after = retry_after


class ProviderThrottled(GeneratorError):
    """The model provider's rate limits allow no call at present."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        """Create an error for a delay that spends no attempt."""
        super().__init__(message, is_retryable=True, retry_after=retry_after)


@dataclass(frozen=True, slots=True)
class LessonTask:
    """A lesson to generate, or some parts of it, with its context."""

    plan_id: str
    job_id: str
    curriculum: Curriculum
    module: CurriculumModule
    slot: LessonSlot
    titles: Sequence[str]
    """Titles of the plan's other lessons; working titles for those not generated yet."""
    allowed_links: Collection[str]
    current: LessonBody | None = None
    """The lesson whose other parts stay as they are; None: a new lesson."""
    parts: tuple[str, ...] = PARTS
    """The parts to write."""
    places: tuple[OpenPlace, ...] = ()
    """The open places to fill in the parts that stay."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return what an answer has to hold: the parts, and ``places`` if any."""
        return (*self.parts, PLACES) if self.places else self.parts


@dataclass(frozen=True, slots=True)
class LessonResult:
    """A generated lesson with its generator and its gaps."""

    body: LessonBody
    generator: str
    gaps: tuple[LessonFinding, ...] = ()
    provenance: dict[str, object] = field(default_factory=dict)
    written_by: Mapping[str, str] | None = None
    """The generator of each new part; None: ``generator`` wrote all that were asked for."""
    filled: tuple[str, ...] = ()
    """The parts whose open places ``generator`` filled."""


class LessonGenerator(ABC):
    """Generates lessons one by one.

    After a crash the same lesson may be requested again.
    """

    name: str
    """``rule-based``, or the model's API kind and name, such as ``openai:gpt-5``."""
    is_model: bool

    @abstractmethod
    async def write(self, task: LessonTask) -> LessonResult:
        """Generate a lesson.

        Raises ``GeneratorError``, or its child ``ProviderThrottled`` where the provider only asks
        for a delay.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""


class RuleBasedGenerator(LessonGenerator):
    """Generates lessons by rules: fast, deterministic, in the author's words."""

    name = RULE_BASED
    is_model = False

    async def write(self, task: LessonTask) -> LessonResult:
        """Generate a lesson."""
        return LessonResult(
            write_task_by_rules(task), RULE_BASED, provenance={"rules": RULES_VERSION}
        )

    async def close(self) -> None:
        """Do nothing: this generator has no connections."""


def write_task_by_rules(task: LessonTask) -> LessonBody:
    """Return the rule-based lesson for a task; parts that it does not ask for stay."""
    body = write_lesson_by_rules(task.slot, task.curriculum)
    return body if task.current is None else merge_parts(task.current, body, task.parts)
