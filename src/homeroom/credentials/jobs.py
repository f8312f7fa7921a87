"""The job that issues a credential once, over crashes, time-outs and retries."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

import structlog

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, SkipReason, StepArgs
from homeroom.credentials import store
from homeroom.credentials.credly import Badge, BadgeOrder, CredlyIssuer, format_credly_time
from homeroom.credentials.learner_lookup import LearnerDirectory, LearnerRecord, ScoreLookup
from homeroom.credentials.learner_messages import LearnerMessages
from homeroom.credentials.store import Credential
from homeroom.db.database import Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.jobs.handler import JobContext
from homeroom.jobs.job import HIGH
from homeroom.jobs.job_log import hash_person
from homeroom.jobs.outcome import Done, Fail, Hold, Outcome, Retry
from homeroom.partner.failure import PartnerError

log = structlog.get_logger(__name__)
TOPIC = "credentials"
RETRY_AFTER_TIMEOUT = timedelta(seconds=10)
"""Time that Credly may still work on an order after its response timed out.

The next attempt waits so long before it searches for the badge and, if there is none, orders it
again."""

_SUPERSEDED = SkipReason(
    "later_attempt_has_badge",
    "the learner has the badge of a later attempt, and the template allows one only",
)


class IssueCredential(StepArgs, frozen=True, kw_only=True):
    """Issue a completion's credential; the payload is ``{"completionId": "..."}``.

    The learner's address and the score are fetched when the job runs and are in no payload.
    Result: ``{"externalId": <id of the credential>}``, or that of ``SkipReason.to_result``.
    """

    kind: ClassVar[str] = "completion.credential"
    queue: ClassVar[str] = "credentials"
    priority: ClassVar[int] = HIGH
    timeout: ClassVar[timedelta] = timedelta(seconds=120)  # up to seven calls of 10 s


def new_credential_id() -> str:
    """Return a random public id: 144 bits, which cannot be guessed."""
    return secrets.token_urlsafe(18)


@dataclass(frozen=True, slots=True)
class IssueCredentialHandler:
    """The handler of ``IssueCredential``."""

    db: Database
    completions: Completions
    issuer: CredlyIssuer | None
    directory: LearnerDirectory
    assessment: ScoreLookup
    skip_reason: Callable[[Completion, Course], SkipReason | None]
    retry_after_timeout: timedelta = RETRY_AFTER_TIMEOUT
    messages: LearnerMessages | None = None

    async def run(self, ctx: JobContext, args: IssueCredential) -> Outcome:
        """Issue the credential, or find the one that an earlier attempt has issued."""
        async with self.db.read() as tx:
            try:
                completion = await self.completions.get(tx, args.completion_id)
                course = await catalogue.course_at(
                    tx, completion.course_id, completion.course_version
                )
            except NotFound as error:
                return Fail(error.message)
            issuer = self.issuer
            known = None
            if issuer is not None:
                known = await store.get_by_completion(tx, completion.id, issuer.name)
        if known is not None and known.state != "issuing":
            return Done({"externalId": known.id})
        reason = self.skip_reason(completion, course)
        if reason is not None:
            return Done(reason.to_result())
        assert issuer is not None  # otherwise there is a reason to skip the step
        assert course.badge_template_id is not None
        try:
            learner = await self.directory.find(completion.user_id)
            order = _badge_order(completion, course, course.badge_template_id, learner)
            if isinstance(order, Fail):
                return order
            score = await self.assessment.score(completion)
            credential, is_new = await self._store_before_ordering(issuer, completion, order, score)
            badge: Badge | Done | Retry | Hold | Fail | None = None
            if not is_new:
                badge = await self._find_earlier_badge(issuer, order)
            if badge is None:
                badge = await self._order_badge(issuer, order, credential)
        except PartnerError as error:
            return error.to_outcome()
        except NotFound as error:  # the learner was erased meanwhile
            return Fail(error.message)
        if not isinstance(badge, Badge):
            return badge
        return await self._save_issued(ctx, completion, credential, learner, badge)

    async def _store_before_ordering(
        self, issuer: CredlyIssuer, completion: Completion, order: BadgeOrder, score: int | None
    ) -> tuple[Credential, bool]:
        """Store the credential before it is ordered; return whether it is new.

        Raises ``NotFound`` if the completion is gone by now.
        """

        async def store_credential(tx: Tx) -> tuple[Credential, bool]:
            await self.completions.get_locked(tx, completion.id)
            return await store_before_issuing(
                tx, completion, issuer.name, order.template_id, score, order.expires_at
            )

        return await self.db.transact(store_credential, WriteClass.EFFECTS)

    async def _order_badge(
        self, issuer: CredlyIssuer, order: BadgeOrder, credential: Credential
    ) -> Badge | Done | Retry | Hold | Fail:
        """Order the badge; search for it where the order failed but may have made one."""
        try:
            return await issuer.issue(order)
        except PartnerError as error:
            if error.response_status != 422:
                return await self._find_unanswered(issuer, order, error)
            rejection = error
        badges = await issuer.find(order.template_id, order.learner.id, order.email)
        own = await self._select_own_badge(issuer, order, badges)
        if own is not None:
            return own
        async with self.db.read() as tx:
            attempts = await store.list_other_attempts(tx, credential)
        return await self._settle_duplicate(issuer, order, credential, badges, attempts, rejection)

    async def _settle_duplicate(
        self,
        issuer: CredlyIssuer,
        order: BadgeOrder,
        credential: Credential,
        badges: Sequence[Badge],
        attempts: Sequence[Credential],
        rejection: PartnerError,
    ) -> Badge | Done | Retry | Hold | Fail:
        """Replace the badge of an earlier attempt, if that is the duplicate.

        Badges of other courses, of later attempts and those that Homeroom did not order stay.
        """
        valid = {badge.id: badge for badge in badges if not badge.is_revoked}
        if any(each.attempt > credential.attempt for each in attempts):
            return Done(_SUPERSEDED.to_result())
        for each in attempts:
            if each.external_id in valid:
                return await self._replace_badge(issuer, order, valid[each.external_id], rejection)
        message = _rejection_message(rejection, order, badges)
        if any(each.state == "issuing" for each in attempts):
            # An earlier attempt's order may have made that badge; its own job will find it.
            return Retry(message)
        return Fail(message)

    async def _replace_badge(
        self, issuer: CredlyIssuer, order: BadgeOrder, earlier: Badge, rejection: PartnerError
    ) -> Badge | Retry | Hold | Fail:
        """Order the badge in place of an earlier one, where the template refuses two."""
        try:
            badge = await issuer.replace(earlier.id, order)
        except PartnerError as error:
            if error.response_status not in (404, 422):
                return await self._find_unanswered(issuer, order, error)
            badges = await issuer.find(order.template_id, order.learner.id, order.email)
            own = await self._select_own_badge(issuer, order, badges)
            return own or Fail(_rejection_message(rejection, order, badges))
        async with self.db.write() as tx:
            user_hash = await hash_person(tx, order.learner.id)
        log.info(
            "credential_badge_replaced", user_id_hash=user_hash, earlier=earlier.id, badge=badge.id
        )
        return badge

    async def _find_unanswered(
        self, issuer: CredlyIssuer, order: BadgeOrder, error: PartnerError
    ) -> Badge | Retry | Hold | Fail:
        """Return the badge of an order that failed, or the outcome of the job.

        Raises the error where Credly has answered.
        """
        if not error.is_outcome_unknown or error.response_status is not None:
            raise error
        async with self.db.write() as tx:
            user_hash = await hash_person(tx, order.learner.id)
        log.warning("credential_order_unanswered", user_id_hash=user_hash, error=error.kind)
        try:
            badge = await self._find_earlier_badge(issuer, order)
        except PartnerError:
            badge = None  # the next attempt searches before it orders
        if badge is not None:
            return badge
        is_at_work = error.kind == "timed out"
        return error.to_outcome(self.retry_after_timeout if is_at_work else timedelta())

    async def _find_earlier_badge(self, issuer: CredlyIssuer, order: BadgeOrder) -> Badge | None:
        badges = await issuer.find(order.template_id, order.learner.id, order.email)
        return await self._select_own_badge(issuer, order, badges)

    async def _select_own_badge(
        self, issuer: CredlyIssuer, order: BadgeOrder, badges: Sequence[Badge]
    ) -> Badge | None:
        """Return the badge of the same date that belongs to no other credential."""
        matching = [badge for badge in badges if badge.is_for(order)]
        async with self.db.read() as tx:
            used_ids = await store.list_used_external_ids(
                tx, issuer.name, [badge.id for badge in matching]
            )
        return next((badge for badge in matching if badge.id not in used_ids), None)

    async def _save_issued(
        self,
        ctx: JobContext,
        completion: Completion,
        credential: Credential,
        learner: LearnerRecord | None,
        badge: Badge,
    ) -> Outcome:
        """Save the credential, tell the learner and end the job in one commit."""

        async def save(tx: Tx) -> Outcome:
            await store.set_issued(tx, credential.id, badge.id, badge.badge_url, badge.state)
            await store.mark_superseded(tx, credential)
            if self.messages is not None:
                await self.messages.announce_issued(
                    tx, completion, credential, learner, url=badge.badge_url, certificate_url=None
                )
            tx.notify(TOPIC, credential.id)
            return Done({"externalId": credential.id})

        return await ctx.commit(save)


async def store_new_issue(tx: Tx, revoked: Credential) -> Credential | None:
    """Store the next issue of a revoked credential; None where it has one already."""
    new = replace(
        revoked,
        id=new_credential_id(),
        state="issuing",
        external_id=None,
        url=None,
        created_at=tx.now,
        issuer_state=None,
        issuer_state_at=None,
        revoked_at=None,
        revocation_reason=None,
        superseded_by=None,
        issue=revoked.issue + 1,
    )
    if not await store.set_reissued(tx, revoked):
        return None
    await store.add(tx, new)
    return new


async def store_before_issuing(
    tx: Tx,
    completion: Completion,
    issuer: str,
    template_id: str,
    score: int | None,
    expires_at: int | None,
) -> tuple[Credential, bool]:
    """Store a credential that is not issued yet; return it, and whether it is new.

    One that an earlier attempt has stored keeps its id and gets the score of now.
    """
    new = Credential(
        id=new_credential_id(),
        completion_id=completion.id,
        user_id=completion.user_id,
        course_id=completion.course_id,
        attempt=completion.attempt,
        issuer=issuer,
        template_id=template_id,
        state="issuing",
        external_id=None,
        url=None,
        score=score,
        issued_at=completion.completed_at,
        expires_at=expires_at,
        created_at=tx.now,
        issuer_state=None,
        issuer_state_at=None,
        revoked_at=None,
        revocation_reason=None,
        superseded_by=None,
    )
    if await store.add(tx, new):
        return new, True
    known = await store.get_by_completion(tx, completion.id, issuer)
    assert known is not None  # the insert conflicted with it
    await store.set_score(tx, known.id, score)
    return replace(known, score=score), False


def _badge_order(
    completion: Completion, course: Course, template_id: str, learner: LearnerRecord | None
) -> BadgeOrder | Fail:
    """Return the order, or a failure that names what the learner's record lacks."""
    if learner is None:
        return Fail(
            f"the directory does not know the learner {completion.user_id};"
            " add the learner there and retry this step"
        )
    missing = [
        word
        for word, value in (
            ("e-mail address", learner.email),
            ("given name", learner.given_name),
            ("family name", learner.family_name),
        )
        if value is None
    ]
    if learner.email is None or learner.given_name is None or learner.family_name is None:
        return Fail(
            f"the learner {completion.user_id} has no {' and no '.join(missing)} in the directory;"
            " add it there and retry this step"
        )
    return BadgeOrder(
        template_id=template_id,
        learner=learner,
        email=learner.email,
        given_name=learner.given_name,
        family_name=learner.family_name,
        issued_at=completion.completed_at,
        expires_at=course.valid_until(completion.completed_at),
    )


def _rejection_message(error: PartnerError, order: BadgeOrder, badges: Sequence[Badge]) -> str:
    """Return the reason of a refusal, with the fix if another badge is the cause."""
    other = next((badge for badge in badges if not badge.is_revoked), None)
    if other is None:
        return error.message
    return (
        f"{error.message}. The learner holds badge {other.id} of the template {order.template_id}"
        f" already, issued at {other.issued_at}, and this completion is of"
        f" {format_credly_time(order.issued_at)}. Let earners have the badge more than once in the"
        " template's settings at Credly, or revoke the older badge; then retry this step"
    )
