"""The events that analytics and HR accept: every field's type, and what is wrong with a body.

The shapes are those that Homeroom publishes for its webhooks; the envelope is CloudEvents 1.0 in
JSON. Fields beyond them are let through, as CloudEvents asks of a consumer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(min_length=1)]
Instant = Annotated[datetime, Meta(tz=True)]
Score = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[int, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=1)]


class Envelope(Struct, frozen=True):
    """Hold the attributes of a CloudEvent that are checked."""

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: Text
    data: dict[str, Any]
    time: Instant | UnsetType = UNSET
    subject: Text | UnsetType = UNSET
    datacontenttype: Literal["application/json"] | UnsetType = UNSET


class Chapter(Struct, frozen=True, rename="camel"):
    """Hold one chapter of a finished course; progress in percent, time in seconds."""

    chapter_id: Text
    progress: Percent
    time_spent: Seconds
    completed: bool


class CourseCompleted(Struct, frozen=True, rename="camel"):
    """Hold what analytics is told when a learner finishes a course."""

    user_id: Text
    course_id: Text
    course_version: Count
    attempt: Count
    completed_at: Instant
    score: Score | None
    time_spent: Seconds
    chapters: list[Chapter]


class TrainingRecorded(Struct, frozen=True, rename="camel"):
    """Hold the record that HR keeps of a training; null where Homeroom may not know."""

    employee_id: Text
    given_name: Text | None
    family_name: Text | None
    course_id: Text
    course_title: Text
    completed_at: Instant
    score: Score | None
    hours: Annotated[float, Meta(ge=0)]
    valid_until: Instant | None
    credential_url: Annotated[str, Meta(pattern="^https?://")] | None


def problems(body: dict[str, Any], event_type: str, shape: type[Struct]) -> list[str]:
    """List everything that is wrong with an event; empty when it is acceptable."""
    found = _compare(body, Envelope, "")
    if isinstance(body.get("type"), str) and body["type"] != event_type:
        found.append(f"type is {body['type']}, not {event_type}")
    data = body.get("data")
    if isinstance(data, dict):
        found += _compare(data, shape, "data.")
    return found


def _compare(value: dict[str, Any], shape: type[Struct], prefix: str) -> list[str]:
    found = []
    for known in msgspec.structs.fields(shape):
        name = known.encode_name
        if name in value:
            try:
                msgspec.convert(value[name], known.type)
            except msgspec.ValidationError as error:
                found.append(f"{prefix}{name}: {error}")
        elif known.required:
            found.append(f"{prefix}{name} is missing")
    return found
