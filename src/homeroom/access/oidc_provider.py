"""A school's identity provider (OpenID Connect); needs the extra ``oidc``."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from homeroom.access.id_token import verify_id_token
from homeroom.access.jwks import Jwks
from homeroom.access.logout_token import verify_logout_token
from homeroom.access.pending_sign_in import PendingSignIn
from homeroom.access.provider_request import ProviderResponse, send_to_provider
from homeroom.access.role_claim import RoleClaim, find_claim
from homeroom.access.sign_in_failure import SignInFailure, SignInFailureCode
from homeroom.access.store import SCHOOL_SESSION, ProviderSession
from homeroom.db.ids import is_external_id
from homeroom.errors import Unavailable
from homeroom.identity import Identity

log = structlog.get_logger(__name__)

METADATA_FRESH_SECONDS = 600.0
DISCOVERY_PAUSE_SECONDS = 2.0
"""Discovery that has failed is repeated at most this often: callers without a token cause it."""
KEY_REFRESH_PAUSE_SECONDS = 1.0
"""A fetch of the keys that has failed is repeated at most this often."""
DISCOVERY_PATH = "/.well-known/openid-configuration"
_FORM = "application/x-www-form-urlencoded"
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")
_Shape = TypeVar("_Shape")


class ProviderMetadata(msgspec.Struct, frozen=True):
    """The members of the discovery document that are used (OpenID Connect Discovery)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False

    def check(self, issuer: str) -> None:
        """Raise ValueError for the document of another issuer or unsafe addresses.

        A slash at the end of the issuer's name is the setting's too.
        """
        if self.issuer.rstrip("/") != issuer:
            raise ValueError("the document names another issuer")
        optional = (self.userinfo_endpoint, self.end_session_endpoint)
        required = (self.authorization_endpoint, self.token_endpoint, self.jwks_uri)
        schemes = {"https"} if issuer.startswith("https:") else {"http", "https"}
        for url in (*required, *(each for each in optional if each is not None)):
            parts = urlsplit(url)
            if parts.scheme not in schemes or not parts.hostname:
                raise ValueError("an address in the document is none, or not https")


class _TokenResponse(msgspec.Struct):
    id_token: str
    access_token: str | None = None


class _ErrorResponse(msgspec.Struct):
    error: str


@dataclass(frozen=True, slots=True)
class OidcClient:
    """Homeroom as a client of the provider, and the claims that it reads."""

    issuer: str
    client_id: str
    client_secret: str | None
    scopes: str
    user_claim: str
    role_claim: RoleClaim


