"""Quarantined events: of unknown courses or chapters, and conflicting ones.

The former are replayed once the course or chapter exists, the latter are stored for inspection.
Both are pruned after ``HOMEROOM_QUARANTINE_TTL``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import ColumnElement, select

from homeroom.db.tx import Tx
from homeroom.progress.event import ProgressEvent, event_identity
from homeroom.progress.store import progress_quarantine

CONFLICT_REASON = "conflict"
MAX_QUARANTINED_PER_LEARNER = 10_000
"""Bounds what a learner's token can store with events of courses that do not exist."""


class QuarantineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An event to quarantine, by the names of its columns."""

    id: str
    body_hash: bytes
    reason: str
    """``unknown_course``, ``unknown_chapter``, ``conflict``, or the code that a replay gave."""
    user_id: str
    course_id: str
    chapter_id: str | None
    event: ProgressEvent
    received_at: int


class QuarantinedEvent(QuarantineRecord, frozen=True, kw_only=True):
    """An event in quarantine. ``seq`` ascends in the order of arrival."""

    seq: int


async def quarantine_events(tx: Tx, events: Iterable[tuple[ProgressEvent, str]]) -> None:
    """Quarantine events, each with its reason; skip those quarantined already."""
    records = [
        QuarantineRecord(
            id=event.id,
            body_hash=event_identity(event),
            reason=reason,
            user_id=event.user_id,
            course_id=event.course_id,
            chapter_id=event.chapter_id,
            event=event,
            received_at=event.received_at,
        )
        for event, reason in events
    ]
    await tx.insert(progress_quarantine, records, on_conflict="ignore")


async def remaining_capacity(tx: Tx, user_ids: Iterable[str]) -> dict[str, int]:
    """Return how many more events of each of these learners can be quarantined."""
    capacity = MAX_QUARANTINED_PER_LEARNER
    rows = await tx.fetch_by_keys(
        "SELECT k.column1 AS user_id, (SELECT count(*) FROM"  # noqa: S608  # constants only
        " (SELECT 1 FROM progress_quarantine AS q WHERE q.user_id = k.column1"
        f" LIMIT {capacity}) AS quarantined) AS number FROM {{keys}} AS k",
        [(user_id,) for user_id in sorted(user_ids)],
    )
    return {user_id: capacity - number for user_id, number in rows}


async def list_quarantined(
    tx: Tx, after: int, limit: int, course_id: str | None = None
) -> list[QuarantinedEvent]:
    """Return quarantined events after a ``seq``, ascending."""
    conditions = _filter_conditions(course_id, None)
    return await _fetch_page(tx, after, limit, conditions)


async def list_replayable(
    tx: Tx, after: int, limit: int, course_id: str | None = None, user_id: str | None = None
) -> list[QuarantinedEvent]:
    """Return the quarantined events that a replay may ingest: all but conflicts."""
    is_replayable = progress_quarantine.c.reason != CONFLICT_REASON
    conditions = [is_replayable, *_filter_conditions(course_id, user_id)]
    return await _fetch_page(tx, after, limit, conditions)


async def has_replayable(tx: Tx, course_id: str | None, user_id: str | None = None) -> bool:
    """Return whether a course, or one of its learners, has events to replay."""
    table = progress_quarantine
    conditions = [table.c.reason != CONFLICT_REASON, *_filter_conditions(course_id, user_id)]
    return bool(await tx.fetch(select(table.c.seq).where(*conditions).limit(1)))


async def count_quarantined(tx: Tx) -> dict[str, int]:
    """Return the number of quarantined events by reason."""
    rows = await tx.fetch("SELECT reason, COUNT(*) FROM progress_quarantine GROUP BY reason")
    return dict(rows)


async def update_reasons(tx: Tx, reasons: Iterable[tuple[int, str]]) -> None:
    """Set the reasons that a replay gave, by ``seq``."""
    await tx.executemany(
        "UPDATE progress_quarantine SET reason = ? WHERE seq = ?",
        [(reason, seq) for seq, reason in sorted(reasons)],
    )


async def delete_quarantined(tx: Tx, seqs: Iterable[int]) -> None:
    """Delete events that a replay ingested."""
    await tx.executemany(
        "DELETE FROM progress_quarantine WHERE seq = ?", [(seq,) for seq in sorted(seqs)]
    )


async def prune_quarantine(tx: Tx, received_before: int, limit: int) -> int:
    """Delete up to ``limit`` events received before an instant; return the number."""
    return await tx.execute(
        "DELETE FROM progress_quarantine WHERE seq IN (SELECT seq FROM progress_quarantine"
        " WHERE received_at < ? ORDER BY seq LIMIT ?)",
        (received_before, limit),
    )


def _filter_conditions(course_id: str | None, user_id: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions on course and learner; None gives none."""
    filters = {"course_id": course_id, "user_id": user_id}
    columns = progress_quarantine.c
    return [columns[name] == value for name, value in filters.items() if value is not None]


async def _fetch_page(
    tx: Tx, after: int, limit: int, conditions: Sequence[ColumnElement[bool]]
) -> list[QuarantinedEvent]:
    seq = progress_quarantine.c.seq
    statement = select(progress_quarantine).where(seq > after, *conditions)
    return await tx.fetch_into(QuarantinedEvent, statement.order_by(seq).limit(limit))
