"""A receiver of signed webhooks, as analytics and HR run one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from homeroom.sandbox import event, wall
from homeroom.sandbox.exchange import Answer, Exchange, Refused

_MAX_DELIVERIES = 200_000


@dataclass(slots=True)
class Delivery:
    """Hold one accepted webhook: when it came first, how often since, and whether it changed."""

    first_at: str
    digest: bytes
    subject: str
    repeats: int = 0
    changed: int = 0


class Inbox:
    """Check signed CloudEvents and take each `webhook-id` once.

    A repeated `webhook-id` is answered like the first time and counted. A second `webhook-id` for
    the same subject is accepted too, as a real receiver would, and shows in the summary as
    `doubled`: it means that the sender did a thing twice.
    """

    def __init__(
        self,
        secret: str,
        event_type: str,
        shape: type[Struct],
        subject: Callable[[dict[str, Any]], str],
    ) -> None:
        self._webhook = Webhook(secret)
        self._event_type = event_type
        self._shape = shape
        self._subject = subject
        self.deliveries: dict[str, Delivery] = {}
        self.subjects: Counter[str] = Counter()

    def work(self, exchange: Exchange) -> Answer:
        """Answer one delivery. Raises Refused."""
        if exchange.segments not in ((), ("",)):
            raise Refused(404, "no such path: webhooks are posted to {url} itself")
        if exchange.method != "POST":
            raise Refused(405, "webhooks are posted", headers={"allow": "POST"})
        self._verify(exchange)
        body = exchange.read_object("application/cloudevents+json", "application/json")
        found = event.problems(body, self._event_type, self._shape)
        if found:
            raise Refused(422, *found)
        return self._take(exchange.headers["webhook-id"], body["data"], exchange.body)

    def summary(self) -> dict[str, Any]:
        """Count deliveries by `webhook-id` and by subject."""
        return {
            "deliveries": len(self.deliveries),
            "repeats": sum(delivery.repeats for delivery in self.deliveries.values()),
            "changedOnRepeat": sum(delivery.changed for delivery in self.deliveries.values()),
            "subjects": len(self.subjects),
            "doubled": {name: count for name, count in self.subjects.items() if count > 1},
        }

    def _verify(self, exchange: Exchange) -> None:
        try:
            self._webhook.verify(exchange.body, dict(exchange.headers), json_parse=False)
        except WebhookVerificationError as error:
            raise Refused(401, f"webhook signature: {error}") from error
        except ValueError as error:  # a signature header that isn't `v1,<base64>`
            raise Refused(401, "webhook signature: can't be read") from error

    def _take(self, webhook_id: str, data: dict[str, Any], body: bytes) -> Answer:
        digest = hashlib.sha256(body).digest()
        known = self.deliveries.get(webhook_id)
        if known is not None:
            known.repeats += 1
            changed = known.digest != digest
            known.changed += changed
            reasons: tuple[str, ...] = ("repeats an earlier webhook-id",)
            if changed:
                reasons += ("its body differs from the first one",)
            return Answer(200, {"status": "repeated"}, "repeated", reasons)
        if len(self.deliveries) >= _MAX_DELIVERIES:
            raise Refused(507, "the sandbox is full: POST /control/reset")
        subject = self._subject(data)
        self.deliveries[webhook_id] = Delivery(wall.rfc3339(wall.now()), digest, subject)
        self.subjects[subject] += 1
        return Answer(202, {"status": "accepted"})


def analytics_inbox(secret: str) -> Inbox:
    """Make the analytics receiver: one subject is a learner, a course and an attempt."""
    return Inbox(
        secret,
        "org.homeroom.course.completed",
        event.CourseCompleted,
        lambda data: f"{data['userId']}|{data['courseId']}|{data['attempt']}",
    )


def hr_inbox(secret: str) -> Inbox:
    """Make the HR receiver: one subject is an employee, a course and when it was finished."""
    return Inbox(
        secret,
        "org.homeroom.training.recorded",
        event.TrainingRecorded,
        lambda data: f"{data['employeeId']}|{data['courseId']}|{data['completedAt']}",
    )
