"""HTTP routes of signed credentials: documents, issuer, status lists, sharing."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from homeroom.access.api import record_audit
from homeroom.credentials.open_badges import badge_store
from homeroom.credentials.open_badges.badge_issuer import OpenBadgeIssuer
from homeroom.credentials.open_badges.badge_store import CredentialStatus, OpenBadge
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Gone, NotFound
from homeroom.identity import Identity, Role
from homeroom.web.etag import entity_tag, etag_matches
from homeroom.web.identity import Auth
from homeroom.web.model import RequestModel, ResponseModel

PUBLIC_OPERATION: dict[str, Any] = {"security": []}
CredentialId = Annotated[
    str, Path(alias="credentialId", min_length=1, max_length=128, pattern="^[A-Za-z0-9_-]+$")
]
_OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*"}
"""Verifiers run in browsers of other origins, and all of this is public."""
_JWK, _JWK_SET = "application/jwk+json", "application/jwk-set+json"
_LD_JSON, _VC_JSON = "application/ld+json", "application/vc+ld+json"
_HOLDERS = (Role.LEARNER, Role.FACILITATOR, Role.MANAGER, Role.SERVICE)
"""The roles of those who send progress of their own, and the platform for its learners."""


class CredentialSharing(ResponseModel):
    """The holder's choice for the public page of a credential."""

    shows_name: bool
    is_listed: bool


class NewCredentialSharing(RequestModel):
    """A new choice of the holder for the public page of a credential."""

    shows_name: bool
    """The page and the certificate name the learner."""
    is_listed: bool
    """Search engines may list the page."""


async def find_badge(tx: Tx, id: str) -> tuple[OpenBadge, CredentialStatus]:
    """Return a signed credential with its status.

    Raises ``NotFound``, and ``Gone`` for one whose holder was erased.
    """
    badge, status = await badge_store.get_badge(tx, id), await badge_store.get_status(tx, id)
    if badge is not None and status is not None:
        return badge, status
    if status is not None:
        raise Gone("The data of this credential's holder was erased, and the credential with it.")
    raise NotFound("There is no such credential.")


def public_response(
    request: Request, body: bytes, media_type: str, *, seconds: int, headers: Any = None
) -> Response:
    """Return public content with its ETag, or 304; caches keep it for ``seconds``."""
    tag = entity_tag(body)
    sent = {
        "ETag": tag,
        "Cache-Control": f"public, max-age={seconds}" if seconds else "no-cache",
        **_OPEN_TO_ALL,
        **(headers or {}),
    }
    if etag_matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=sent)
    return Response(body, headers=sent, media_type=media_type)


def router(db: Database, auth: Auth, issuer: OpenBadgeIssuer) -> APIRouter:
    """Return the routes of signed credentials but for those of their pages."""
    routes = APIRouter(tags=["Credentials"])
    _add_documents(routes, db)
    _add_issuer(routes, db, issuer)
    _add_sharing(routes, db, auth)
    return routes


