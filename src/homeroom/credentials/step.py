"""The completion step that issues the credential."""

from __future__ import annotations

from typing import Any, ClassVar

from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, SkipReason, Step, StepArgs, StepContext
from homeroom.credentials.api import STEP_NAME, Credentials
from homeroom.credentials.jobs import IssueCredential
from homeroom.jobs.api import FixedDelays, JobContext, Outcome


class CredentialStep(Step):
    """Issue the credential of each completion, by Credly or signed here."""

    name: ClassVar[str] = STEP_NAME
    job: ClassVar[type[StepArgs]] = IssueCredential

    def __init__(self, context: StepContext) -> None:
        """Take the issuers from the settings."""
        super().__init__(context)
        self._credentials = context.part(Credentials)
        self._run = self._credentials.build_handler(context.part(Completions))

    @property
    def retries(self) -> FixedDelays:
        """Return the waits of the settings."""
        return self._credentials.retries

    @property
    def partner_name(self) -> str:
        """Return the issuer."""
        return self._credentials.partner_name

    def skip_reason(self, completion: Completion, course: Course) -> SkipReason | None:
        """Return the reason to issue no credential, or None."""
        return self._credentials.skip_reason(completion, course)

    async def run(self, ctx: JobContext, args: Any) -> Outcome:
        """Issue the credential, or find the one that an earlier attempt has issued."""
        return await self._run(ctx, args)
