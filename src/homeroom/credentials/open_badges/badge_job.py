"""The job that issues a credential signed by this installation, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, SkipReason
from homeroom.credentials import store
from homeroom.credentials.jobs import TOPIC, IssueCredential, store_before_issuing
from homeroom.credentials.learner_lookup import LearnerDirectory, LearnerRecord, ScoreLookup
from homeroom.credentials.learner_messages import LearnerMessages
from homeroom.credentials.open_badges import badge_store
from homeroom.credentials.open_badges.badge_issuer import OpenBadgeIssuer
from homeroom.credentials.open_badges.badge_store import CredentialStatus
from homeroom.credentials.open_badges.signing import SigningKey
from homeroom.credentials.store import Credential
from homeroom.db.database import Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.jobs.handler import JobContext
from homeroom.jobs.outcome import Done, Fail, Outcome
from homeroom.partner.failure import PartnerError


@dataclass(frozen=True, slots=True)
class SignCredentialHandler:
    """The handler of ``IssueCredential`` where no other issuer is configured."""

    db: Database
    completions: Completions
    issuer: OpenBadgeIssuer
    directory: LearnerDirectory
    assessment: ScoreLookup
    skip_reason: Callable[[Completion, Course], SkipReason | None]
    messages: LearnerMessages | None = None

    async def run(self, ctx: JobContext, args: IssueCredential) -> Outcome:
        """Sign the credential, or find the one that an earlier attempt has stored.

        Id and status number are committed before the signature: an attempt that dies between the
        two leaves them to the next one.
        """
        async with self.db.read() as tx:
            try:
                completion = await self.completions.get(tx, args.completion_id)
                course = await catalogue.course_at(
                    tx, completion.course_id, completion.course_version
                )
            except NotFound as error:
                return Fail(error.message)
            issued = (await store.list_by_completions(tx, [completion.id])).get(completion.id)
            own = await store.get_by_completion(tx, completion.id, self.issuer.name)
            if own is not None and own.state == "issuing":
                issued = None  # not issued yet, perhaps anew after a revocation
        if issued is not None:
            return Done({"externalId": issued.id})
        reason = self.skip_reason(completion, course)
        if reason is not None:
            return Done(reason.to_result())
        try:
            learner = await self.directory.find(completion.user_id)
            score = await self.assessment.score(completion)
            async with self.issuer.turn():
                return await self._issue(ctx, completion, course, learner, score)
        except PartnerError as error:
            return error.to_outcome()
        except NotFound as error:  # the learner was erased meanwhile
            return Fail(error.message)

    async def _issue(
        self,
        ctx: JobContext,
        completion: Completion,
        course: Course,
        learner: LearnerRecord | None,
        score: int | None,
    ) -> Outcome:
        """Sign the credential, and store it in the commit that ends the job.

        Raises ``NotFound`` if the completion is gone by now.
        """
        credential, status, key = await self._prepare(completion, course, score)
        badge = await self.issuer.sign(
            credential, completion, course, learner, status, key, self.db.clock.now()
        )

        async def store_badge(tx: Tx) -> Outcome:
            await self.completions.get_locked(tx, completion.id)
            await badge_store.add_badge(tx, badge)
            url = self.issuer.profile.credential_url(credential.id)
            await store.set_issued(tx, credential.id, credential.id, url, None)
            await store.mark_superseded(tx, credential)
            if self.messages is not None:
                await self.messages.announce_issued(
                    tx, completion, credential, learner, url=url, certificate_url=f"{url}.pdf"
                )
            tx.notify(TOPIC, credential.id)
            return Done({"externalId": credential.id})

        return await ctx.commit(store_badge)

    async def _prepare(
        self, completion: Completion, course: Course, score: int | None
    ) -> tuple[Credential, CredentialStatus, SigningKey]:
        """Store id and status number of the credential, and return the key.

        Raises ``NotFound`` if the completion is gone by now.
        """

        async def store_credential(tx: Tx) -> tuple[Credential, CredentialStatus, SigningKey]:
            await self.completions.get_locked(tx, completion.id)
            credential, _ = await store_before_issuing(
                tx,
                completion,
                self.issuer.name,
                completion.course_id,
                score,
                course.valid_until(completion.completed_at),
            )
            status = await badge_store.get_or_add_status(tx, credential.id)
            return credential, status, await self.issuer.signing_key(tx)

        return await self.db.transact(store_credential, WriteClass.EFFECTS)
