"""Webhooks: a partner system that receives signed messages."""

from __future__ import annotations

from datetime import timedelta

import httpx
from standardwebhooks.webhooks import Webhook

from homeroom.clock import Clock
from homeroom.instant import SECOND, to_datetime
from homeroom.partner.client import WEBHOOK_TIMEOUT, Partner
from homeroom.partner.gate import PartnerGate


class Destination:
    """One partner system that receives webhooks."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        title: str,
        url: str,
        secret: str,
        *,
        timeout: timedelta = WEBHOOK_TIMEOUT,
        gate: PartnerGate | None = None,
    ) -> None:
        """Set its name in the database, its title in messages, and the secret that signs.

        The secret is ``whsec_`` and base64; ``gate`` holds jobs while the partner is away.
        """
        self.name = name
        self.partner = Partner(
            client, title, url, timeout=timeout, secrets=(secret,), signs_time=True, gate=gate
        )
        self._webhook = Webhook(secret)
        # Receivers compare with the real time, whatever Homeroom's own clock shows.
        self._real_clock = Clock()

    async def deliver(self, id: str, payload: str) -> int:
        """Post a message and return the status, 2xx; raise ``PartnerError``.

        The body is sent byte for byte as it is given, because the signature is over its bytes.
        """
        now = self._real_clock.now()
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": id,
            "webhook-timestamp": str(now // SECOND),
            "webhook-signature": self._webhook.sign(id, to_datetime(now), payload),
        }
        response = await self.partner.call("POST", content=payload.encode(), headers=headers)
        return response.status
