"""HTTP routes of achievement rules: store, preview, award, list the holders."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field

from homeroom.achievements.api import (
    AchievementRule,
    Achievements,
    Award,
    AwardRun,
    RuleBody,
)
from homeroom.achievements.rule_document import MAX_RULE_ID, RuleCondition, read_condition
from homeroom.db.database import Database
from homeroom.identity import Identity, Role
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

_WRITERS = (Role.SERVICE, Role.AUTHOR)
_STAFF = (Role.OPERATOR, Role.VIEWER, Role.SERVICE)
_READERS = (*_STAFF, Role.AUTHOR, Role.MANAGER)
_AWARDERS = (Role.OPERATOR, Role.SERVICE)

RuleId = Annotated[ExternalId, Path(alias="ruleId", max_length=MAX_RULE_ID)]
After = Annotated[ExternalId | None, Field(description="`nextAfter` of the call before.")]


class AchievementRuleView(ResponseModel):
    """A rule that awards an achievement."""

    id: str
    title: str
    description: str
    condition: RuleCondition
    """What the rule asks for."""
    credential: bool
    """Whether learners get a signed credential for it."""
    version: int
    """Version of the rule, from 1."""
    created_at: Rfc3339Instant
    updated_at: Rfc3339Instant


class AwardView(ResponseModel):
    """A learner who has an achievement."""

    id: str
    rule_id: str
    user_id: str
    completion_id: str
    """The completion with which the rule was fulfilled."""
    rule_version: int
    """The version of the rule then."""
    achieved_at: Rfc3339Instant
    awarded_at: Rfc3339Instant


class AwardRequest(RequestModel):
    """A page of an award run."""

    dry_run: bool = False
    after: After = None


class RulePreview(RequestModel):
    """A rule that is not stored, and where to continue."""

    rule: RuleBody
    """The rule as it would be stored."""
    after: After = None


class AwardedLearner(ResponseModel):
    """A learner who was awarded now, or would be."""

    user_id: str
    completion_id: str
    achieved_at: Rfc3339Instant


class AwardRunView(ResponseModel):
    """The learners of one page of an award run; ``nextAfter`` continues."""

    dry_run: bool
    items: list[AwardedLearner]
    next_after: Annotated[
        str | None, Field(description="`after` of the next call; null at the end.")
    ]


def _rule_view(rule: AchievementRule) -> AchievementRuleView:
    return AchievementRuleView(
        id=rule.id,
        title=rule.title,
        description=rule.description,
        condition=read_condition(rule.condition),
        credential=rule.credential,
        version=rule.version,
        created_at=rule.created_at,
        updated_at=rule.updated_at,
    )


def _run_view(run: AwardRun, *, dry_run: bool) -> AwardRunView:
    items = [AwardedLearner.model_validate(award) for award in run.awards]
    return AwardRunView(dry_run=dry_run, items=items, next_after=run.after)


def router(db: Database, auth: Auth, achievements: Achievements) -> APIRouter:
    """Return the routes of rules; ``credentials`` has that of a learner."""
    routes = APIRouter(prefix="/api/v1/achievement-rules", tags=["Completion"])
    _add_rules(routes, db, auth, achievements)
    _add_awards(routes, db, auth, achievements)
    return routes


def _add_rules(routes: APIRouter, db: Database, auth: Auth, achievements: Achievements) -> None:
    reader = Depends(auth.require(*_READERS))
    writer: Identity = Depends(auth.require(*_WRITERS))

    @routes.get("", dependencies=[reader])
    async def list_achievement_rules() -> Page[AchievementRuleView]:
        """List the rules by id, at most 200, on one page."""
        async with db.read() as tx:
            rules = await achievements.list_rules(tx)
        return Page(items=[_rule_view(rule) for rule in rules])

    @routes.get("/{ruleId}", dependencies=[reader])
    async def get_achievement_rule(rule_id: RuleId) -> AchievementRuleView:
        """Return a rule."""
        async with db.read() as tx:
            return _rule_view(await achievements.get_rule(tx, rule_id))

    @routes.put(
        "/{ruleId}",
        responses={201: {"model": AchievementRuleView, "description": "A new rule"}},
    )
    async def put_achievement_rule(
        rule_id: RuleId, body: RuleBody, response: Response, identity: Identity = writer
    ) -> AchievementRuleView:
        """Store a rule. It awards with each completion from now on.

        Learners who fulfil it already are awarded by `POST .../award`. A changed rule takes back
        nothing. An equal body makes no new version.
        """
        async with db.write() as tx:
            rule, is_new = await achievements.put_rule(tx, rule_id, body, identity.subject)
        if is_new:
            response.status_code = 201
        return _rule_view(rule)

    @routes.delete("/{ruleId}", status_code=204)
    async def delete_achievement_rule(rule_id: RuleId, identity: Identity = writer) -> None:
        """Archive a rule: it awards nothing from now on, and what it has awarded stays."""
        async with db.write() as tx:
            await achievements.archive_rule(tx, rule_id, identity.subject)


def _add_awards(routes: APIRouter, db: Database, auth: Auth, achievements: Achievements) -> None:
    staff = Depends(auth.require(*_STAFF))
    awarder: Identity = Depends(auth.require(*_AWARDERS))

    @routes.post("/{ruleId}/preview", dependencies=[staff])
    async def preview_achievement_rule(rule_id: RuleId, body: RulePreview) -> AwardRunView:
        """Return whom a rule would award if it were stored, among the next 200 learners."""
        run = await achievements.preview(rule_id, body.rule, body.after)
        return _run_view(run, dry_run=True)

    @routes.post("/{ruleId}/award")
    async def award_achievement_rule(
        rule_id: RuleId, body: AwardRequest, identity: Identity = awarder
    ) -> AwardRunView:
        """Award a rule to those who fulfil it already, among the next 200 learners.

        Repeatable: no learner is awarded twice. With `dryRun` nothing is stored.
        """
        run = await achievements.award(rule_id, identity.subject, body.after, dry_run=body.dry_run)
        return _run_view(run, dry_run=body.dry_run)

    @routes.get("/{ruleId}/awards", dependencies=[staff])
    async def list_achievement_awards(rule_id: RuleId, paging: PagingQuery) -> Page[AwardView]:
        """Return who has the achievement of a rule, by the learner's id."""
        key = paging.key(str)
        after = None if key is None else str(key[0])
        async with db.read() as tx:
            rows = await achievements.list_holders(tx, rule_id, after, paging.limit + 1)
        page, cursor = cut_page(rows, paging, lambda each: [each.user_id])
        return Page(items=[_award_view(each) for each in page], next_cursor=cursor)


def _award_view(award: Award) -> AwardView:
    return AwardView.model_validate(award)
