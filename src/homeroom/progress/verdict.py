"""What becomes of an event, and what its sender is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What becomes of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one event; ``code`` and ``message`` say why it was not plainly accepted."""

    status: Status
    code: str | None = None
    message: str | None = None


ACCEPTED = Verdict(Status.ACCEPTED)
UNTRUSTED = Verdict(
    Status.ACCEPTED,
    "untrusted_score",
    "The attempt is kept, but its score does not count: it did not come from the platform.",
)
DUPLICATE = Verdict(Status.DUPLICATE)
CONFLICT = Verdict(
    Status.CONFLICT, "conflict", "Another event with this id and another body was stored before."
)
NOT_ENROLLED = Verdict(
    Status.REJECTED, "not_enrolled", "The course does not enrol by itself; enrol the learner first."
)
QUARANTINE_FULL = Verdict(
    Status.REJECTED,
    "quarantine_full",
    "Too many events of this learner wait for courses that the catalogue does not know.",
)
UNKNOWN_COURSE = Verdict(
    Status.QUARANTINED, "unknown_course", "Kept until the catalogue knows this course."
)
UNKNOWN_CHAPTER = Verdict(
    Status.QUARANTINED, "unknown_chapter", "Kept until the catalogue knows this chapter."
)
