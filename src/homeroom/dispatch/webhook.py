"""Deliver a message as a signed webhook (Standard Webhooks)."""

from __future__ import annotations

from datetime import timedelta

import httpx
from standardwebhooks.webhooks import Webhook

from homeroom.clock import SECOND, Clock, to_datetime
from homeroom.partner import WEBHOOK_TIMEOUT, Partner

GONE = 410
"""The receiver wants nothing more: the destination is switched off."""


class Destination:
    """One partner system that takes webhooks."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        title: str,
        url: str,
        secret: str,
        *,
        timeout: timedelta = WEBHOOK_TIMEOUT,
    ) -> None:
        """Take its name in the database, its title in messages, and the secret that signs.

        The secret is ``whsec_`` and base64.
        """
        self.name = name
        self._partner = Partner(client, title, url, timeout=timeout, secrets=(secret,))
        self._webhook = Webhook(secret)
        # Receivers compare with the real time, whatever Homeroom's own clock shows.
        self._wall = Clock()

    async def deliver(self, id: str, payload: str) -> int:
        """Post a message and return the status, 2xx; raise ``PartnerError``.

        The body is sent byte for byte as it is given, because it is what is signed.
        """
        now = self._wall.now()
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": id,
            "webhook-timestamp": str(now // SECOND),
            "webhook-signature": self._webhook.sign(id, to_datetime(now), payload),
        }
        answer = await self._partner.call("POST", content=payload.encode(), headers=headers)
        return answer.status
