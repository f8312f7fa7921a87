"""Send SMS and chat messages through Apprise, which knows more than a hundred services.

It blocks, so it runs in a thread; its own retries are off, because ours know what was sent. It says
only yes or no, so what it logs tells a refusal from a line that was cut: only a refusal is tried
again by itself, and what may have been sent already is ``unknown``.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import Any
from urllib.parse import quote

from homeroom.errors import ConfigurationError
from homeroom.notify.carrier import Letter, Talk
from homeroom.notify.reply import ACCEPTED, Phase, Verdict
from homeroom.notify.state import Status

PLACE = "{address}"
_REFUSED = re.compile(r"error[= ](\d{3})\b")
_TURNED_AWAY = frozenset({425, 429, 503})
"""Statuses with which a service says that it has done nothing."""
_LONGEST = 400


def _library() -> Any:
    """Return the library, an optional extra; raise ``ConfigurationError`` where it is missing."""
    try:
        return importlib.import_module("apprise")
    except ImportError as error:
        raise ConfigurationError(
            "HOMEROOM_SMS_URL and HOMEROOM_CHAT_URL need the extra that sends them.",
            hint="Install it with: pip install 'homeroom[channels]'",
        ) from error


class AppriseCarrier:
    """Sends to one service; its URL has a place for somebody's address there."""

    off: str | None = None

    def __init__(self, setting: str, url: str) -> None:
        """Take the service's Apprise URL with ``{address}`` in it; raise ``ConfigurationError``."""
        self._apprise = _library()
        if PLACE not in url or self._apprise.Apprise.instantiate(self._filled(url, "1")) is None:
            raise ConfigurationError(
                f"{setting} is not the URL of a service that Apprise knows, with {PLACE} in it.",
                hint="Such as twilio://sid:token@+15550100/{address}.",
            )
        self._url = url
        self._lock = asyncio.Lock()

    @staticmethod
    def _filled(url: str, address: str) -> str:
        return url.replace(PLACE, quote(address, safe=""))

    def stops(self) -> bool:
        """Say that short messages have no room for a link."""
        return False

    async def carry(self, letter: Letter, talk: Talk) -> Verdict:
        """Send one message in a thread."""
        # one at a time: what the library logs meanwhile belongs to this message
        async with self._lock:
            talk.phase = Phase.END
            return await asyncio.to_thread(self._send, letter)

    def _send(self, letter: Letter) -> Verdict:
        asset = self._apprise.AppriseAsset(default_service_retry=0)
        service = self._apprise.Apprise(asset=asset)
        if not service.add(self._filled(self._url, letter.address)):
            return Verdict(Status.FAILED, "the service does not take this address")
        body = f"{letter.words.title}\n{letter.words.summary}"[:_LONGEST]
        with self._apprise.LogCapture(level=self._apprise.logging.WARNING) as said:
            if service.notify(body=body):
                return ACCEPTED
            return _verdict(said.getvalue())


def _verdict(said: str) -> Verdict:
    """Tell a refusal, which has a status, from silence."""
    found = _REFUSED.search(said)
    if found is None:
        return Verdict(Status.UNKNOWN, "the service was cut off: it may have sent the message")
    code = int(found[1])
    error = f"the service refused with {code}"
    if code in _TURNED_AWAY:
        return Verdict(Status.PENDING, error, code)
    if code >= 500:
        return Verdict(Status.UNKNOWN, f"{error}: it may have sent the message", code)
    return Verdict(Status.FAILED, error, code)
