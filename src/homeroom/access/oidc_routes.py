"""Sign-in by the accounts of a school (OpenID Connect) over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, urlencode

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from homeroom.access import store
from homeroom.access.pending_sign_in import (
    CONSOLE_PATH,
    PENDING_SECONDS,
    PendingCookie,
    PendingSignIn,
    console_path,
)
from homeroom.access.sign_in_failure import (
    SignInFailure,
    SignInFailureCode,
    preferred_language,
    render_failure_page,
)
from homeroom.db.database import Database
from homeroom.errors import HomeroomError
from homeroom.identity import Identity
from homeroom.instant import SECOND
from homeroom.web.identity import SESSION_COOKIE
from homeroom.web.request_id import current_request_id

if TYPE_CHECKING:
    from homeroom.access.oidc_provider import OidcProvider

log = structlog.get_logger(__name__)

OIDC_PATH = "/sign-in/oidc"
CALLBACK_PATH = f"{OIDC_PATH}/callback"
SIGN_OUT_PATH = f"{OIDC_PATH}/sign-out"
BACK_CHANNEL_PATH = f"{OIDC_PATH}/back-channel-logout"
NextQuery = Annotated[str | None, Query(alias="next")]


class SchoolSignIn:
    """The sign-in of browsers at a school's identity provider."""

    def __init__(
        self,
        db: Database,
        provider: OidcProvider,
        *,
        session_lifetime: int,
        secure_cookie: bool,
        public_url: str | None,
    ) -> None:
        """Set the lifetime of sessions in microseconds, and the URL of this server.

        Without a URL, which only a server on loopback may lack, the request's own is used.
        """
        self._db, self._provider = db, provider
        self._lifetime, self._secure = session_lifetime, secure_cookie
        self._cookie = PendingCookie(secure_cookie)
        self._public_url = public_url

    async def begin(self, request: Request, wanted: str | None) -> Response:
        """Send the browser to the provider, with a cookie that binds the sign-in to it."""
        next_path = console_path(wanted)
        try:
            pending, url = await self._provider.begin(next_path, self._callback_url(request))
        except SignInFailure as failure:
            return self._failure_page(request, failure, next_path)
        response = RedirectResponse(url, 303)
        response.set_cookie(
            self._cookie.name(pending.state),
            self._cookie.encode(pending),
            max_age=PENDING_SECONDS,
            httponly=True,
            samesite="lax",  # the provider sends the browser back, which is cross-site
            secure=self._secure,
        )
        return response

    async def finish(
        self, request: Request, state: str, code: str | None, error: str | None, issuer: str | None
    ) -> Response:
        """End a sign-in: open a session, or show why not. Its cookie works once."""
        name = self._cookie.name(state)
        pending = self._cookie.decode(request.cookies.get(name), state)
        next_path = console_path(None if pending is None else pending.next)
        response: Response
        try:
            identity, at_provider = await self._identify(request, pending, code, error, issuer)
            response = RedirectResponse(next_path, 303)
            await self._open_session(response, identity, at_provider)
        except SignInFailure as failure:
            response = self._failure_page(request, failure, next_path)
        if name in request.cookies:
            response.delete_cookie(name, httponly=True, samesite="lax", secure=self._secure)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Send the browser to the provider to end its session there too, if it can."""
        console = self._base_url(request) + CONSOLE_PATH
        return RedirectResponse(await self._provider.sign_out_url(console) or CONSOLE_PATH, 303)

    async def end_sessions(self, logout_token: str) -> None:
        """End the sessions of which the provider says that they ended."""
        ended = await self._provider.ended_session(logout_token)
        async with self._db.write() as tx:
            count = await store.end_provider_sessions(tx, ended)
        log.info("oidc_sessions_ended", sessions=count)

    async def _identify(
        self,
        request: Request,
        pending: PendingSignIn | None,
        code: str | None,
        error: str | None,
        issuer: str | None,
    ) -> tuple[Identity, store.ProviderSession]:
        if pending is None:
            raise SignInFailure(
                SignInFailureCode.UNKNOWN_STATE, "no cookie of this browser has the state"
            )
        await self._provider.check_response(error, issuer)
        if not code:
            raise SignInFailure(SignInFailureCode.PROVIDER_ERROR, "the provider sent no code")
        return await self._provider.finish(pending, code, self._callback_url(request))

    async def _open_session(
        self, response: Response, identity: Identity, at_provider: store.ProviderSession
    ) -> None:
        """Store a session and set its cookie; a fault is a ``SignInFailure``."""
        subject = identity.subject
        try:
            async with self._db.write() as tx:
                token = await store.open_session(tx, identity, self._lifetime, at_provider)
                await store.record_audit(tx, subject, "session.opened", subject, {"by": "oidc"})
        except HomeroomError as error:
            raise SignInFailure(
                SignInFailureCode.SESSION_NOT_STORED, f"the database reports {error.code}"
            ) from error
        response.set_cookie(
            SESSION_COOKIE,
            token,
            max_age=self._lifetime // SECOND,
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )

    def _failure_page(self, request: Request, failure: SignInFailure, next_path: str) -> Response:
        log.warning("oidc_sign_in_failed", code=failure.code, error=failure.detail)
        page = render_failure_page(
            failure,
            preferred_language(request.headers.get("accept-language")),
            again=f"{OIDC_PATH}?{urlencode({'next': next_path})}",
            console=next_path,
            request_id=current_request_id.get(),
        )
        return HTMLResponse(page, failure.status)

    def _callback_url(self, request: Request) -> str:
        return self._base_url(request) + CALLBACK_PATH

    def _base_url(self, request: Request) -> str:
        return self._public_url or str(request.base_url).rstrip("/")


def router(sign_in: SchoolSignIn) -> APIRouter:
    """Return the routes, which browsers open without a token."""
    routes = APIRouter()
    options: dict[str, Any] = {"include_in_schema": False}

    @routes.get(OIDC_PATH, **options)
    async def begin_school_sign_in(request: Request, wanted: NextQuery = None) -> Response:
        return await sign_in.begin(request, wanted)

    @routes.get(CALLBACK_PATH, **options)
    async def finish_school_sign_in(
        request: Request,
        state: str = "",
        code: str | None = None,
        error: str | None = None,
        iss: str | None = None,
    ) -> Response:
        return await sign_in.finish(request, state, code, error, iss)

    @routes.post(BACK_CHANNEL_PATH, **options)
    async def end_school_sessions(request: Request) -> Response:
        """End sessions for the provider, whose signed token is the only credential."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        [token, *_] = form.get("logout_token", [""])
        await sign_in.end_sessions(token)
        return Response(status_code=200, headers={"Cache-Control": "no-store"})

    @routes.get(SIGN_OUT_PATH, **options)
    async def sign_out_of_school(request: Request) -> Response:
        return await sign_in.sign_out(request)

    return routes
