"""Public interface of progress for other packages; ``routes`` has its HTTP."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, select

from homeroom.db.ids import natural_id
from homeroom.db.personal_data import PersonalRows, rows_owned_by
from homeroom.jobs import api as jobs
from homeroom.progress.event import (
    EventSender,
    EventType,
    ProgressEvent,
    RejectedEvent,
)
from homeroom.progress.event_body import InvalidBody, decode_body, read_body
from homeroom.progress.event_validation import validate_event
from homeroom.progress.ingestion import CommitStats, Ingest, IngestResult, ingest_events
from homeroom.progress.jobs import (
    CompactEvents,
    ExpireEnrolments,
    MoveLearners,
    ProgressJobs,
    PruneQuarantine,
    ReplayQuarantine,
)
from homeroom.progress.ledger import INTEGRITY_RULES
from homeroom.progress.store import (
    course_progress,
    progress_event,
    progress_fold,
    progress_quarantine,
    quiz_attempt,
)

__all__ = [
    "INTEGRITY_RULES",
    "PERSONAL",
    "CommitStats",
    "CompactEvents",
    "EventSender",
    "EventType",
    "ExpireEnrolments",
    "Ingest",
    "IngestResult",
    "InvalidBody",
    "MoveLearners",
    "ProgressEvent",
    "ProgressJobs",
    "PruneQuarantine",
    "RejectedEvent",
    "ReplayQuarantine",
    "decode_body",
    "ingest_events",
    "read_body",
    "validate_event",
]


def _ledger_rows_of(user_id: str) -> ColumnElement[bool]:
    """Find a learner's ledger rows by their chains: there is no index by learner."""
    ends = select(func.max(course_progress.c.last_seq).label("seq")).where(
        course_progress.c.user_id == user_id
    )
    chain = ends.group_by(course_progress.c.course_id).cte("chain", recursive=True, nesting=True)
    before = select(progress_event.c.previous).join(chain, progress_event.c.seq == chain.c.seq)
    links = chain.union_all(before.where(progress_event.c.previous.is_not(None)))
    return progress_event.c.seq.in_(select(links.c.seq))


PERSONAL = (
    *jobs.job_rows_by_mention(
        ReplayQuarantine.kind, lambda user_id: f".{natural_id(user_id)}."
    ),  # ids that were not hashed yet name the learner
    PersonalRows(
        progress_event, _ledger_rows_of
    ),  # before the rows that hold the ends of the chains
    rows_owned_by(progress_fold.c.user_id),
    rows_owned_by(course_progress.c.user_id),
    rows_owned_by(quiz_attempt.c.user_id),
    rows_owned_by(progress_quarantine.c.user_id),
)
