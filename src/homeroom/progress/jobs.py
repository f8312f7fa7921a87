"""What progress does in the background, and what the catalogue tells it of.

``ProgressJobs`` is built in ``wiring``; the ingest it is given must be running in the same process.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import ClassVar

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course, EditPreview, Enrolment
from homeroom.clock import microseconds
from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.db.id import natural_id, new_id
from homeroom.db.tx import Tx
from homeroom.jobs.api import LOW, Done, JobArgs, JobContext, Outcome, Registry, enqueue
from homeroom.progress import edit, quarantine, store
from homeroom.progress.batch import Batch
from homeroom.progress.crossing import Touched, complete
from homeroom.progress.event import renewal
from homeroom.progress.ingest import Ingest
from homeroom.progress.read import latest_enrolments
from homeroom.progress.readmit import readmit
from homeroom.progress.rebuild import known_until
from homeroom.progress.retention import Folded, bound, fold_events
from homeroom.progress.rollup import fresh
from homeroom.progress.verdict import ACCEPTED

MOVE_PAGE = 50
"""Ingest waits for a page's commit."""
PRUNE_PAGE = 5_000
EXPIRE_PAGE = 500
QUARANTINE_TTL = timedelta(days=30)
_BY_ENROLMENT = frozenset({"manual", "prerequisite"})
"""What may be true of a learner without any event of theirs in the course (``Course.needs``)."""


class ReplayQuarantine(JobArgs, frozen=True, kw_only=True):
    """Bring in again what was set aside for a course. Result: counts by what became of it."""

    kind: ClassVar[str] = "progress.replay_quarantine"
    queue: ClassVar[str] = "progress"
    timeout: ClassVar[timedelta] = timedelta(minutes=10)
    public: ClassVar[bool] = True

    course_id: str | None = None
    """None: of every course."""
    user_id: str | None = None
    """None: of every learner."""


class MoveLearners(JobArgs, frozen=True, kw_only=True):
    """Move a course's open learners to its current version; ask others for what is new there.

    Result: ``{"moved", "finished", "renewed"}``. ``renewed`` counts who had completed the course
    and now has another attempt, by the policy ``require_new``.
    """

    kind: ClassVar[str] = "progress.move_learners"
    queue: ClassVar[str] = "progress"
    timeout: ClassVar[timedelta] = timedelta(minutes=30)

    course_id: str


class PruneQuarantine(JobArgs, frozen=True, kw_only=True):
    """Drop what was set aside longer ago than its time to live. Result: ``{"pruned"}``."""

    kind: ClassVar[str] = "progress.prune"
    queue: ClassVar[str] = "progress"
    priority: ClassVar[int] = LOW


class ExpireEnrolments(JobArgs, frozen=True, kw_only=True):
    """Let completed enrolments expire whose validity has ended. Result: ``{"expired"}``."""

    kind: ClassVar[str] = "progress.expire"
    queue: ClassVar[str] = "progress"
    timeout: ClassVar[timedelta] = timedelta(minutes=30)


class FoldEvents(JobArgs, frozen=True, kw_only=True):
    """Fold events that are older than their retention. Result: ``{"courses", "events", "left"}``.

    ``courses`` counts learners' courses of which ``events`` were folded, ``left`` those that would
    have read differently and stay as they were. Nothing is done where no retention is set.
    """

    kind: ClassVar[str] = "progress.fold_events"
    queue: ClassVar[str] = "progress"
    priority: ClassVar[int] = LOW
    timeout: ClassVar[timedelta] = timedelta(minutes=30)


