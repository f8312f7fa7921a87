"""Steps that cannot be used, each for a reason of its own, and some that can."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, Field, SecretStr

from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, SimpleStep, SkipReason, Step, StepArgs, StepContext
from homeroom.jobs.api import Done, JobContext, Outcome


class Greet(StepArgs, frozen=True, kw_only=True):
    """The job of the usable step."""

    kind: ClassVar[str] = "completion.greeting"
    queue: ClassVar[str] = "greeting"


class GreetingSettings(BaseModel):
    """The settings of the usable step."""

    words: list[str] = Field(["hello"], description="What to say.")
    times: int = Field(1, ge=1, description="How often.")
    password: SecretStr | None = Field(None, description="Of the loudspeaker.")


class GreetingStep(SimpleStep):
    """Greet the graduate."""

    name = "greeting"
    job: ClassVar[type[StepArgs]] = Greet
    settings_model = GreetingSettings
    greeted: ClassVar[list[str]] = []

    def skip_reason(self, completion: Completion, course: Course) -> SkipReason | None:
        """Return a reason for one learner."""
        if completion.user_id == "shy":
            return SkipReason("learner_is_shy", "the learner is shy")
        return None

    async def complete(self, ctx: JobContext, completion: Completion, course: Course) -> Outcome:
        """Greet."""
        self.greeted.append(completion.user_id)
        return Done({"externalId": f"greeting of {completion.user_id}"})


class NotAStep:
    """Is no subclass of ``Step``."""


class WithoutRun(Step):
    """Lacks what a step has to do."""

    name = "greeting"
    job: ClassVar[type[StepArgs]] = Greet


class OtherKind(GreetingStep):
    """Has the job of another step."""

    name = "waving"


class BadName(GreetingStep):
    """Has a name that no setting can hold."""

    name = "Greeting-Step"


class SecondHr(GreetingStep):
    """Has the name of a step of Homeroom's."""

    name = "hr"

    class Report(StepArgs, frozen=True, kw_only=True):
        """The job of the kind that the name asks for."""

        kind: ClassVar[str] = "completion.hr"
        queue: ClassVar[str] = "greeting"

    job: ClassVar[type[StepArgs]] = Report


class Raises(GreetingStep):
    """Cannot be built."""

    def __init__(self, context: StepContext) -> None:
        """Raise."""
        raise RuntimeError("the loudspeaker is missing")


class WaitsForHr(GreetingStep):
    """Waits for a step that waits itself."""

    waits_for: ClassVar[tuple[Any, ...]] = ("hr",)
