"""Bring events in again that were set aside, once the catalogue may know what they speak of."""

from __future__ import annotations

from dataclasses import dataclass

from homeroom.db.database import Database
from homeroom.progress import quarantine
from homeroom.progress.ingest import Ingest
from homeroom.progress.verdict import Status, Verdict

PAGE = 500


@dataclass(frozen=True, slots=True)
class Readmitted:
    """What became of held events."""

    accepted: int = 0
    duplicate: int = 0
    """Known by now: brought in by an earlier replay, or sent again by their player."""
    conflict: int = 0
    """Kept for inspection: another event with this id and another body was stored meanwhile."""
    held: int = 0
    """Kept: what they speak of is still unknown, or the learner is still not enrolled."""
    next_after: int | None = None
    """The last ``seq`` that was looked at, where there may be more after it."""


async def readmit(
    db: Database,
    ingest: Ingest,
    *,
    course_id: str | None = None,
    user_id: str | None = None,
    after: int = 0,
    limit: int = PAGE,
) -> Readmitted:
    """Put up to ``limit`` held events through ingest, in the order in which they came.

    An event is released only after it is durable; a crash in between makes the next replay find a
    duplicate, so each is counted once.
    """
    async with db.read() as tx:
        found = await quarantine.replayable(tx, after, limit, course_id, user_id)
    verdicts = await ingest.put([held.event for held in found])
    settled: list[int] = []
    reasons: list[tuple[int, str]] = []
    counts = dict.fromkeys(Status, 0)
    for held, verdict in zip(found, verdicts, strict=True):
        counts[verdict.status] += 1
        if verdict.status in {Status.ACCEPTED, Status.DUPLICATE}:
            settled.append(held.seq)
        elif (reason := _reason(verdict)) != held.reason:
            reasons.append((held.seq, reason))
    if settled or reasons:
        async with db.write() as tx:
            await quarantine.release(tx, settled)
            await quarantine.set_reasons(tx, reasons)
            tx.notify("quarantine", course_id or "")
    return Readmitted(
        accepted=counts[Status.ACCEPTED],
        duplicate=counts[Status.DUPLICATE],
        conflict=counts[Status.CONFLICT],
        held=counts[Status.QUARANTINED] + counts[Status.REJECTED],
        next_after=found[-1].seq if len(found) == limit else None,
    )


def _reason(verdict: Verdict) -> str:
    return verdict.code or verdict.status.value
