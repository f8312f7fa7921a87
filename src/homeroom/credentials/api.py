"""Public interface of credentials: issue, revoke, follow the issuer's state."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from homeroom.access import api as access
from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, SkipReason
from homeroom.credentials import store
from homeroom.credentials.credly import CredlyIssuer, parse_credly_time
from homeroom.credentials.jobs import (
    RETRY_AFTER_TIMEOUT,
    TOPIC,
    IssueCredential,
    IssueCredentialHandler,
    store_new_issue,
)
from homeroom.credentials.learner_lookup import (
    BuiltInLearnerDirectory,
    CourseScoreLookup,
    HttpLearnerDirectory,
    HttpScoreLookup,
    LearnerDirectory,
    LearnerRecord,
    ScoreLookup,
)
from homeroom.credentials.learner_messages import AnnounceExpiries, LearnerMessages
from homeroom.credentials.open_badges import badge_store
from homeroom.credentials.open_badges.award_job import AwardSigner, enqueue_signature
from homeroom.credentials.open_badges.badge_document import IssuerProfile
from homeroom.credentials.open_badges.badge_issuer import (
    OPEN_BADGES_ISSUER,
    Evidence,
    OpenBadgeIssuer,
)
from homeroom.credentials.open_badges.badge_job import SignCredentialHandler
from homeroom.credentials.open_badges.certificate import CertificateStyle
from homeroom.credentials.open_badges.signing import read_key_file
from homeroom.credentials.store import PERSONAL as PERSONAL_CREDENTIALS
from homeroom.credentials.store import Credential, CredentialSelection, CredentialState
from homeroom.db.database import Database
from homeroom.db.personal_data import PeopleIds
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, NotFound, TooBusy
from homeroom.jobs.api import PARTNER_DELAYS, Fail, FixedDelays, JobContext, Outcome
from homeroom.partner.failure import PartnerError

__all__ = [
    "PERSONAL",
    "REVOCATION_PAGE",
    "STEP_NAME",
    "TOPIC",
    "AnnounceExpiries",
    "AwardSigner",
    "BuiltInLearnerDirectory",
    "BulkRevocation",
    "CertificateStyle",
    "CourseScoreLookup",
    "Credential",
    "CredentialSelection",
    "CredentialState",
    "Credentials",
    "CredlyIssuer",
    "Evidence",
    "HttpLearnerDirectory",
    "HttpScoreLookup",
    "IssueCredential",
    "IssuerProfile",
    "LearnerDirectory",
    "LearnerMessages",
    "LearnerRecord",
    "OpenBadgeIssuer",
    "ScoreLookup",
    "read_key_file",
]

PERSONAL = (*badge_store.PERSONAL, *PERSONAL_CREDENTIALS)
log = structlog.get_logger(__name__)
STEP_NAME = "credential"
_EVENT_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
REVOCATION_PAGE = 200
"""Credentials of one call; at Credly each is a request of its own."""
_MAX_CONCURRENT_FETCHES, _MAX_WAITING_FETCHES = 4, 32
"""The webhook needs no token, and each call of it causes a call to Credly."""


@dataclass(frozen=True, slots=True)
class BulkRevocation:
    """The result of the revocation of many credentials."""

    revoked: list[Credential]
    failures: list[tuple[str, str]]
    """Id and error of each that stays as it is."""
    after: str | None
    """The id after which to continue; None: all are done."""


class Credentials:
    """All credentials; ``bootstrap`` builds it with the partners of the settings."""

    def __init__(
        self,
        db: Database,
        *,
        issuer: CredlyIssuer | None,
        badges: OpenBadgeIssuer | None = None,
        directory: LearnerDirectory,
        assessment: ScoreLookup,
        enabled: bool = True,
        missing_setting: str = "HOMEROOM_CREDLY_URL is not set",
        retry_after_timeout: timedelta = RETRY_AFTER_TIMEOUT,
        retries: FixedDelays = PARTNER_DELAYS,
        messages: LearnerMessages | None = None,
        uses_credly: bool | None = None,
    ) -> None:
        """Use these partners.

        ``badges`` signs credentials here and now; where ``uses_credly`` (by default where
        there is an ``issuer``), only those of courses without a template. ``issuer`` issues the
        others; without both, ``missing_setting`` is the reason to issue none. ``messages`` tells
        the learners; None: they are told nothing.
        """
        self.retries = retries
        self._messages = messages
        self._db = db
        self._issuer, self._directory, self._assessment = issuer, directory, assessment
        self._badges = badges
        self._uses_credly = issuer is not None if uses_credly is None else uses_credly
        self._enabled, self._missing_setting = enabled, missing_setting
        self._retry_after_timeout = retry_after_timeout
        self._fetch_slots = asyncio.Semaphore(_MAX_CONCURRENT_FETCHES)
        self._waiting_fetches = 0

    def skip_reason(self, completion: Completion, course: Course) -> SkipReason | None:
        """Return the reason to issue no credential for a completion, or None."""
        if not self._enabled:
            return SkipReason(
                "credentials_disabled", "credentials are switched off (ENABLE_CREDENTIALS=false)"
            )
        badges = self._signer(course)
        if badges is not None:
            return badges.skip_reason()
        if self._issuer is None:
            return SkipReason("issuer_not_configured", self._missing_setting)
        if course.badge_template_id is None:
            return SkipReason("course_without_badge", "the course has no badgeTemplateId")
        return None

    def _signer(self, course: Course) -> OpenBadgeIssuer | None:
        """Return the issuer that signs a course's credentials; None: Credly issues them."""
        is_for_credly = self._uses_credly and course.badge_template_id is not None
        return None if is_for_credly else self._badges

    @property
    def partner_name(self) -> str:
        """Return the issuer for the log."""
        return "credly" if self._badges is None or self._uses_credly else "open-badges"

    def build_handler(
        self, completions: Completions
    ) -> Callable[[JobContext, IssueCredential], Awaitable[Outcome]]:
        """Return the handler of the step's job."""
        order = IssueCredentialHandler(
            self._db,
            completions,
            self._issuer,
            self._directory,
            self._assessment,
            self.skip_reason,
            self._retry_after_timeout,
            self._messages,
        )
        if self._badges is None:
            return order.run
        sign = SignCredentialHandler(
            self._db,
            completions,
            self._badges,
            self._directory,
            self._assessment,
            self.skip_reason,
            self._messages,
        )
        return self._run_by_course(completions, sign, order) if self._uses_credly else sign.run

    def _run_by_course(
        self,
        completions: Completions,
        sign: SignCredentialHandler,
        order: IssueCredentialHandler,
    ) -> Callable[[JobContext, IssueCredential], Awaitable[Outcome]]:
        """Return the handler of a school with both issuers: the course decides."""

        async def run(ctx: JobContext, args: IssueCredential) -> Outcome:
            async with self._db.read() as tx:
                try:
                    completion = await completions.get(tx, args.completion_id)
                    course = await catalogue.course_at(
                        tx, completion.course_id, completion.course_version
                    )
                except NotFound as error:
                    return Fail(error.message)
            return await (order if self._signer(course) is None else sign).run(ctx, args)

        return run

    async def list_newest(
        self,
        tx: Tx,
        user_id: str | None,
        before: tuple[int, str] | None,
        count: int,
        learners: PeopleIds | None = None,
    ) -> list[Credential]:
        """Return credentials by (created_at, id), newest first; None: of all learners."""
        return await store.list_newest(tx, user_id, before, count, learners)

    async def list_issued_by_ids(self, tx: Tx, ids: Sequence[str]) -> list[Credential]:
        """Return those credentials of some ids that were issued."""
        return await store.list_issued_by_ids(tx, ids)

    async def list_by_completions(
        self, tx: Tx, completion_ids: Sequence[str]
    ) -> dict[str, Credential]:
        """Return the credentials of those completions that have one."""
        return await store.list_by_completions(tx, completion_ids)

    async def find_url(self, tx: Tx, completion_id: str) -> str | None:
        """Return the public URL of a completion's credential, or None without one."""
        credential = (await store.list_by_completions(tx, [completion_id])).get(completion_id)
        return None if credential is None or credential.state == "revoked" else credential.url

    async def revoke(self, id: str, reason: str, actor: str) -> Credential:
        """Revoke a credential at its issuer and here; a revoked one stays as it is.

        Raises ``NotFound``, ``Conflict`` where nothing was issued yet, ``PartnerError``.
        """
        async with self._db.read() as tx:
            known = await store.get(tx, id)
        if known is None:
            raise NotFound(f"There is no credential {id!r}.")
        if known.state == "revoked":
            return known
        if known.state == "issuing" or known.external_id is None:
            raise Conflict("The credential is not issued yet; revoke it once it is.")
        if known.issuer == OPEN_BADGES_ISSUER:
            return await self._save_revoked(id, reason, actor)
        if self._issuer is None:
            raise Conflict(
                f"The credential cannot be revoked at its issuer: {self._missing_setting}."
            )
        try:
            await self._issuer.revoke(known.external_id, reason)
        except PartnerError as error:
            if not await self._is_revoked_there(self._issuer, known, error):
                raise
        return await self._save_revoked(id, reason, actor)

    async def revoke_selected(
        self,
        selection: CredentialSelection,
        reason: str,
        actor: str,
        *,
        after: str | None = None,
        count: int = REVOCATION_PAGE,
        dry_run: bool = False,
    ) -> BulkRevocation:
        """Revoke the next ``count`` selected credentials after an id, by id.

        Each is a commit of its own. One that its issuer fails to revoke stays as it is and is
        listed with the error. ``dry_run`` lists them and changes nothing.
        """
        async with self._db.read() as tx:
            found = await store.list_revocable(tx, selection, after, count)
        revoked: list[Credential] = []
        failures: list[tuple[str, str]] = []
        for each in found:
            try:
                revoked.append(each if dry_run else await self.revoke(each.id, reason, actor))
            except (PartnerError, Conflict, NotFound) as error:
                failures.append((each.id, error.message))
        return BulkRevocation(revoked, failures, found[-1].id if len(found) == count else None)

    async def reissue(self, id: str, actor: str, completions: Completions) -> Credential:
        """Store a new issue of a revoked credential, and the job that issues it.

        The revoked one keeps its page and its status. Raises ``NotFound``; ``Conflict`` where it is
        not revoked, was issued anew already, or its step would be skipped now.
        """
        async with self._db.write() as tx:
            known = await store.get(tx, id)
            if known is None:
                raise NotFound(f"There is no credential {id!r}.")
            if known.state != "revoked":
                raise Conflict("Only a revoked credential can be issued anew.")
            if known.award_id is not None:
                return await self._reissue_award(tx, known, known.award_id, actor)
            completion = await completions.get_locked(tx, known.completion_id)
            course = await catalogue.course_at(tx, completion.course_id, completion.course_version)
            signer = self._signer(course)
            issuer = OPEN_BADGES_ISSUER if signer is not None else known.issuer
            latest = await store.get_by_completion(tx, completion.id, issuer)
            if latest is None or latest.id != id:
                raise Conflict("The credential was issued anew already, or has another issuer now.")
            new = await store_new_issue(tx, known)
            if new is None:
                raise Conflict("The credential was issued anew already.")
            await completions.restart_step(tx, completion.id, STEP_NAME)
            details = {"replaces": id}
            await access.record_audit(tx, actor, "credential.reissued", new.id, details)
        return new

    async def _reissue_award(
        self, tx: Tx, known: Credential, award_id: str, actor: str
    ) -> Credential:
        """Store a new issue of an achievement's revoked credential, and its job."""
        await catalogue.lock_learners(tx, [known.user_id])
        new = await store_new_issue(tx, known)
        if new is None:
            raise Conflict("The credential was issued anew already.")
        await enqueue_signature(tx, award_id, new.issue)
        await access.record_audit(tx, actor, "credential.reissued", new.id, {"replaces": known.id})
        return new

    async def _save_revoked(self, id: str, reason: str, actor: str) -> Credential:
        async with self._db.write() as tx:
            if await store.set_revoked(tx, id, tx.now, reason):
                await badge_store.revoke_status(tx, id, tx.now)
                await access.record_audit(tx, actor, "credential.revoked", id, {"reason": reason})
                tx.notify(TOPIC, id)
            after = await store.get(tx, id)
        assert after is not None
        return after

    async def _is_revoked_there(
        self, issuer: CredlyIssuer, known: Credential, error: PartnerError
    ) -> bool:
        """Return whether the issuer failed the call because the badge is revoked already."""
        if error.response_status != 422 and not error.is_outcome_unknown:
            return False
        try:
            badges = await issuer.find(known.template_id, known.user_id, None)
        except PartnerError:
            return False
        return any(badge.id == known.external_id and badge.is_revoked for badge in badges)

    async def refresh_from_event(self, event_id: str) -> None:
        """Fetch an event from Credly by its id and save the badge's state.

        Only the id of the webhook is used. Raises ``NotFound`` for an event that Credly does not
        know or whose badge Homeroom does not, ``TooBusy``, ``PartnerError``.
        """
        issuer = self._issuer
        if issuer is None or _EVENT_ID_PATTERN.fullmatch(event_id) is None:
            raise NotFound
        if self._waiting_fetches >= _MAX_WAITING_FETCHES:
            raise TooBusy(retry_after_seconds=10)
        self._waiting_fetches += 1
        try:
            async with self._fetch_slots:
                event = await issuer.event(event_id)
        finally:
            self._waiting_fetches -= 1
        if event is None:
            raise NotFound
        async with self._db.write() as tx:
            known = await store.get_by_external_id(tx, issuer.name, event.badge.id)
            if known is None:
                raise NotFound
            at = parse_credly_time(event.occurred_at) or tx.now
            is_superseded = await store.has_later_attempt(tx, known)
            if event.badge.is_revoked and not is_superseded:
                if await store.set_revoked(tx, known.id, at, store.REVOKED_AT_ISSUER):
                    details = {"event": event_id}
                    await access.record_audit(tx, "credly", "credential.revoked", known.id, details)
            else:
                # A badge that a later attempt's has replaced is revoked at Credly; here it stays
                # superseded. An event may arrive after a later one, which `set_issuer_state`
                # ignores.
                await store.set_issuer_state(tx, known.id, event.badge.state, at)
            tx.notify(TOPIC, known.id)
