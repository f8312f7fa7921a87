"""Check tokens: API keys, the admin key of the settings, JWTs and sessions."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import structlog

from homeroom.access.jwks import ALLOWED_ALGORITHMS, Jwks
from homeroom.access.role_claim import RoleClaim
from homeroom.access.store import (
    KEY_PREFIX,
    find_key,
    find_session,
    has_token_format,
    hash_token,
    set_key_last_used,
)
from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.db.ids import is_external_id
from homeroom.errors import HomeroomError, Unauthenticated
from homeroom.identity import Identity, Role, parse_roles
from homeroom.instant import SECOND

log = structlog.get_logger(__name__)

CACHE_SECONDS = 2.0
"""Age up to which a checked token is accepted from the cache: a revoked key works that long."""
CACHE_ENTRIES = 10_000
MAX_CACHED_HEADER_LENGTH = 128
"""Characters up to which an ``Authorization`` header is itself the key of the cache.

An API key's header is: a platform's server sends it with each request. Of longer headers the cache
holds the digest."""
LAST_USED_INTERVAL_MICROSECONDS = 300 * SECOND
NOT_BEFORE_LEEWAY_SECONDS = 30
MAX_TOKEN_LENGTH = 8_192
SESSION_TOKEN_LENGTH = 43
_CacheKey = str | tuple[str, str]
"""A header as it came, or the kind of a token and its digest, which no header can equal."""
_ADMIN_KEY_ID_PREFIX = "admin."
_REAL_CLOCK = Clock()
"""Issuers of tokens use real time, even where Homeroom's clock is moved for a demo."""


