"""Credentials and achievements over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from homeroom.achievements.api import Achievements, Award, NextAchievement
from homeroom.changes.api import CREDENTIALS, ChangeKind, LoadRecords
from homeroom.completion.api import Completion, CompletionFilter, Completions, score_fraction
from homeroom.credentials.api import (
    REVOCATION_PAGE,
    Credential,
    Credentials,
    CredentialSelection,
    CredentialState,
)
from homeroom.db.database import Database
from homeroom.db.personal_data import PeopleIds
from homeroom.db.tx import Tx
from homeroom.errors import BadRequest, Invalid, TooLarge
from homeroom.identity import Identity, Role
from homeroom.instant import from_datetime
from homeroom.web.identity import Auth
from homeroom.web.model import (
    ExternalId,
    JsonObject,
    RequestModel,
    ResponseModel,
    Rfc3339Instant,
    Rfc3339Time,
)
from homeroom.web.paging import Page, PagingQuery, cut_page
from homeroom.web.people_scope import PeopleScope

MAX_HOOK_BYTES = 16 * 1024
_READERS = (
    Role.LEARNER,
    Role.FACILITATOR,
    Role.MANAGER,
    Role.OPERATOR,
    Role.VIEWER,
    Role.SERVICE,
)
_STAFF = (Role.MANAGER, Role.OPERATOR, Role.VIEWER, Role.SERVICE)
UserIdQuery = Annotated[ExternalId | None, Query(alias="userId")]
CredentialId = Annotated[str, Path(alias="credentialId", min_length=1, max_length=128)]


class CredentialView(ResponseModel):
    """A credential that was issued."""

    id: str
    user_id: str
    course_id: str | None
    """Null for the credential of an achievement, which has an `awardId`."""
    completion_id: str | None
    award_id: str | None
    attempt: int
    issuer: str
    external_id: str | None
    state: CredentialState
    issuer_state: str | None
    url: str | None
    score: float | None
    issued_at: Rfc3339Instant
    expires_at: Rfc3339Instant | None
    revoked_at: Rfc3339Instant | None
    revocation_reason: str | None
    superseded_by: str | None


class Achievement(ResponseModel):
    """A course that a learner has completed, with its credential if there is one."""

    completion_id: str
    user_id: str
    course_id: str
    course_title: str
    attempt: int
    completed_at: Rfc3339Instant
    score: float | None
    time_spent: int
    superseded_by: str | None
    credential: CredentialView | None


class AwardedAchievement(ResponseModel):
    """An achievement that a rule has awarded, with the words that the rule had then."""

    id: str
    rule_id: str
    title: str
    description: str
    achieved_at: Rfc3339Instant
    awarded_at: Rfc3339Instant
    credential: CredentialView | None
    """Where the rule says so, once it is signed."""


class NextAchievementView(ResponseModel):
    """A rule that the learner has not fulfilled yet."""

    rule_id: str
    title: str
    description: str
    done: int
    """Courses that count so far."""
    required: int
    missing_course_ids: list[str]
    """Courses of the rule that do not count yet; empty where every course may count."""


class AchievementPage(ResponseModel):
    """Completed courses; for one learner also what rules have awarded."""

    items: list[Achievement]
    next_cursor: str | None
    awarded: list[AwardedAchievement]
    """Of the learner of the list, newest first; empty in lists of all learners."""
    next: list[NextAchievementView]
    """What the learner has not achieved yet, the nearest first; empty in lists of all learners."""


class CredentialRevocation(RequestModel):
    """The reason of a revocation; the issuer receives it."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class BulkCredentialRevocation(RequestModel):
    """A selection of credentials and the reason of their revocation.

    At least one of ``credentialIds``, ``userId`` and ``courseId`` is required.
    """

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    credential_ids: Annotated[
        list[ExternalId] | None,
        Field(min_length=1, max_length=REVOCATION_PAGE, description="Only these."),
    ] = None
    user_id: ExternalId | None = None
    course_id: ExternalId | None = None
    issued_since: Annotated[
        Rfc3339Time | None, Field(description="Only those issued from this time on.")
    ] = None
    dry_run: bool = False
    after: Annotated[ExternalId | None, Field(description="`nextAfter` of the call before.")] = None


class ReissuedCredential(ResponseModel):
    """The new credential of a completion; its step issues it."""

    id: str
    completion_id: str


class FailedRevocation(ResponseModel):
    """A credential that stays as it is, and why."""

    id: str
    error: str


