"""API keys, sessions and the audit trail over HTTP."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from homeroom.access import store
from homeroom.access.authenticator import Authenticator
from homeroom.access.oidc_routes import OIDC_PATH, SIGN_OUT_PATH
from homeroom.access.store import SIGN_IN_PREFIX
from homeroom.access.stream_ticket import create_stream_ticket
from homeroom.db.database import Database
from homeroom.identity import Identity, Role
from homeroom.instant import SECOND, to_microseconds
from homeroom.web.identity import SESSION_COOKIE, Auth, check_same_origin
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

SIGN_IN_PATH = "/sign-in"
_SIGN_IN_SCRIPT = r"""
const token = location.hash.slice(1);
const wanted = new URLSearchParams(location.search).get("next") ?? "";
const next = /^\/console(?![^/?])/.test(wanted) ? wanted : "/console";
history.replaceState(null, "", location.pathname);
const say = (text) => { document.getElementById("say").textContent = text; };
fetch("/api/v1/session", {
  method: "POST",
  headers: {"content-type": "application/json"},
  body: JSON.stringify({token}),
}).then(async (answer) => {
  if (answer.ok) { location.replace(next); } else { say((await answer.json()).detail); }
}, () => say("Homeroom does not answer. Is it still running?"));
"""
_SIGN_IN_PAGE = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sign in to Homeroom</title>
<body><main><h1>Homeroom</h1><p id="say" role="status">Signing in&hellip;</p>
<noscript>Signing in with a link needs JavaScript.</noscript></main>
<script>{_SIGN_IN_SCRIPT}</script></body></html>
"""
_SCRIPT_HASH = b64encode(hashlib.sha256(_SIGN_IN_SCRIPT.encode()).digest()).decode()
_SIGN_IN_POLICY = (
    f"default-src 'none'; script-src 'sha256-{_SCRIPT_HASH}'; connect-src 'self'; "
    "frame-ancestors 'none'"
)


AuditFilterQuery = Annotated[str | None, Query(max_length=256)]
PUBLIC: dict[str, Any] = {"security": []}
"""Added to the OpenAPI entry of a route that needs no token."""


def sign_in_link(public_url: str, token: str) -> str:
    """Return the link that opens a session once.

    The token stands behind ``#``, which browsers do not send, so no proxy can log it.
    """
    return f"{public_url}{SIGN_IN_PATH}#{token}"


class ApiKeyBody(RequestModel):
    """An API key to create."""

    name: Annotated[ExternalId, Field(description="Shown in logs and in the audit trail.")]
    roles: Annotated[list[Role], Field(min_length=1, max_length=len(Role))]


class ApiKeyView(ResponseModel):
    """An API key without its token."""

    id: str
    name: str
    roles: list[Role]
    created_at: Rfc3339Instant
    last_used_at: Rfc3339Instant | None
    revoked_at: Rfc3339Instant | None


class CreatedApiKey(ApiKeyView):
    """A new API key, with the token that is shown this once."""

    token: str


class SignInRequest(RequestModel):
    """A sign-in link's token, an API key or a JWT, which opens a session."""

    token: Annotated[str, Field(min_length=1, max_length=8_192)]


class Session(ResponseModel):
    """The name and the roles of a session."""

    name: str
    user_id: str | None
    """The person whose session it is; null for one of an API key or of a sign-in link."""
    roles: list[Role]
    sign_out_path: str | None
    """Open it after the session has ended, to end that at the identity provider too; null for a
    session that no school account has opened."""


class SignInMethods(ResponseModel):
    """The ways to sign in that this server has besides sign-in links, keys and JWTs."""

    school_account_path: str | None
    """Open it, with `?next=` a page of the console, to sign in by a school account (OpenID
    Connect); null where none is configured."""


class EventStreamTicket(ResponseModel):
    """A ticket that opens one event stream; only this response holds it."""

    ticket: str
    expires_at: Rfc3339Instant


class AuditEntryView(ResponseModel):
    """One action on the record: actor, action, subject and time."""

    id: str
    at: Rfc3339Instant
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


def router(
    db: Database,
    auth: Auth,
    authenticator: Authenticator,
    *,
    session_lifetime: timedelta,
    secure_cookie: bool,
    has_school_accounts: bool = False,
) -> APIRouter:
    """Return the routes; set ``secure_cookie`` for a server that is reached by HTTPS.

    ``has_school_accounts``: the routes of ``oidc_routes`` are served too.
    """
    routes = APIRouter()
    _add_key_routes(routes, db, auth, authenticator)
    _add_session_routes(routes, db, authenticator, to_microseconds(session_lifetime), secure_cookie)
    _add_session_read(routes, auth)
    _add_sign_in_methods(routes, OIDC_PATH if has_school_accounts else None)
    _add_ticket_route(routes, db, auth)
    _add_audit_routes(routes, db, auth)
    return routes


