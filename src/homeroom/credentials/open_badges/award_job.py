"""The job that signs the credential of an achievement, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from homeroom.achievements.api import Achievements, Award
from homeroom.catalogue import api as catalogue
from homeroom.credentials import store
from homeroom.credentials.jobs import TOPIC, new_credential_id
from homeroom.credentials.learner_lookup import LearnerDirectory, LearnerRecord
from homeroom.credentials.open_badges import badge_store
from homeroom.credentials.open_badges.badge_issuer import OpenBadgeIssuer
from homeroom.credentials.open_badges.badge_store import CredentialStatus
from homeroom.credentials.open_badges.signing import SigningKey
from homeroom.credentials.store import NO_COURSE, Credential
from homeroom.db.database import Database, WriteClass
from homeroom.db.ids import natural_id
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.jobs import api as jobs
from homeroom.jobs.api import Done, Fail, Job, JobArgs, JobContext, LogSubject, Outcome, Registry
from homeroom.partner.failure import PartnerError

_DISABLED = "credentials are switched off (ENABLE_CREDENTIALS=false)"


class SignAward(JobArgs, frozen=True, kw_only=True):
    """Sign the credential of an achievement; the payload is ``{"awardId": "..."}``.

    Result: ``{"credentialId": "..."}``.
    """

    kind: ClassVar[str] = "credentials.sign_award"
    queue: ClassVar[str] = "credentials"
    max_retries: ClassVar[int] = 9

    award_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the id of the award."""
        return {"award_id": self.award_id}


async def enqueue_signature(tx: Tx, award_id: str, issue: int = 1) -> None:
    """Enqueue the job of an award's credential, once an issue."""
    parts = (award_id, "credential") if issue == 1 else (award_id, "credential", str(issue))
    await jobs.enqueue(tx, SignAward(award_id=award_id), id=natural_id(*parts))


class AwardSigner:
    """Signs credentials of achievements, also where Credly issues those of courses."""

    def __init__(
        self,
        db: Database,
        achievements: Achievements,
        issuer: OpenBadgeIssuer,
        directory: LearnerDirectory,
        *,
        is_enabled: bool = True,
    ) -> None:
        """Sign as this issuer for learners of a directory."""
        self._db, self._achievements = db, achievements
        self._issuer, self._directory = issuer, directory
        self._is_enabled = is_enabled

    def register(self, registry: Registry) -> None:
        """Register the job, and have each commit of awards enqueue it."""
        registry.add(
            SignAward,
            self._run,
            is_outstanding=self._is_outstanding,
            subject=self._find_subject,
        )
        self._achievements.on_awarded.append(self._enqueue)

    async def _enqueue(self, tx: Tx, awards: Sequence[Award]) -> None:
        for award in awards:
            if award.credential:
                await enqueue_signature(tx, award.id)

    async def _run(self, context: JobContext, args: SignAward) -> Outcome:
        """Sign the credential, or find the one that an earlier attempt has stored."""
        async with self._db.read() as tx:
            award = await self._achievements.get_award(tx, args.award_id)
            known = await store.get_by_completion(tx, args.award_id, self._issuer.name)
        if award is None:
            return Fail("the award is gone: its learner was erased")
        if known is not None and known.state != "issuing":
            return Done({"credentialId": known.id})
        reason = self._issuer.skip_reason()
        if reason is not None or not self._is_enabled:
            return Fail(_DISABLED if reason is None else reason.text)
        try:
            learner = await self._directory.find(award.user_id)
            async with self._issuer.turn():
                return await self._issue(context, award, learner)
        except PartnerError as error:
            return error.to_outcome()
        except NotFound as error:  # the learner was erased meanwhile
            return Fail(error.message)

    async def _issue(
        self, context: JobContext, award: Award, learner: LearnerRecord | None
    ) -> Outcome:
        """Sign the credential, and store it in the commit that ends the job.

        Raises ``NotFound`` if the award is gone by now.
        """
        credential, status, key = await self._prepare(award)
        badge = await self._issuer.sign_award(
            credential, award, learner, status, key, self._db.clock.now()
        )

        async def store_badge(tx: Tx) -> Outcome:
            await self._lock(tx, award)
            await badge_store.add_badge(tx, badge)
            url = self._issuer.profile.credential_url(credential.id)
            await store.set_issued(tx, credential.id, credential.id, url, None)
            tx.notify(TOPIC, credential.id)
            return Done({"credentialId": credential.id})

        return await context.commit(store_badge)

    async def _prepare(self, award: Award) -> tuple[Credential, CredentialStatus, SigningKey]:
        """Store id and status number before the signature; return them and the key."""

        async def store_credential(tx: Tx) -> tuple[Credential, CredentialStatus, SigningKey]:
            await self._lock(tx, award)
            new = _new_credential(award, self._issuer.name, tx.now)
            credential: Credential | None = new
            if not await store.add(tx, new):
                credential = await store.get_by_completion(tx, award.id, self._issuer.name)
            assert credential is not None  # the insert conflicted with it
            status = await badge_store.get_or_add_status(tx, credential.id)
            return credential, status, await self._issuer.signing_key(tx)

        return await self._db.transact(store_credential, WriteClass.EFFECTS)

    async def _lock(self, tx: Tx, award: Award) -> None:
        """Lock the learner against erasure; raise ``NotFound`` if the award is gone."""
        await catalogue.lock_learners(tx, [award.user_id])
        if await self._achievements.get_award(tx, award.id) is None:
            raise NotFound("the award is gone: its learner was erased")

    async def _is_outstanding(self, tx: Tx, job: Job, args: SignAward) -> bool:
        del job
        if await self._achievements.get_award(tx, args.award_id) is None:
            return False
        known = await store.get_by_completion(tx, args.award_id, self._issuer.name)
        return known is None or known.state == "issuing"

    async def _find_subject(self, tx: Tx, args: SignAward) -> LogSubject:
        award = await self._achievements.get_award(tx, args.award_id)
        return LogSubject() if award is None else LogSubject(user_id=award.user_id)


def _new_credential(award: Award, issuer: str, now: int) -> Credential:
    return Credential(
        id=new_credential_id(),
        completion_id=award.id,
        user_id=award.user_id,
        course_id=NO_COURSE,
        attempt=1,
        issuer=issuer,
        template_id=award.rule_id,
        state="issuing",
        external_id=None,
        url=None,
        score=None,
        issued_at=award.achieved_at,
        expires_at=None,
        created_at=now,
        issuer_state=None,
        issuer_state_at=None,
        revoked_at=None,
        revocation_reason=None,
        superseded_by=None,
    )