class BulkRevocationResult(ResponseModel):
    """The credentials that are revoked, or would be; ``nextAfter`` continues."""

    dry_run: bool
    items: list[CredentialView]
    failures: Annotated[list[FailedRevocation], Field(description="Those that stay as they are.")]
    next_after: Annotated[
        str | None, Field(description="`after` of the next call; null at the end.")
    ]


class _CredlyEventHint(msgspec.Struct):
    id: str


def _credential_view(credential: Credential) -> CredentialView:
    award_id = credential.award_id
    fields = {
        **asdict(credential),
        "score": score_fraction(credential.score),
        "award_id": award_id,
    }
    if award_id is not None:
        fields |= {"completion_id": None, "course_id": None}
    return CredentialView.model_validate(fields)


def _build_achievement(completion: Completion, credential: Credential | None) -> Achievement:
    return Achievement(
        completion_id=completion.id,
        user_id=completion.user_id,
        course_id=completion.course_id,
        course_title=completion.course_title,
        attempt=completion.attempt,
        completed_at=completion.completed_at,
        score=score_fraction(completion.score),
        time_spent=completion.time_spent,
        superseded_by=completion.superseded_by,
        credential=None if credential is None else _credential_view(credential),
    )


def _awarded_view(award: Award, credential: Credential | None) -> AwardedAchievement:
    return AwardedAchievement(
        id=award.id,
        rule_id=award.rule_id,
        title=award.title,
        description=award.description,
        achieved_at=award.achieved_at,
        awarded_at=award.awarded_at,
        credential=None if credential is None else _credential_view(credential),
    )


def _next_view(following: NextAchievement) -> NextAchievementView:
    rule, progress = following.rule, following.progress
    return NextAchievementView(
        rule_id=rule.id,
        title=rule.title,
        description=rule.description,
        done=progress.done,
        required=progress.required,
        missing_course_ids=list(progress.missing_course_ids),
    )


def _user_id_filter(identity: Identity, user_id: str | None) -> str | None:
    """Return the learner to list; None for all whom staff may see."""
    return identity.subject if user_id is None and not identity.has(*_STAFF) else user_id


async def _visible_learners(tx: Tx, scope: PeopleScope, user_id: str | None) -> PeopleIds | None:
    """Return the filter of a list; raise ``Forbidden`` for a hidden learner."""
    if user_id is None:
        return scope.ids
    await scope.check(tx, user_id)
    return None


def change_records(credentials: Credentials) -> dict[ChangeKind, LoadRecords]:
    """Return the function that shows credentials in the feed of changes."""

    async def load(tx: Tx, ids: Sequence[str]) -> dict[str, JsonObject]:
        found = await credentials.list_issued_by_ids(tx, ids)
        return {
            each.id: _credential_view(each).model_dump(mode="json", by_alias=True) for each in found
        }

    return {CREDENTIALS: load}


def router(
    db: Database,
    auth: Auth,
    credentials: Credentials,
    completions: Completions,
    achievements: Achievements,
) -> APIRouter:
    """Return the routes of credentials and achievements, and the webhook of Credly."""
    routes = APIRouter(tags=["Completion"])
    _add_lists(routes, db, auth, credentials)
    _add_achievements(routes, db, auth, credentials, completions, achievements)
    _add_bulk_revocation(routes, auth, credentials, completions)
    _add_revocation(routes, auth, credentials)
    _add_credly_webhook(routes, credentials)
    return routes


def _add_lists(routes: APIRouter, db: Database, auth: Auth, credentials: Credentials) -> None:
    reader: Identity = Depends(auth.require(*_READERS))

    @routes.get("/api/v1/credentials")
    async def list_credentials(
        paging: PagingQuery, user_id: UserIdQuery = None, identity: Identity = reader
    ) -> Page[CredentialView]:
        """Return credentials, newest first: a learner's own, or those of all for staff.

        Managers see those of their people.
        """
        learner, key = _user_id_filter(identity, user_id), paging.key(int, str)
        async with db.read() as tx:
            learners = await _visible_learners(tx, auth.people(identity), learner)
            before = None if key is None else (key[0], key[1])
            rows = await credentials.list_newest(tx, learner, before, paging.limit + 1, learners)
        page, cursor = cut_page(rows, paging, lambda one: (one.created_at, one.id))
        return Page(items=[_credential_view(one) for one in page], next_cursor=cursor)


