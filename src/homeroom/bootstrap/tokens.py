"""The verifier of JWTs, and tokens signed for development, by the settings."""

from __future__ import annotations

from datetime import timedelta

from homeroom.access.api import Jwks, JwtVerifier, RoleClaim, mint_token
from homeroom.bootstrap.partners import secret_text
from homeroom.errors import BadRequest, ConfigurationError
from homeroom.identity import Role
from homeroom.settings import Settings


def build_jwt_verifier(settings: Settings) -> JwtVerifier | None:
    """Return the verifier; None if neither a secret nor a key set is configured."""
    secret, jwks_url = secret_text(settings.jwt_secret), settings.jwt_jwks_url
    if secret is None and jwks_url is None:
        return None
    return JwtVerifier(
        secret=secret,
        jwks=None if jwks_url is None else Jwks(jwks_url),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        role_claim=build_role_claim(settings),
    )


def mint_configured_token(settings: Settings, user_id: str, role: Role, lifetime: timedelta) -> str:
    """Return a token that a server with the same settings accepts.

    Raises ``ConfigurationError`` without ``HOMEROOM_JWT_SECRET``, and ``BadRequest`` if the
    settings have no word for the role.
    """
    secret = secret_text(settings.jwt_secret)
    if secret is None:
        raise ConfigurationError(
            "HOMEROOM_JWT_SECRET is not set, so no token can be signed here.",
            hint="Set it to the output of: openssl rand -hex 32. Tokens that are checked by"
            " HOMEROOM_JWT_JWKS_URL come from the identity provider.",
        )
    try:
        return mint_token(
            secret,
            user_id,
            role,
            lifetime,
            role_claim=build_role_claim(settings),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    except ValueError as error:
        raise BadRequest(
            f"HOMEROOM_JWT_ROLE_MAP has no word for the role {role}.",
            hint=f"Add one, such as {role}={role}.",
        ) from error


def build_role_claim(settings: Settings, path: str | None = None) -> RoleClaim:
    """Return the claim of roles and its words; ``path`` names another claim."""
    words: dict[str, frozenset[Role]] = {}
    for word, role in settings.jwt_role_map:
        words[word] = words.get(word, frozenset()) | {role}
    default = settings.jwt_default_role
    return RoleClaim(
        path or settings.jwt_roles_claim, words or None, None if default is None else Role(default)
    )