def _add_documents(routes: APIRouter, db: Database) -> None:
    @routes.get(
        "/credentials/{credentialId}.json",
        response_class=Response,
        responses={200: {"content": {_VC_JSON: {}}}},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_credential_document(request: Request, credential_id: CredentialId) -> Response:
        """Return a credential as Open Badges 3.0, with a Data Integrity proof."""
        async with db.read() as tx:
            badge, _ = await find_badge(tx, credential_id)
        return public_response(request, badge.document.encode(), _VC_JSON, seconds=0)

    @routes.get(
        "/credentials/{credentialId}.jwt",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_credential_jws(request: Request, credential_id: CredentialId) -> Response:
        """Return a credential as a compact JWS."""
        async with db.read() as tx:
            badge, _ = await find_badge(tx, credential_id)
        return public_response(request, badge.jws.encode(), "text/plain", seconds=0)


def _add_issuer(routes: APIRouter, db: Database, issuer: OpenBadgeIssuer) -> None:
    @routes.get(
        "/issuer/profile",
        response_class=Response,
        responses={200: {"content": {_LD_JSON: {}}}},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_issuer_profile(request: Request) -> Response:
        """Return the issuer's profile with its keys."""
        async with db.read() as tx:
            document = await issuer.profile_document(tx)
        return public_response(request, msgspec.json.encode(document), _LD_JSON, seconds=60)

    @routes.get(
        "/issuer/jwks.json",
        response_class=Response,
        responses={200: {"content": {_JWK_SET: {}}}},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_issuer_jwks(request: Request) -> Response:
        """Return the issuer's public keys as a JWK set, retired ones included."""
        async with db.read() as tx:
            document = await issuer.jwks_document(tx)
        return public_response(request, msgspec.json.encode(document), _JWK_SET, seconds=60)

    @routes.get(
        "/issuer/keys/{keyId}",
        response_class=Response,
        responses={200: {"content": {_LD_JSON: {}}}},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_issuer_key(
        request: Request, key_id: Annotated[str, Path(alias="keyId", max_length=64)]
    ) -> Response:
        """Return a public key as a Multikey."""
        async with db.read() as tx:
            document = await issuer.key_document(tx, key_id, "multikey")
        return public_response(request, msgspec.json.encode(document), _LD_JSON, seconds=60)

    @routes.get(
        "/issuer/keys/{keyId}/jwk",
        response_class=Response,
        responses={200: {"content": {_JWK: {}}}},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_issuer_jwk(
        request: Request, key_id: Annotated[str, Path(alias="keyId", max_length=64)]
    ) -> Response:
        """Return a public key as a JWK."""
        async with db.read() as tx:
            document = await issuer.key_document(tx, key_id, "jwk")
        return public_response(request, msgspec.json.encode(document), _JWK, seconds=60)

    @routes.get(
        "/issuer/status/{listNumber}",
        response_class=Response,
        responses={200: {"content": {_VC_JSON: {}}}},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_status_list(
        request: Request, list_number: Annotated[int, Path(alias="listNumber", ge=1, le=10_000)]
    ) -> Response:
        """Return a Bitstring Status List: which credentials are revoked."""
        body = await issuer.status_list(list_number)
        return public_response(request, body, _VC_JSON, seconds=0)


def _add_sharing(routes: APIRouter, db: Database, auth: Auth) -> None:
    holder: Identity = Depends(auth.require(*_HOLDERS))

    @routes.get("/api/v1/credentials/{credentialId}/sharing")
    async def get_credential_sharing(
        credential_id: CredentialId, identity: Identity = holder
    ) -> CredentialSharing:
        """Return what the public page of a credential shows, for its holder."""
        async with db.read() as tx:
            badge = await _own_badge(tx, credential_id, identity)
        return CredentialSharing.model_validate(badge)

    @routes.put("/api/v1/credentials/{credentialId}/sharing")
    async def put_credential_sharing(
        credential_id: CredentialId, body: NewCredentialSharing, identity: Identity = holder
    ) -> CredentialSharing:
        """Set what the public page of a credential shows: only its holder may."""
        async with db.write() as tx:
            await _own_badge(tx, credential_id, identity)
            await badge_store.set_sharing(
                tx, credential_id, shows_name=body.shows_name, is_listed=body.is_listed
            )
            details = body.model_dump(by_alias=True)
            await record_audit(
                tx, identity.subject, "credential.sharing_changed", credential_id, details
            )
        return CredentialSharing(**body.model_dump())


async def _own_badge(tx: Tx, id: str, identity: Identity) -> OpenBadge:
    """Return the caller's own credential; a service may act for each learner."""
    badge, _ = await find_badge(tx, id)
    if not identity.is_learner(badge.user_id) and not identity.has(Role.SERVICE):
        raise NotFound("There is no such credential.")
    return badge
