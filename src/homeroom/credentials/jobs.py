"""The job that issues a credential once, whatever happens in between."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import structlog

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, StepArgs
from homeroom.credentials import store
from homeroom.credentials.assessment import Assessment
from homeroom.credentials.credly import Badge, CredlyIssuer, Order, write_moment
from homeroom.credentials.directory import Directory, Learner
from homeroom.credentials.store import Credential
from homeroom.db.database import Database
from homeroom.errors import NotFound
from homeroom.jobs.args import HIGH
from homeroom.jobs.handler import JobContext
from homeroom.jobs.outcome import Done, Fail, Outcome, Retry
from homeroom.partner import PartnerError

log = structlog.get_logger(__name__)
TOPIC = "credentials"
AFTER_TIMEOUT = timedelta(seconds=10)
"""How long an order whose answer never came may still be worked on at Credly. Its next attempt
waits so long before it looks for the badge and, if there is none, orders it again."""


class IssueCredential(StepArgs, frozen=True, kw_only=True):
    """Issue the credential of a completion; the payload is ``{"completionId": "..."}``.

    The learner's address and the score are asked for when the job runs and are in no payload.
    Result: ``{"externalId": <id of the credential>}``, or ``{"skipped": <reason>}``.
    """

    kind: ClassVar[str] = "completion.credential"
    queue: ClassVar[str] = "credentials"
    priority: ClassVar[int] = HIGH
    timeout: ClassVar[timedelta] = timedelta(seconds=120)  # up to seven calls of 10 s


def new_credential_id() -> str:
    """Return a random public id: 144 bits, so that nobody finds a credential by guessing."""
    return secrets.token_urlsafe(18)


@dataclass(frozen=True, slots=True)
class Issuing:
    """What runs ``IssueCredential``."""

    db: Database
    completions: Completions
    issuer: CredlyIssuer | None
    directory: Directory
    assessment: Assessment
    skip: Callable[[Completion, Course], str | None]
    after_timeout: timedelta = AFTER_TIMEOUT

    async def run(self, ctx: JobContext, args: IssueCredential) -> Outcome:
        """Issue once: what an earlier attempt has done is found again, not done again."""
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
                known = await store.of_completion(tx, completion.id, issuer.name)
        if known is not None and known.state != "issuing":
            return Done({"externalId": known.id})
        reason = self.skip(completion, course)
        if reason is not None or issuer is None or course.badge_template_id is None:
            return Done({"skipped": reason or "there is no issuer"})
        try:
            learner = await self.directory.find(completion.user_id)
            order = _order(completion, course, course.badge_template_id, learner)
            if isinstance(order, Fail):
                return order
            score = await self.assessment.score(completion)
            credential, fresh = await self._begin(issuer, completion, order, score)
            badge: Badge | Retry | Fail | None = None
            if not fresh:
                badge = await self._made_earlier(issuer, order)
            if badge is None:
                badge = await self._issue(issuer, order)
        except PartnerError as error:
            return error.outcome()
        except NotFound as error:  # the learner was erased meanwhile
            return Fail(error.message)
        if isinstance(badge, Retry | Fail):
            return badge
        return await self._settle(ctx, credential, badge)

    async def _begin(
        self, issuer: CredlyIssuer, completion: Completion, order: Order, score: int | None
    ) -> tuple[Credential, bool]:
        """Store the credential before it is ordered; say whether no attempt did so before.

        Raises ``NotFound`` if the completion is gone by now.
        """
        async with self.db.write() as tx:
            await self.completions.hold(tx, completion.id)
            new = Credential(
                id=new_credential_id(),
                completion_id=completion.id,
                user_id=completion.user_id,
                course_id=completion.course_id,
                attempt=completion.attempt,
                issuer=issuer.name,
                template_id=order.template_id,
                state="issuing",
                external_id=None,
                url=None,
                score=score,
                issued_at=completion.completed_at,
                expires_at=order.expires_at,
                created_at=tx.now,
                issuer_state=None,
                issuer_state_at=None,
                revoked_at=None,
                revocation_reason=None,
                superseded_by=None,
            )
            if await store.add(tx, new):
                return new, True
            known = await store.of_completion(tx, completion.id, issuer.name)
            assert known is not None  # the insert has just met it
            await store.set_score(tx, known.id, score)
            return known, False

    async def _issue(self, issuer: CredlyIssuer, order: Order) -> Badge | Retry | Fail:
        """Order the badge; where Credly may have made one all the same, look for it."""
        try:
            return await issuer.issue(order)
        except PartnerError as error:
            if error.answered == 422:
                held = await issuer.find(order.template_id, order.learner.id, order.email)
                return await self._ours(issuer, order, held) or Fail(_refusal(error, order, held))
            if not error.unknown or error.answered is not None:
                raise
            log.warning("credential_order_unanswered", why=error.what)
            try:
                badge = await self._made_earlier(issuer, order)
            except PartnerError:
                badge = None  # the next attempt looks again before it orders
            if badge is not None:
                return badge
            return Retry(error.message, self.after_timeout if error.what == "timed out" else None)

    async def _made_earlier(self, issuer: CredlyIssuer, order: Order) -> Badge | None:
        held = await issuer.find(order.template_id, order.learner.id, order.email)
        return await self._ours(issuer, order, held)

    async def _ours(
        self, issuer: CredlyIssuer, order: Order, held: Sequence[Badge]
    ) -> Badge | None:
        """Return the badge of this very completion: the same date, and no other credential's."""
        matching = [badge for badge in held if badge.is_for(order)]
        async with self.db.read() as tx:
            taken = await store.taken(tx, issuer.name, [badge.id for badge in matching])
        return next((badge for badge in matching if badge.id not in taken), None)

    async def _settle(self, ctx: JobContext, credential: Credential, badge: Badge) -> Outcome:
        """Save the credential and end the job in one commit."""
        outcome = Done({"externalId": credential.id})
        async with self.db.write() as tx:
            await store.set_issued(tx, credential.id, badge.id, badge.badge_url, badge.state)
            await store.supersede(tx, credential)
            tx.notify(TOPIC, credential.id)
            await ctx.settle(tx, outcome)
        return outcome


def _order(
    completion: Completion, course: Course, template_id: str, learner: Learner | None
) -> Order | Fail:
    """Return what is to be ordered, or which part of the learner's record is missing."""
    if learner is None:
        return Fail(f"the directory does not know the learner {completion.user_id}")
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
    return Order(
        template_id=template_id,
        learner=learner,
        email=learner.email,
        given_name=learner.given_name,
        family_name=learner.family_name,
        issued_at=completion.completed_at,
        expires_at=course.valid_until(completion.completed_at),
    )


def _refusal(error: PartnerError, order: Order, held: Sequence[Badge]) -> str:
    """Say why Credly refused: for another completion's badge, with how to mend it."""
    other = next((badge for badge in held if not badge.revoked), None)
    if other is None:
        return error.message
    return (
        f"{error.message}. The learner holds badge {other.id} of the template {order.template_id}"
        f" already, issued at {other.issued_at}, and this completion is of"
        f" {write_moment(order.issued_at)}. Let earners have the badge more than once in the"
        " template's settings at Credly, or revoke the older badge; then retry this step"
    )
