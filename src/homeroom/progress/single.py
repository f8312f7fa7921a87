"""Take one chapter's progress from somebody who waits for an answer, as an event like any other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.errors import Conflict, Forbidden, Invalid, NotFound
from homeroom.progress.event import EventType, Rejected, Sender, SentEvent, body_hash, judge
from homeroom.progress.ingest import Ingest
from homeroom.progress.read import current_course
from homeroom.progress.verdict import Status, Verdict


class NotEnrolled(Forbidden):
    """The course does not enrol by itself; enrol the learner first."""

    code = "not_enrolled"


@dataclass(frozen=True, slots=True)
class Report:
    """What a request says of one chapter."""

    user_id: str
    course_id: str
    chapter_id: str
    progress: float | None
    """Percent."""
    completed: bool
    time_spent: int | None
    """Seconds since the last report."""
    event_id: str | None
    """The id of the event; None makes a new one, so that a repeat counts again."""


def id_of_key(*parts: str) -> str:
    """Return the event id of an idempotency key.

    The parts say whose key it is: two callers may well choose the same one.
    """
    return f"key.{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"


async def put(db: Database, ingest: Ingest, sender: Sender, report: Report) -> None:
    """Store a report; return once it is durable.

    Raises ``Invalid``, ``Forbidden``, ``NotEnrolled``, ``Conflict`` (the event id was used for
    something else) and ``NotFound`` for a course or chapter that the catalogue does not know.
    """
    event = judge(_sent(report, db.clock.now()), sender, db.clock.now())
    if isinstance(event, Rejected):
        raise Forbidden(event.message) if event.code == "forbidden" else Invalid(event.message)
    # A repeat comes at another time than the first, and is the same report all the same.
    event.body_hash = body_hash(replace(event, occurred_at=0))
    await _check_known(db, report)
    [verdict] = await ingest.put([event])
    _check(verdict)


def _sent(report: Report, now: int) -> SentEvent:
    kind = EventType.CHAPTER_PROGRESS
    if report.completed:
        kind = EventType.CHAPTER_COMPLETE
    elif report.progress is None:
        kind = EventType.HEARTBEAT
    return SentEvent(
        id=report.event_id or new_id(),
        user_id=report.user_id,
        course_id=report.course_id,
        event_type=kind,
        timestamp=now / 1_000,
        chapter_id=report.chapter_id,
        progress=report.progress,
        time_spent=report.time_spent,
    )


async def _check_known(db: Database, report: Report) -> None:
    """Raise ``NotFound`` for what would only be set aside: here somebody waits for an answer."""
    async with db.read() as tx:
        course = await current_course(tx, report.course_id)
        if report.chapter_id in course.chapters:
            return
        if report.chapter_id not in await catalogue.known_chapters(tx, report.course_id):
            raise NotFound(f"The course has no chapter {report.chapter_id!r}.")


def _check(verdict: Verdict) -> None:
    """Raise the problem of an event that was not taken; a repeat is as good as the first."""
    match verdict.status:
        case Status.CONFLICT:
            raise Conflict("Another event with this id and another body was stored before.")
        case Status.QUARANTINED:
            raise NotFound(verdict.message)
        case Status.REJECTED if verdict.code == NotEnrolled.code:
            raise NotEnrolled
        case Status.REJECTED:
            raise Invalid(verdict.message)
