"""Fetch and keep the public keys of an identity provider; a fault there never stops the loop."""

from __future__ import annotations

import asyncio
import time

import httpx
import jwt
import structlog

from homeroom.errors import Unauthenticated, Unavailable
from homeroom.outgoing import open_client

log = structlog.get_logger(__name__)

MAX_BYTES = 256 * 1024
MAX_KEYS = 50
FRESH_SECONDS = 600.0
REFRESH_PAUSE_SECONDS = 30.0
"""Unknown key ids cause a fetch at most this often, or anybody could make us send requests."""
FETCH_TIMEOUT_SECONDS = 5.0
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


class Jwks:
    """The keys behind a JWKS URL, by key id."""

    def __init__(self, url: str, *, refresh_pause_seconds: float = REFRESH_PAUSE_SECONDS) -> None:
        """Take the URL; nothing is fetched before a token needs it."""
        self.url = url
        self._pause = refresh_pause_seconds
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Return the key of an id; a token without one gets the only key there is.

        Raises ``Unauthenticated`` for an unknown id, ``Unavailable`` if no key was ever fetched.
        """
        if self._find(kid) is None or not self._is_fresh():
            async with self._lock:
                if (self._find(kid) is None or not self._is_fresh()) and self._may_try():
                    await self._fetch()
        found = self._find(kid)
        if found is not None:
            return found
        if self._fetched_at is None:
            raise Unavailable(
                "The keys that tokens are checked with cannot be fetched right now.",
                retry_after_seconds=self._pause,
            )
        raise Unauthenticated("The token is signed with a key that nobody knows.")

    def _find(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _is_fresh(self) -> bool:
        return self._fetched_at is not None and time.monotonic() - self._fetched_at < FRESH_SECONDS

    def _may_try(self) -> bool:
        return self._tried_at is None or time.monotonic() - self._tried_at >= self._pause

    async def _fetch(self) -> None:
        """Fetch the keys; where that fails, those of before stay."""
        self._tried_at = time.monotonic()
        try:
            keys = _read(await _download(self.url))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            log.warning("jwks_fetch_failed", url=self.url, error=type(error).__name__)
            return
        self._keys, self._fetched_at = keys, time.monotonic()


async def _download(url: str) -> bytes:
    """Return the body behind a URL; raise ValueError if it is too long."""
    body = bytearray()
    async with (
        asyncio.timeout(FETCH_TIMEOUT_SECONDS),
        open_client(timeout=FETCH_TIMEOUT_SECONDS) as client,
        client.stream("GET", url, headers=_HEADERS) as response,
    ):
        response.raise_for_status()
        async for part in response.aiter_raw():  # unpacked by nobody, so that the limit holds
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError("the key set is too long")
    return bytes(body)


def _read(body: bytes) -> dict[str | None, jwt.PyJWK]:
    """Return the keys that may sign, by id; symmetric ones never, since they would be no secret."""
    try:
        found = jwt.PyJWKSet.from_json(body.decode()).keys
    except (jwt.PyJWTError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    return {
        key.key_id: key
        for key in found[:MAX_KEYS]
        if key.algorithm_name in ALGORITHMS and key.public_key_use in {None, "sig"}
    }
