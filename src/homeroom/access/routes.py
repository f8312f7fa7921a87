"""Keys, sessions and the audit trail over HTTP."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from homeroom.access import store
from homeroom.access.principal import Principal
from homeroom.access.token import SIGN_IN_PREFIX
from homeroom.access.verify import Access
from homeroom.clock import microseconds
from homeroom.db.database import Database
from homeroom.errors import Forbidden
from homeroom.web.identity import (
    SESSION_COOKIE,
    Auth,
    Identify,
    Identity,
    Role,
    check_same_origin,
)
from homeroom.web.model import Body, Instant, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

SIGN_IN_PATH = "/sign-in"
_SIGN_IN_SCRIPT = """
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const say = (text) => { document.getElementById("say").textContent = text; };
fetch("/api/v1/session", {
  method: "POST",
  headers: {"content-type": "application/json"},
  body: JSON.stringify({token}),
}).then(async (answer) => {
  if (answer.ok) { location.replace("/docs"); } else { say((await answer.json()).detail); }
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


FilterQuery = Annotated[str | None, Query(max_length=256)]
PUBLIC: dict[str, Any] = {"security": []}
"""Added to the OpenAPI entry of a route that needs no token."""


@lru_cache(maxsize=1_024)
def _identity(principal: Principal) -> Identity:
    return Identity(principal.subject, frozenset(map(Role, principal.roles)), principal.via)


def identifier(access: Access) -> Identify:
    """Return the check of tokens in the form that ``web.identity.Auth`` takes."""

    async def identify(authorization: str | None, cookie: str | None) -> Identity:
        return _identity(await access.identify(authorization, cookie))

    return identify


def sign_in_link(public_url: str, token: str) -> str:
    """Return the link that opens a session once.

    The token stands behind ``#``, which browsers do not send: no log of a proxy gets to see it.
    """
    return f"{public_url}{SIGN_IN_PATH}#{token}"


class NewKey(Body):
    """An API key to make."""

    name: Annotated[OutsideId, Field(description="Shown in logs and in the audit trail.")]
    roles: Annotated[list[Role], Field(min_length=1, max_length=len(Role))]


class KeyView(View):
    """An API key; its token is shown once only, when it is made."""

    id: str
    name: str
    roles: list[Role]
    created_at: Instant
    last_used_at: Instant | None
    revoked_at: Instant | None


class MadeKey(KeyView):
    """An API key that was just made, with its token."""

    token: str


class SignIn(Body):
    """What opens a session: the token of a sign-in link, or an API key."""

    token: Annotated[str, Field(min_length=1, max_length=8_192)]


class SessionView(View):
    """Who is signed in."""

    name: str
    roles: list[Role]


class AuditView(View):
    """Who did what to whom, and when."""

    id: str
    at: Instant
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


def router(
    db: Database,
    auth: Auth,
    access: Access,
    *,
    session_lifetime: timedelta,
    secure_cookie: bool,
) -> APIRouter:
    """Return the routes. ``secure_cookie`` says whether the server is reached by HTTPS."""
    routes = APIRouter()
    _add_keys(routes, db, auth, access)
    _add_session(routes, db, access, microseconds(session_lifetime), secure_cookie)
    _add_audit(routes, db, auth)
    return routes


def _add_keys(routes: APIRouter, db: Database, auth: Auth, access: Access) -> None:
    admin = Depends(auth.require(Role.ADMIN))

    @routes.get("/api/v1/keys", tags=["access"])
    async def list_keys(paging: PagingQuery, _: Identity = admin) -> Page[KeyView]:
        """List API keys, revoked ones too; tokens are not stored and cannot be shown."""
        key = paging.key(str)
        async with db.read() as tx:
            rows = await store.list_keys(tx, paging.limit, key[0] if key else None)
        items, cursor = page(rows, paging, lambda row: [row.id])
        return Page[KeyView](items=items, next_cursor=cursor)

    @routes.post("/api/v1/keys", status_code=201, tags=["access"])
    async def make_key(body: NewKey, who: Identity = admin) -> MadeKey:
        """Make an API key; the answer is the only place where its token is ever shown."""
        async with db.write() as tx:
            key, token = await store.create_key(tx, body.name, body.roles)
            details = {"name": key.name, "roles": list(key.roles)}
            await store.record(tx, who.subject, "key.made", key.id, details)
        return MadeKey(token=token, **asdict(key))

    @routes.delete("/api/v1/keys/{keyId}", status_code=204, tags=["access"])
    async def revoke_key(
        key_id: Annotated[OutsideId, Path(alias="keyId")], who: Identity = admin
    ) -> None:
        """Revoke an API key and end its sessions; other processes follow within two seconds."""
        async with db.write() as tx:
            name = await store.revoke_key(tx, key_id)
            await store.record(tx, who.subject, "key.revoked", key_id, {"name": name})
        access.forget()


def _add_session(
    routes: APIRouter, db: Database, access: Access, lifetime: int, secure: bool
) -> None:
    @routes.get(SIGN_IN_PATH, include_in_schema=False)
    async def sign_in_page() -> HTMLResponse:
        return HTMLResponse(_SIGN_IN_PAGE, headers={"Content-Security-Policy": _SIGN_IN_POLICY})

    @routes.post("/api/v1/session", status_code=201, tags=["access"], openapi_extra=PUBLIC)
    async def open_session(request: Request, body: SignIn, response: Response) -> SessionView:
        """Exchange a sign-in link's token, or an API key, for a session cookie."""
        check_same_origin(request)
        principal = None
        if not body.token.startswith(SIGN_IN_PREFIX):
            principal = await access.identify(f"Bearer {body.token}", None)
            if principal.via == "jwt":
                raise Forbidden("A JWT opens no session; send it with each request.")
        async with db.write() as tx:
            who = principal or await store.use_sign_in(tx, body.token)
            cookie = await store.open_session(tx, who, lifetime)
            await store.record(tx, who.subject, "session.opened", who.subject)
        response.set_cookie(
            SESSION_COOKIE,
            cookie,
            max_age=lifetime // 1_000_000,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return SessionView(name=who.subject, roles=sorted(map(Role, who.roles)))

    @routes.delete("/api/v1/session", status_code=204, tags=["access"], openapi_extra=PUBLIC)
    async def close_session(request: Request, response: Response) -> None:
        """End the session of the cookie; nothing happens without one."""
        check_same_origin(request)
        cookie = request.cookies.get(SESSION_COOKIE)
        if cookie is not None:
            async with db.write() as tx:
                await store.close_session(tx, cookie)
            access.forget()
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict", secure=secure)


def _add_audit(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER))

    @routes.get("/api/v1/audit", tags=["access"])
    async def list_audit(
        paging: PagingQuery,
        actor: FilterQuery = None,
        action: FilterQuery = None,
        subject: FilterQuery = None,
        _: Identity = reader,
    ) -> Page[AuditView]:
        """List who did what, newest first."""
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
        items, cursor = page(rows, paging, lambda row: [row.at, row.id])
        return Page[AuditView](items=items, next_cursor=cursor)
