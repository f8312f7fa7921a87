"""What other rooms and ``wiring`` may use of progress."""

from __future__ import annotations

from homeroom.progress.event import BodyFault, Event, EventType, Rejected, Sender, judge, read_body
from homeroom.progress.ingest import CommitStats, Ingest, Result, take

__all__ = [
    "BodyFault",
    "CommitStats",
    "Event",
    "EventType",
    "Ingest",
    "Rejected",
    "Result",
    "Sender",
    "judge",
    "read_body",
    "take",
]
