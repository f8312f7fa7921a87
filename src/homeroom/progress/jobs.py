"""Background jobs of progress, and its hooks into the catalogue.

``bootstrap`` builds ``ProgressJobs`` with an ingest that runs in the same process.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import ClassVar

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course, Enrolment, VersionChangePreview
from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.db.ids import natural_id, new_id
from homeroom.db.tx import Tx
from homeroom.instant import to_microseconds
from homeroom.jobs.api import (
    LOW,
    Done,
    Job,
    JobArgs,
    JobContext,
    LogSubject,
    Outcome,
    Registry,
    enqueue,
)
from homeroom.progress import ingest_store, quarantine, queries
from homeroom.progress.batch import IngestBatch
from homeroom.progress.event import ACCEPTED, renewal_event
from homeroom.progress.ingestion import Ingest, replay_quarantine_page
from homeroom.progress.ledger import (
    CompactionResult,
    compact_events,
    compaction_cutoff,
    latest_known_time,
)
from homeroom.progress.new_completion import ChangedAttempt, record_new_completions
from homeroom.progress.rollup import initial_state

MOVE_PAGE = 50
"""Learners of one commit, for which ingest waits."""
PRUNE_PAGE = 5_000
EXPIRE_PAGE = 500
_ENROLMENT_FACTS = frozenset({"manual", "prerequisite"})
"""Facts that can hold without an event of the learner in the course (``Course.facts_needed``)."""


class ReplayQuarantine(JobArgs, frozen=True, kw_only=True):
    """Ingest quarantined events again. Result: counts by result of the events."""

    kind: ClassVar[str] = "progress.replay_quarantine"
    queue: ClassVar[str] = "progress"
    timeout: ClassVar[timedelta] = timedelta(minutes=10)
    public: ClassVar[bool] = True

    course_id: str | None = None
    """None: of every course."""
    user_id: str | None = None
    """None: of every learner."""


class MoveLearners(JobArgs, frozen=True, kw_only=True):
    """Move a course's open attempts to its current version, and renew completed ones.

    Result: ``{"moved", "finished", "renewed"}``. ``renewed`` counts the learners who had completed
    the course and have another attempt now, by the policy ``require_new``.
    """

    kind: ClassVar[str] = "progress.move_learners"
    queue: ClassVar[str] = "progress"
    timeout: ClassVar[timedelta] = timedelta(minutes=30)

    course_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the id of the course."""
        return {"course_id": self.course_id}


class PruneQuarantine(JobArgs, frozen=True, kw_only=True):
    """Delete quarantined events after their time to live. Result: ``{"pruned"}``."""

    kind: ClassVar[str] = "progress.prune"
    queue: ClassVar[str] = "progress"
    priority: ClassVar[int] = LOW


class ExpireEnrolments(JobArgs, frozen=True, kw_only=True):
    """Expire completed enrolments whose validity has ended. Result: ``{"expired"}``."""

    kind: ClassVar[str] = "progress.expire"
    queue: ClassVar[str] = "progress"
    timeout: ClassVar[timedelta] = timedelta(minutes=30)


class CompactEvents(JobArgs, frozen=True, kw_only=True):
    """Compact old events. Result: ``{"courses", "events", "left"}``.

    ``courses`` counts learners' courses with compacted ``events``, ``left`` those that compaction
    would have changed and that stay as they were. Without a retention the job does nothing.
    """

    kind: ClassVar[str] = "progress.fold_events"
    queue: ClassVar[str] = "progress"
    priority: ClassVar[int] = LOW
    timeout: ClassVar[timedelta] = timedelta(minutes=30)