class OidcProvider:
    """The provider of one issuer: its metadata and keys are cached."""

    def __init__(self, client: OidcClient) -> None:
        """Set the client; the first sign-in causes the first request."""
        self._client = client
        self._metadata: ProviderMetadata | None = None
        self._jwks: Jwks | None = None
        self._logout_keys: Jwks | None = None
        self._fetched_at = self._failed_at = float("-inf")
        self._lock = asyncio.Lock()

    async def begin(self, next_path: str, redirect_uri: str) -> tuple[PendingSignIn, str]:
        """Return a new sign-in, and the address that the browser has to open for it."""
        metadata = await self._discover()
        pending = PendingSignIn(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            next=next_path,
        )
        url = prepare_grant_uri(
            metadata.authorization_endpoint,
            self._client.client_id,
            "code",
            redirect_uri=redirect_uri,
            scope=self._client.scopes,
            state=pending.state,
            nonce=pending.nonce,
            code_challenge=create_s256_code_challenge(pending.verifier),
            code_challenge_method="S256",
        )
        return pending, str(url)

    async def check_response(self, error: str | None, issuer: str | None) -> None:
        """Raise ``SignInFailure`` for another provider's response, and for an error.

        RFC 9207 says which provider it comes from, where the provider supports that.
        """
        metadata = await self._discover()
        is_missing = metadata.authorization_response_iss_parameter_supported and issuer is None
        if is_missing or issuer not in {None, metadata.issuer}:
            raise SignInFailure(
                SignInFailureCode.TOKEN_INVALID, "the response comes from another issuer"
            )
        if error is None:
            return
        named = _known_error(error)
        if error == "access_denied":
            raise SignInFailure(SignInFailureCode.DENIED, f"the provider reports {named}")
        raise SignInFailure(SignInFailureCode.PROVIDER_ERROR, f"the provider reports {named}")

    async def finish(
        self, pending: PendingSignIn, code: str, redirect_uri: str
    ) -> tuple[Identity, ProviderSession]:
        """Exchange a code; return the person and the session at the provider.

        Raises ``SignInFailure`` if it is not valid.
        """
        metadata = await self._discover()
        tokens = await self._exchange(metadata, pending, code, redirect_uri)
        claims = await verify_id_token(
            tokens.id_token,
            self._keys(metadata),
            issuer=metadata.issuer,
            client_id=self._client.client_id,
            nonce=pending.nonce,
            access_token=tokens.access_token,
        )
        if self._is_incomplete(claims) and metadata.userinfo_endpoint and tokens.access_token:
            more = await _fetch_user_info(metadata.userinfo_endpoint, tokens.access_token)
            if more.get("sub") != claims["sub"]:  # section 5.3.2
                raise SignInFailure(
                    SignInFailureCode.TOKEN_INVALID, "UserInfo is that of another person"
                )
            claims = {**more, **claims}
        at_provider = ProviderSession.of(claims.get("sid"), claims["sub"])
        return self._identity(claims), at_provider

    async def ended_session(self, logout_token: str) -> ProviderSession:
        """Return what a logout token ends; raise ``BadRequest`` if it is not valid.

        Raises ``Unavailable`` while the provider does not answer.
        """
        try:
            metadata = await self._discover()
        except SignInFailure as failure:
            raise Unavailable(
                failure.detail, retry_after_seconds=DISCOVERY_PAUSE_SECONDS
            ) from failure
        if self._logout_keys is None or self._logout_keys.url != metadata.jwks_uri:
            # Any caller sends tokens here, so an unknown key id is no reason to fetch at once.
            self._logout_keys = Jwks(metadata.jwks_uri)
        ended = await verify_logout_token(
            logout_token,
            self._logout_keys,
            issuer=metadata.issuer,
            client_id=self._client.client_id,
        )
        return ProviderSession.of(ended.session, ended.subject)

    async def sign_out_url(self, return_to: str) -> str | None:
        """Return where a browser ends its session at the provider, or None."""
        try:
            metadata = await self._discover()
        except SignInFailure:
            return None
        if metadata.end_session_endpoint is None:
            return None
        query = httpx.QueryParams(
            {"client_id": self._client.client_id, "post_logout_redirect_uri": return_to}
        )
        return str(httpx.URL(metadata.end_session_endpoint).copy_merge_params(query))

    async def _discover(self) -> ProviderMetadata:
        """Return the metadata; while none can be fetched, that of before."""
        async with self._lock:
            now = time.monotonic()
            is_fresh = now - self._fetched_at < METADATA_FRESH_SECONDS
            if not is_fresh and now - self._failed_at >= DISCOVERY_PAUSE_SECONDS:
                await self._fetch_metadata()
        if self._metadata is None:
            raise SignInFailure(
                SignInFailureCode.PROVIDER_UNAVAILABLE,
                "the discovery document of HOMEROOM_OIDC_ISSUER cannot be fetched",
            )
        return self._metadata

    async def _fetch_metadata(self) -> None:
        issuer = self._client.issuer
        try:
            response = await _send("GET", issuer + DISCOVERY_PATH)
            metadata = _decode(response, ProviderMetadata)
            metadata.check(issuer)
        except (SignInFailure, ValueError) as error:
            self._failed_at = time.monotonic()
            reason = error.detail if isinstance(error, SignInFailure) else str(error)
            log.warning("oidc_discovery_failed", issuer=issuer, error=reason)
            return
        self._metadata, self._fetched_at = metadata, time.monotonic()

    def _keys(self, metadata: ProviderMetadata) -> Jwks:
        if self._jwks is None or self._jwks.url != metadata.jwks_uri:
            self._jwks = Jwks(
                metadata.jwks_uri,
                refresh_pause_seconds=KEY_REFRESH_PAUSE_SECONDS,
                are_ids_trusted=True,
            )
        return self._jwks

    async def _exchange(
        self, metadata: ProviderMetadata, pending: PendingSignIn, code: str, redirect_uri: str
    ) -> _TokenResponse:
        """Exchange the code for tokens, with the verifier that only this browser has."""
        url = metadata.token_endpoint
        body = prepare_token_request(
            "authorization_code",
            redirect_uri=redirect_uri,
            code=code,
            code_verifier=pending.verifier,
        )
        url, headers, body = ClientAuth(
            self._client.client_id, self._client.client_secret, self._auth_method(metadata)
        ).prepare("POST", url, {"Content-Type": _FORM}, body)
        response = await _send("POST", url, headers=headers, content=body)
        if response.status == HTTPStatus.OK:
            return _decode(response, _TokenResponse)
        raise _exchange_failure(response)

    def _auth_method(self, metadata: ProviderMetadata) -> str:
        """Return how the client authenticates.

        In the body where the provider allows it: providers differ in how a special character of a
        secret is written in the header (RFC 6749, section 2.3.1).
        """
        if self._client.client_secret is None:
            return "none"
        methods = metadata.token_endpoint_auth_methods_supported
        return "client_secret_post" if "client_secret_post" in methods else "client_secret_basic"

    def _is_incomplete(self, claims: Mapping[str, Any]) -> bool:
        """Return whether the ID token lacks a claim, so that UserInfo may hold it."""
        names = [self._client.user_claim, self._client.role_claim.path]
        if self._client.user_claim == "email":
            names.append("email_verified")
        return any(find_claim(claims, name) is None for name in names)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name = self._client.user_claim
        subject = find_claim(claims, name)
        if not isinstance(subject, str) or not is_external_id(subject):
            raise SignInFailure(
                SignInFailureCode.NO_USER_ID, f"the claim `{name}` is missing or no user id"
            )
        if name == "email" and claims.get("email_verified") is not True:
            raise SignInFailure(
                SignInFailureCode.NO_USER_ID, "the claim `email_verified` is not true"
            )
        roles, reason = self._client.role_claim.roles_of(claims)
        if not roles:
            raise SignInFailure(SignInFailureCode.NO_ROLE, reason or "the account has no role")
        return Identity(subject, roles, "jwt", SCHOOL_SESSION)


