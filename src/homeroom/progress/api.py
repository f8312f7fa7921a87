"""What other rooms and ``wiring`` may use of progress; its HTTP is in ``routes``."""

from __future__ import annotations

from homeroom.progress.event import BodyFault, Event, EventType, Rejected, Sender, judge, read_body
from homeroom.progress.ingest import CommitStats, Ingest, Result, take
from homeroom.progress.jobs import (
    ExpireEnrolments,
    FoldEvents,
    MoveLearners,
    ProgressJobs,
    PruneQuarantine,
    ReplayQuarantine,
)
from homeroom.progress.personal import PERSONAL
from homeroom.progress.proof import PROOF

__all__ = [
    "PERSONAL",
    "PROOF",
    "BodyFault",
    "CommitStats",
    "Event",
    "EventType",
    "ExpireEnrolments",
    "FoldEvents",
    "Ingest",
    "MoveLearners",
    "ProgressJobs",
    "PruneQuarantine",
    "Rejected",
    "ReplayQuarantine",
    "Result",
    "Sender",
    "judge",
    "read_body",
    "take",
]
