"""Receivers of webhooks for analytics and HR, which check every field.

The types are those that Homeroom publishes for its webhooks; the envelope is CloudEvents 1.0 in
JSON. Other fields are ignored, as CloudEvents requires of a consumer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from homeroom.sandbox import sandbox_request
from homeroom.sandbox.directory_and_assessment import NonEmptyText, ZonedInstant
from homeroom.sandbox.sandbox_request import RequestRefused, SandboxRequest, SandboxResponse

ScoreFraction = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[int, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=1)]
_MAX_DELIVERIES = 200_000
TEST_TYPE = "org.homeroom.webhook.test"


class CloudEventEnvelope(Struct, frozen=True):
    """The attributes of a CloudEvent that are checked."""

    specversion: Literal["1.0"]
    id: NonEmptyText
    source: NonEmptyText
    type: NonEmptyText
    data: dict[str, Any]
    time: ZonedInstant | UnsetType = UNSET
    subject: NonEmptyText | UnsetType = UNSET
    messageversion: Annotated[int, Meta(ge=2)] | UnsetType = UNSET
    datacontenttype: Literal["application/json"] | UnsetType = UNSET


class CompletedChapter(Struct, frozen=True, rename="camel"):
    """One chapter of a finished course; progress in percent, time in seconds."""

    chapter_id: NonEmptyText
    progress: Percent
    time_spent: Seconds
    completed: bool


class CourseCompleted(Struct, frozen=True, rename="camel"):
    """The event for analytics when a learner finishes a course."""

    user_id: NonEmptyText
    course_id: NonEmptyText
    course_version: Count
    attempt: Count
    completed_at: ZonedInstant
    score: ScoreFraction | None
    time_spent: Seconds
    chapters: list[CompletedChapter]


class TrainingRecorded(Struct, frozen=True, rename="camel"):
    """The record of a training for HR; null for values unknown to Homeroom."""

    employee_id: NonEmptyText
    given_name: NonEmptyText | None
    family_name: NonEmptyText | None
    course_id: NonEmptyText
    course_title: NonEmptyText
    completed_at: ZonedInstant
    score: ScoreFraction | None
    hours: Annotated[float, Meta(ge=0)]
    valid_until: ZonedInstant | None
    credential_url: Annotated[str, Meta(pattern="^https?://")] | None


def event_problems(
    body: dict[str, Any], event_types: Sequence[str], shape: type[Struct]
) -> list[str]:
    """Return all faults of an event; empty if it is accepted."""
    found = _field_problems(body, CloudEventEnvelope, "")
    if isinstance(body.get("type"), str) and body["type"] not in event_types:
        found.append(f"type is {body['type']}, not {' or '.join(event_types)}")
    data = body.get("data")
    if isinstance(data, dict):
        found += _field_problems(data, shape, "data.")
    return found


def _field_problems(value: dict[str, Any], shape: type[Struct], prefix: str) -> list[str]:
    found = []
    for each in msgspec.structs.fields(shape):
        name = each.encode_name
        if name in value:
            try:
                msgspec.convert(value[name], each.type)
            except msgspec.ValidationError as error:
                found.append(f"{prefix}{name}: {error}")
        elif each.required:
            found.append(f"{prefix}{name} is missing")
    return found


@dataclass(slots=True)
class ReceivedWebhook:
    """An accepted webhook: first arrival, repeats, and repeats with another body."""

    first_at: str
    digest: bytes
    subject: str
    repeats: int = 0
    changed: int = 0


class WebhookReceiver:
    """A receiver of signed CloudEvents that accepts each `webhook-id` once.

    A repeated `webhook-id` gets the same response and is counted. A second `webhook-id` for
    the same subject, type and version is accepted too, as a real receiver would, and shows in
    the summary as `doubled`: it means that the sender sent an event twice.
    """

    def __init__(
        self,
        secret: str,
        event_types: Sequence[str],
        shape: type[Struct],
        subject: Callable[[dict[str, Any]], str],
    ) -> None:
        self._webhook = Webhook(secret)
        self._event_types = event_types
        self._shape = shape
        self._subject = subject
        self.deliveries: dict[str, ReceivedWebhook] = {}
        self.subjects: Counter[str] = Counter()
        self.updates: Counter[str] = Counter()
        self.tests = 0

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Handle one delivery. Raises RequestRefused."""
        if request.segments not in ((), ("",)):
            raise RequestRefused(404, "no such path: webhooks are posted to {url} itself")
        if request.method != "POST":
            raise RequestRefused(405, "webhooks are posted", headers={"allow": "POST"})
        self._verify(request)
        body = request.read_object("application/cloudevents+json", "application/json")
        if body.get("type") == TEST_TYPE:  # its signature was all there is to check
            self.tests += 1
            return SandboxResponse(200, {"status": "test"})
        found = event_problems(body, self._event_types, self._shape)
        if found:
            raise RequestRefused(422, *found)
        return self._accept(request.headers["webhook-id"], body, request.body)

    def summary(self) -> dict[str, Any]:
        """Count deliveries by `webhook-id` and by subject.

        `updates` counts the messages that follow a subject's first one: of a later type or version.
        """
        return {
            "deliveries": len(self.deliveries),
            "tests": self.tests,
            "repeats": sum(delivery.repeats for delivery in self.deliveries.values()),
            "changedOnRepeat": sum(delivery.changed for delivery in self.deliveries.values()),
            "subjects": len(self.subjects),
            "updates": len(self.updates),
            "doubled": {
                name: count for name, count in (self.subjects + self.updates).items() if count > 1
            },
        }

    def _verify(self, request: SandboxRequest) -> None:
        try:
            self._webhook.verify(request.body, dict(request.headers), json_parse=False)
        except WebhookVerificationError as error:
            raise RequestRefused(401, f"webhook signature: {error}") from error
        except ValueError as error:  # a signature header that isn't `v1,<base64>`
            raise RequestRefused(401, "webhook signature: cannot be read") from error

    def _accept(self, webhook_id: str, event: dict[str, Any], body: bytes) -> SandboxResponse:
        digest = hashlib.sha256(body).digest()
        known = self.deliveries.get(webhook_id)
        if known is not None:
            known.repeats += 1
            changed = known.digest != digest
            known.changed += changed
            reasons: tuple[str, ...] = ("repeats an earlier webhook-id",)
            if changed:
                reasons += ("its body differs from the first one",)
            return SandboxResponse(200, {"status": "repeated"}, "repeated", reasons)
        if len(self.deliveries) >= _MAX_DELIVERIES:
            raise RequestRefused(507, "the sandbox is full: POST /control/reset")
        subject = self._subject(event["data"])
        counter = self.subjects
        if event["type"] != self._event_types[0]:
            subject += f"|{event['type']}"
            counter = self.updates
        if "messageversion" in event:
            subject += f"|{event['messageversion']}"
            counter = self.updates
        self.deliveries[webhook_id] = ReceivedWebhook(
            sandbox_request.format_rfc3339(sandbox_request.utc_now()), digest, subject
        )
        counter[subject] += 1
        return SandboxResponse(202, {"status": "accepted"})


def analytics_receiver(secret: str) -> WebhookReceiver:
    """Return the receiver for analytics; subjects are attempts at a course."""
    return WebhookReceiver(
        secret,
        ("org.homeroom.course.completed",),
        CourseCompleted,
        lambda data: f"{data['userId']}|{data['courseId']}|{data['attempt']}",
    )


def hr_receiver(secret: str) -> WebhookReceiver:
    """Return the receiver for HR; subjects are an employee, a course and its end."""
    return WebhookReceiver(
        secret,
        ("org.homeroom.training.recorded", "org.homeroom.training.updated"),
        TrainingRecorded,
        lambda data: f"{data['employeeId']}|{data['courseId']}|{data['completedAt']}",
    )