def _add_achievements(
    routes: APIRouter,
    db: Database,
    auth: Auth,
    credentials: Credentials,
    completions: Completions,
    achievements: Achievements,
) -> None:
    reader: Identity = Depends(auth.require(*_READERS))

    @routes.get("/api/v1/achievements")
    async def list_achievements(
        paging: PagingQuery, user_id: UserIdQuery = None, identity: Identity = reader
    ) -> AchievementPage:
        """Return completed courses with their credentials, newest first.

        For one learner also the achievements that rules have awarded, and progress towards the
        next ones. Managers see those of their people.
        """
        learner, key = _user_id_filter(identity, user_id), paging.key(int, str)
        async with db.read() as tx:
            before = None if key is None else (key[0], key[1])
            learners = await _visible_learners(tx, auth.people(identity), learner)
            query = CompletionFilter(user_id=learner, learners=learners)
            rows = await completions.list_newest(tx, query, before, paging.limit + 1)
            page, cursor = cut_page(rows, paging, lambda one: (one.recorded_at, one.id))
            awarded: list[Award] = []
            following: list[NextAchievement] = []
            if learner is not None:
                awarded = await achievements.list_awards(tx, learner)
                following = await achievements.list_next(tx, learner)
            ids = [one.id for one in (*page, *awarded)]
            issued = await credentials.list_by_completions(tx, ids)
        return AchievementPage(
            items=[_build_achievement(one, issued.get(one.id)) for one in page],
            next_cursor=cursor,
            awarded=[_awarded_view(each, issued.get(each.id)) for each in awarded],
            next=[_next_view(each) for each in following],
        )


def _add_revocation(routes: APIRouter, auth: Auth, credentials: Credentials) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.post("/api/v1/credentials/{credentialId}/revoke")
    async def revoke_credential(
        credential_id: CredentialId,
        body: CredentialRevocation,
        identity: Identity = operator,
    ) -> CredentialView:
        """Revoke a credential at its issuer and here. Repeatable."""
        return _credential_view(
            await credentials.revoke(credential_id, body.reason, identity.subject)
        )


def _add_bulk_revocation(
    routes: APIRouter, auth: Auth, credentials: Credentials, completions: Completions
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.post("/api/v1/credentials/revoke")
    async def revoke_credentials(
        body: BulkCredentialRevocation, identity: Identity = operator
    ) -> BulkRevocationResult:
        """Revoke the selected credentials, 200 a call; ``dryRun`` only lists them."""
        if body.credential_ids is None and body.user_id is None and body.course_id is None:
            raise Invalid("Give credentialIds, userId or courseId: nothing is selected.")
        since = None if body.issued_since is None else from_datetime(body.issued_since)
        ids = None if body.credential_ids is None else tuple(body.credential_ids)
        done = await credentials.revoke_selected(
            CredentialSelection(ids, body.user_id, body.course_id, since),
            body.reason,
            identity.subject,
            after=body.after,
            dry_run=body.dry_run,
        )
        return BulkRevocationResult(
            dry_run=body.dry_run,
            items=[_credential_view(each) for each in done.revoked],
            failures=[FailedRevocation(id=id, error=error) for id, error in done.failures],
            next_after=done.after,
        )

    @routes.post("/api/v1/credentials/{credentialId}/reissue", status_code=202)
    async def reissue_credential(
        credential_id: CredentialId, identity: Identity = operator
    ) -> ReissuedCredential:
        """Issue a revoked credential anew, under another id."""
        new = await credentials.reissue(credential_id, identity.subject, completions)
        return ReissuedCredential(id=new.id, completion_id=new.completion_id)


def _add_credly_webhook(routes: APIRouter, credentials: Credentials) -> None:
    @routes.post(
        "/hooks/credly",
        status_code=202,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["id"],
                            "properties": {"id": {"type": "string"}},
                        }
                    }
                },
            }
        },
    )
    async def receive_credly_webhook(request: Request) -> dict[str, str]:
        """Receive a webhook of Credly: only the event's id is read, the rest is fetched."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_HOOK_BYTES:
                raise TooLarge(f"The body is larger than {MAX_HOOK_BYTES} bytes.")
        try:
            hint = msgspec.json.decode(bytes(body), type=_CredlyEventHint)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRequest("The body is not an event of Credly.") from error
        await credentials.refresh_from_event(hint.id)
        return {"status": "accepted"}
