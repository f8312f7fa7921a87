"""What partner systems are told of a completion: CloudEvents 1.0 in JSON (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion

COURSE_COMPLETED = "org.homeroom.course.completed"
TRAINING_RECORDED = "org.homeroom.training.recorded"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def course_completed(id: str, source: str, completion: Completion) -> dict[str, Any]:
    """Return what analytics gets. Scores are 0 to 1 or null, progress percent, time seconds."""
    data = {
        "userId": completion.user_id,
        "courseId": completion.course_id,
        "courseVersion": completion.course_version,
        "attempt": completion.attempt,
        "completedAt": _moment(completion.completed_at),
        "score": _share(completion.score),
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
    return _envelope(id, source, COURSE_COMPLETED, completion, data)


def training_recorded(
    id: str,
    source: str,
    completion: Completion,
    course: Course,
    *,
    given_name: str | None,
    family_name: str | None,
    credential_url: str | None,
) -> dict[str, Any]:
    """Return what HR gets; null is what is not known. ``hours`` is the time that was spent."""
    valid_until = course.valid_until(completion.completed_at)
    data = {
        "employeeId": completion.user_id,
        "givenName": given_name,
        "familyName": family_name,
        "courseId": completion.course_id,
        "courseTitle": completion.course_title,
        "completedAt": _moment(completion.completed_at),
        "score": _share(completion.score),
        "hours": round(completion.time_spent / 3_600, 2),
        "validUntil": None if valid_until is None else _moment(valid_until),
        "credentialUrl": credential_url,
    }
    return _envelope(id, source, TRAINING_RECORDED, completion, data)


def _envelope(
    id: str, source: str, type: str, completion: Completion, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": type,
        "subject": completion.id,
        "time": _moment(completion.completed_at),
        "datacontenttype": "application/json",
        "data": data,
    }


def _share(score: int | None) -> float | None:
    return None if score is None else score / 10_000


def _moment(instant: int) -> str:
    moment = _EPOCH + timedelta(microseconds=instant)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
