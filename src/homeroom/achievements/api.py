"""Public interface of achievements: rules, awards, progress towards the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from homeroom.access import api as access
from homeroom.achievements import store
from homeroom.achievements.jobs import AwardAchievements
from homeroom.achievements.rule import RuleProgress, describe, measure
from homeroom.achievements.rule_document import RuleBody, check_rule_id
from homeroom.achievements.store import PERSONAL, AchievementRule, Award
from homeroom.catalogue import api as catalogue
from homeroom.completion.api import (
    TOPIC,
    Completion,
    Completions,
    CourseResult,
    list_learners,
    list_results,
)
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs import api as jobs
from homeroom.jobs.api import Done, Job, JobContext, LogSubject, Outcome, Registry

__all__ = [
    "AWARD_PAGE",
    "PERSONAL",
    "AchievementRule",
    "Achievements",
    "Award",
    "AwardRun",
    "NextAchievement",
    "RuleBody",
    "RuleProgress",
]

MAX_RULES = 200
"""Each completion is measured by all rules, and a learner's list shows all."""
AWARD_PAGE = 200
"""Learners in one transaction of an award run: ingest waits for it on SQLite."""

OnAwarded = Callable[[Tx, Sequence[Award]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NextAchievement:
    """A rule that a learner has not fulfilled yet."""

    rule: AchievementRule
    progress: RuleProgress


@dataclass(frozen=True, slots=True)
class AwardRun:
    """A page of an award run."""

    awards: list[Award]
    """New ones; of a dry run those that there would be."""
    after: str | None
    """The id of the learner after whom to continue; None: all are done."""


class Achievements:
    """Rules and awards; ``bootstrap`` connects it to completions."""

    def __init__(self, db: Database, completions: Completions) -> None:
        """Award for these completions."""
        self._db, self._completions = db, completions
        self.on_awarded: list[OnAwarded] = []
        """Called in the commit that stores new awards."""

    def register(self, registry: Registry) -> None:
        """Register the job, and have each commit of completions enqueue it."""
        registry.add(
            AwardAchievements,
            self._run,
            is_outstanding=self._is_outstanding,
            subject=self._find_subject,
        )
        self._completions.on_recorded.append(self._enqueue)

    async def _enqueue(self, tx: Tx, completions: Sequence[Completion]) -> None:
        """Enqueue the job of each completion, unless there is no rule.

        An award run that follows a new rule waits for transactions that have not seen the rule.
        """
        if not await store.has_rules(tx):
            return
        requests = [AwardAchievements(completion_id=each.id) for each in completions]
        await jobs.enqueue_all(
            tx,
            [jobs.EnqueueRequest(args, args.natural_id()) for args in requests],
            natural_ids=True,
        )

    async def _run(self, context: JobContext, args: AwardAchievements) -> Outcome:
        """Award what the learner has reached by all completions so far."""
        async with self._db.read() as tx:
            found = await self._find_reached(tx, args.completion_id)
        if not found:
            return Done({"awarded": []})

        async def add(tx: Tx) -> Outcome:
            try:
                await self._completions.get_locked(tx, args.completion_id)
            except NotFound:  # the learner was erased meanwhile
                return Done({"awarded": []})
            new = await self._add(tx, found)
            return Done({"awarded": [award.rule_id for award in new]})

        return await context.commit(add)

    async def _find_reached(self, tx: Tx, completion_id: str) -> list[Award]:
        """Return awards that a completion's learner has reached and does not have."""
        completion = (await self._completions.find_by_ids(tx, [completion_id])).get(completion_id)
        if completion is None:
            return []
        user_id = completion.user_id
        results = (await list_results(tx, [user_id]))[user_id]
        held = {award.rule_id for award in await store.list_awards(tx, user_id)}
        rules = [rule for rule in await store.list_rules(tx) if rule.id not in held]
        awards = [_reached(rule, results, tx.now) for rule in rules]
        return [award for award in awards if award is not None]

    async def _is_outstanding(self, tx: Tx, job: Job, args: AwardAchievements) -> bool:
        del job
        return bool(await self._find_reached(tx, args.completion_id))

    async def _find_subject(self, tx: Tx, args: AwardAchievements) -> LogSubject:
        found = await self._completions.find_by_ids(tx, [args.completion_id])
        completion = found.get(args.completion_id)
        return LogSubject() if completion is None else LogSubject(user_id=completion.user_id)

    async def _add(self, tx: Tx, awards: Sequence[Award]) -> list[Award]:
        """Store awards; what follows them is in the same commit.

        A rule may have been archived since they were found.
        """
        in_use = {rule.id for rule in await store.list_rules(tx)}
        dated = [replace(award, awarded_at=tx.now) for award in awards if award.rule_id in in_use]
        new = await store.add_awards(tx, dated)
        if new:
            for award in new:
                tx.notify(TOPIC, award.completion_id)
            for on_awarded in self.on_awarded:
                await on_awarded(tx, new)
        return new

    async def list_rules(self, tx: Tx) -> list[AchievementRule]:
        """Return the rules that are not archived, by id."""
        return await store.list_rules(tx)

    async def get_rule(self, tx: Tx, id: str) -> AchievementRule:
        """Return a rule that is not archived; raise ``NotFound``."""
        rule = await store.get_rule(tx, id)
        if rule is None or rule.archived_at is not None:
            raise NotFound(f"There is no achievement rule {id!r}.")
        return rule

    async def put_rule(
        self, tx: Tx, id: str, body: RuleBody, actor: str
    ) -> tuple[AchievementRule, bool]:
        """Store a rule; return it, and whether it is new.

        An equal rule makes no new version. What was awarded stays, and learners who fulfil the rule
        already are awarded by ``award``, or with their next completion. Raises ``Invalid`` for a
        course that is not published, ``Conflict`` for too many rules.
        """
        check_rule_id(id)
        await tx.lock("achievement_rule")
        known = await store.get_rule(tx, id)
        is_new = known is None or known.archived_at is not None
        rule = await self._draft(tx, id, body, known)
        if known is not None and replace(rule, version=known.version, updated_at=0) == replace(
            known, updated_at=0
        ):
            return known, False
        if is_new and len(await store.list_rules(tx)) >= MAX_RULES:
            raise Conflict(
                f"There are {MAX_RULES} achievement rules, and no more are allowed.",
                hint="Archive those that are no longer needed.",
            )
        await store.put_rule(tx, rule)
        details = {"version": rule.version}
        await access.record_audit(tx, actor, "achievement_rule.stored", id, details)
        return rule, is_new

    async def _draft(
        self, tx: Tx, id: str, body: RuleBody, known: AchievementRule | None
    ) -> AchievementRule:
        published = await catalogue.current_courses(tx, body.course_ids)
        missing = [each for each in body.course_ids if each not in published]
        if missing:
            raise Invalid(
                f"The rule {id!r} names courses that are not published: {', '.join(missing)}.",
                hint="Publish them first, or correct the ids.",
            )
        return AchievementRule(
            id=id,
            title=body.title,
            description=body.description,
            condition=body.condition_json(),
            credential=body.credential,
            version=1 if known is None else known.version + 1,
            created_at=tx.now if known is None else known.created_at,
            updated_at=tx.now,
        )

    async def archive_rule(self, tx: Tx, id: str, actor: str) -> None:
        """Archive a rule: it awards nothing from now on. Raises ``NotFound``."""
        if not await store.archive_rule(tx, id):
            raise NotFound(f"There is no achievement rule {id!r}.")
        await access.record_audit(tx, actor, "achievement_rule.archived", id, {})

    async def preview(self, id: str, body: RuleBody, after: str | None = None) -> AwardRun:
        """Return whom a rule would award if it were stored, a page at a time."""
        check_rule_id(id)
        async with self._db.read() as tx:
            rule = await self._draft(tx, id, body, await store.get_rule(tx, id))
            awards, next_after = await self._find_page(tx, rule, after)
        return AwardRun(awards, next_after)

    async def award(
        self, id: str, actor: str, after: str | None = None, *, dry_run: bool = False
    ) -> AwardRun:
        """Award a stored rule to the next learners who fulfil it, by id.

        Each call is one transaction with ``AWARD_PAGE`` learners. ``dry_run`` lists them and
        changes nothing. Raises ``NotFound``.
        """
        async with self._db.read() as tx:
            await self.get_rule(tx, id)
        if after is None:
            # Those that have not seen the rule yet have enqueued no job.
            await self._completions.wait_for_recording(self._db)
        async with self._db.read() as tx:
            rule = await self.get_rule(tx, id)
            awards, next_after = await self._find_page(tx, rule, after)
        if dry_run or not awards:
            return AwardRun(awards, next_after)
        async with self._db.write() as tx:
            await catalogue.lock_learners(tx, [award.user_id for award in awards])
            kept = await self._completions.find_by_ids(tx, [each.completion_id for each in awards])
            new = await self._add(tx, [each for each in awards if each.completion_id in kept])
            details = {"learners": len(new)}
            await access.record_audit(tx, actor, "achievement_rule.awarded", id, details)
        return AwardRun(new, next_after)

    async def _find_page(
        self, tx: Tx, rule: AchievementRule, after: str | None
    ) -> tuple[list[Award], str | None]:
        """Return whom the rule would award of the next learners, and the next cursor."""
        user_ids = await list_learners(tx, after, AWARD_PAGE)
        results = await list_results(tx, user_ids)
        held = await store.list_holder_ids(tx, rule.id, user_ids)
        awards = [_reached(rule, results[id], tx.now) for id in user_ids if id not in held]
        next_after = user_ids[-1] if len(user_ids) == AWARD_PAGE else None
        return [award for award in awards if award is not None], next_after

    async def list_awards(self, tx: Tx, user_id: str) -> list[Award]:
        """Return a learner's awards, newest first."""
        return await store.list_awards(tx, user_id)

    async def get_award(self, tx: Tx, id: str) -> Award | None:
        """Return an award, or None."""
        return await store.get_award(tx, id)

    async def list_holders(
        self, tx: Tx, rule_id: str, after: str | None, count: int
    ) -> list[Award]:
        """Return the awards of a rule by the learner's id; also those of an archived one."""
        if await store.get_rule(tx, rule_id) is None:
            raise NotFound(f"There is no achievement rule {rule_id!r}.")
        return await store.list_holders(tx, rule_id, after, count)

    async def list_next(self, tx: Tx, user_id: str) -> list[NextAchievement]:
        """Return the rules that a learner has no award of, the nearest first."""
        results = (await list_results(tx, [user_id]))[user_id]
        held = {award.rule_id for award in await store.list_awards(tx, user_id)}
        found = [
            NextAchievement(rule, measure(rule.asks, results))
            for rule in await store.list_rules(tx)
            if rule.id not in held
        ]
        return sorted(found, key=lambda each: (-each.progress.fraction, each.rule.id))


def _reached(rule: AchievementRule, results: Sequence[CourseResult], now: int) -> Award | None:
    """Return the award of a learner who fulfils a rule, or None."""
    condition = rule.asks
    met_by = measure(condition, results).met_by
    if met_by is None:
        return None
    return Award(
        id=new_id(),
        rule_id=rule.id,
        user_id=met_by.user_id,
        completion_id=met_by.id,
        title=rule.title,
        description=rule.description,
        criteria=describe(condition),
        credential=rule.credential,
        rule_version=rule.version,
        achieved_at=met_by.completed_at,
        awarded_at=now,
    )
