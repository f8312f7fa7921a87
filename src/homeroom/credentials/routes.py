"""Credentials and achievements over HTTP (API page, "Completion")."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from homeroom.completion.api import Completion, Completions, Filter
from homeroom.credentials.api import Credential, Credentials, State
from homeroom.db.database import Database
from homeroom.errors import BadRequest, TooLarge
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

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
UserId = Annotated[OutsideId | None, Query(alias="userId")]
CredentialId = Annotated[str, Path(alias="credentialId", min_length=1, max_length=128)]


class CredentialView(View):
    """A credential that was issued."""

    id: str
    user_id: str
    course_id: str
    completion_id: str
    attempt: int
    issuer: str
    external_id: str | None
    state: State
    issuer_state: str | None
    url: str | None
    score: float | None
    issued_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    revocation_reason: str | None
    superseded_by: str | None


class AchievementView(View):
    """A course that a learner has finished, and the credential for it if there is one."""

    completion_id: str
    user_id: str
    course_id: str
    course_title: str
    attempt: int
    completed_at: Instant
    score: float | None
    time_spent: int
    superseded_by: str | None
    credential: CredentialView | None


class RevokeBody(Body):
    """Why a credential is revoked; the issuer is told."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class _Hint(msgspec.Struct):
    id: str


def _share(score: int | None) -> float | None:
    return None if score is None else score / 10_000


def _view(found: Credential) -> CredentialView:
    return CredentialView(
        id=found.id,
        user_id=found.user_id,
        course_id=found.course_id,
        completion_id=found.completion_id,
        attempt=found.attempt,
        issuer=found.issuer,
        external_id=found.external_id,
        state=found.state,
        issuer_state=found.issuer_state,
        url=found.url,
        score=_share(found.score),
        issued_at=found.issued_at,
        expires_at=found.expires_at,
        revoked_at=found.revoked_at,
        revocation_reason=found.revocation_reason,
        superseded_by=found.superseded_by,
    )


def _achievement(found: Completion, credential: Credential | None) -> AchievementView:
    return AchievementView(
        completion_id=found.id,
        user_id=found.user_id,
        course_id=found.course_id,
        course_title=found.course_title,
        attempt=found.attempt,
        completed_at=found.completed_at,
        score=_share(found.score),
        time_spent=found.time_spent,
        superseded_by=found.superseded_by,
        credential=None if credential is None else _view(credential),
    )


def _whose(identity: Identity, user_id: str | None) -> str | None:
    """Return whose records are meant: without an id a learner's own, or all for staff."""
    if user_id is None and not identity.has(*_STAFF):
        user_id = identity.subject
    if user_id is not None:
        identity.check_reads(user_id)
    return user_id


def router(
    db: Database, auth: Auth, credentials: Credentials, completions: Completions
) -> APIRouter:
    """Return the routes of credentials and achievements."""
    routes = APIRouter(tags=["Completion"])
    reader: Identity = Depends(auth.require(*_READERS))
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/api/v1/credentials")
    async def list_credentials(
        paging: PagingQuery, user_id: UserId = None, identity: Identity = reader
    ) -> Page[CredentialView]:
        """Return credentials, newest first: a learner's own, or anybody's for staff."""
        whose, key = _whose(identity, user_id), paging.key(int, str)
        async with db.read() as tx:
            before = None if key is None else (key[0], key[1])
            found = await credentials.newest(tx, whose, before, paging.limit + 1)
        kept, cursor = page(found, paging, lambda one: (one.created_at, one.id))
        return Page(items=[_view(one) for one in kept], next_cursor=cursor)

    @routes.get("/api/v1/achievements")
    async def list_achievements(
        paging: PagingQuery, user_id: UserId = None, identity: Identity = reader
    ) -> Page[AchievementView]:
        """Return finished courses with their credentials, newest first."""
        whose, key = _whose(identity, user_id), paging.key(int, str)
        async with db.read() as tx:
            before = None if key is None else (key[0], key[1])
            wanted = Filter(user_id=whose)
            found = await completions.newest(tx, wanted, before, paging.limit + 1)
            kept, cursor = page(found, paging, lambda one: (one.recorded_at, one.id))
            issued = await credentials.of_completions(tx, [one.id for one in kept])
        items = [_achievement(one, issued.get(one.id)) for one in kept]
        return Page(items=items, next_cursor=cursor)

    @routes.post("/api/v1/credentials/{credentialId}/revoke")
    async def revoke_credential(
        credential_id: CredentialId,
        body: RevokeBody,
        identity: Identity = operator,
    ) -> CredentialView:
        """Revoke a credential at its issuer and here; a second time changes nothing."""
        return _view(await credentials.revoke(credential_id, body.reason, identity.subject))

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
    async def credly_hook(request: Request) -> dict[str, str]:
        """Take a webhook of Credly; only the event's id is read, the rest is fetched back."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_HOOK_BYTES:
                raise TooLarge(f"The body is larger than {MAX_HOOK_BYTES} bytes.")
        try:
            hint = msgspec.json.decode(bytes(body), type=_Hint)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRequest("The body is not an event of Credly.") from error
        await credentials.heard(hint.id)
        return {"status": "accepted"}

    return routes
