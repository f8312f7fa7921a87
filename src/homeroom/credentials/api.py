"""Credentials: the step of a completion that issues one, and what becomes of it later."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta

import structlog

from homeroom.access import api as access
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, Step
from homeroom.credentials import store
from homeroom.credentials.assessment import Assessment, CourseScores, HttpAssessment
from homeroom.credentials.credly import CredlyIssuer, read_moment
from homeroom.credentials.directory import BuiltInDirectory, Directory, HttpDirectory, Learner
from homeroom.credentials.jobs import AFTER_TIMEOUT, TOPIC, IssueCredential, Issuing
from homeroom.credentials.personal import PERSONAL
from homeroom.credentials.store import Credential, State
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, NotFound, TooBusy
from homeroom.jobs.api import Registry
from homeroom.partner import PartnerError

__all__ = [
    "PERSONAL",
    "STEP",
    "TOPIC",
    "Assessment",
    "BuiltInDirectory",
    "CourseScores",
    "Credential",
    "Credentials",
    "CredlyIssuer",
    "Directory",
    "HttpAssessment",
    "HttpDirectory",
    "IssueCredential",
    "Learner",
    "State",
]

log = structlog.get_logger(__name__)
STEP = "credential"
_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FETCHES, _WAITING_FETCHES = 4, 32
"""Anybody may call the hook, and each call makes one of ours: so many at once, so many waiting."""


class Credentials:
    """All credentials; built in ``wiring`` with the partners that its settings name."""

    def __init__(
        self,
        db: Database,
        *,
        issuer: CredlyIssuer | None,
        directory: Directory,
        assessment: Assessment,
        enabled: bool = True,
        unset: str = "HOMEROOM_CREDLY_URL is not set",
        after_timeout: timedelta = AFTER_TIMEOUT,
    ) -> None:
        """Take the partners; ``unset`` says which setting an absent issuer lacks."""
        self._db = db
        self._issuer, self._directory, self._assessment = issuer, directory, assessment
        self._enabled, self._unset, self._after_timeout = enabled, unset, after_timeout
        self._fetches = asyncio.Semaphore(_FETCHES)
        self._asked = 0

    def skip(self, completion: Completion, course: Course) -> str | None:
        """Return why no credential is issued for a completion, or None."""
        if not self._enabled:
            return "credentials are switched off (ENABLE_CREDENTIALS=false)"
        if self._issuer is None:
            return self._unset
        if course.badge_template_id is None:
            return "the course has no badgeTemplateId"
        return None

    def step(self) -> Step:
        """Return the step that every completion has."""
        return Step(STEP, lambda id: IssueCredential(completion_id=id), self.skip)

    def register(self, registry: Registry, completions: Completions) -> None:
        """Say who runs the step's job."""
        issuing = Issuing(
            self._db,
            completions,
            self._issuer,
            self._directory,
            self._assessment,
            self.skip,
            self._after_timeout,
        )
        registry.add(IssueCredential, issuing.run, completions.follow(STEP))

    async def newest(
        self, tx: Tx, user_id: str | None, before: tuple[int, str] | None, count: int
    ) -> list[Credential]:
        """Return credentials by (created_at, id), newest first; None: of all learners."""
        return await store.newest(tx, user_id, before, count)

    async def of_completions(self, tx: Tx, completion_ids: Sequence[str]) -> dict[str, Credential]:
        """Return the credentials of those completions that have one."""
        return await store.of_completions(tx, completion_ids)

    async def url_of(self, tx: Tx, completion_id: str) -> str | None:
        """Return where the credential of a completion can be seen, if that is known yet."""
        found = (await store.of_completions(tx, [completion_id])).get(completion_id)
        return None if found is None or found.state == "revoked" else found.url

    async def revoke(self, id: str, reason: str, actor: str) -> Credential:
        """Revoke a credential at its issuer and here; one that is revoked stays as it is.

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
        if self._issuer is None:
            raise Conflict(f"The credential cannot be revoked at its issuer: {self._unset}.")
        try:
            await self._issuer.revoke(known.external_id, reason)
        except PartnerError as error:
            if not await self._revoked_already(self._issuer, known, error):
                raise
        async with self._db.write() as tx:
            if await store.set_revoked(tx, id, tx.now, reason):
                await access.record(tx, actor, "credential.revoked", id, {"reason": reason})
                tx.notify(TOPIC, id)
            after = await store.get(tx, id)
        assert after is not None
        return after

    async def _revoked_already(
        self, issuer: CredlyIssuer, known: Credential, error: PartnerError
    ) -> bool:
        """Say whether the issuer refuses, or did not answer, because it has revoked it."""
        if error.answered != 422 and not error.unknown:
            return False
        try:
            badges = await issuer.find(known.template_id, known.user_id, None)
        except PartnerError:
            return False
        return any(badge.id == known.external_id and badge.revoked for badge in badges)

    async def heard(self, event_id: str) -> None:
        """Take a hint that something happened at Credly, and ask Credly what it was.

        Nothing but the id is believed. Raises ``NotFound`` for an event that Credly or Homeroom
        knows nothing of, ``TooBusy``, ``PartnerError``.
        """
        issuer = self._issuer
        if issuer is None or _EVENT_ID.fullmatch(event_id) is None:
            raise NotFound
        if self._asked >= _WAITING_FETCHES:
            raise TooBusy(retry_after_seconds=10)
        self._asked += 1
        try:
            async with self._fetches:
                event = await issuer.event(event_id)
        finally:
            self._asked -= 1
        if event is None:
            raise NotFound
        async with self._db.write() as tx:
            known = await store.by_external_id(tx, issuer.name, event.badge.id)
            if known is None:
                raise NotFound
            at = read_moment(event.occurred_at) or tx.now
            if event.badge.revoked:
                if await store.set_revoked(tx, known.id, at, "revoked at Credly"):
                    details = {"event": event_id}
                    await access.record(tx, "credly", "credential.revoked", known.id, details)
            else:
                # a newer badge never comes back from an older event: those only move forward
                await store.set_issuer_state(tx, known.id, event.badge.state, at)
            tx.notify(TOPIC, known.id)
