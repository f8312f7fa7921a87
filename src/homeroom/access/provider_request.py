"""Requests to an identity provider, bounded in size and time.

Redirects are not followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from homeroom.http_client import open_http_client

MAX_RESPONSE_BYTES = 256 * 1024
TIMEOUT_SECONDS = 5.0
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class ProviderResponse:
    """A response of an identity provider, of any status."""

    status: int
    body: bytes


async def send_to_provider(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: str | None = None,
) -> ProviderResponse:
    """Send one request and return the response.

    Raises ``httpx.HTTPError``, ``httpx.InvalidURL`` or ``TimeoutError``, and ValueError for a body
    over the limit.
    """
    body = bytearray()
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        open_http_client(timeout=TIMEOUT_SECONDS) as client,
        client.stream(
            method, url, headers={**_HEADERS, **(headers or {})}, content=content
        ) as response,
    ):
        async for part in response.aiter_raw():  # not decompressed, so that the limit holds
            body += part
            if len(body) > MAX_RESPONSE_BYTES:
                raise ValueError("the response is too long")
    return ProviderResponse(response.status_code, bytes(body))
