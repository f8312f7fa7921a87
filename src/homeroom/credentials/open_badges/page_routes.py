"""HTTP routes of a credential's public page, certificate and badge images."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import Headers

from homeroom.credentials import store
from homeroom.credentials.open_badges.badge_issuer import BadgeCheck, OpenBadgeIssuer
from homeroom.credentials.open_badges.badge_routes import (
    PUBLIC_OPERATION,
    CredentialId,
    find_badge,
    public_response,
)
from homeroom.credentials.open_badges.badge_store import CredentialStatus, OpenBadge
from homeroom.credentials.open_badges.certificate import (
    MEDIA_TYPES,
    CertificateFiles,
    CertificateStyle,
    CertificateText,
    ImageForm,
)
from homeroom.db.database import Database
from homeroom.errors import Gone, HomeroomError, NotFound
from homeroom.instant import from_datetime
from homeroom.web.problem import PROBLEM_MEDIA_TYPE

if TYPE_CHECKING:
    from homeroom.credentials.open_badges import page as pages

_VC_JSON = "application/vc+ld+json"
_JSON_TYPES = (
    "application/vc+ld+json",
    "application/vc",
    "application/ld+json",
    "application/json",
)
_HTML = {"text/html": {"schema": {"type": "string"}}, PROBLEM_MEDIA_TYPE: {}}
_NO_PAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such credential.", "content": _HTML},
    410: {"description": "The data of its holder was erased.", "content": _HTML},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_NO_INDEX = {"X-Robots-Tag": "noindex"}


class CredentialPages:
    """The pages and files of signed credentials."""

    def __init__(self, db: Database, issuer: OpenBadgeIssuer, style: CertificateStyle) -> None:
        """Show credentials of an issuer in the style of a school."""
        self._db, self._issuer, self._colour = db, issuer, style.colour
        self.files = CertificateFiles(issuer.profile, style, db.clock)

    @property
    def _pages(self) -> Any:
        """Load the module of pages at the first page: until then its memory is saved."""
        return import_module("homeroom.credentials.open_badges.page")

    async def page(self, id: str, address: str, *, with_check: bool) -> Response:
        """Return the page of a credential; one that says why where there is none."""
        now, profile = self._db.clock.now(), self._issuer.profile
        try:
            async with self._db.read() as tx:
                badge, status = await find_badge(tx, id)
                known = await store.get(tx, id)
            check: BadgeCheck | None = None
            if with_check:
                self.files.limit.spend(address)
                check = await self._issuer.check(badge, status, now)
        except (NotFound, Gone) as error:
            title = "This credential is gone" if isinstance(error, Gone) else "No such credential"
            page = self._pages.message_page(profile, self._colour, title, error.message)
            return _html(page, error, is_listed=False)
        is_superseded = known is not None and known.state == "superseded"
        view = self._view(badge, status, is_superseded)
        page = self._pages.credential_page(profile, self._colour, view, now, check)
        return _html(page, None, is_listed=badge.is_listed)

    def _view(
        self, badge: OpenBadge, status: CredentialStatus, is_superseded: bool
    ) -> pages.PageContent:
        document = msgspec.json.decode(badge.document)
        view: pages.PageContent = self._pages.PageContent(
            text=certificate_text(badge, document),
            path=f"/credentials/{badge.credential_id}",
            id=badge.credential_id,
            criteria=document["credentialSubject"]["achievement"]["criteria"]["narrative"],
            revoked_at=status.revoked_at,
            is_superseded=is_superseded,
            is_listed=badge.is_listed,
        )
        return view

    async def file(self, id: str, form: ImageForm, request: Request) -> Response:
        """Return the certificate or a badge image of a credential."""
        async with self._db.read() as tx:
            badge, _ = await find_badge(tx, id)
        text = certificate_text(badge, msgspec.json.decode(badge.document))
        content = await self.files.get(text, form, caller_address(request))
        headers = {
            "Content-Disposition": f'inline; filename="credential.{form}"',
            **({} if badge.is_listed else _NO_INDEX),
        }
        return public_response(request, content, MEDIA_TYPES[form], seconds=0, headers=headers)


def certificate_text(badge: OpenBadge, document: dict[str, Any]) -> CertificateText:
    """Return the text of a certificate from the credential as it was signed."""
    until = document.get("validUntil")
    achievement = document["credentialSubject"]["achievement"]
    return CertificateText(
        url=document["id"],
        title=document["name"],
        holder=badge.holder_name if badge.shows_name else None,
        completed_at=_instant(document["validFrom"]),
        valid_until=None if until is None else _instant(until),
        evidence=tuple((each["name"], each["narrative"]) for each in document.get("evidence", ())),
        jws=badge.jws,
        verb="completed" if achievement["achievementType"] == "Course" else "achieved",
    )


def _instant(text: str) -> int:
    return from_datetime(datetime.fromisoformat(text))


def caller_address(request: Request) -> str:
    """Return the address that a limit counts.

    A peer in a private network is a reverse proxy, and the last ``X-Forwarded-For`` is of its
    making.
    """
    peer = "unknown" if request.client is None else request.client.host
    try:
        is_proxy = ipaddress.ip_address(peer).is_private
    except ValueError:
        is_proxy = False
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded[:64] if is_proxy and forwarded else peer


def _html(page: pages.CredentialPage, error: HomeroomError | None, *, is_listed: bool) -> Response:
    headers = {
        "Content-Security-Policy": page.policy,
        "Cache-Control": "no-cache",
        "Vary": "Accept",
    }
    if not is_listed:
        headers |= _NO_INDEX
    return HTMLResponse(page.html, 200 if error is None else error.status, headers)


def _prefers_json(headers: Headers) -> bool:
    """Return whether a program asks for the credential itself."""
    accepted = [each.split(";")[0].strip() for each in headers.get("accept", "").split(",")]
    return "text/html" not in accepted and any(each in _JSON_TYPES for each in accepted)


def page_router(db: Database, pages: CredentialPages) -> APIRouter:
    """Return the routes of pages and files; register them after the documents."""
    routes = APIRouter(tags=["Credentials"])

    def add_file(form: ImageForm, purpose: str) -> None:
        async def get_file(request: Request, credential_id: CredentialId) -> Response:
            return await pages.file(credential_id, form, request)

        routes.add_api_route(
            f"/credentials/{{credentialId}}.{form}",
            get_file,
            name=f"get_credential_{form}",
            description=purpose,
            response_class=Response,
            responses={200: {"content": {MEDIA_TYPES[form]: _BINARY}}},
            openapi_extra=PUBLIC_OPERATION,
        )

    add_file("pdf", "Return the certificate of a credential.")
    add_file("png", "Return the badge image with the credential in it, as PNG.")
    add_file("svg", "Return the badge image with the credential in it, as SVG.")

    @routes.get(
        "/credentials/{credentialId}/verification",
        response_class=HTMLResponse,
        responses=_NO_PAGE_RESPONSES,
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_credential_verification(
        request: Request, credential_id: CredentialId
    ) -> Response:
        """Check signature, status and validity, with the result in plain words."""
        return await pages.page(credential_id, caller_address(request), with_check=True)

    @routes.get(
        "/credentials/{credentialId}",
        response_class=HTMLResponse,
        responses={200: {"content": {_VC_JSON: {}}}, **_NO_PAGE_RESPONSES},
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_credential_page(request: Request, credential_id: CredentialId) -> Response:
        """Show a credential to people; programs that ask for JSON get the document."""
        if _prefers_json(request.headers):
            async with db.read() as tx:
                badge, _ = await find_badge(tx, credential_id)
            return public_response(
                request,
                badge.document.encode(),
                _VC_JSON,
                seconds=0,
                headers={"Vary": "Accept"},
            )
        return await pages.page(credential_id, caller_address(request), with_check=False)

    return routes
