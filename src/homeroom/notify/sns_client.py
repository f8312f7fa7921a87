"""Amazon SNS: certificates of its signatures, and confirmation of a subscription."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from homeroom.errors import Unavailable
from homeroom.http_client import open_http_client
from homeroom.notify.hook_signature import InvalidHook

_TIMEOUT_SECONDS = 5.0
_MAX_RESPONSE_BYTES = 64 * 1024
_MAX_CERTIFICATES = 8
_SNS_HOST = r"https://sns\.([a-z]{2}(?:-[a-z]+)+-\d{1,2})\.amazonaws\.com(?:\.cn)?"
_SNS_URL = re.compile(_SNS_HOST + r"/[!-~]*", re.ASCII)
_CERTIFICATE_URL = re.compile(_SNS_HOST + r"/SimpleNotificationService-[\w-]{1,80}\.pem", re.ASCII)
"""Other pages of these hosts show what any customer has stored, such as a certificate."""


def _same(url: str) -> str:
    return url


class SnsClient:
    """Fetches from Amazon's hosts alone, each certificate once."""

    def __init__(self, topic_arn: str, locate: Callable[[str], str] = _same) -> None:
        """Serve one topic; ``locate`` maps a checked URL to that of a server in tests."""
        self.topic_arn = topic_arn
        self._locate = locate
        self._certificates: dict[str, bytes] = {}

    async def get_certificate(self, url: object) -> bytes:
        """Return a certificate as PEM; raise ``InvalidHook``, or ``Unavailable``."""
        checked = check_certificate_url(url, self.topic_arn)
        found = self._certificates.get(checked)
        if found is None:
            found = await self._fetch(checked)
            if len(self._certificates) >= _MAX_CERTIFICATES:
                self._certificates.clear()
            self._certificates[checked] = found
        return found

    async def confirm_subscription(self, url: object) -> None:
        """Confirm the subscription of a verified message; raise as ``get_certificate``."""
        await self._fetch(check_sns_url(url, self.topic_arn))

    async def _fetch(self, url: str) -> bytes:
        body = bytearray()
        try:
            async with (
                open_http_client(timeout=_TIMEOUT_SECONDS) as client,
                client.stream("GET", self._locate(url)) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise Unavailable(f"Amazon SNS answered {response.status_code}.")
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_RESPONSE_BYTES:
                        raise Unavailable("Amazon SNS sent a response that is too large.")
        except httpx.HTTPError as error:
            raise Unavailable("Amazon SNS cannot be reached.") from error
        return bytes(body)


def check_sns_url(url: object, topic_arn: str) -> str:
    """Return a URL that is one of SNS in the topic's region; raise ``InvalidHook``.

    Nothing else is ever fetched for a webhook, whatever its body says.
    """
    return _check_url(_SNS_URL, url, topic_arn)


def check_certificate_url(url: object, topic_arn: str) -> str:
    """Return the URL of a certificate of SNS itself; raise ``InvalidHook``.

    The API of SNS has the same host, and with a signed link it shows texts of its customers.
    """
    return _check_url(_CERTIFICATE_URL, url, topic_arn)


def _check_url(pattern: re.Pattern[str], url: object, topic_arn: str) -> str:
    text = str(url)
    found = pattern.fullmatch(text)
    if found is None or found[1] != (topic_arn.split(":") + [""] * 4)[3]:
        raise InvalidHook
    return text
