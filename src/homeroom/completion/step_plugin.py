"""The contract of a completion step as a plug-in: one class (docs/steps.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import httpx
from pydantic import BaseModel

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion import store
from homeroom.completion.completion import Completion, SkipReason
from homeroom.completion.step import CompletionStep, StepArgs
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.jobs.api import FixedDelays, JobContext
from homeroom.jobs.job import Job
from homeroom.jobs.outcome import Done, Fail, Outcome
from homeroom.partner.failure import PartnerError

PartType = TypeVar("PartType")


class NoSettings(BaseModel):
    """The settings of a step that has none of its own."""


class Contact(Protocol):
    """A person as the directory knows them; None is what it does not know."""

    @property
    def email(self) -> str | None:
        """The e-mail address."""

    @property
    def given_name(self) -> str | None:
        """The given name."""

    @property
    def family_name(self) -> str | None:
        """The family name."""


class ContactDirectory(Protocol):
    """The directory of the settings, or the built-in one."""

    async def find(self, user_id: str) -> Contact | None:
        """Return a person, or None for an unknown id. Raises ``PartnerError``."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """The parts of the application that a step is built from."""

    db: Database
    client: httpx.AsyncClient
    """The client that all partners share; ``Partner`` takes it."""
    public_url: str
    directory: ContactDirectory
    settings: Any = field(default_factory=NoSettings)
    """An instance of the step's ``settings_model``, read from the environment."""
    parts: Mapping[type[Any], Any] = field(default_factory=dict)
    """Parts of the application by their types; see ``part``."""

    def part(self, kind: type[PartType]) -> PartType:
        """Return a part of the application by its type; raise ``LookupError`` without it."""
        part: PartType = self.parts[kind]
        return part


class Step(ABC):
    """A step that follows every completion, as a class that an entry point names.

    Its job calls ``run``; the outcome decides on the job, and the step's state follows the job.
    The docstring's first line is the description in lists.
    """

    name: ClassVar[str]
    """Lower-case letters, digits and ``_``; never changed: rows, jobs and settings hold it."""
    job: ClassVar[type[StepArgs]]
    """The arguments of its job, of the kind ``completion.{name}``."""
    settings_model: ClassVar[type[BaseModel]] = NoSettings
    """Its settings, read from ``HOMEROOM_STEP_{NAME}_{FIELD}``."""
    waits_for: ClassVar[tuple[str, ...]] = ()
    """See ``CompletionStep.waits_for``."""

    def __init__(self, context: StepContext) -> None:
        """Keep the context; it makes no call and reads no database."""
        self.context = context

    @property
    def is_switched_on(self) -> bool:
        """Return whether new completions have the step; others go on in any case."""
        return True

    @property
    def retries(self) -> FixedDelays | None:
        """Return the waits before its retries; None: those of its job's kind."""
        return None

    @property
    def partner_name(self) -> str:
        """Return the partner that log lines name."""
        return self.name

    def skip_reason(self, completion: Completion, course: Course) -> SkipReason | None:
        """Return the reason to skip the step for a completion, or None."""
        return None

    @abstractmethod
    async def run(self, ctx: JobContext, args: Any) -> Outcome:
        """Do the step's work; ``args`` is an instance of ``job``.

        It may run twice for one completion: a worker may die after the work and before the commit.
        """

    def declaration(self) -> CompletionStep:
        """Return the step as ``Completions`` takes it."""
        return CompletionStep(
            self.name,
            lambda id: self.job(completion_id=id),
            self.skip_reason,
            self.waits_for,
            self.is_switched_on,
        )

    async def on_job_change(self, tx: Tx, job: Job, args: Any) -> None:
        """Save a record of the step's own, in the commit that changes its job."""
        return


class SimpleStep(Step):
    """A step that needs the completion and its course, and no record of its own."""

    @abstractmethod
    async def complete(self, ctx: JobContext, completion: Completion, course: Course) -> Outcome:
        """Do the step's work; a ``PartnerError`` becomes the outcome that it stands for."""

    async def run(self, ctx: JobContext, args: Any) -> Outcome:
        """Read the completion, skip the step where there is a reason, else complete it."""
        completion_id: str = args.completion_id
        async with self.context.db.read() as tx:
            completion = await store.get(tx, completion_id)
            if completion is None:
                return Fail(f"there is no completion {completion_id}")
            course = await catalogue.course_at(tx, completion.course_id, completion.course_version)
        reason = self.skip_reason(completion, course)
        if reason is not None:
            return Done(reason.to_result())
        try:
            return await self.complete(ctx, completion, course)
        except PartnerError as error:
            return error.to_outcome()
