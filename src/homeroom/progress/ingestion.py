"""Ingest of events: requests are committed together, and answered after that.

No acknowledged event exists in memory only. ``GroupCommit`` watches the writer: one that hangs is
interrupted and tried again, and if it cannot be interrupted the process exits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from msgspec import UNSET
from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.commit_priority import CommitPriority
from homeroom.completion.api import Completions
from homeroom.db.database import Database, WriteClass
from homeroom.db.group_commit import GroupCommit, GroupCommitLimits
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Forbidden, Invalid, NotFound, TooBusy
from homeroom.progress import quarantine
from homeroom.progress.batch import IngestBatch
from homeroom.progress.event import (
    ACCEPTED,
    EventResult,
    EventSender,
    EventStatus,
    EventType,
    ProgressEvent,
    RejectedEvent,
    SentEvent,
    hash_event_body,
)
from homeroom.progress.event_body import batch_priority
from homeroom.progress.event_validation import validate_event
from homeroom.progress.managed_event import audit_managed_events
from homeroom.progress.queries import current_course
from homeroom.tracing import current_trace, use_traces

QUARANTINE_REPLAY_PAGE = 500
_ZERO_COUNTS = {"accepted": 0, "duplicate": 0, "conflict": 0, "quarantined": 0, "rejected": 0}


@dataclass(frozen=True, slots=True)
class CommitStats:
    """Counts of one ingest transaction, for the metrics."""

    requests: int
    events: int
    finished: int
    """Completions that it recorded."""
    seconds: float
    """From the start of the transaction to just before its COMMIT."""


@dataclass(frozen=True, slots=True)
class IngestResult:
    """One entry of a response: an event that was not plainly accepted."""

    id: str | None
    status: str
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class ChapterUpdate:
    """Reported progress on one chapter."""

    user_id: str
    course_id: str
    chapter_id: str
    progress: float | None
    """Percent."""
    completed: bool
    time_spent: float | None
    """Seconds since the last report."""
    event_id: str | None
    """The id of the event; None creates one, so that a repeat counts again."""


@dataclass(frozen=True, slots=True)
class QuarantineReplayResult:
    """Counts of replayed events by their results."""

    accepted: int = 0
    duplicate: int = 0
    """Known already: ingested by an earlier replay, or sent again by the player."""
    conflict: int = 0
    """Still quarantined: another event with this id and another body is stored by now."""
    held: int = 0
    """Still quarantined: the course or chapter is unknown, or the learner is not enrolled."""
    next_after: int | None = None
    """``seq`` after which the next page starts; None at the end."""


class NotEnrolled(Forbidden):
    """The learner is not enrolled, and the course does not enrol by itself."""

    code = "not_enrolled"


class _MarkedEvents(list[ProgressEvent]):
    """The events of a request that has a trace, or acts to audit."""

    trace: str | None = None
    actor: str | None = None
    """The sender, where its resets, renewals and waivers are to be audited."""


class Ingest:
    """The only way by which events become progress."""

    def __init__(
        self,
        db: Database,
        completions: Completions,
        *,
        limits: GroupCommitLimits | None = None,
        on_stuck: Callable[[str], None] | None = None,
        observe: Callable[[CommitStats], None] | None = None,
        observe_too_busy: Callable[[CommitPriority, int], None] | None = None,
    ) -> None:
        """Set the limits of the queue and of a commit; ``on_stuck`` ends the process.

        ``observe_too_busy`` gets the priority and the number of events that a full queue refused.
        """
        self.completions = completions
        self._observe, self._observe_too_busy = observe, observe_too_busy
        self.writer = GroupCommit[Sequence[ProgressEvent], list[EventResult]](
            db,
            WriteClass.INGEST,
            self._apply,
            name="ingest",
            limits=limits,
            on_stuck=on_stuck,
            max_concurrent=db.max_concurrent_commits,
        )

    async def put(
        self,
        events: Sequence[ProgressEvent],
        priority: CommitPriority = CommitPriority.NORMAL,
        actor: str | None = None,
    ) -> list[EventResult]:
        """Store events and return a result for each once all of it is durable.

        While more waits than one commit takes, a higher priority goes first. With an ``actor``,
        resets, renewals and waivers are audited as its acts.

        Raises ``TooBusy`` if too many events wait, ``Unavailable`` if the database is away: then
        nothing was acknowledged, and the caller can send everything again without counting twice.
        Raises ``TooLarge`` for more events than may ever wait (``HOMEROOM_INGEST_MAX_QUEUE``).
        """
        if not events:
            return []
        trace = current_trace.get()
        if trace is not None or actor is not None:
            events = _MarkedEvents(events)
            events.trace, events.actor = trace, actor
        try:
            return await self.writer.put(events, weight=len(events), priority=priority)
        except TooBusy:
            if self._observe_too_busy is not None:
                self._observe_too_busy(priority, len(events))
            raise

    async def run(self) -> None:
        """Commit events until ``close`` is called."""
        await self.writer.run()

    def close(self) -> None:
        """Refuse further events; ``run`` returns once all waiting events are committed."""
        self.writer.close()

    async def _apply(
        self, tx: Tx, requests: Sequence[Sequence[ProgressEvent]]
    ) -> list[list[EventResult]]:
        started = perf_counter()
        events = [event for request in requests for event in request]
        traces = {
            event.user_id: request.trace
            for request in requests
            if isinstance(request, _MarkedEvents) and request.trace is not None
            for event in request
        }
        batch = IngestBatch(tx, events, self.completions)
        with use_traces(traces):
            results = await batch.run()
        by_request, start = [], 0
        for request in requests:
            own = results[start : start + len(request)]
            if isinstance(request, _MarkedEvents) and request.actor is not None:
                await audit_managed_events(tx, request.actor, request, own)
            by_request.append(own)
            start += len(request)
        if self._observe is not None:
            seconds = perf_counter() - started
            stats = CommitStats(len(requests), len(events), batch.completion_count, seconds)
            # After the commit: one that fails is tried again and would be counted twice.
            tx.after_commit(partial(self._observe, stats))
        return by_request


async def ingest_events(
    ingest: Ingest,
    validated: Sequence[ProgressEvent | RejectedEvent],
    priority: CommitPriority = CommitPriority.NORMAL,
    actor: str | None = None,
) -> tuple[dict[str, int], list[IngestResult]]:
    """Store the valid events of a request; ``actor`` as for ``Ingest.put``.

    Return the count by status, and the results of events that were not plainly accepted.
    """
    events = [event for event in validated if isinstance(event, ProgressEvent)]
    stored = await ingest.put(events, priority, actor)
    if stored.count(ACCEPTED) == len(validated):  # the usual case
        return {**_ZERO_COUNTS, "accepted": len(validated)}, []
    remaining = iter(stored)
    counts = dict(_ZERO_COUNTS)
    results = []
    for each in validated:
        if isinstance(each, RejectedEvent):
            counts["rejected"] += 1
            results.append(IngestResult(each.id, "rejected", each.code, each.message))
            continue
        result = next(remaining)
        counts[result.status] += 1
        if result.status != "accepted" or result.code is not None:
            results.append(IngestResult(each.id, result.status.value, result.code, result.message))
    return counts, results


def idempotent_event_id(*parts: str) -> str:
    """Return the event id of an idempotency key.

    The parts include the caller: two callers may choose the same key.
    """
    return f"key.{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"


async def ingest_chapter_update(
    db: Database, ingest: Ingest, sender: EventSender, update: ChapterUpdate
) -> None:
    """Store an update; return once it is durable.

    Raises ``Invalid``, ``Forbidden``, ``NotEnrolled``, ``Conflict`` (the event id belongs to
    another event) and ``NotFound`` for an unknown course or chapter.
    """
    event = validate_event(_sent_event(update, db.clock.now()), sender, db.clock.now())
    if isinstance(event, RejectedEvent):
        raise Forbidden(event.message) if event.code == "forbidden" else Invalid(event.message)
    # A repeat has a later time than the first request, and is the same update.
    event.body_hash = hash_event_body(replace(event, occurred_at=0))
    await _check_chapter_exists(db, update)
    # As urgent as a batch of this one event would be.
    [result] = await ingest.put([event], batch_priority([event], UNSET, sender))
    _raise_for_result(result)


def _sent_event(update: ChapterUpdate, now: int) -> SentEvent:
    event_type = EventType.CHAPTER_PROGRESS
    if update.completed:
        event_type = EventType.CHAPTER_COMPLETE
    elif update.progress is None:
        event_type = EventType.HEARTBEAT
    return SentEvent(
        id=update.event_id or new_id(),
        user_id=update.user_id,
        course_id=update.course_id,
        event_type=event_type,
        timestamp=now / 1_000,
        chapter_id=update.chapter_id,
        progress=update.progress,
        time_spent=update.time_spent,
    )


async def _check_chapter_exists(db: Database, update: ChapterUpdate) -> None:
    """Raise ``NotFound`` for an unknown chapter, as the caller waits for an answer."""
    async with db.read() as tx:
        course = await current_course(tx, update.course_id)
        if update.chapter_id in course.chapters:
            return
        if update.chapter_id not in await catalogue.known_chapters(tx, update.course_id):
            raise NotFound(f"The course has no chapter {update.chapter_id!r}.")


def _raise_for_result(result: EventResult) -> None:
    """Raise the problem of an event that was not stored; duplicates are successes."""
    match result.status:
        case EventStatus.CONFLICT:
            raise Conflict(result.message)
        case EventStatus.QUARANTINED:
            raise NotFound(result.message)
        case EventStatus.REJECTED if result.code == NotEnrolled.code:
            raise NotEnrolled(result.message)
        case EventStatus.REJECTED:
            raise Invalid(result.message)


async def replay_quarantine_page(
    db: Database,
    ingest: Ingest,
    *,
    course_id: str | None = None,
    user_id: str | None = None,
    after: int = 0,
    limit: int = QUARANTINE_REPLAY_PAGE,
) -> QuarantineReplayResult:
    """Ingest up to ``limit`` quarantined events, in the order of their arrival.

    An event leaves the quarantine after it is durable. After a crash in between, the next replay
    finds a duplicate, so each event counts once.
    """
    limit = min(limit, ingest.writer.limits.max_waiting)
    async with db.read() as tx:
        page = await quarantine.list_replayable(tx, after, limit, course_id, user_id)
    # What learners send now goes before events that have waited for days.
    results = await ingest.put(
        [quarantined.event for quarantined in page], priority=CommitPriority.LOW
    )
    settled: list[int] = []
    reasons: list[tuple[int, str]] = []
    counts = dict.fromkeys(EventStatus, 0)
    for quarantined, result in zip(page, results, strict=True):
        counts[result.status] += 1
        if result.status in {EventStatus.ACCEPTED, EventStatus.DUPLICATE}:
            settled.append(quarantined.seq)
        elif (reason := result.code or result.status.value) != quarantined.reason:
            reasons.append((quarantined.seq, reason))
    if settled or reasons:
        async with db.write() as tx:
            await quarantine.delete_quarantined(tx, settled)
            await quarantine.update_reasons(tx, reasons)
            tx.notify("quarantine", course_id or "")
    return QuarantineReplayResult(
        accepted=counts[EventStatus.ACCEPTED],
        duplicate=counts[EventStatus.DUPLICATE],
        conflict=counts[EventStatus.CONFLICT],
        held=counts[EventStatus.QUARANTINED] + counts[EventStatus.REJECTED],
        next_after=page[-1].seq if len(page) == limit else None,
    )