def _add_key_routes(
    routes: APIRouter, db: Database, auth: Auth, authenticator: Authenticator
) -> None:
    admin = Depends(auth.require(Role.ADMIN))

    @routes.get("/api/v1/keys", tags=["Access"])
    async def list_api_keys(paging: PagingQuery, _: Identity = admin) -> Page[ApiKeyView]:
        """List API keys, revoked ones too; tokens are not stored and cannot be shown."""
        key = paging.key(str)
        async with db.read() as tx:
            rows = await store.list_keys(tx, paging.limit, key[0] if key else None)
        items, cursor = cut_page(rows, paging, lambda row: [row.id])
        return Page[ApiKeyView](items=items, next_cursor=cursor)

    @routes.post("/api/v1/keys", status_code=201, tags=["Access"])
    async def create_api_key(body: ApiKeyBody, who: Identity = admin) -> CreatedApiKey:
        """Create an API key; only this response holds its token."""
        store.check_key_roles(body.roles)
        async with db.write() as tx:
            key, token = await store.create_key(tx, body.name, body.roles)
            details = {"name": key.name, "roles": list(key.roles)}
            await store.record_audit(tx, who.subject, "key.made", key.id, details)
        return CreatedApiKey(token=token, **dict(ApiKeyView.model_validate(key)))

    @routes.delete("/api/v1/keys/{keyId}", status_code=204, tags=["Access"])
    async def revoke_api_key(
        key_id: Annotated[ExternalId, Path(alias="keyId")], who: Identity = admin
    ) -> None:
        """Revoke an API key and its sessions; other processes follow within 2 s."""
        async with db.write() as tx:
            name = await store.revoke_key(tx, key_id)
            await store.record_audit(tx, who.subject, "key.revoked", key_id, {"name": name})
        authenticator.clear_cache()


def _add_session_routes(
    routes: APIRouter, db: Database, authenticator: Authenticator, lifetime: int, secure: bool
) -> None:
    @routes.get(SIGN_IN_PATH, include_in_schema=False)
    async def sign_in_page() -> HTMLResponse:
        return HTMLResponse(_SIGN_IN_PAGE, headers={"Content-Security-Policy": _SIGN_IN_POLICY})

    @routes.post("/api/v1/session", status_code=201, tags=["Access"], openapi_extra=PUBLIC)
    async def open_session(request: Request, body: SignInRequest, response: Response) -> Session:
        """Exchange a sign-in link's token, an API key or a JWT for a session cookie.

        The session of a JWT belongs to its `sub`, and ends with the JWT at the latest.
        """
        check_same_origin(request)
        identity = None
        if not body.token.startswith(SIGN_IN_PREFIX):
            identity = await authenticator.identify(f"Bearer {body.token}", None)
            identity.require(*Role)
        async with db.write() as tx:
            who = identity or await store.redeem_sign_in(tx, body.token)
            cookie = await store.open_session(tx, who, lifetime)
            await store.record_audit(tx, who.subject, "session.opened", who.subject)
        response.set_cookie(
            SESSION_COOKIE,
            cookie,
            max_age=lifetime // SECOND,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return _session_view(who)

    @routes.delete("/api/v1/session", status_code=204, tags=["Access"], openapi_extra=PUBLIC)
    async def close_session(request: Request, response: Response) -> None:
        """End the session of the cookie, if there is one."""
        check_same_origin(request)
        cookie = request.cookies.get(SESSION_COOKIE)
        if cookie is not None:
            async with db.write() as tx:
                await store.close_session(tx, cookie)
            authenticator.clear_cache()
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict", secure=secure)


def _add_session_read(routes: APIRouter, auth: Auth) -> None:
    any_role = Depends(auth.require(*Role))

    @routes.get("/api/v1/session", tags=["Access"])
    async def get_session(caller: Identity = any_role) -> Session:
        """Return the name and the roles of the caller, of a session or of a token."""
        return _session_view(caller)


def _add_sign_in_methods(routes: APIRouter, school_account_path: str | None) -> None:
    @routes.get("/api/v1/sign-in", tags=["Access"], openapi_extra=PUBLIC)
    async def get_sign_in_methods() -> SignInMethods:
        """Return the ways to sign in; needs no token."""
        return SignInMethods(school_account_path=school_account_path)


def _session_view(caller: Identity) -> Session:
    user_id = caller.subject if caller.via == "jwt" else None
    return Session(
        name=caller.subject,
        user_id=user_id,
        roles=sorted(caller.roles),
        sign_out_path=SIGN_OUT_PATH if caller.key_id == store.SCHOOL_SESSION else None,
    )


def _add_ticket_route(routes: APIRouter, db: Database, auth: Auth) -> None:
    any_role = Depends(auth.require(*Role))

    @routes.post("/api/v1/events/ticket", status_code=201, tags=["Access"])
    async def create_event_stream_ticket(caller: Identity = any_role) -> EventStreamTicket:
        """Create a ticket for `GET /api/v1/events?ticket=`: one use, within a minute.

        `EventSource` of browsers cannot send a token in a header. The stream has the caller's
        rights. Ask for a new ticket before every connection, also after one has ended.
        """
        async with db.write() as tx:
            ticket = await create_stream_ticket(tx, caller)
        return EventStreamTicket(ticket=ticket.token, expires_at=ticket.expires_at)


def _add_audit_routes(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER))

    @routes.get("/api/v1/audit", tags=["Access"])
    async def list_audit_entries(
        paging: PagingQuery,
        actor: AuditFilterQuery = None,
        action: AuditFilterQuery = None,
        subject: AuditFilterQuery = None,
        _: Identity = reader,
    ) -> Page[AuditEntryView]:
        """List audit entries, newest first."""
        key = paging.key(int, str)
        async with db.read() as tx:
            rows = await store.list_audit(
                tx,
                paging.limit,
                after=(key[0], key[1]) if key else None,
                actor=actor,
                action=action,
                subject=subject,
            )
        items, cursor = cut_page(rows, paging, lambda row: [row.at, row.id])
        return Page[AuditEntryView](items=items, next_cursor=cursor)
