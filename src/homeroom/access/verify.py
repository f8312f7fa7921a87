"""Check tokens: API keys, the admin key of the settings, JWTs and sessions."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import structlog

from homeroom.access.jwks import ALGORITHMS, Jwks
from homeroom.access.principal import ROLES, Principal
from homeroom.access.store import find_key, find_session, touch_key
from homeroom.access.token import KEY_PREFIX, digest, looks_made_here
from homeroom.clock import SECOND, Clock
from homeroom.db.database import Database
from homeroom.db.id import is_outside_id
from homeroom.errors import HomeroomError, Unauthenticated

log = structlog.get_logger(__name__)

CACHE_SECONDS = 2.0
"""How long a checked token is believed: a revoked key works for at most so long."""
CACHE_ENTRIES = 10_000
SHORT_HEADER = 128
"""Characters up to which an ``Authorization`` header is remembered as it came. An API key's is, for
a platform's server sends it with each request; of longer ones the digest is remembered."""
TOUCH_MICROSECONDS = 300 * SECOND
NOT_BEFORE_LEEWAY_SECONDS = 30
MAX_TOKEN_LENGTH = 8_192
SESSION_TOKEN_LENGTH = 43
_Name = str | tuple[str, str]
"""What a check is remembered by: a header as it came, or the digest of what was in it."""
_ADMIN = "admin."
_REAL = Clock()
"""An issuer of tokens knows nothing of a clock that was moved for a demo."""


