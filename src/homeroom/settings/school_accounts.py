"""The settings of sign-in by the accounts of a school."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from homeroom.settings.field_types import ClaimPath, HttpUrl, OneLine
from homeroom.settings.problem import SettingProblem

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def _check_scopes(text: str) -> str:
    scopes = text.split()
    if "openid" not in scopes:
        raise ValueError("write scopes with spaces, `openid` among them, as openid profile")
    return " ".join(scopes)


class SchoolAccountSettings(BaseModel):
    """School accounts. Sign-in by OpenID Connect, with the extra `oidc`."""

    oidc_issuer: HttpUrl | None = Field(
        None, description="Issuer URL of the identity provider. Unset: no such sign-in."
    )
    oidc_client_id: OneLine | None = Field(None, description="Homeroom's client id there.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="Homeroom's client secret there. Unset: a public client, with PKCE alone."
    )
    oidc_scopes: Annotated[str, AfterValidator(_check_scopes)] = Field(
        "openid profile", description="Scopes to ask for, with spaces."
    )
    oidc_user_claim: ClaimPath = Field(
        "sub",
        description="Claim that holds the user id of a person, such as `preferred_username`; an"
        " `email` counts only if `email_verified` is true.",
    )
    oidc_roles_claim: ClaimPath | None = Field(
        None,
        description="Claim that holds roles. Unset: that of `HOMEROOM_JWT_ROLES_CLAIM`, whose words"
        " `HOMEROOM_JWT_ROLE_MAP` and `HOMEROOM_JWT_DEFAULT_ROLE` translate here too.",
    )


def school_account_problems(
    settings: SchoolAccountSettings, *, is_loopback: bool, public_url: str | None
) -> list[SettingProblem]:
    """Return the problems of these settings; none where no issuer is set."""
    issuer = settings.oidc_issuer
    if issuer is None:
        if settings.oidc_client_id is None:
            return []
        return [
            SettingProblem(
                "HOMEROOM_OIDC_CLIENT_ID",
                "Without an issuer it has no effect: there is no sign-in by school accounts.",
                "Set HOMEROOM_OIDC_ISSUER, or unset this.",
                "warning",
            )
        ]
    problems = []
    if settings.oidc_client_id is None:
        problems.append(
            SettingProblem(
                "HOMEROOM_OIDC_CLIENT_ID",
                "Sign-in by school accounts needs the client id of Homeroom.",
                "Register Homeroom at the identity provider, and set its client id.",
            )
        )
    if public_url is None and not is_loopback:
        problems.append(
            SettingProblem(
                "HOMEROOM_PUBLIC_URL",
                "The identity provider needs the address to which it sends browsers back.",
                "Set the URL of this server as browsers see it.",
            )
        )
    if issuer.startswith("http:") and urlsplit(issuer).hostname not in LOOPBACK_HOSTS:
        problems.append(
            SettingProblem(
                "HOMEROOM_OIDC_ISSUER",
                "Tokens and keys that are sent over plain HTTP can be read and replaced.",
                "Use the https address.",
                "warning",
            )
        )
    return problems
