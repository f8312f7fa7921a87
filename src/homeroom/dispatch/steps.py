"""The completion steps that send webhooks: analytics and HR."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, StepArgs, StepContext
from homeroom.dispatch.api import Dispatches
from homeroom.dispatch.cloud_event import (
    COURSE_COMPLETED,
    TRAINING_RECORDED,
    TRAINING_UPDATED,
    build_course_completed,
    build_training_record,
)
from homeroom.dispatch.jobs import SendAnalytics, SendHrReport
from homeroom.dispatch.message import MessageKey
from homeroom.dispatch.message_step import DEFAULT_RATE, MessageStep
from homeroom.dispatch.webhook import Destination
from homeroom.jobs.api import FixedDelays


class CloudEventStep(MessageStep):
    """A step that sends CloudEvents as webhooks, to a URL of the settings."""

    def __init__(self, context: StepContext) -> None:
        """Take the destination from the settings of webhooks."""
        super().__init__(context)
        self._dispatches = context.part(Dispatches)

    @property
    def receiver(self) -> Destination | None:
        """Return the receiver of the webhook, or None without its settings."""
        return self._dispatches.webhooks[self.name]

    @property
    def missing_setting(self) -> str:
        """Return the setting that is missing."""
        return self._dispatches.missing_settings[self.name]

    @property
    def retries(self) -> FixedDelays | None:
        """Return the waits of the destination's settings."""
        return self._dispatches.webhook_retries.get(self.name)

    @property
    def rate(self) -> float:
        """Return the rate of the destination's settings."""
        return self._dispatches.rates.get(self.name, DEFAULT_RATE)

    def content(self, message: Any) -> Any:
        """Return the data: the envelope holds the id, and the URL of this installation."""
        return message["data"]

    @abstractmethod
    async def build(self, key: MessageKey, completion: Completion, course: Course) -> Any:
        """Return the event."""


class AnalyticsStep(CloudEventStep):
    """Send each completion to analytics (HOMEROOM_ANALYTICS_URL)."""

    name: ClassVar[str] = "analytics"
    job: ClassVar[type[StepArgs]] = SendAnalytics
    message_type: ClassVar[str] = COURSE_COMPLETED

    async def build(self, key: MessageKey, completion: Completion, course: Course) -> Any:
        """Return the event of a completed course; nothing in it is learnt later."""
        return build_course_completed(key, self._dispatches.source, completion)


class HrStep(CloudEventStep):
    """Send each completion as a training record to HR (HOMEROOM_HR_URL)."""

    name: ClassVar[str] = "hr"
    job: ClassVar[type[StepArgs]] = SendHrReport
    waits_for: ClassVar[tuple[str, ...]] = ("credential",)
    message_type: ClassVar[str] = TRAINING_RECORDED
    update_type: ClassVar[str | None] = TRAINING_UPDATED

    async def build(self, key: MessageKey, completion: Completion, course: Course) -> Any:
        """Return the training record; raise ``PartnerError`` where the directory fails."""
        person = await self.context.directory.find(completion.user_id)
        async with self.context.db.read() as tx:
            url = await self._dispatches.credential_url(tx, completion.id)
        return build_training_record(
            key,
            self._dispatches.source,
            completion,
            course,
            given_name=None if person is None else person.given_name,
            family_name=None if person is None else person.family_name,
            credential_url=url,
        )