class ProgressJobs:
    """The jobs of progress, and the hooks that add them."""

    def __init__(
        self,
        db: Database,
        ingest: Ingest,
        completions: Completions,
        *,
        quarantine_ttl: timedelta = QUARANTINE_TTL,
        event_retention: timedelta | None = None,
    ) -> None:
        """Take what the jobs need; held events go after ``quarantine_ttl``.

        Events of the ledger are folded after ``event_retention``; None keeps them for good.
        """
        self._db, self._ingest, self._completions = db, ingest, completions
        self._ttl, self._retention = quarantine_ttl, event_retention

    def register(self, registry: Registry) -> None:
        """Register the handlers."""
        registry.add(ReplayQuarantine, self.replay_quarantine)
        registry.add(MoveLearners, self.move_learners)
        registry.add(PruneQuarantine, self.prune)
        registry.add(ExpireEnrolments, self.expire)
        registry.add(FoldEvents, self.fold)

    async def on_publish(self, tx: Tx, course: Course, previous: Course | None) -> None:
        """Add the jobs that a new version asks for (``Catalogue.on_publish``)."""
        version = str(course.version)
        if await quarantine.has_replayable(tx, course.id):
            job_id = natural_id("progress", "replay", course.id, version)
            await enqueue(tx, ReplayQuarantine(course_id=course.id), id=job_id)
        if previous is not None and course.moves_at_once:
            job_id = natural_id("progress", "move", course.id, version)
            await enqueue(tx, MoveLearners(course_id=course.id), id=job_id)

    async def on_enrolment(self, tx: Tx, enrolment: Enrolment) -> None:
        """See what an enrolment or its approval finishes, and what was held for want of it.

        For ``Catalogue.on_enrolment``. What an approval finishes is completed now (rule B9).
        """
        course_id = enrolment.course_id
        if await quarantine.has_replayable(tx, course_id, enrolment.user_id):
            args = ReplayQuarantine(course_id=course_id, user_id=enrolment.user_id)
            cause = f"{course_id}\n{args.user_id}\n{enrolment.attempt}\n{enrolment.enrolled_at}"
            # Hashed: ids outlive their jobs, and must not name somebody who was erased.
            which = hashlib.sha256(cause.encode()).hexdigest()[:32]
            job_id = natural_id("progress", "replay", which)
            await enqueue(tx, args, id=job_id)
        course = await catalogue.course_at(tx, course_id, enrolment.version)
        if enrolment.completed_at is not None or course.needs.isdisjoint(_BY_ENROLMENT):
            return
        key = (enrolment.user_id, course_id, enrolment.attempt)
        state = (await store.attempts(tx, [key])).get(key) or fresh(course)
        await complete(tx, [Touched(enrolment, course, state, tx.now)], self._completions)

    async def preview(self, tx: Tx, course: Course) -> EditPreview:
        """Count what a course that is not published yet would change (the catalogue's dry run)."""
        return await edit.preview(tx, course, self._completions)

    async def replay_quarantine(self, ctx: JobContext, args: ReplayQuarantine) -> Outcome:
        """Replay page by page; what is still unknown stays."""
        after: int | None = 0
        totals = {"accepted": 0, "duplicate": 0, "conflict": 0, "held": 0}
        while after is not None:
            done = await readmit(
                self._db,
                self._ingest,
                course_id=args.course_id,
                user_id=args.user_id,
                after=after,
            )
            for name in totals:
                totals[name] += getattr(done, name)
            after = done.next_after
        return Done(totals)

    async def move_learners(self, ctx: JobContext, args: MoveLearners) -> Outcome:
        """Move learners a page and a commit at a time; who was moved before is passed over."""
        after: str | None = None
        totals = Counter(moved=0, finished=0, renewed=0)
        while True:
            async with self._db.write() as tx:
                page = await latest_enrolments(tx, args.course_id, after, MOVE_PAGE)
                await catalogue.lock_learners(tx, [each.user_id for each in page])
                pairs = [(each.user_id, args.course_id) for each in page]
                locked = await catalogue.enrolments(tx, pairs)  # as they are by now
                page = [locked[pair][-1] for pair in pairs]
                counts = await self._move(tx, args.course_id, page)
            totals.update(counts)
            if len(page) < MOVE_PAGE:
                return Done(dict(totals))
            after = page[-1].user_id
            await ctx.progress(dict(totals))

    async def _move(self, tx: Tx, course_id: str, page: list[Enrolment]) -> dict[str, int]:
        """Move those of a page who are open and behind; ask again who has completed the course.

        Return counts as in the job's result. The policy of the version that is current by now
        decides: it may have changed since.
        """
        course = (await catalogue.current_courses(tx, [course_id])).get(course_id)
        if course is None or not course.moves_at_once:
            return {}
        behind = [
            replace(each, version=course.version)
            for each in page
            if each.completed_at is None and each.version < course.version
        ]
        await catalogue.update_enrolments(tx, behind)
        touched = await edit.rolled_up(tx, behind, course)
        await store.save_courses(tx, [(each.key, each.state) for each in touched])
        for each in touched:
            tx.notify("progress", "/".join(each.key[:2]))
        finished = 0
        if course.complete_on_edit:
            finished = await complete(tx, touched, self._completions)
        renewed = await self._renew(tx, course, page)
        return {"moved": len(behind), "finished": finished, "renewed": renewed}

    async def _renew(self, tx: Tx, course: Course, page: list[Enrolment]) -> int:
        """Open another attempt for who has completed the course without what is new (B11)."""
        if course.learner_policy != "require_new":
            return 0
        events = []
        for asked in await edit.asked_again(tx, page, course, self._completions):
            after = known_until(asked.enrolment, asked.state)  # by the clock of another server
            at = max(tx.now, after + 1)
            events.append(renewal(new_id(), asked.enrolment.user_id, course.id, at))
        verdicts = await Batch(tx, events, self._completions).run()
        return verdicts.count(ACCEPTED)

    async def prune(self, ctx: JobContext, args: PruneQuarantine) -> Outcome:
        """Drop held events, some thousand a commit."""
        pruned = 0
        while True:
            async with self._db.write() as tx:
                count = await quarantine.prune(tx, tx.now - microseconds(self._ttl), PRUNE_PAGE)
            pruned += count
            if count < PRUNE_PAGE:
                return Done({"pruned": pruned})

    async def fold(self, ctx: JobContext, args: FoldEvents) -> Outcome:
        """Fold a day's events, some courses a commit; what is too much for a run waits for next."""
        if self._retention is None:
            return Done(asdict(Folded()))

        async def told(so_far: Folded) -> None:
            await ctx.progress(asdict(so_far))

        before = bound(self._db.clock.now(), self._retention)
        return Done(asdict(await fold_events(self._db, before, told)))

    async def expire(self, ctx: JobContext, args: ExpireEnrolments) -> Outcome:
        """Go through the courses whose completions end to be valid, a page a commit (rule B12)."""
        expired = 0
        async with self._db.read() as tx:
            courses = await catalogue.courses_that_expire(tx)
        for versions in courses.values():
            after: catalogue.CompletedAt | None = None
            while True:
                async with self._db.write() as tx:
                    over, after = await catalogue.expire(tx, versions, after, EXPIRE_PAGE)
                    for user_id, course_id, _ in over:
                        tx.notify("progress", f"{user_id}/{course_id}")
                expired += len(over)
                if after is None:
                    break
                await ctx.progress({"expired": expired})
        return Done({"expired": expired})
