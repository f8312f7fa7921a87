"""Build the messages to partner systems: CloudEvents 1.0 in JSON (pure)."""

from __future__ import annotations

from typing import Any

from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, score_fraction
from homeroom.dispatch.message import MessageKey
from homeroom.instant import to_datetime

COURSE_COMPLETED = "org.homeroom.course.completed"
TRAINING_RECORDED = "org.homeroom.training.recorded"
TRAINING_UPDATED = "org.homeroom.training.updated"
"""What was learnt after the record, such as the credential's URL; the same data."""
WEBHOOK_TEST = "org.homeroom.webhook.test"


def build_course_completed(key: MessageKey, source: str, completion: Completion) -> dict[str, Any]:
    """Return the event for analytics: scores 0 to 1, progress in percent, seconds."""
    data = {
        "userId": completion.user_id,
        "courseId": completion.course_id,
        "courseVersion": completion.course_version,
        "attempt": completion.attempt,
        "completedAt": _format_time(completion.completed_at),
        "score": score_fraction(completion.score),
        "timeSpent": completion.time_spent,
        "chapters": [
            {
                "chapterId": chapter.chapter_id,
                "progress": chapter.progress / 100,
                "timeSpent": chapter.time_spent,
                "completed": chapter.completed,
            }
            for chapter in completion.chapters
        ],
    }
    return _cloud_event(key, source, completion, data)


def build_training_record(
    key: MessageKey,
    source: str,
    completion: Completion,
    course: Course,
    *,
    given_name: str | None,
    family_name: str | None,
    credential_url: str | None,
) -> dict[str, Any]:
    """Return the event for HR; its data are those of ``training_data``."""
    data = training_data(completion, course, given_name, family_name, credential_url)
    return _cloud_event(key, source, completion, data)


def training_data(
    completion: Completion,
    course: Course,
    given_name: str | None,
    family_name: str | None,
    credential_url: str | None,
) -> dict[str, Any]:
    """Return what HR learns of a completion.

    Null is what is not known; ``hours`` is the time spent.
    """
    valid_until = course.valid_until(completion.completed_at)
    return {
        "employeeId": completion.user_id,
        "givenName": given_name,
        "familyName": family_name,
        "courseId": completion.course_id,
        "courseTitle": completion.course_title,
        "completedAt": _format_time(completion.completed_at),
        "score": score_fraction(completion.score),
        "hours": round(completion.time_spent / 3_600, 2),
        "validUntil": None if valid_until is None else _format_time(valid_until),
        "credentialUrl": credential_url,
    }


def build_test_event(id: str, source: str, now: int) -> dict[str, Any]:
    """Return the event that only shows whether a receiver accepts the signature."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": WEBHOOK_TEST,
        "time": _format_time(now),
        "datacontenttype": "application/json",
        "data": {"test": True},
    }


def _cloud_event(
    key: MessageKey, source: str, completion: Completion, data: dict[str, Any]
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": key.id,
        "source": source,
        "type": key.type,
        "subject": completion.id,
        "time": _format_time(completion.completed_at),
        "datacontenttype": "application/json",
        "data": data,
    }
    if key.version > 1:  # an extension attribute; the first version has none
        event["messageversion"] = key.version
    return event


def _format_time(instant: int) -> str:
    # Always six digits: receivers may have learned the format from the messages.
    return to_datetime(instant).isoformat(timespec="microseconds").replace("+00:00", "Z")
