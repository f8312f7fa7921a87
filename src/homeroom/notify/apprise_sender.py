"""SMS and chat by Apprise, one message to one address."""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import Any
from urllib.parse import quote

from homeroom.errors import ConfigurationError
from homeroom.notify.channel_sender import OutgoingMessage, SmtpProgress
from homeroom.notify.delivery_rules import DeliveryStatus, ReasonCode
from homeroom.notify.smtp_response import ACCEPTED_DECISION, DeliveryDecision, SmtpPhase

ADDRESS_PLACEHOLDER = "{address}"
_STATUS_CODE = re.compile(r"error[= ](\d{3})\b")
_RETRYABLE_CODES = frozenset({425, 429, 503})
"""Status codes of a service that has sent nothing."""
_MAX_TEXT_LENGTH = 400


class AppriseSender:
    """Sends to one service by its Apprise URL with a placeholder for the address."""

    disabled_reason: str | None = None

    def __init__(self, setting: str, url: str) -> None:
        """Check the URL; raise ``ConfigurationError`` that names its setting."""
        self._apprise = _load_apprise()
        if (
            ADDRESS_PLACEHOLDER not in url
            or self._apprise.Apprise.instantiate(self._with_address(url, "1")) is None
        ):
            raise ConfigurationError(
                f"{setting} is not the URL of an Apprise service with {ADDRESS_PLACEHOLDER} in it.",
                hint="Such as twilio://sid:token@+15550100/{address}.",
            )
        self._url = url
        self._lock = asyncio.Lock()

    def has_unsubscribe_link(self) -> bool:
        """Return False: short messages have no space for a link."""
        return False

    async def send(self, message: OutgoingMessage, progress: SmtpProgress) -> DeliveryDecision:
        """Send one message in a thread."""
        # One at a time: the log lines that the library writes meanwhile belong to this message.
        async with self._lock:
            progress.phase = SmtpPhase.END
            return await asyncio.to_thread(self._send, message)

    async def close(self) -> None:
        """Do nothing: the library connects for each message."""

    @staticmethod
    def _with_address(url: str, address: str) -> str:
        return url.replace(ADDRESS_PLACEHOLDER, quote(address, safe=""))

    def _send(self, message: OutgoingMessage) -> DeliveryDecision:
        asset = self._apprise.AppriseAsset(default_service_retry=0)
        service = self._apprise.Apprise(asset=asset)
        if not service.add(self._with_address(self._url, message.address)):
            return DeliveryDecision(
                DeliveryStatus.FAILED,
                "the service does not accept this address",
                reason_code=ReasonCode.RECIPIENT_REFUSED,
            )
        body = f"{message.rendered.title}\n{message.rendered.summary}"[:_MAX_TEXT_LENGTH]
        with self._apprise.LogCapture(level=self._apprise.logging.WARNING) as captured:
            if service.notify(body=body):
                return ACCEPTED_DECISION
            return _decide_from_log(captured.getvalue())


def _load_apprise() -> Any:
    """Return the optional library; raise ``ConfigurationError`` if it is missing."""
    try:
        return importlib.import_module("apprise")
    except ImportError as error:
        raise ConfigurationError(
            "HOMEROOM_SMS_URL and HOMEROOM_CHAT_URL need the extra that sends them.",
            hint="Install it with: pip install 'homeroom[channels]'",
        ) from error


def _decide_from_log(text: str) -> DeliveryDecision:
    """Distinguish a refusal, which has a status code, from a lost connection."""
    match = _STATUS_CODE.search(text)
    if match is None:
        return DeliveryDecision(
            DeliveryStatus.UNKNOWN,
            "the connection to the service was lost: the message may have been sent",
            reason_code=ReasonCode.OUTCOME_UNKNOWN,
        )
    code = int(match[1])
    error = f"the service refused with {code}"
    if code in _RETRYABLE_CODES:
        return DeliveryDecision(
            DeliveryStatus.PENDING, error, code, reason_code=ReasonCode.TEMPORARY_FAILURE
        )
    if code >= 500:
        return DeliveryDecision(
            DeliveryStatus.UNKNOWN,
            f"{error}: the message may have been sent",
            code,
            reason_code=ReasonCode.OUTCOME_UNKNOWN,
        )
    return DeliveryDecision(
        DeliveryStatus.FAILED, error, code, reason_code=ReasonCode.MESSAGE_REFUSED
    )
