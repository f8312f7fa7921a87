"""Fetch and cache the public keys of an identity provider."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

import httpx
import jwt
import structlog

from homeroom.access.provider_request import send_to_provider
from homeroom.errors import Unauthenticated, Unavailable

log = structlog.get_logger(__name__)

MAX_KEYS = 50
KEY_SET_FRESH_SECONDS = 600.0
REFRESH_PAUSE_SECONDS = 30.0
"""An unknown key id causes a fetch at most this often: callers without a token choose the id."""
ALLOWED_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


class Jwks:
    """The keys behind a JWKS URL, cached; after a failed fetch they stay in use."""

    def __init__(
        self,
        url: str,
        *,
        refresh_pause_seconds: float = REFRESH_PAUSE_SECONDS,
        are_ids_trusted: bool = False,
    ) -> None:
        """Set the URL; the first token that needs a key causes the first fetch.

        With trusted ids, tokens come from the provider itself: an unknown id means that the keys
        have changed, and only a failed fetch is followed by a pause.
        """
        self.url = url
        self._pause = refresh_pause_seconds
        self._are_ids_trusted = are_ids_trusted
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._paused_since: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Return the key of an id; without an id, the only key of a set of one.

        Raises ``Unauthenticated`` for an unknown id, ``Unavailable`` if no key was ever fetched.
        """
        if self._find(kid) is None or not self._is_fresh():
            async with self._lock:
                if (self._find(kid) is None or not self._is_fresh()) and self._may_fetch():
                    await self._fetch()
        jwk = self._find(kid)
        if jwk is not None:
            return jwk
        if self._fetched_at is None:
            raise Unavailable(
                "The identity provider's keys cannot be fetched right now.",
                retry_after_seconds=self._pause,
            )
        raise Unauthenticated("The token is signed with an unknown key.")

    def _find(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _is_fresh(self) -> bool:
        return (
            self._fetched_at is not None
            and time.monotonic() - self._fetched_at < KEY_SET_FRESH_SECONDS
        )

    def _may_fetch(self) -> bool:
        return self._paused_since is None or time.monotonic() - self._paused_since >= self._pause

    async def _fetch(self) -> None:
        """Fetch the keys; where that fails, the cached ones stay."""
        self._paused_since = time.monotonic()
        try:
            keys = _parse_key_set(await _download_key_set(self.url))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            log.warning("jwks_fetch_failed", url=self.url, error=type(error).__name__)
            return
        self._keys, self._fetched_at = keys, time.monotonic()
        if self._are_ids_trusted:
            self._paused_since = None


async def _download_key_set(url: str) -> bytes:
    """Return the body behind a URL; raise ValueError unless the status is 200."""
    response = await send_to_provider("GET", url)
    if response.status != HTTPStatus.OK:
        raise ValueError("the status is not 200")
    return response.body


def _parse_key_set(body: bytes) -> dict[str | None, jwt.PyJWK]:
    """Return the keys that may sign, by id; symmetric ones are ignored."""
    try:
        keys = jwt.PyJWKSet.from_json(body.decode()).keys
    except (jwt.PyJWTError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    return {
        key.key_id: key
        for key in keys[:MAX_KEYS]
        if key.algorithm_name in ALLOWED_ALGORITHMS and key.public_key_use in {None, "sig"}
    }