class ProgressJobs:
    """Handlers of the jobs of progress, and the hooks that enqueue them."""

    def __init__(
        self,
        db: Database,
        ingest: Ingest,
        completions: Completions,
        *,
        quarantine_ttl: timedelta,
        event_retention: timedelta | None = None,
    ) -> None:
        """Configure the jobs; an ``event_retention`` of None never compacts the ledger."""
        self._db, self._ingest, self._completions = db, ingest, completions
        self._quarantine_ttl, self._event_retention = quarantine_ttl, event_retention

    def register(self, registry: Registry) -> None:
        """Register the handlers."""
        registry.add(
            ReplayQuarantine,
            self.replay_quarantine,
            is_outstanding=self._has_events_to_replay,
            subject=_replay_subject,
        )
        registry.add(MoveLearners, self.move_learners, is_outstanding=self._has_learners_to_move)
        registry.add(PruneQuarantine, self.prune_quarantine)
        registry.add(ExpireEnrolments, self.expire_enrolments)
        registry.add(CompactEvents, self.compact_events)

    async def _has_events_to_replay(self, tx: Tx, job: Job, args: ReplayQuarantine) -> bool:
        """Return whether events of the job's selection are still in quarantine."""
        return await quarantine.has_replayable(tx, args.course_id, args.user_id)

    async def _has_learners_to_move(self, tx: Tx, job: Job, args: MoveLearners) -> bool:
        """Return whether the course's current version is the one that the job is for."""
        course = (await catalogue.current_courses(tx, [args.course_id])).get(args.course_id)
        if course is None or not course.moves_learners_now:
            return False
        return job.id == _move_job_id(course)

    async def on_publish(self, tx: Tx, course: Course, previous: Course | None) -> None:
        """Enqueue the jobs that a new version needs (``Catalogue.on_publish``)."""
        version = str(course.version)
        if await quarantine.has_replayable(tx, course.id):
            job_id = natural_id("progress", "replay", course.id, version)
            await enqueue(tx, ReplayQuarantine(course_id=course.id), id=job_id)
        if previous is not None and course.moves_learners_now:
            await enqueue(tx, MoveLearners(course_id=course.id), id=_move_job_id(course))

    async def on_enrolment(self, tx: Tx, enrolment: Enrolment) -> None:
        """Replay the learner's quarantined events; record a completion that follows.

        For ``Catalogue.on_enrolment``. What an approval completes is dated now (rule B9).
        """
        course_id = enrolment.course_id
        if await quarantine.has_replayable(tx, course_id, enrolment.user_id):
            args = ReplayQuarantine(course_id=course_id, user_id=enrolment.user_id)
            cause = f"{course_id}\n{args.user_id}\n{enrolment.attempt}\n{enrolment.enrolled_at}"
            # Hashed: ids outlive their jobs, and must not name a learner who was erased.
            cause_hash = hashlib.sha256(cause.encode()).hexdigest()[:32]
            job_id = natural_id("progress", "replay", cause_hash)
            await enqueue(tx, args, id=job_id)
        course = await catalogue.course_at(tx, course_id, enrolment.version)
        if enrolment.completed_at is not None or course.facts_needed.isdisjoint(_ENROLMENT_FACTS):
            return
        key = (enrolment.user_id, course_id, enrolment.attempt)
        state = (await ingest_store.attempt_states(tx, [key])).get(key) or initial_state(course)
        await record_new_completions(
            tx, [ChangedAttempt(enrolment, course, state, tx.now)], self._completions
        )

    async def preview(self, tx: Tx, course: Course) -> VersionChangePreview:
        """Count the learners whom publishing would affect (the catalogue's dry run)."""
        return await queries.preview_version_change(tx, course, self._completions)

    async def replay_quarantine(self, ctx: JobContext, args: ReplayQuarantine) -> Outcome:
        """Replay page by page; events that are still unknown stay in quarantine."""
        after: int | None = 0
        totals = {"accepted": 0, "duplicate": 0, "conflict": 0, "held": 0}
        while after is not None:
            page = await replay_quarantine_page(
                self._db,
                self._ingest,
                course_id=args.course_id,
                user_id=args.user_id,
                after=after,
            )
            for name in totals:
                totals[name] += getattr(page, name)
            after = page.next_after
        return Done(totals)

    async def move_learners(self, ctx: JobContext, args: MoveLearners) -> Outcome:
        """Move learners, a page a commit; skips those who were moved before."""
        after: str | None = None
        totals = Counter(moved=0, finished=0, renewed=0)
        while True:
            async with self._db.write() as tx:
                page = await queries.latest_enrolments(tx, args.course_id, after, MOVE_PAGE)
                await catalogue.lock_learners(tx, [each.user_id for each in page])
                pairs = [(each.user_id, args.course_id) for each in page]
                locked = await catalogue.enrolments(tx, pairs)  # again, now that they are locked
                page = [locked[pair][-1] for pair in pairs]
                counts = await self._move(tx, args.course_id, page)
            totals.update(counts)
            if len(page) < MOVE_PAGE:
                return Done(dict(totals))
            after = page[-1].user_id
            await ctx.progress(dict(totals))

    async def _move(self, tx: Tx, course_id: str, page: list[Enrolment]) -> dict[str, int]:
        """Move a page's open attempts that are behind; renew completed ones.

        Return counts as in the job's result. The current version's policy decides: it may have
        changed since the job was enqueued.
        """
        course = (await catalogue.current_courses(tx, [course_id])).get(course_id)
        if course is None or not course.moves_learners_now:
            return {}
        behind = [
            replace(each, version=course.version)
            for each in page
            if each.completed_at is None and each.version < course.version
        ]
        await catalogue.update_enrolments(tx, behind)
        moved = await queries.attempts_in_version(tx, behind, course)
        await ingest_store.save_course_states(tx, [(each.key, each.state) for each in moved])
        for each in moved:
            tx.notify("progress", "/".join(each.key[:2]))
        finished = 0
        if course.complete_on_edit:
            finished = await record_new_completions(tx, moved, self._completions)
        renewed = await self._renew(tx, course, page)
        return {"moved": len(behind), "finished": finished, "renewed": renewed}

    async def _renew(self, tx: Tx, course: Course, page: list[Enrolment]) -> int:
        """Renew completed attempts that lack what is new (B11); return the number."""
        if course.learner_policy != "require_new":
            return 0
        events = []
        for attempt in await queries.attempts_to_renew(tx, page, course, self._completions):
            # Later than each known event: the clock of another server may be ahead.
            at = max(tx.now, latest_known_time(attempt.enrolment, attempt.state) + 1)
            events.append(renewal_event(new_id(), attempt.enrolment.user_id, course.id, at))
        results = await IngestBatch(tx, events, self._completions).run()
        return results.count(ACCEPTED)

    async def prune_quarantine(self, ctx: JobContext, args: PruneQuarantine) -> Outcome:
        """Delete quarantined events, ``PRUNE_PAGE`` a commit."""
        pruned = 0
        while True:
            async with self._db.write() as tx:
                received_before = tx.now - to_microseconds(self._quarantine_ttl)
                count = await quarantine.prune_quarantine(tx, received_before, PRUNE_PAGE)
            pruned += count
            if count < PRUNE_PAGE:
                return Done({"pruned": pruned})

    async def compact_events(self, ctx: JobContext, args: CompactEvents) -> Outcome:
        """Compact a day's events, some courses a commit; the next run does what is left."""
        if self._event_retention is None:
            return Done(asdict(CompactionResult()))

        async def report_progress(so_far: CompactionResult) -> None:
            await ctx.progress(asdict(so_far))

        cutoff = compaction_cutoff(self._db.clock.now(), self._event_retention)
        return Done(asdict(await compact_events(self._db, cutoff, report_progress)))

    async def expire_enrolments(self, ctx: JobContext, args: ExpireEnrolments) -> Outcome:
        """Expire enrolments of all courses with a validity, a page a commit (rule B12)."""
        expired = 0
        async with self._db.read() as tx:
            courses = await catalogue.expiring_versions(tx)
        for versions in courses.values():
            after: catalogue.CompletedEnrolmentCursor | None = None
            while True:
                async with self._db.write() as tx:
                    keys, after = await catalogue.expire_enrolments(
                        tx, versions, after, EXPIRE_PAGE
                    )
                    for user_id, course_id, _ in keys:
                        tx.notify("progress", f"{user_id}/{course_id}")
                expired += len(keys)
                if after is None:
                    break
                await ctx.progress({"expired": expired})
        return Done({"expired": expired})


def _move_job_id(course: Course) -> str:
    """Return the id of the job that moves learners to a version of a course."""
    return natural_id("progress", "move", course.id, str(course.version))


async def _replay_subject(tx: Tx, args: ReplayQuarantine) -> LogSubject:
    """Return the learner and the course whose events the job replays."""
    return LogSubject(args.user_id, args.course_id)