async def _fetch_user_info(url: str, access_token: str) -> dict[str, Any]:
    response = await _send("GET", url, headers={"Authorization": f"Bearer {access_token}"})
    return _decode(response, dict[str, Any])


async def _send(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, content: str | None = None
) -> ProviderResponse:
    """Send a request; raise ``SignInFailure`` where no whole response comes."""
    try:
        return await send_to_provider(method, url, headers=headers, content=content)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
        raise SignInFailure(
            SignInFailureCode.PROVIDER_UNAVAILABLE,
            f"no response from the provider ({type(error).__name__})",
        ) from error


def _decode(response: ProviderResponse, shape: type[_Shape]) -> _Shape:
    """Return the body of a 200 as a type; raise ``SignInFailure`` otherwise."""
    if response.status != HTTPStatus.OK:
        raise SignInFailure(
            SignInFailureCode.PROVIDER_UNAVAILABLE, f"the provider answers {response.status}"
        )
    try:
        return msgspec.json.decode(response.body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SignInFailure(
            SignInFailureCode.PROVIDER_ERROR, "the provider's response cannot be read"
        ) from error


def _exchange_failure(response: ProviderResponse) -> SignInFailure:
    """Return the failure of an exchange (RFC 6749, section 5.2)."""
    try:
        error = msgspec.json.decode(response.body, type=_ErrorResponse).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return SignInFailure(
            SignInFailureCode.PROVIDER_UNAVAILABLE, f"the provider answers {response.status}"
        )
    detail = f"the token endpoint reports {_known_error(error)}"
    if error == "invalid_grant":
        return SignInFailure(SignInFailureCode.CODE_REFUSED, detail)
    if error in {"invalid_client", "unauthorized_client"}:
        hint = "check HOMEROOM_OIDC_CLIENT_ID and HOMEROOM_OIDC_CLIENT_SECRET"
        return SignInFailure(SignInFailureCode.CLIENT_REFUSED, f"{detail}; {hint}")
    return SignInFailure(SignInFailureCode.PROVIDER_ERROR, detail)


def _known_error(error: str) -> str:
    """Return an error code if it has the form of one; other text is not repeated."""
    return error if _ERROR_CODE.fullmatch(error) else "an error"
