"""Sign-in by the accounts of a school, by the settings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fastapi import APIRouter

from homeroom.access import oidc_routes
from homeroom.bootstrap.partners import public_url, secret_text
from homeroom.bootstrap.tokens import build_role_claim
from homeroom.db.database import Database
from homeroom.instant import to_microseconds
from homeroom.settings import Settings

if TYPE_CHECKING:
    from homeroom.access.oidc_provider import OidcProvider


def build_school_sign_in(settings: Settings, db: Database) -> APIRouter | None:
    """Return the routes of the sign-in; None if no issuer is configured.

    The settings are valid: ``validate_settings`` has run.
    """
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    sign_in = oidc_routes.SchoolSignIn(
        db,
        _build_provider(settings, settings.oidc_issuer, settings.oidc_client_id),
        session_lifetime=to_microseconds(settings.session_lifetime),
        secure_cookie=public_url(settings).startswith("https:"),
        public_url=settings.public_url,
    )
    return oidc_routes.router(sign_in)


def _build_provider(settings: Settings, issuer: str, client_id: str) -> OidcProvider:
    """Return the provider; its module, imported here, needs the extra ``oidc``."""
    module = import_module("homeroom.access.oidc_provider")
    client = module.OidcClient(
        issuer=issuer,
        client_id=client_id,
        client_secret=secret_text(settings.oidc_client_secret),
        scopes=settings.oidc_scopes,
        user_claim=settings.oidc_user_claim,
        role_claim=build_role_claim(settings, settings.oidc_roles_claim),
    )
    provider: OidcProvider = module.OidcProvider(client)
    return provider