class JwtVerifier:
    """Verify JWTs. The key decides the algorithm, never the token."""

    def __init__(
        self,
        *,
        secret: str | None = None,
        jwks: Jwks | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        role_claim: RoleClaim | None = None,
    ) -> None:
        """Use an HS256 secret, a key set, or both, and the required ``iss`` and ``aud``."""
        self._secret, self._jwks = secret, jwks
        self._role_claim = role_claim or RoleClaim()
        self._issuer, self._audience = issuer, audience

    async def verify(self, token: str) -> Identity:
        """Return the identity of a token.

        Raises ``Unauthenticated``, or ``Unavailable`` where the keys cannot be fetched.
        """
        try:
            return self._identity_from_claims(await self._claims(token))
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The token has expired.") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated(
                "The JWT is not valid: its signature, issuer, audience or claims do not match."
            ) from error

    async def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        key: str | jwt.PyJWK
        if algorithm == "HS256" and self._secret is not None:
            key, pinned = self._secret, "HS256"
        elif algorithm in ALLOWED_ALGORITHMS and self._jwks is not None:
            key = await self._jwks.key(kid if isinstance(kid, str) else None)
            pinned = key.algorithm_name
        else:
            raise Unauthenticated(
                "The JWT is signed by an algorithm that this server does not accept."
            )
        claims = jwt.decode(
            token,
            key,
            algorithms=[pinned],
            issuer=self._issuer,
            audience=self._audience,
            options={
                "require": ["exp", "sub"],
                "verify_aud": self._audience is not None,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        # Clocks of two servers differ by seconds; `exp` is exact, since it only takes away.
        not_before = claims.get("nbf", 0)
        if not_before > _REAL_CLOCK.now() / SECOND + NOT_BEFORE_LEEWAY_SECONDS:
            raise Unauthenticated("The token is not valid yet.")
        return claims

    def _identity_from_claims(self, claims: dict[str, Any]) -> Identity:
        subject = claims["sub"]
        if not isinstance(subject, str) or not is_external_id(subject):
            raise Unauthenticated("The token's `sub` is not a user id.")
        expires_at = float(claims["exp"])
        if not math.isfinite(expires_at):
            raise ValueError("exp is no time")
        roles, reason = self._role_claim.roles_of(claims)
        return Identity(subject, roles, "jwt", expires_at=expires_at, no_role_reason=reason)


class Authenticator:
    """Identify callers by their tokens, with a cache of two seconds.

    ``bootstrap`` builds it; ``close`` it before the database.
    """

    def __init__(
        self,
        db: Database,
        *,
        admin_key: str | None = None,
        jwt_verifier: JwtVerifier | None = None,
        cache_seconds: float = CACHE_SECONDS,
    ) -> None:
        """Use the keys and sessions of the database, and an admin key and JWTs."""
        self._db, self._jwt = db, jwt_verifier
        self._admin = hash_token(admin_key) if admin_key else None
        self._admin_id = (
            f"{_ADMIN_KEY_ID_PREFIX}{hash_token(_ADMIN_KEY_ID_PREFIX + admin_key)[:30]}"
            if admin_key
            else None
        )
        """The key id of sessions that this admin key has opened: they end when it changes."""
        self._cache_seconds = min(cache_seconds, CACHE_SECONDS)
        self._cache: dict[_CacheKey, tuple[float, Identity]] = {}
        self._running_checks: dict[_CacheKey, asyncio.Task[Identity]] = {}
        self._last_used_writes: set[asyncio.Task[None]] = set()

    async def identify(self, authorization: str | None, cookie: str | None) -> Identity:
        """Return the identity of an ``Authorization`` header, or else of a cookie.

        Raises ``Unauthenticated``; ``Unavailable`` if the database or the keys cannot be reached.
        """
        if authorization is not None:
            if (cached := self._cached_identity(authorization)) is not None:
                return cached
            scheme, _, token = authorization.partition(" ")
            token = token.strip()
            if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_LENGTH:
                raise Unauthenticated("Send the header as: Authorization: Bearer <token>.")
            is_short = len(authorization) <= MAX_CACHED_HEADER_LENGTH
            cache_key = authorization if is_short else _digest_cache_key("t", token)
            return await self._check_once(cache_key, token, self._check_token)
        if cookie is not None and len(cookie) == SESSION_TOKEN_LENGTH:
            cache_key = _digest_cache_key("s", cookie)
            return await self._check_once(cache_key, cookie, self._check_session)
        raise Unauthenticated()

    def clear_cache(self) -> None:
        """Check every token again at its next request, as after a revocation."""
        self._cache.clear()

    async def close(self) -> None:
        """Wait for the checks and writes that are under way."""
        await asyncio.gather(
            *self._last_used_writes, *self._running_checks.values(), return_exceptions=True
        )

    def _cached_identity(self, cache_key: _CacheKey) -> Identity | None:
        cached = self._cache.get(cache_key)
        return cached[1] if cached is not None and cached[0] > time.monotonic() else None

    async def _check_once(
        self, cache_key: _CacheKey, token: str, check: Callable[[str], Awaitable[Identity]]
    ) -> Identity:
        """Check a token once for all requests of this moment and of the next two seconds."""
        if (cached := self._cached_identity(cache_key)) is not None:
            return cached
        task = self._running_checks.get(cache_key)
        if task is None:
            task = asyncio.ensure_future(self._check_and_cache(cache_key, token, check))
            self._running_checks[cache_key] = task
            task.add_done_callback(lambda done: self._check_finished(cache_key, done))
        return await asyncio.shield(task)

    async def _check_and_cache(
        self, cache_key: _CacheKey, token: str, check: Callable[[str], Awaitable[Identity]]
    ) -> Identity:
        cached_until = time.monotonic() + self._cache_seconds  # counted from before the query
        identity = await check(token)
        if identity.expires_at is not None:
            left = identity.expires_at - _REAL_CLOCK.now() / SECOND
            cached_until = min(cached_until, time.monotonic() + left)
        if len(self._cache) >= CACHE_ENTRIES:
            self._cache.clear()
        self._cache[cache_key] = (cached_until, identity)
        return identity

    def _check_finished(self, cache_key: _CacheKey, done: asyncio.Task[Identity]) -> None:
        del self._running_checks[cache_key]
        if not done.cancelled():
            done.exception()  # the waiting requests raise it; without any, it is of no interest

    async def _check_token(self, token: str) -> Identity:
        if self._admin is not None and hmac.compare_digest(hash_token(token), self._admin):
            return Identity("admin key", frozenset({Role.ADMIN}), "key", self._admin_id)
        if token.startswith(KEY_PREFIX):
            return await self._check_key(token)
        if self._jwt is not None and token.count(".") == 2:
            return await self._jwt.verify(token)
        raise Unauthenticated("The token is neither an API key nor a JWT that this server accepts.")

    async def _check_key(self, token: str) -> Identity:
        key = None
        if has_token_format(token):
            async with self._db.read() as tx:
                key = await find_key(tx, token)
        if key is None:
            raise Unauthenticated("There is no such API key, or it was revoked.")
        if (
            key.last_used_at is None
            or self._db.clock.now() - key.last_used_at > LAST_USED_INTERVAL_MICROSECONDS
        ):
            write = asyncio.ensure_future(self._write_last_used(key.id))
            self._last_used_writes.add(write)
            write.add_done_callback(self._last_used_writes.discard)
        return Identity(key.name, parse_roles(key.roles), "key", key.id)

    async def _write_last_used(self, key_id: str) -> None:
        """Record the use of a key; a request neither waits for this nor fails by it."""
        try:
            async with self._db.write() as tx:
                await set_key_last_used(tx, key_id)
        except HomeroomError as error:
            log.warning("api_key_use_not_recorded", key_id=key_id, error=error.message)

    async def _check_session(self, token: str) -> Identity:
        async with self._db.read() as tx:
            identity = await find_session(tx, token)
        if identity is None:
            raise Unauthenticated("The session has ended; sign in again.")
        opened_by = identity.key_id or ""
        if opened_by.startswith(_ADMIN_KEY_ID_PREFIX) and opened_by != self._admin_id:
            raise Unauthenticated(
                "The admin key has changed since this session was opened; sign in again."
            )
        return identity


def _digest_cache_key(kind: str, token: str) -> _CacheKey:
    return kind, hash_token(token)