class JwtVerifier:
    """Check JWTs. The algorithm is decided by the key and never by the token."""

    def __init__(
        self,
        *,
        secret: str | None = None,
        jwks: Jwks | None = None,
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        """Take an HS256 secret, a key set, or both, and the required ``iss`` and ``aud``."""
        self._secret, self._jwks = secret, jwks
        self._issuer, self._audience = issuer, audience

    async def check(self, token: str) -> Principal:
        """Return who a token is for; raise ``Unauthenticated``, or ``Unavailable`` without keys."""
        try:
            return _principal(await self._claims(token))
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The token has expired.") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated("The token is not valid here.") from error

    async def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        key: str | jwt.PyJWK
        if algorithm == "HS256" and self._secret is not None:
            key, pinned = self._secret, "HS256"
        elif algorithm in ALGORITHMS and self._jwks is not None:
            key = await self._jwks.key(kid if isinstance(kid, str) else None)
            pinned = key.algorithm_name
        else:
            raise Unauthenticated("Tokens of this kind are not accepted here.")
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
        if not_before > _REAL.now() / SECOND + NOT_BEFORE_LEEWAY_SECONDS:
            raise Unauthenticated("The token is not valid yet.")
        return claims


def _by_digest(kind: str, token: str) -> _Name:
    """Return the name of a token, which no header can be: digests are no secret."""
    return kind, digest(token)


def _principal(claims: dict[str, Any]) -> Principal:
    subject = claims["sub"]
    if not isinstance(subject, str) or not is_outside_id(subject):
        raise Unauthenticated("The token's `sub` is not a user id.")
    named = claims.get("roles")
    roles = [role for role in named if isinstance(role, str)] if isinstance(named, list) else []
    return Principal(
        subject, frozenset(roles) & frozenset(ROLES), "jwt", expires_at=float(claims["exp"])
    )


class Access:
    """Say who sent a request. Built in ``wiring``; ``close`` it before the database."""

    def __init__(
        self,
        db: Database,
        *,
        admin_key: str | None = None,
        jwt_verifier: JwtVerifier | None = None,
        cache_seconds: float = CACHE_SECONDS,
    ) -> None:
        """Take the database of keys and sessions, and what the settings say beyond it."""
        self._db, self._jwt = db, jwt_verifier
        self._admin = digest(admin_key) if admin_key else None
        self._admin_id = f"{_ADMIN}{digest(_ADMIN + admin_key)[:30]}" if admin_key else None
        """What sessions are known by that this admin key has opened: they end when it changes."""
        self._cache_seconds = min(cache_seconds, CACHE_SECONDS)
        self._cache: dict[_Name, tuple[float, Principal]] = {}
        self._checking: dict[_Name, asyncio.Task[Principal]] = {}
        self._touching: set[asyncio.Task[None]] = set()

    async def identify(self, authorization: str | None, cookie: str | None) -> Principal:
        """Return who an ``Authorization`` header, or else a session cookie, stands for.

        Raises ``Unauthenticated``; ``Unavailable`` if the database or the keys cannot be reached.
        """
        if authorization is not None:
            if (known := self._believed(authorization)) is not None:
                return known
            scheme, _, token = authorization.partition(" ")
            token = token.strip()
            if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_LENGTH:
                raise Unauthenticated("Send the header as: Authorization: Bearer <token>.")
            short = len(authorization) <= SHORT_HEADER
            name = authorization if short else _by_digest("t", token)
            return await self._remembered(name, token, self._check_token)
        if cookie is not None and len(cookie) == SESSION_TOKEN_LENGTH:
            return await self._remembered(_by_digest("s", cookie), cookie, self._check_session)
        raise Unauthenticated()

    def forget(self) -> None:
        """Believe no token any longer without a look; called when a key was revoked here."""
        self._cache.clear()

    async def close(self) -> None:
        """Wait for what is still written."""
        await asyncio.gather(*self._touching, *self._checking.values(), return_exceptions=True)

    def _believed(self, name: _Name) -> Principal | None:
        """Return whom a check found that is not older than it may be."""
        known = self._cache.get(name)
        return known[1] if known is not None and known[0] > time.monotonic() else None

    async def _remembered(
        self, name: _Name, token: str, check: Callable[[str], Awaitable[Principal]]
    ) -> Principal:
        """Check a token once for all requests of the next two seconds, and of this moment."""
        if (known := self._believed(name)) is not None:
            return known
        task = self._checking.get(name)
        if task is None:
            task = asyncio.ensure_future(self._check(name, token, check))
            self._checking[name] = task
            task.add_done_callback(lambda done: self._checked(name, done))
        return await asyncio.shield(task)

    async def _check(
        self, name: _Name, token: str, check: Callable[[str], Awaitable[Principal]]
    ) -> Principal:
        believed_until = time.monotonic() + self._cache_seconds  # from before the look
        principal = await check(token)
        if principal.expires_at is not None:
            left = principal.expires_at - _REAL.now() / SECOND
            believed_until = min(believed_until, time.monotonic() + left)
        if len(self._cache) >= CACHE_ENTRIES:
            self._cache.clear()
        self._cache[name] = (believed_until, principal)
        return principal

    def _checked(self, name: _Name, done: asyncio.Task[Principal]) -> None:
        del self._checking[name]
        if not done.cancelled():
            done.exception()  # whoever waited has it; if all of them left, nobody needs it

    async def _check_token(self, token: str) -> Principal:
        if self._admin is not None and hmac.compare_digest(digest(token), self._admin):
            return Principal("admin key", frozenset({"admin"}), "key", self._admin_id)
        if token.startswith(KEY_PREFIX):
            return await self._check_key(token)
        if self._jwt is not None and token.count(".") == 2:
            return await self._jwt.check(token)
        raise Unauthenticated("The token is not valid here.")

    async def _check_key(self, token: str) -> Principal:
        key = None
        if looks_made_here(token):
            async with self._db.read() as tx:
                key = await find_key(tx, token)
        if key is None:
            raise Unauthenticated("There is no such API key, or it was revoked.")
        if key.last_used_at is None or self._db.clock.now() - key.last_used_at > TOUCH_MICROSECONDS:
            touching = asyncio.ensure_future(self._touch(key.id))
            self._touching.add(touching)
            touching.add_done_callback(self._touching.discard)
        return Principal(key.name, frozenset(key.roles), "key", key.id)

    async def _touch(self, key_id: str) -> None:
        """Remember the use of a key; a request never waits for it nor fails by it."""
        try:
            async with self._db.write() as tx:
                await touch_key(tx, key_id)
        except HomeroomError as error:
            log.warning("api_key_use_not_noted", key_id=key_id, error=error.message)

    async def _check_session(self, token: str) -> Principal:
        async with self._db.read() as tx:
            principal = await find_session(tx, token)
        if principal is None:
            raise Unauthenticated("The session has ended; sign in again.")
        opened_by = principal.key_id or ""
        if opened_by.startswith(_ADMIN) and opened_by != self._admin_id:
            raise Unauthenticated("The admin key has changed since; sign in again.")
        return principal
