"""Records as the API returns them: fields of JSON in snake_case, times as ``datetime``.

Percentages are 0 to 100, scores 0 to 1, time spent is in seconds. Fields that a newer server adds
are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from homeroom_client.events import ProgressEvent

EnrolmentStatus = Literal["registered", "in_progress", "completed", "expired"]
StepStatus = Literal["waiting", "active", "completed", "failed", "skipped"]
CredentialState = Literal["issuing", "issued", "revoked", "superseded"]
ChangeKind = Literal["completions", "steps", "credentials", "enrolments"]


@dataclass(frozen=True, slots=True)
class EventResult:
    """The result of an event that was not plainly accepted.

    ``accepted`` with a code counts, with a reservation; ``duplicate`` counts already; ``conflict``
    and ``rejected`` never count; ``quarantined`` is with the server until its course exists;
    ``refused``: the server answers ``http_status`` to a request with this event alone.
    """

    event: ProgressEvent
    status: str
    code: str | None = None
    message: str | None = None
    http_status: int | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the event will never count: it needs a person, or a new event."""
        return self.status not in ("accepted", "duplicate", "quarantined")


@dataclass(frozen=True, slots=True)
class SendReport:
    """The outcome of the events that the server has answered for."""

    sent: int
    """Number of events."""
    results: tuple[EventResult, ...] = ()
    """Those that were not plainly accepted."""
    unknown_fields: tuple[str, ...] = ()
    """Fields of the requests that the server does not know and ignored."""

    @property
    def lost(self) -> tuple[EventResult, ...]:
        """The results of events that will never count."""
        return tuple(each for each in self.results if each.is_lost)


@dataclass(frozen=True, slots=True)
class QuizProgress:
    """The quiz of a chapter."""

    score: float | None
    attempts: int
    passed: bool


@dataclass(frozen=True, slots=True)
class ChapterProgress:
    """A chapter of a learner's course."""

    chapter_id: str
    title: str
    required: bool
    progress: float
    completed: bool
    time_spent: int
    last_watched_at: datetime | None
    quiz: QuizProgress | None


@dataclass(frozen=True, slots=True)
class UnmetCriterion:
    """A reason why the course is not complete; ``text`` is for people."""

    type: str
    text: str
    chapter_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LearnerCourse:
    """One of a learner's courses; ``progress`` is None where nothing is measured."""

    user_id: str
    course_id: str
    title: str
    version: int
    attempt: int
    status: EnrolmentStatus | None
    progress: float | None
    completed_chapters: int
    total_chapters: int
    completed_required: int
    required_chapters: int
    time_spent: int
    last_activity_at: datetime | None
    completed_at: datetime | None
    newer_version_available: bool


@dataclass(frozen=True, slots=True)
class CourseProgress(LearnerCourse):
    """A learner's course with its chapters."""

    unmet_criteria: tuple[UnmetCriterion, ...]
    chapters: tuple[ChapterProgress, ...]


@dataclass(frozen=True, slots=True)
class CourseLearner:
    """A learner of a course."""

    user_id: str
    version: int
    attempt: int
    status: EnrolmentStatus | None
    progress: float | None
    completed_chapters: int
    time_spent: int
    last_activity_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class CompletionStep:
    """What follows from a completion, such as the credential."""

    name: str
    status: StepStatus
    job_id: str | None
    attempts: int
    last_error: str | None
    next_attempt_at: datetime | None
    external_id: str | None
    finished_at: datetime | None
    skip_code: str | None
    skip_reason: str | None
    reason_code: str | None


@dataclass(frozen=True, slots=True)
class Completion:
    """A course that a learner has completed."""

    id: str
    user_id: str
    course_id: str
    course_title: str
    course_version: int
    attempt: int
    completed_at: datetime
    recorded_at: datetime
    score: float | None
    time_spent: int
    superseded_by: str | None
    steps: tuple[CompletionStep, ...]


@dataclass(frozen=True, slots=True)
class Credential:
    """The credential of a completion, or of an achievement, which has no course."""

    id: str
    completion_id: str | None
    award_id: str | None
    user_id: str
    course_id: str | None
    attempt: int
    state: CredentialState
    issuer: str
    issuer_state: str | None
    external_id: str | None
    url: str | None
    score: float | None
    issued_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    revocation_reason: str | None
    superseded_by: str | None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A learner's attempt at a course."""

    user_id: str
    course_id: str
    version: int
    attempt: int
    status: EnrolmentStatus
    enrolled_at: datetime
    completed_at: datetime | None
    approved: bool
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Course:
    """A published version of a course."""

    course_id: str
    version: int
    title: str


@dataclass(frozen=True, slots=True)
class Person:
    """A person of the built-in directory."""

    user_id: str
    email: str | None
    given_name: str
    family_name: str
    locale: str | None
    time_zone: str | None
    manager_id: str | None
    roles: tuple[str, ...]
    group_ids: tuple[str, ...]
    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChangedStep(CompletionStep):
    """A step in the feed of changes, with the completion that it belongs to."""

    completion_id: str
    user_id: str
    course_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Change:
    """A record that changed: ``kind`` and ``id`` are its key; overwrite what you have of it."""

    kind: str
    id: str
    at: datetime
    """When the transaction began that changed it; changes are not in this order."""
    data: Mapping[str, Any] | None
    """The present state of the record as JSON; None when it is gone."""
    record: Completion | ChangedStep | Credential | Enrolment | None
    """The same with a type; None also for a kind that this client does not know."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order of commits."""

    items: tuple[Change, ...]
    next_cursor: str
    """Store it in the transaction that stores the items; it is given on an empty page too."""
    has_more: bool
    """The next page can be requested at once."""
